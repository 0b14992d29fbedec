//! TinyUFO.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use counterclock::RandomState;
use tinyufo::TinyUfo as Cache;

use super::{Store, Visible};
use crate::key::Form;

/// `new`, the fast flavour and not the compact one. New keys come in by `force_put`: with `put`,
/// one that is used less than what it would push out is not taken in, so that it is not counted
/// (over the traces: hit ratio 41.6 with `put`, 44.1 with `force_put`; retained mass 27.6, 25.4).
///
/// It keeps no keys, only 64-bit hashes of them, and its own hasher cannot be set; it is asked with
/// owned keys. So it is given our hash of the key, which costs no allocation, and hashes those 8
/// bytes again. It has no call that finds or inserts in one step: of two threads that count a new
/// key at once, one's count is lost. A hit clones an `Arc`.
pub struct Tiny {
    cache: Cache<u64, Arc<AtomicU64>>,
    hasher: RandomState,
}

impl Tiny {
    pub fn new(capacity: usize) -> Self {
        Self { cache: Cache::new(capacity, capacity), hasher: RandomState::new() }
    }
}

impl<F: Form + ?Sized> Store<F> for Tiny {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        let hash = self.hasher.hash_one(key);
        if let Some(count) = self.cache.get(&hash) {
            return count.fetch_add(n, Ordering::Relaxed) + n;
        }
        black_box(self.cache.force_put(hash, Arc::new(AtomicU64::new(n)), 1));
        n
    }

    fn remove(&self, key: &F) {
        black_box(self.cache.remove(&self.hasher.hash_one(key)));
    }

    fn len(&self) -> Option<usize> {
        None
    }
}

/// The same, and what it holds can be seen. It has neither an iterator nor a read that is no use,
/// but `force_put` returns what has been pushed out: that tells what is left.
pub struct Observed {
    cache: Cache<u64, Arc<(u64, AtomicU64)>>,
    live: Mutex<HashMap<u64, Arc<(u64, AtomicU64)>>>,
}

impl Observed {
    pub fn new(capacity: usize) -> Self {
        Self { cache: Cache::new(capacity, capacity), live: Mutex::default() }
    }
}

impl Store<u64> for Observed {
    fn add(&self, key: &u64, n: u64) -> u64 {
        if let Some(entry) = self.cache.get(key) {
            return entry.1.fetch_add(n, Ordering::Relaxed) + n;
        }
        let entry = Arc::new((*key, AtomicU64::new(n)));
        let mut live = self.live.lock().expect("nobody panics under it");
        live.insert(*key, Arc::clone(&entry));
        for evicted in self.cache.force_put(*key, entry, 1) {
            live.remove(&evicted.data.0);
        }
        n
    }

    fn remove(&self, key: &u64) {
        self.cache.remove(key);
        self.live.lock().expect("nobody panics under it").remove(key);
    }

    fn len(&self) -> Option<usize> {
        Some(self.live.lock().expect("nobody panics under it").len())
    }
}

impl Visible for Observed {
    fn live(&self) -> Vec<(u64, u64)> {
        let live = self.live.lock().expect("nobody panics under it");
        live.iter().map(|(&key, entry)| (key, entry.1.load(Ordering::Relaxed))).collect()
    }
}
