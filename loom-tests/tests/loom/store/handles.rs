// Handles against the eviction of their key, which may be admitted again.

use loom::thread;

use super::tree::Cause;
use crate::explore::explore;

use kit::{balances, live, store};

include!("../kit.rs");

/// A handle counts in the life that it holds, or in a new one, never in one that has ended.
pub(crate) fn an_eviction_and_a_handle_that_admits_again() {
    explore("store, a handle against an eviction, then admitted again", 1, 300, || {
        let (store, told) = store(1);
        let handle = store.counter(&1);
        assert_eq!(handle.add(8), 8);
        let other = {
            let store = store.clone();
            thread::spawn(move || store.try_add(&2, 1))
        };
        let count = handle.add(2);
        // The evictor has the room of the handle's own key.
        assert_eq!(other.join().unwrap(), Ok(1), "there was a visible entry");
        let rejected = store.totals().rejected;
        let again = handle.add(4);
        let first = match (count, rejected) {
            (10, 0) => 10,
            // In the next life, or rejected since all room was the other's.
            (2, 0 | 2) => 8,
            other => panic!("neither in this life nor in the next: {other:?}"),
        };
        let second = if count == 2 && rejected == 0 { 6 } else { 4 };
        assert_eq!(again, second, "each unit once");
        let ends = [(1, first, Cause::Capacity), (2, 1, Cause::Capacity)];
        assert_eq!(told.ends(), ends, "the exact counts");
        assert_eq!(live(&store), [(1, second)], "each unit once");
        assert_eq!(handle.get(), Some(second));
        assert_eq!(balances(&store, &told, 15), rejected);
    });
}

/// A hold is taken only while some structure still has one.
pub(crate) fn a_handle_taken_during_a_remove() {
    explore("store, a handle taken during a remove", 2, 1000, || {
        let (store, told) = store(2);
        let first = store.counter(&1);
        first.add(8);
        let other = {
            let store = store.clone();
            thread::spawn(move || {
                let removed = store.remove(&1);
                // Only handles hold the entry, and this is the last of them but for the new one.
                drop(first);
                removed
            })
        };
        let handle = store.counter(&1);
        let removed = other.join().unwrap();
        // Frees what nobody holds.
        (0..3).for_each(|_| _ = store.prune());
        // The handle's own use admits the key again where it has been removed.
        assert_eq!((removed, handle.add(2)), (Some(8), 2));
        assert_eq!(balances(&store, &told, 10), 0);
    });
}
