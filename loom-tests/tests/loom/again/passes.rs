// An eviction that others overtake, while one that does not come to an end owns the shard.

use loom::thread;

use super::tree::reclaim::pin;
use crate::explore::explore;

use kit::{balances, store};

include!("../kit.rs");

/// Others evict ahead of its pass over the index and admit behind it, and there is a visible entry
/// all the while: it passes again.
pub(crate) fn an_eviction_that_is_overtaken() {
    explore("store, an eviction that others overtake", 2, 1000, || {
        let (store, told) = store(2);
        store.increment(&1);
        store.increment(&2);
        let engine = store.engine();
        let owned = engine.shards[0].roster.own(|_| {
            let other = {
                let store = store.clone();
                // Not its own: those have more units.
                thread::spawn(move || [3, 4].map(|key| store.try_add(&key, 8)))
            };
            assert_eq!(store.try_increment(&5), Ok(1), "there was a visible entry");
            assert_eq!(other.join().unwrap(), [Ok(8); 2], "there was a visible entry");
        });
        let ((), gone) = owned.expect("nobody else has it");
        engine.limbo().let_go_of(0, gone, &pin());
        assert_eq!(balances(&store, &told, 19), 0);
    });
}
