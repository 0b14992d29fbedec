//! What can be exported.

use std::hash::{BuildHasher, Hash};

use crate::{CounterStore, Lane, Snapshot, Stats, Totals};

mod sealed {
    pub trait Sealed {}
    impl<K, S> Sealed for crate::CounterStore<K, S> {}
    impl<K, S> Sealed for crate::Lane<K, S> {}
}

/// What an exporter reads: a [`CounterStore`], or a [`Lane`] of a store of several. Sealed.
pub trait Source: sealed::Sealed + Send + Sync + 'static {
    /// The keys that are counted.
    type Key: Hash + Eq + Send + Sync + 'static;

    /// As [`CounterStore::snapshot`].
    fn snapshot(&self) -> Snapshot<Self::Key>;

    /// As [`CounterStore::totals`].
    fn totals(&self) -> Totals;

    /// As [`CounterStore::stats`].
    fn stats(&self) -> Stats;

    /// As [`CounterStore::len`].
    fn len(&self) -> usize;

    /// Whether [`len`](Self::len) is 0.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`CounterStore::capacity`].
    fn capacity(&self) -> usize;

    /// As [`CounterStore::waiting`].
    fn waiting(&self) -> usize;
}

impl<K, S> Source for CounterStore<K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    type Key = K;

    fn snapshot(&self) -> Snapshot<K> {
        self.snapshot()
    }

    fn totals(&self) -> Totals {
        self.totals()
    }

    fn stats(&self) -> Stats {
        self.stats()
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }

    fn waiting(&self) -> usize {
        self.waiting()
    }
}

impl<K, S> Source for Lane<K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    type Key = K;

    fn snapshot(&self) -> Snapshot<K> {
        self.snapshot()
    }

    fn totals(&self) -> Totals {
        self.totals()
    }

    fn stats(&self) -> Stats {
        self.store().stats()
    }

    fn len(&self) -> usize {
        self.store().len()
    }

    fn capacity(&self) -> usize {
        self.store().capacity()
    }

    fn waiting(&self) -> usize {
        self.store().waiting()
    }
}
