// Chains: one live entry a key; one owner takes entries out, while others search and put in.

use std::sync::Arc;

use loom::thread;

use super::tree::cell::Cause;
use super::tree::clock_list::Pen;
use super::tree::index::{Found, Index};
use super::tree::reclaim::pin;
use crate::explore::explore;

use published::{Published, entry, hash};

include!("published.rs");

/// One bucket.
struct Chain(Index<usize>);

impl Chain {
    /// With these keys, the oldest first.
    fn new(keys: &[usize]) -> Arc<Self> {
        let chain = Self(Index::new(0).unwrap());
        for &key in keys {
            chain.insert(key);
        }
        Arc::new(chain)
    }

    /// The admission in small: counts on the live entry or puts one in.
    fn insert(&self, key: usize) {
        let guard = pin();
        let mut new = entry(key, 1);
        loop {
            let Found { first, head } = self.0.find(hash(key), &key, &guard);
            if first.is_some_and(|first| first.cell().add(1).is_ok()) {
                return;
            }
            match self.0.insert(new, head, &guard) {
                Ok(_) => return,
                Err(back) => new = back,
            }
        }
    }

    fn is_found(&self, key: usize) -> bool {
        self.0.find(hash(key), &key, &pin()).first.is_some_and(|entry| *entry.key() == key)
    }

    /// As the owner, one after the other. An entry that was taken out is nowhere any more.
    fn unlink(&self, entries: impl IntoIterator<Item = Published>, pen: &mut Pen) {
        for entry in entries {
            let guard = pin();
            self.0.unlink(entry.get(), pen, &guard);
            assert!(!self.has(entry), "still linked");
        }
    }

    fn has(&self, entry: Published) -> bool {
        self.0.walk(0, &pin()).any(|other| other == entry.get())
    }

    fn published(&self, key: usize) -> Published {
        Published::of(self.0.find(hash(key), &key, &pin()).first.expect("found"))
    }

    /// Newest first.
    fn keys(&self) -> Vec<usize> {
        self.0.walk(0, &pin()).map(|entry| *entry.key()).collect()
    }

    /// Frees what is in the chain, and `unlinked`, when all threads have been joined.
    fn end(self: Arc<Self>, unlinked: impl IntoIterator<Item = Published>) {
        let mut chain = Arc::into_inner(self).expect("all threads have been joined");
        chain.0.take_at_drop(0, |entry| {
            // SAFETY: made by `Box`, and nobody else is left.
            drop(unsafe { Box::from_raw(entry.as_ptr()) });
        });
        unlinked.into_iter().for_each(Published::free);
    }
}

pub(crate) fn two_inserters_of_one_key() {
    explore("index, two inserters of one key and a third of another", 3, 1000, || {
        let chain = Chain::new(&[]);
        let inserters = [1, 2].map(|key| {
            let chain = Arc::clone(&chain);
            thread::spawn(move || chain.insert(key))
        });
        chain.insert(1);
        inserters.into_iter().for_each(|inserter| inserter.join().unwrap());
        let mut keys = chain.keys();
        keys.sort_unstable();
        assert_eq!(keys, [1, 2], "one life of each key");
        let guard = pin();
        let first = chain.0.find(hash(1), &1, &guard).first.unwrap();
        assert_eq!(first.cell().look().units(), 2, "one life has both units");
        chain.end([]);
    });
}

/// A live entry is found, whatever is unlinked around it, and also over what was unlinked.
pub(crate) fn find_against_unlink() {
    for (ended, live) in [([1, 3, 4], [2, 0]), ([3, 2, 4], [1, 0])] {
        explore("index, two finds against an owner that unlinks", 4, 10_000, move || {
            let chain = Chain::new(&[0, 1, 2, 3, 4]);
            let unlinked = ended.map(|key| chain.published(key));
            let owner = {
                let chain = Arc::clone(&chain);
                thread::spawn(move || chain.unlink(unlinked, &mut Pen::new()))
            };
            for key in live {
                assert!(chain.is_found(key), "{key} is to be found");
            }
            owner.join().unwrap();
            assert_eq!(chain.keys(), live);
            chain.end(unlinked);
        });
    }
}

/// Two new entries, of which one is the next life of the one that is being unlinked.
pub(crate) fn inserts_against_unlink_of_the_head() {
    explore("index, two inserters against unlink of the head", 4, 10_000, || {
        let chain = Chain::new(&[0, 1]);
        let ended = chain.published(1);
        ended.get().cell().seal(Cause::Removed).unwrap();
        let inserters = [1, 2].map(|key| {
            let chain = Arc::clone(&chain);
            thread::spawn(move || chain.insert(key))
        });
        chain.unlink([ended], &mut Pen::new());
        inserters.into_iter().for_each(|inserter| inserter.join().unwrap());
        assert!(!chain.has(ended), "linked again or lost");
        let mut keys = chain.keys();
        assert_eq!(keys.pop(), Some(0), "linked again or lost");
        keys.sort_unstable();
        assert_eq!(keys, [1, 2], "linked again or lost");
        chain.end([ended]);
    });
}

/// The owner looks for the predecessor down from a head that it has never seen.
pub(crate) fn an_insert_against_unlink_below_the_head() {
    explore("index, inserts against unlink below the head", 3, 10_000, || {
        let chain = Chain::new(&[0, 1, 2]);
        let ended = [1, 0].map(|key| chain.published(key));
        let inserter = {
            let chain = Arc::clone(&chain);
            thread::spawn(move || [3, 4].into_iter().for_each(|key| chain.insert(key)))
        };
        chain.unlink(ended, &mut Pen::new());
        inserter.join().unwrap();
        assert_eq!(chain.keys(), [4, 3, 2], "linked again or lost");
        chain.end(ended);
    });
}
