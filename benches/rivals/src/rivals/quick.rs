//! quick_cache.

use std::hint::black_box;

use counterclock::RandomState;
use quick_cache::sync::{Cache, DefaultLifecycle, EntryAction, EntryResult};
use quick_cache::{OptionsBuilder, UnitWeighter};

use super::{Store, Visible};
use crate::key::Form;

type Inner<F> = Cache<<F as ToOwned>::Owned, u64, UnitWeighter, RandomState>;

/// Counted by `entry`: a plain `u64`, in place, under its shard's write lock; a hit allocates
/// nothing. The other way, `get_or_insert_with` and an atomic in an `Arc`, takes the lock for
/// reading, but clones and drops the `Arc`: 1.7 times as long a hit, on one thread and on two.
/// Shards by default, four a core.
pub struct Quick<F: Form + ?Sized>(Inner<F>);

impl<F: Form + ?Sized> Quick<F> {
    pub fn new(capacity: usize) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(capacity)
            .weight_capacity(capacity as u64)
            .build()
            .expect("both capacities are set");
        let (hasher, lifecycle) = (RandomState::new(), DefaultLifecycle::default());
        Self(Cache::with_options(options, UnitWeighter, hasher, lifecycle))
    }
}

impl<F: Form + ?Sized> Store<F> for Quick<F> {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        loop {
            let entry = self.0.entry(key, None, |_, count| {
                *count += n;
                EntryAction::Retain(*count)
            });
            match entry {
                EntryResult::Retained(count) => return count,
                EntryResult::Vacant(guard) => {
                    // Refused where another thread has removed the placeholder meanwhile.
                    if guard.insert(n).is_ok() {
                        return n;
                    }
                }
                _ => unreachable!("nothing is removed here, and there is no time limit"),
            }
        }
    }

    fn remove(&self, key: &F) {
        black_box(self.0.remove(key));
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

impl Visible for Quick<u64> {
    /// `iter` does not count as use.
    fn live(&self) -> Vec<(u64, u64)> {
        self.0.iter().collect()
    }
}
