// Idle lives against use: never early. The clock is quanta's mock, which stands where it is put.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use loom::thread;
use quanta::{Clock, Mock};

use super::tree::Cause;
use crate::explore::explore;

use kit::{Store, Told, balances, builder};

include!("../kit.rs");

/// With so short a TTL a tick is a nanosecond: a use at `t` is over at `t + TTL + 1`.
const TTL: u64 = 64;

fn store() -> (Store, Told, Arc<Mock>) {
    store_of(2)
}

fn store_of(capacity: usize) -> (Store, Told, Arc<Mock>) {
    let (clock, mock) = Clock::mock();
    let (builder, told) = builder(capacity);
    let store = builder.clock(clock).idle_ttl(Duration::from_nanos(TTL)).build().unwrap();
    (store, told, mock)
}

/// A use at the last instant of a life keeps it, or comes too late: what expires has not those units.
fn an_expiry_against_a_use_of(name: &str, n: u64) {
    explore(name, 2, 10_000, move || {
        let (store, told, mock) = store();
        store.increment(&1);
        mock.increment(TTL);
        let pruner = {
            let store = store.clone();
            thread::spawn(move || {
                mock.increment(1_u64);
                store.prune()
            })
        };
        let count = store.add(&1, n);
        pruner.join().unwrap();
        let ends = told.ends();
        if count == 1 + n {
            assert_eq!(ends, [], "ended early");
        } else {
            assert_eq!((count, ends), (n, vec![(1, 1, Cause::Idle)]), "ended early");
        }
        assert_eq!(store.get(&1), Some(count), "ended early");
        assert_eq!(balances(&store, &told, 1 + n), 0);
    });
}

pub(crate) fn an_expiry_against_a_use() {
    an_expiry_against_a_use_of("store, an expiry against a use", 1);
}

/// Which goes by exchange.
pub(crate) fn an_expiry_against_a_large_use() {
    an_expiry_against_a_use_of("store, an expiry against a large use", 1 << 40);
}

/// As above, where the handle has a stripe of its own: the use in another tick is not on it alone.
pub(crate) fn an_expiry_against_a_striped_use() {
    explore("store, an expiry against a striped use", 2, 10_000, || {
        let (store, told, mock) = store();
        let striped = store.striped(&1);
        striped.add(1);
        mock.increment(TTL);
        let pruner = {
            let store = store.clone();
            thread::spawn(move || {
                mock.increment(1_u64);
                store.prune()
            })
        };
        striped.add(2);
        pruner.join().unwrap();
        let ends = told.ends();
        match striped.get() {
            Some(3) => assert_eq!(ends, [], "ended early"),
            next => assert_eq!((ends, next), (vec![(1, 1, Cause::Idle)], Some(2)), "ended early"),
        }
        assert_eq!(balances(&store, &told, 3), 0);
    });
}

/// The hand evicts, and calls the life of its victim idle if it is: not one that was used since it
/// was judged.
pub(crate) fn an_eviction_against_a_use() {
    explore("store, an eviction of what is idle against a use", 2, 1000, || {
        let (store, told, mock) = store_of(1);
        store.increment(&1);
        mock.increment(TTL);
        // The idle hand, which else would come first, rests.
        store.engine().shards[0].oldest.store(TTL, Ordering::Relaxed);
        let other = {
            let store = store.clone();
            thread::spawn(move || {
                mock.increment(1_u64);
                store.try_add(&2, 4)
            })
        };
        let count = store.try_add(&1, 2);
        assert!(store.len() <= 1, "above the cap");
        let rejected = [(count, 2), (other.join().unwrap(), 4)];
        let rejected = rejected.map(|(count, units)| if count.is_err() { units } else { 0 });
        let ends = told.ends();
        assert!(!ends.contains(&(1, 3, Cause::Idle)), "ended early");
        if count == Ok(2) {
            assert_eq!((ends[0].0, ends[0].1), (1, 1), "ended early");
        }
        assert_eq!(balances(&store, &told, 7), rejected.iter().sum(), "each rejection is counted");
    });
}

/// A slow thread does not move the tick back behind that of a later use.
pub(crate) fn two_uses_in_two_ticks() {
    explore("store, two uses in two ticks", 3, 100, || {
        let (store, told, mock) = store();
        store.increment(&1);
        mock.increment(TTL / 2);
        let later = {
            let (store, mock) = (store.clone(), mock.clone());
            thread::spawn(move || {
                mock.increment(1_u64);
                store.increment(&1)
            })
        };
        let slow = store.increment(&1);
        assert_eq!(slow + later.join().unwrap(), 5, "one is the second, one the third");
        // The later use is not longer ago than the TTL, and then it is.
        mock.increment(TTL);
        assert_eq!(store.get(&1), Some(3), "ended early");
        mock.increment(1_u64);
        assert_eq!(store.get(&1), None);
        assert_eq!(told.ends(), [(1, 3, Cause::Idle)]);
        assert_eq!(balances(&store, &told, 3), 0);
    });
}
