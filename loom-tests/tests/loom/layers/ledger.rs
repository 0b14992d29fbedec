// The ledger: each unit is in one place, at every instant.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::thread;

use super::tree::cell::{Cause, State};
use super::tree::entry::{Entry, INDEX, LEDGER, Ref};
use super::tree::hash::KeyHash;
use super::tree::index::Index;
use super::tree::ledger::Ledger;
use super::tree::reclaim::pin;
use crate::explore::explore;

/// One bucket, one group, and how often each key's ledger hold was let go of.
struct Group {
    index: Index<usize>,
    ledger: Ledger<usize>,
    let_go: [AtomicUsize; 2],
}

const UNITS: [u64; 2] = [2, 4];
const CAUSES: [Cause; 2] = [Cause::Capacity, Cause::Removed];

fn hash() -> KeyHash {
    KeyHash::mixed(0)
}

impl Group {
    fn new() -> (Arc<Self>, [*mut Entry<usize>; 2]) {
        let group = Self {
            index: Index::new(0).unwrap(),
            ledger: Ledger::new(1),
            let_go: Default::default(),
        };
        let guard = pin();
        let entries = [0, 1].map(|key| {
            let mut entry = Box::new(Entry::new(hash(), key, INDEX | LEDGER));
            entry.prepare(UNITS[key], 0, None);
            let head = group.index.find(hash(), &key, &guard).head;
            let Ok(entry) = group.index.insert(entry, head, &guard) else {
                panic!("nobody else is here yet");
            };
            entry.as_ptr()
        });
        (Arc::new(group), entries)
    }

    /// Ends a life as the store does.
    fn end(&self, key: usize) {
        let guard = pin();
        let entry = self.index.find(hash(), &key, &guard).first.expect("found");
        let units = entry.cell().seal(CAUSES[key]).expect("the only sealer");
        let mut credit = [0; 3];
        credit[CAUSES[key].index()] = units;
        let let_go = |entry: Ref<'_, usize>| {
            self.let_go[*entry.key()].fetch_add(1, SeqCst);
        };
        if self.ledger.credit(0, entry, credit, &guard, let_go) {
            let_go(entry);
        }
        self.index.unlink_marked(hash(), &guard, |_| ());
    }

    /// Live units and what has ended by cause; starts again when a credit went through meanwhile.
    fn read(&self) -> (u64, [u64; 3]) {
        let guard = pin();
        loop {
            let reading = self.ledger.read(0, &guard);
            let (mut live, mut units) = (0, reading.units);
            for entry in self.index.walk(0, &guard) {
                match entry.cell().read() {
                    State::Live(count) => live += count,
                    State::Ended(cause, count) if !reading.has(entry) => {
                        units[cause.index()] += count;
                    }
                    State::Ended(..) => {}
                }
            }
            if self.ledger.unchanged(0, &reading) {
                return (live, units);
            }
        }
    }

    /// When all threads have been joined.
    fn finish(self: Arc<Self>, entries: [*mut Entry<usize>; 2]) {
        assert_eq!(self.read(), (0, [UNITS[0], 0, UNITS[1]]), "each unit once");
        assert!(self.index.walk(0, &pin()).next().is_none(), "both are unlinked");
        let mut group = Arc::into_inner(self).expect("all have been joined");
        let head = group.ledger.take_at_drop(0);
        for (key, entry) in entries.into_iter().enumerate() {
            let let_go = group.let_go[key].load(SeqCst);
            let is_head = usize::from(head == Some(entry));
            assert_eq!(let_go + is_head, 1, "its hold is somewhere, once");
            // SAFETY: made by `Box`, and nobody else is left.
            drop(unsafe { Box::from_raw(entry) });
        }
    }
}

pub(crate) fn two_credits() {
    explore("ledger, two credits", 3, 1000, || {
        let (group, entries) = Group::new();
        let other = {
            let group = Arc::clone(&group);
            thread::spawn(move || group.end(1))
        };
        group.end(0);
        other.join().unwrap();
        group.finish(entries);
    });
}

pub(crate) fn a_credit_and_a_reader() {
    explore("ledger, a credit and a reader", 3, 1000, || {
        let (group, entries) = Group::new();
        let other = {
            let group = Arc::clone(&group);
            thread::spawn(move || group.end(0))
        };
        let (live, [evicted, _, removed]) = group.read();
        assert_eq!((live + evicted, removed), (UNITS[0] + UNITS[1], 0), "each unit once");
        other.join().unwrap();
        group.end(1);
        group.finish(entries);
    });
}

pub(crate) fn two_credits_and_a_reader() {
    explore("ledger, two credits and a reader", 1, 1000, || {
        let (group, entries) = Group::new();
        let enders = [0, 1].map(|key| {
            let group = Arc::clone(&group);
            thread::spawn(move || group.end(key))
        });
        let (live, [evicted, _, removed]) = group.read();
        assert_eq!(live + evicted + removed, UNITS[0] + UNITS[1], "each unit once");
        assert!([0, UNITS[0]].contains(&evicted) && [0, UNITS[1]].contains(&removed));
        enders.into_iter().for_each(|ender| ender.join().unwrap());
        group.finish(entries);
    });
}

/// A reader that has credited itself, against a credit that is stopped anywhere.
pub(crate) fn a_credit_and_a_reader_that_credits() {
    explore("ledger, a credit, and a credit and a reading", 2, 100, || {
        let (group, entries) = Group::new();
        let other = {
            let group = Arc::clone(&group);
            thread::spawn(move || group.end(0))
        };
        group.end(1);
        let (live, [evicted, _, removed]) = group.read();
        assert_eq!((live + evicted, removed), (UNITS[0], UNITS[1]), "each unit once");
        other.join().unwrap();
        group.finish(entries);
    });
}
