// Chains: one live entry a key, each entry let go of once.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::thread;

use super::tree::entry::{Entry, INDEX};
use super::tree::hash::KeyHash;
use super::tree::index::{Found, Index, mark};
use super::tree::reclaim::pin;
use crate::explore::explore;

/// One bucket, and how often each of a few keys was let go of.
struct Chain {
    index: Index<usize>,
    let_go: [AtomicUsize; 4],
}

/// All keys have one hash: a chain is what is looked at.
fn hash() -> KeyHash {
    KeyHash::mixed(0)
}

fn entry(key: usize) -> Box<Entry<usize>> {
    let mut entry = Box::new(Entry::new(hash(), key, INDEX));
    entry.prepare(1, 0, None);
    entry
}

impl Chain {
    fn new(keys: &[usize]) -> Arc<Self> {
        let chain = Self { index: Index::new(0).unwrap(), let_go: Default::default() };
        for &key in keys {
            chain.insert(key);
        }
        Arc::new(chain)
    }

    /// The admission in small: counts on the live entry or puts one in.
    fn insert(&self, key: usize) {
        let guard = pin();
        let mut new = entry(key);
        loop {
            let Found { first, head } = self.index.find(hash(), &key, &guard);
            if first.is_some_and(|first| first.cell().add(1).is_ok()) {
                return;
            }
            match self.index.insert(new, head, &guard) {
                Ok(_) => return,
                Err(back) => new = back,
            }
        }
    }

    fn unlink(&self, key: usize) {
        let guard = pin();
        let entry = self.index.find(hash(), &key, &guard).first.expect("found");
        mark(&entry);
        self.index.unlink_marked(hash(), &guard, |gone| {
            self.let_go[*gone.key()].fetch_add(1, SeqCst);
        });
        assert!(!self.keys().contains(&key), "still linked");
    }

    fn keys(&self) -> Vec<usize> {
        let guard = pin();
        self.index.walk(0, &guard).map(|e| *e.key()).collect()
    }

    /// Frees what is in the chain, and `unlinked`, when all threads have been joined.
    fn end(self: Arc<Self>, unlinked: &[*mut Entry<usize>], counts: [usize; 4]) {
        let Some(mut chain) = Arc::into_inner(self) else {
            panic!("all threads have been joined");
        };
        let let_go = chain.let_go.each_ref().map(|n| n.load(SeqCst));
        assert_eq!(let_go, counts, "let go of exactly once");
        let free = |entry: *mut Entry<usize>| {
            // SAFETY: made by `Box`, and nobody else is left.
            drop(unsafe { Box::from_raw(entry) });
        };
        chain.index.take_at_drop(0, free);
        unlinked.iter().copied().for_each(free);
    }

    fn pointer(&self, key: usize) -> *mut Entry<usize> {
        self.index.find(hash(), &key, &pin()).first.expect("found").as_ptr()
    }
}

pub(crate) fn two_inserters_of_one_key() {
    explore("index, two inserters of one key and a third of another", 3, 100, || {
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
        let first = chain.index.find(hash(), &1, &guard).first.unwrap();
        assert_eq!(first.cell().look().units(), 2, "one life has both units");
        chain.end(&[], [0; 4]);
    });
}

/// A live entry is found, whatever is unlinked around it.
pub(crate) fn find_against_unlink() {
    explore("index, find against two unlinkers", 2, 1000, || {
        let chain = Chain::new(&[0, 1, 2, 3]);
        let unlinked = [1, 3].map(|key| chain.pointer(key));
        let unlinkers = [1, 3].map(|key| {
            let chain = Arc::clone(&chain);
            thread::spawn(move || chain.unlink(key))
        });
        for key in [0, 2] {
            let guard = pin();
            assert!(chain.index.find(hash(), &key, &guard).first.is_some(), "{key} is to be found");
        }
        unlinkers.into_iter().for_each(|unlinker| unlinker.join().unwrap());
        assert_eq!(chain.keys(), [2, 0]);
        chain.end(&unlinked, [0, 1, 0, 1]);
    });
}

pub(crate) fn two_unlinkers_of_neighbours() {
    explore("index, three unlinkers of neighbours", 1, 1000, || {
        let chain = Chain::new(&[0, 1, 2, 3]);
        let unlinked = [1, 2, 3].map(|key| chain.pointer(key));
        let unlinkers = [1, 2].map(|key| {
            let chain = Arc::clone(&chain);
            thread::spawn(move || chain.unlink(key))
        });
        chain.unlink(3);
        unlinkers.into_iter().for_each(|unlinker| unlinker.join().unwrap());
        assert_eq!(chain.keys(), [0], "still linked or lost");
        chain.end(&unlinked, [0, 1, 1, 1]);
    });
}

/// A new entry is not lost when the head that it goes in front of is unlinked.
pub(crate) fn insert_against_unlink() {
    explore("index, an inserter against two unlinkers", 2, 1000, || {
        let chain = Chain::new(&[0, 1, 2]);
        let unlinked = [1, 2].map(|key| chain.pointer(key));
        let unlinkers = [1, 2].map(|key| {
            let chain = Arc::clone(&chain);
            thread::spawn(move || chain.unlink(key))
        });
        chain.insert(3);
        unlinkers.into_iter().for_each(|unlinker| unlinker.join().unwrap());
        assert_eq!(chain.keys(), [3, 0], "linked again or lost");
        chain.end(&unlinked, [0, 1, 1, 0]);
    });
}
