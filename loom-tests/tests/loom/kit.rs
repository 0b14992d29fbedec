// Included by each file of models of the whole store: one that collides and tells, and what must
// hold of it when nothing is in flight.

#[allow(dead_code)] // No file uses all of it.
mod kit {
    use std::hash::{BuildHasher, Hasher};
    use std::sync::{Arc, Mutex};

    use super::super::tree::{Builder, Cause, CounterStore};

    pub(super) type Store = CounterStore<u8, Same>;

    /// One hash for all keys, and the same in each execution.
    #[derive(Clone, Copy)]
    pub(super) struct Same;

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

    /// What the listener was told: key, count and cause of each life that ended.
    #[derive(Clone, Default)]
    pub(super) struct Told(Arc<Mutex<Vec<(u8, u64, Cause)>>>);

    impl Told {
        /// In order of their keys and counts.
        pub(super) fn ends(&self) -> Vec<(u8, u64, Cause)> {
            let mut ends = self.0.lock().unwrap().clone();
            ends.sort_by_key(|(key, count, _)| (*key, *count));
            ends
        }

        fn units(&self, cause: Cause) -> u64 {
            self.ends().iter().filter(|end| end.2 == cause).map(|end| end.1).sum()
        }
    }

    pub(super) fn builder(capacity: usize) -> (Builder<u8, Same>, Told) {
        let told = Told::default();
        let ends = Told::clone(&told);
        let builder = CounterStore::<u8>::builder().capacity(capacity).shards(1).slack(16);
        let builder = builder.hasher(Same).on_removal(move |removal| {
            ends.0.lock().unwrap().push((*removal.key, removal.count, removal.cause));
        });
        (builder, told)
    }

    pub(super) fn store(capacity: usize) -> (Store, Told) {
        let (builder, told) = builder(capacity);
        (builder.build().unwrap(), told)
    }

    pub(super) fn live(store: &Store) -> Vec<(u8, u64)> {
        let mut live: Vec<_> = store.snapshot().iter().map(|(key, count)| (*key, count)).collect();
        live.sort_unstable();
        live
    }

    /// Where each of `units` is, with nothing in flight; returns how many were rejected.
    pub(super) fn balances(store: &Store, told: &Told, units: u64) -> u64 {
        let totals = store.totals();
        assert_eq!(totals.recorded, units, "each unit once");
        let told_units = [Cause::Capacity, Cause::Idle, Cause::Removed].map(|c| told.units(c));
        assert_eq!([totals.evicted, totals.expired, totals.removed], told_units, "each unit once");
        let live = live(store);
        let shown: u64 = live.iter().map(|(_, count)| count).sum();
        assert_eq!(totals.live, shown, "each unit once");

        let stats = store.stats();
        let ended = stats.evicted + stats.expired + stats.removed;
        assert_eq!(ended, told.ends().len() as u64, "each life ends once");
        assert_eq!(stats.admitted - ended, live.len() as u64, "each life ends once");
        assert_eq!(store.len(), live.len(), "a permit for each live key");
        assert!(store.len() <= store.capacity(), "above the cap");
        totals.rejected
    }
}
