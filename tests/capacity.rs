//! A store of capacity n holds n keys, and never more.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use common::{Config, Key, Rng, SetOnDrop, Spread, matrix};
use counterclock::{AtCapacity, Cause, CounterStore, Rejected};

/// Fills the store, then goes one key further.
fn fill<K: Key>(config: Config) {
    let bed = config.bed::<K>();
    let n = config.capacity as u64;
    assert_eq!(bed.store.capacity(), config.capacity);
    assert!(bed.store.is_empty());
    for i in 0..n {
        assert_eq!(bed.store.try_increment(&K::nth(i)), Ok(1), "{i} {config:?}");
        assert_eq!(bed.store.len() as u64, i + 1, "{config:?}");
    }
    assert_eq!(bed.ends.count(), 0, "{config:?}");
    for i in 0..n {
        assert_eq!(bed.store.get(&K::nth(i)), Some(1), "{i} {config:?}");
    }

    let further = bed.store.try_increment(&K::nth(n));
    assert_eq!(bed.store.len() as u64, n, "{config:?}");
    match config.at_capacity {
        AtCapacity::Reject => {
            assert_eq!(further, Err(Rejected::Capacity), "{config:?}");
            assert_eq!(bed.ends.count(), 0, "{config:?}");
        }
        _ => {
            assert_eq!(further, Ok(1), "{config:?}");
            assert_eq!(bed.ends.by(Cause::Capacity), (1, 1), "{config:?}");
            assert_eq!(bed.ends.count(), 1, "{config:?}");
            assert_eq!(bed.store.get(&K::nth(n)), Some(1), "the newcomer is in");
        }
    }
}

#[test]
fn each_capacity_holds_that_many_keys() {
    for capacity in 1..=130 {
        for shards in [1, 4, 64] {
            for spread in [Spread::Default, Spread::Identity, Spread::Colliding] {
                for at_capacity in [AtCapacity::Evict, AtCapacity::Reject] {
                    fill::<u64>(Config { at_capacity, spread, ..Config::plain(capacity, shards) });
                }
            }
        }
    }
}

#[test]
fn the_matrix_holds_its_keys() {
    for config in matrix(64) {
        fill::<u64>(config);
        fill::<String>(config);
        fill::<Arc<str>>(config);
    }
}

#[test]
fn the_default_shards_hold_their_keys() {
    for capacity in [1, 63, 64, 65, 127, 128, 1000, 5000] {
        let store = CounterStore::<u64>::new(capacity);
        for key in 0..capacity as u64 {
            assert_eq!(store.try_increment(&key), Ok(1), "{capacity}");
        }
        assert_eq!(store.len(), capacity);
        assert_eq!(store.stats().evicted, 0);
    }
}

#[test]
fn threads_fill_it_to_the_last_place() {
    for config in matrix(64) {
        let bed = config.bed::<u64>();
        thread::scope(|scope| {
            for t in 0..4 {
                let bed = &bed;
                scope.spawn(move || {
                    for key in (t..bed.config.capacity as u64).step_by(4) {
                        assert_eq!(bed.store.try_increment(&key), Ok(1), "{:?}", bed.config);
                    }
                });
            }
        });
        assert_eq!(bed.ends.count(), 0, "{config:?}");
        assert_eq!(bed.store.len(), config.capacity, "{config:?}");
        assert_eq!(bed.store.snapshot().len(), config.capacity, "{config:?}");
    }
}

#[test]
fn what_is_removed_makes_room_for_as_many() {
    for config in matrix(64) {
        let bed = config.bed::<u64>();
        let n = config.capacity as u64;
        let mut rng = Rng::new(n);
        let mut keys: Vec<u64> = (0..n).collect();
        keys.iter().for_each(|key| assert_eq!(bed.store.try_increment(key), Ok(1)));
        for fresh in n..2 * n {
            let old = keys.swap_remove(rng.below(n) as usize);
            assert_eq!(bed.store.remove(&old), Some(1), "{config:?}");
            assert_eq!(bed.store.len() as u64, n - 1, "{config:?}");
            assert_eq!(bed.store.try_increment(&fresh), Ok(1), "{config:?}");
            keys.push(fresh);
        }
        assert_eq!(bed.ends.by(Cause::Capacity), (0, 0), "{config:?}");
        assert_eq!(bed.ends.by(Cause::Removed), (n, n), "{config:?}");
        for key in &keys {
            assert_eq!(bed.store.get(key), Some(1), "{config:?}");
        }
        bed.store.clear();
        assert!(bed.store.is_empty(), "{config:?}");
        for key in 0..n {
            assert_eq!(bed.store.try_increment(&key), Ok(1), "{config:?}");
        }
        assert_eq!(bed.ends.by(Cause::Capacity), (0, 0), "{config:?}");
    }
}

/// Two threads churn while another looks, as often as it can.
fn poll(config: Config) {
    let bed = &config.bed::<u64>();
    let (stop, looked) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let _stop = SetOnDrop(&stop);
        scope.spawn(|| {
            let _seen = SetOnDrop(&looked);
            while !stop.load(Relaxed) {
                let len = bed.store.len();
                assert!(len <= config.capacity, "{len} {config:?}");
                looked.store(true, Relaxed);
            }
        });
        let churn = |seed| {
            let mut rng = Rng::new(seed);
            for _ in 0..400 + config.capacity {
                let key = rng.below(3 * config.capacity as u64);
                match rng.below(8) {
                    0 => _ = bed.store.remove(&key),
                    1 => drop(bed.store.counter(&key)),
                    _ => _ = bed.store.increment(&key),
                }
                if rng.below(200) == 0 {
                    bed.advance(common::TTL / 2);
                }
            }
        };
        let churner = scope.spawn(move || churn(1));
        churn(2);
        churner.join().expect("the churner");
        // On one core the poller may not have run yet.
        while !looked.load(Relaxed) {
            thread::yield_now();
        }
    });
    assert_eq!(bed.store.snapshot().len(), bed.store.len(), "{config:?}");
}

#[test]
fn nobody_ever_sees_more_than_the_capacity() {
    matrix(64).into_iter().for_each(poll);
}

/// Full all the time, and each admission needs a place: one thread admits, the other does nothing
/// but look.
#[test]
fn a_full_store_never_shows_one_more() {
    for at_capacity in [AtCapacity::Evict, AtCapacity::Reject] {
        for capacity in [1, 7] {
            let config = Config { at_capacity, ..Config::plain(capacity, 1) };
            let (builder, _) = config.builder::<u64>();
            let store = &builder.build().expect("a store");
            let (stop, polls) = (&AtomicBool::new(false), &AtomicU64::new(0));
            let failed = &AtomicBool::new(false);
            thread::scope(|scope| {
                let _failed = SetOnDrop(failed);
                scope.spawn(move || {
                    let _stop = SetOnDrop(stop);
                    for key in 0.. {
                        _ = store.try_increment(&key);
                        // Long enough to be looked at, on a busy machine too.
                        let enough = key >= 50_000 && polls.load(Relaxed) > 300_000;
                        if enough || failed.load(Relaxed) {
                            break;
                        }
                    }
                });
                while !stop.load(Relaxed) {
                    let len = store.len();
                    assert!(len <= capacity, "{len} {config:?}");
                    polls.fetch_add(1, Relaxed);
                }
            });
            assert_eq!(store.len(), capacity);
        }
    }
}
