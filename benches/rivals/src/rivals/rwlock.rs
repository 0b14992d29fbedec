//! A lock around `std`'s map: unbounded.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

use counterclock::RandomState;

use super::Store;
use crate::key::Form;

/// A hit takes the lock for reading and counts by an atomic; only a new key takes it for writing.
pub struct RwLockMap<F: Form + ?Sized>(RwLock<HashMap<F::Owned, AtomicU64, RandomState>>);

impl<F: Form + ?Sized> RwLockMap<F> {
    pub fn new(capacity: usize) -> Self {
        Self(RwLock::new(HashMap::with_capacity_and_hasher(capacity, RandomState::new())))
    }
}

impl<F: Form + ?Sized> Store<F> for RwLockMap<F> {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        if let Some(count) = self.0.read().expect("nobody panics under it").get(key) {
            return count.fetch_add(n, Ordering::Relaxed) + n;
        }
        let mut map = self.0.write().expect("nobody panics under it");
        let count = map.entry(key.to_owned()).or_default();
        *count.get_mut() += n;
        *count.get_mut()
    }

    fn remove(&self, key: &F) {
        self.0.write().expect("nobody panics under it").remove(key);
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.read().expect("nobody panics under it").len())
    }
}
