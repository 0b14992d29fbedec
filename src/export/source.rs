//! What can be exported.

use std::hash::{BuildHasher, Hash};

use crate::{CounterStore, Lane, Snapshot, Stats, Totals};

mod sealed {
    use crate::{CounterStore, Lane};

    pub trait Sealed {
        type K;
        type S;

        /// What is common to all lanes.
        fn store(&self) -> &CounterStore<Self::K, Self::S>;
    }

    impl<K, S> Sealed for CounterStore<K, S> {
        type K = K;
        type S = S;

        fn store(&self) -> &Self {
            self
        }
    }

    impl<K, S> Sealed for Lane<K, S> {
        type K = K;
        type S = S;

        fn store(&self) -> &CounterStore<K, S> {
            Lane::store(self)
        }
    }
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
    fn stats(&self) -> Stats {
        self.store().stats()
    }

    /// As [`CounterStore::len`].
    fn len(&self) -> usize {
        self.store().len()
    }

    /// Whether [`len`](Self::len) is 0.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`CounterStore::capacity`].
    fn capacity(&self) -> usize {
        self.store().capacity()
    }

    /// As [`CounterStore::waiting`].
    fn waiting(&self) -> usize {
        self.store().waiting()
    }
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
}
