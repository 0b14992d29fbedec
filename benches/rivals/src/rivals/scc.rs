//! scc's `HashCache`.

use std::hint::black_box;

use ::scc::HashCache;
use counterclock::RandomState;

use super::{Store, Visible};
use crate::key::Form;

/// scc 3, an LRU in each set of 32. All memory at once, as it need not grow then. A hit is
/// `get_sync` with the borrowed key, which allocates nothing, moves the entry to the front of its
/// set, and gives the plain `u64` to be counted in place; only a new key goes through
/// `entry_sync`, which wants an owned one.
///
/// Its capacity is rounded up to a power of two (in its favour where the traces ask for less), and
/// a set evicts when it is full though the cache is not.
pub struct Scc<F: Form + ?Sized>(HashCache<F::Owned, u64, RandomState>);

impl<F: Form + ?Sized> Scc<F> {
    pub fn new(capacity: usize) -> Self {
        Self(HashCache::with_capacity_and_hasher(capacity, capacity, RandomState::new()))
    }
}

impl<F: Form + ?Sized> Store<F> for Scc<F> {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        if let Some(mut entry) = self.0.get_sync(key) {
            *entry += n;
            return *entry;
        }
        let (evicted, mut entry) = self.0.entry_sync(key.to_owned()).or_put(0);
        *entry += n;
        let count = *entry;
        drop(entry);
        black_box(evicted);
        count
    }

    fn remove(&self, key: &F) {
        black_box(self.0.remove_sync(key));
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

impl Visible for Scc<u64> {
    /// `iter_sync` does not touch the order of use.
    fn live(&self) -> Vec<(u64, u64)> {
        let mut live = Vec::new();
        self.0.iter_sync(|&key, &count| {
            live.push((key, count));
            true
        });
        live
    }
}
