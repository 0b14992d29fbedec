// The whole store, by its public face, with two threads and the real epoch collector. Tallies are kept outside it.

use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex};

use loom::thread;

use super::tree::{CounterStore, Totals};
use crate::explore::explore;

type Store = CounterStore<u8, Same>;

/// One hash for all keys, and the same in each execution.
#[derive(Clone, Copy)]
struct Same;

impl BuildHasher for Same {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self
    }
}

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        0
    }
}

/// The removals that were told, in no order.
type Told = Arc<Mutex<Vec<(u8, u64)>>>;

fn store(capacity: usize) -> (Store, Told) {
    let told = Told::default();
    let ends = Arc::clone(&told);
    let builder = CounterStore::<u8>::builder().capacity(capacity).shards(1).slack(16);
    let builder = builder.hasher(Same).on_removal(move |removal| {
        ends.lock().unwrap().push((*removal.key, removal.count));
    });
    (builder.build().unwrap(), told)
}

fn balances(totals: Totals, units: u64) {
    let Totals { recorded, live, evicted, removed, rejected, .. } = totals;
    assert_eq!((recorded, rejected), (units, 0), "each unit once");
    assert_eq!(live + evicted + removed, units, "each unit once");
}

/// What was told and what is live is all that was added.
fn told_all(store: &Store, told: &Told, units: u64) {
    let told: u64 = told.lock().unwrap().iter().map(|(_, count)| count).sum();
    let live: u64 = store.snapshot().iter().map(|(_, count)| count).sum();
    assert_eq!(told + live, units, "each unit once");
    balances(store.totals(), units);
    let stats = store.stats();
    let ended = stats.evicted + stats.removed;
    assert_eq!(stats.admitted - ended, store.len() as u64, "each life ends once");
}

pub(crate) fn two_keys_at_capacity_one() {
    explore("store, two keys at capacity 1", 1, 100, || {
        let (store, told) = store(1);
        let other = {
            let store = store.clone();
            thread::spawn(move || {
                store.increment(&1);
                assert!(store.len() <= 1, "above the cap");
            })
        };
        store.increment(&2);
        assert!(store.len() <= 1, "above the cap");
        other.join().unwrap();
        let stats = store.stats();
        assert!(store.len() <= 1, "above the cap");
        // Both may find all room with the other's admission: then one is rejected, and says so.
        let rejected = store.totals().rejected;
        assert_eq!(rejected, stats.rejections);
        let told: u64 = told.lock().unwrap().iter().map(|(_, count)| count).sum();
        let live: u64 = store.snapshot().iter().map(|(_, count)| count).sum();
        assert_eq!(told + live + rejected, 2, "each unit once");
        assert!(rejected <= 1);
    });
}

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
        told_all(&store, &told, 4);
    });
}

/// The thread that retires flushes, so that what it retired is really freed while the other one runs.
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
        told_all(&store, &told, 1);
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
        told_all(&store, &told, 1);
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
        told_all(&store, &told, 12);
    });
}
