// Snapshots one after the other: sums never fall, each unit once.

use loom::thread;

use crate::explore::explore;

use kit::{Store, balances, store};

include!("../kit.rs");

/// What is recorded, which is also what is shown and has ended.
fn recorded(store: &Store) -> u64 {
    let snapshot = store.snapshot();
    let shown: u64 = snapshot.iter().map(|(_, count)| count).sum();
    assert_eq!(shown, snapshot.totals().live, "each unit once");
    snapshot.totals().recorded
}

pub(crate) fn two_snapshots_against_adds_and_an_eviction() {
    explore("store, two snapshots against adds and an eviction", 2, 1000, || {
        let (store, told) = store(1);
        store.add(&1, 1);
        let other = {
            let store = store.clone();
            thread::spawn(move || {
                store.add(&1, 2);
                store.add(&2, 4);
                store.add(&2, 8);
            })
        };
        let sums = [recorded(&store), recorded(&store)];
        assert!(sums.iter().all(|sum| [1, 3, 7, 15].contains(sum)), "each unit once: {sums:?}");
        assert!(sums.is_sorted(), "a sum fell: {sums:?}");
        other.join().unwrap();
        assert_eq!(recorded(&store), 15, "each unit once");
        assert_eq!(balances(&store, &told, 15), 0);
    });
}

/// Once the store has let go of a key that a handle has, a snapshot cannot keep it: it reads again.
pub(crate) fn a_snapshot_against_the_end_of_a_held_key() {
    explore("store, a snapshot against the end of a key with a handle", 2, 1000, || {
        let (store, told) = store(2);
        let handle = store.counter(&1);
        handle.add(1);
        store.add(&2, 2);
        let other = {
            let store = store.clone();
            thread::spawn(move || store.remove(&1))
        };
        assert_eq!(recorded(&store), 3, "each unit once");
        assert_eq!(other.join().unwrap(), Some(1));
        assert_eq!(handle.get(), None);
        assert_eq!(balances(&store, &told, 3), 0);
    });
}
