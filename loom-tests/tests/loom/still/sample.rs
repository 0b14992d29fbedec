// An eviction that finds the lists taken, and takes its victim from a sample of the index.

use loom::thread;

use super::tree::Cause;
use super::tree::cell::Amount;
use super::tree::engine::Touch;
use super::tree::hash::KeyHash;
use super::tree::reclaim::pin;
use crate::explore::explore;

use kit::{Same, balances, live, store};

include!("../kit.rs");

/// Whoever has the lists, and also uses the only entry meanwhile: a visible entry is evicted.
pub(crate) fn an_eviction_while_the_lists_are_taken() {
    explore("store, an eviction while another thread has the lists", 3, 100, || {
        let (store, told) = store(1);
        store.increment(&1);
        let owner = {
            let store = store.clone();
            thread::spawn(move || {
                let (engine, hash, guard) = (store.engine(), KeyHash::of(&Same, &1_u8), pin());
                let entry = engine.index.find(hash, &1, &guard).first;
                let used = engine.own_lists(engine.shard(hash), &guard, |_| {
                    entry.is_some_and(|e| {
                        matches!(engine.touch(&e, Amount::once(1), None).0, Touch::Counted(_))
                    })
                });
                used.unwrap_or(false)
            })
        };
        assert_eq!(store.try_increment(&2), Ok(1), "there was a visible entry");
        let units = 1 + u64::from(owner.join().unwrap());
        assert_eq!(told.ends(), [(1, units, Cause::Capacity)], "the exact count");
        assert_eq!(live(&store), [(2, 1)]);
        assert_eq!(balances(&store, &told, units + 1), 0);
    });
}

/// Two evictions at once, of which one may have the lists: each finds a victim of its own.
pub(crate) fn two_evictions_at_once() {
    explore("store, two evictions at once", 2, 10_000, || {
        let (store, told) = store(2);
        store.increment(&1);
        store.increment(&2);
        let other = {
            let store = store.clone();
            thread::spawn(move || store.try_increment(&3))
        };
        assert_eq!(store.try_increment(&4), Ok(1), "there were two visible entries");
        assert_eq!(other.join().unwrap(), Ok(1), "there were two visible entries");
        assert_eq!(balances(&store, &told, 4), 0);
    });
}
