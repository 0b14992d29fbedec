//! dashmap: unbounded.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use counterclock::RandomState;
use dashmap::DashMap;

use super::Store;
use crate::key::Form;

/// A hit takes its shard's lock for reading and counts by an atomic, so that hits do not exclude
/// each other.
pub struct Dash<F: Form + ?Sized>(DashMap<F::Owned, AtomicU64, RandomState>);

impl<F: Form + ?Sized> Dash<F> {
    pub fn new(capacity: usize) -> Self {
        Self(DashMap::with_capacity_and_hasher(capacity, RandomState::new()))
    }
}

impl<F: Form + ?Sized> Store<F> for Dash<F> {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        if let Some(count) = self.0.get(key) {
            return count.fetch_add(n, Ordering::Relaxed) + n;
        }
        let count = self.0.entry(key.to_owned()).or_default();
        count.fetch_add(n, Ordering::Relaxed) + n
    }

    fn remove(&self, key: &F) {
        black_box(self.0.remove(key));
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.len())
    }
}
