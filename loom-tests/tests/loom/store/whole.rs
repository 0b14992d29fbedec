// The whole store, by its public face, with two threads and the real epoch collector. Tallies are
// kept outside it.

use loom::thread;

use crate::explore::explore;

use kit::{balances, store};

include!("../kit.rs");

pub(crate) fn an_increment_a_remove_and_an_eviction() {
    explore("store, increments and an eviction against a remove", 2, 100, || {
        let (store, told) = store(2);
        store.increment(&1);
        let other = {
            let store = store.clone();
            thread::spawn(move || store.remove(&1))
        };
        let count = store.increment(&1);
        let removed = other.join().unwrap().expect("the key was live all along, until this");
        // In the life that was removed, or in the next.
        assert!((count, removed) == (2, 2) || (count, removed) == (1, 1));
        store.increment(&2);
        store.increment(&3);
        assert_eq!(balances(&store, &told, 4), 0);
    });
}

/// One of the two may find the shard taken, and counts beside its owner.
pub(crate) fn two_removes() {
    explore("store, two removes", 2, 100, || {
        let (store, told) = store(2);
        store.increment(&1);
        store.increment(&2);
        let other = {
            let store = store.clone();
            thread::spawn(move || assert_eq!(store.remove(&1), Some(1)))
        };
        assert_eq!(store.remove(&2), Some(1));
        other.join().unwrap();
        assert_eq!(balances(&store, &told, 2), 0);
    });
}

/// The thread that retires flushes, so that what it retired is really freed while the other one
/// runs.
pub(crate) fn nothing_is_touched_after_its_end() {
    explore("store, a reader against a remove that frees", 2, 100, || {
        let (store, told) = store(1);
        store.increment(&1);
        let other = {
            let store = store.clone();
            thread::spawn(move || {
                assert_eq!(store.remove(&1), Some(1));
                for _ in 0..3 {
                    store.prune();
                }
            })
        };
        let seen = store.get(&1);
        assert!(seen.is_none_or(|count| count == 1));
        other.join().unwrap();
        assert_eq!(balances(&store, &told, 1), 0);
    });
}

pub(crate) fn a_handle_against_an_eviction() {
    explore("store, a handle against an eviction that frees", 2, 100, || {
        // Room for two: a life that is ending has its room until it has been buried.
        let (store, told) = store(2);
        let handle = store.counter(&1);
        let other = {
            let store = store.clone();
            thread::spawn(move || {
                store.remove(&1);
                for _ in 0..2 {
                    store.prune();
                }
            })
        };
        assert_eq!(handle.increment(), 1);
        other.join().unwrap();
        assert_eq!(balances(&store, &told, 1), 0);
        drop(handle);
    });
}

pub(crate) fn a_snapshot_against_an_eviction() {
    explore("store, a snapshot against an eviction", 2, 1000, || {
        let (store, told) = store(1);
        store.add(&1, 4);
        let other = {
            let store = store.clone();
            thread::spawn(move || {
                store.add(&2, 8);
            })
        };
        let snapshot = store.snapshot();
        let recorded = snapshot.totals().recorded;
        assert!([4, 12].contains(&recorded), "each unit once: {recorded}");
        let shown: u64 = snapshot.iter().map(|(_, count)| count).sum();
        assert_eq!(shown, snapshot.totals().live);
        drop(snapshot);
        other.join().unwrap();
        assert_eq!(balances(&store, &told, 12), 0);
    });
}
