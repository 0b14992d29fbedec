//! papaya: unbounded.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use ::papaya::HashMap;
use counterclock::RandomState;

use super::Store;
use crate::key::Form;

/// Found by the borrowed key under a guard of the operation's own, and counted by an atomic in the
/// value: nothing is written but the count.
pub struct Papaya<F: Form + ?Sized>(HashMap<F::Owned, AtomicU64, RandomState>);

impl<F: Form + ?Sized> Papaya<F> {
    pub fn new(capacity: usize) -> Self {
        Self(HashMap::with_capacity_and_hasher(capacity, RandomState::new()))
    }
}

impl<F: Form + ?Sized> Store<F> for Papaya<F> {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        let guard = self.0.guard();
        let count = match self.0.get(key, &guard) {
            Some(count) => count,
            None => self.0.get_or_insert_with(key.to_owned(), AtomicU64::default, &guard),
        };
        count.fetch_add(n, Ordering::Relaxed) + n
    }

    fn remove(&self, key: &F) {
        black_box(self.0.remove(key, &self.0.guard()));
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.len())
    }
}
