// The bound on entries that exist: an admission that finds no slot is rejected, and recovers.

use loom::thread;

use super::tree::Rejected;
use crate::explore::explore;

use kit::{balances, builder};

include!("../kit.rs");

/// While somebody stays pinned nothing is freed: capacity and slack are used up, and no more.
pub(crate) fn a_thread_that_stays_pinned() {
    explore("store, admissions against a thread that stays pinned", 2, 10, || {
        let (builder, told) = builder(1);
        let store = builder.slack(1).build().unwrap();
        store.increment(&1);
        let pinned = store.pin();
        assert_eq!(pinned.get(&1), Some(1));
        let other = {
            let store = store.clone();
            thread::spawn(move || {
                assert_eq!(store.try_increment(&2), Ok(1));
                let third = store.try_increment(&3);
                assert!(store.engine().limbo().exist() <= 2, "more than capacity and slack");
                third
            })
        };
        let seen = pinned.get(&1);
        assert!(seen.is_none_or(|count| count == 1));
        assert!(store.engine().limbo().exist() <= 2, "more than capacity and slack");
        assert_eq!(other.join().unwrap(), Err(Rejected::Memory), "its slot went back early");
        drop(pinned);
        // Nobody is pinned: the same admission now flushes until there is a slot.
        assert_eq!(store.try_increment(&3), Ok(1), "recovers");
        assert_eq!(balances(&store, &told, 4), 1);
    });
}
