// The end of the store, by whichever thread lets go of it last.

use loom::thread;

use crate::explore::explore;

use kit::store;

include!("../kit.rs");

/// A handle keeps the store alive, and may be the last to do so.
pub(crate) fn a_handle_that_outlives_the_others() {
    explore("drop, a handle against the last of the others", 2, 1000, || {
        let (store, _) = store(1);
        let handle = store.counter(&1);
        let other = thread::spawn(move || assert_eq!(handle.add(2), 2));
        let removed = store.remove(&1);
        assert!(removed.is_some_and(|count| [0, 2].contains(&count)));
        drop(store);
        other.join().unwrap();
    });
}

/// A snapshot holds entries, and not the store: one that has ended and one that lives to the end.
pub(crate) fn a_snapshot_that_outlives_the_store() {
    explore("drop, a snapshot against the end of its store", 2, 1000, || {
        let (store, _) = store(2);
        store.add(&1, 1);
        store.add(&2, 2);
        let snapshot = store.snapshot();
        let reader = thread::spawn(move || {
            let both = [1, 2].map(|key| snapshot.get(&key));
            assert_eq!(both, [Some(1), Some(2)]);
        });
        assert_eq!(store.remove(&2), Some(2));
        drop(store);
        reader.join().unwrap();
    });
}
