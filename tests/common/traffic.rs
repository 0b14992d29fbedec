//! What exporters are shown: a little of each kind, and threads that count while they look.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use counterclock::{AtCapacity, CounterStore};

use super::{Bed, Key, Rng, SetOnDrop};

/// Three places for four keys.
pub fn three_places() -> CounterStore<String> {
    let builder = CounterStore::builder().capacity(3).at_capacity(AtCapacity::Reject);
    builder.build().expect("valid")
}

/// 35 units, of which 4 are rejected.
pub fn four_keys(store: &CounterStore<String>) {
    for (key, n) in [("a", 10), ("b", 20), ("c", 1), ("d", 4)] {
        store.add(key, n);
    }
}

/// Adds of that many threads, skewed over the keys, as long as `look` says so; all units.
pub fn while_adding<K: Key>(
    bed: &Bed<K>,
    threads: u64,
    keys: u64,
    mut look: impl FnMut() -> bool,
) -> u64 {
    let (added, stop) = (&AtomicU64::new(0), &AtomicBool::new(false));
    thread::scope(|scope| {
        let stopping = SetOnDrop(stop);
        for seed in 1..=threads {
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                while !stop.load(SeqCst) {
                    // Some keys stay at the top for a while.
                    let below = 1 + rng.below(keys);
                    let (key, n) = (K::nth(rng.below(below)), rng.below(50));
                    bed.store.add(&key, n);
                    added.fetch_add(n, SeqCst);
                    match rng.below(1000) {
                        0..9 => _ = bed.store.remove(&key),
                        9 => bed.advance(Duration::from_millis(5)),
                        _ => {}
                    }
                }
            });
        }
        while look() {}
        drop(stopping);
    });
    added.load(SeqCst)
}
