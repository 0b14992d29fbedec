// The ends of one key's lives, raced for by three threads, on an epoch that frees nothing.

use loom::thread;

use super::tree::cell::Amount;
use super::tree::hash::KeyHash;
use super::tree::reclaim::pin;
use super::tree::{Cause, Rejected};
use crate::explore::explore;

use kit::{Same, balances, live, store};

include!("../kit.rs");

/// Each thread adds another number of units, so that a count says who is in it.
const BEFORE: u64 = 8;
const ADDED: u64 = 2;
const OTHER: u64 = 1;

/// Each life ends once, with the exact count, whoever ends it. (The increment is that of a hit: where
/// it comes too late it does not admit the key again, for which there are other models.)
pub(crate) fn an_increment_a_remove_and_an_eviction_of_one_key() {
    explore("store, an increment, a remove and an eviction of one key", 2, 10_000, || {
        let (store, told) = store(1);
        store.add(&1, BEFORE);
        let adder = {
            let store = store.clone();
            thread::spawn(move || {
                let (engine, hash, guard) = (store.engine(), KeyHash::of(&Same, &1_u8), pin());
                let hit = engine.hit(hash, &1, Amount::once(ADDED), &guard, |_| ());
                hit.map(|hit| hit.count).ok()
            })
        };
        let remover = {
            let store = store.clone();
            thread::spawn(move || store.remove(&1))
        };
        let other = store.try_add(&2, OTHER);
        assert!(store.len() <= 1, "above the cap");
        let count = adder.join().unwrap();
        let removed = remover.join().unwrap();

        assert!(count.is_none_or(|count| count == BEFORE + ADDED), "the only other units");
        let mut lives = vec![(1, count.unwrap_or(BEFORE))];
        // Without a visible entry there is nobody to evict: the room is on its way elsewhere.
        match other {
            Ok(_) => lives.push((2, OTHER)),
            Err(why) => assert_eq!(why, Rejected::Capacity),
        }
        let ends = told.ends();
        let mut seen: Vec<_> = ends.iter().map(|&(key, count, _)| (key, count)).collect();
        seen.extend(live(&store));
        assert_eq!(seen, lives, "each life once, with its exact count");
        let told_removed: Vec<_> =
            ends.iter().filter(|end| end.2 == Cause::Removed).map(|end| end.1).collect();
        assert_eq!(told_removed, removed.into_iter().collect::<Vec<_>>());
        let units = BEFORE + OTHER + count.map_or(0, |_| ADDED);
        let rejected = other.map_or(OTHER, |_| 0);
        assert_eq!(balances(&store, &told, units), rejected, "each rejection is counted");
    });
}

/// As `two_keys_at_capacity_one` of the real epoch, with two preemptions more.
pub(crate) fn two_new_keys_for_one_place() {
    explore("store, two new keys for one place", 3, 10_000, || {
        let (store, told) = store(1);
        let other = {
            let store = store.clone();
            thread::spawn(move || {
                let count = store.try_add(&1, ADDED);
                assert!(store.len() <= 1, "above the cap");
                count
            })
        };
        let count = store.try_add(&2, OTHER);
        assert!(store.len() <= 1, "above the cap");
        let rejected = [(other.join().unwrap(), ADDED), (count, OTHER)].map(|(count, units)| {
            // All room is with the other's admission: then this one is rejected, and says so.
            let Err(why) = count else { return 0 };
            assert_eq!(why, Rejected::Capacity);
            units
        });
        assert!(rejected.contains(&0), "one of the two has the place");
        let in_all = rejected.iter().sum();
        assert_eq!(balances(&store, &told, ADDED + OTHER), in_all, "each rejection is counted");
    });
}
