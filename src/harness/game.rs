//! Plays calls on a store and tells the model what came of each.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::sync::Arc;

use super::model::{Ends, Map, Model};
use super::{Config, FewBits, Op, Units, Way, eventually, validate};
use crate::quanta::Mock;
use crate::reclaim::{Guard, pin};
use crate::{Counter, CounterStore, MAX_COUNT, Snapshot, ToKey, Totals};

/// Handles and snapshots that are kept at once.
pub(super) const KEPT: usize = 4;

/// A store, its clock, and a sequential model of it: each call's answer must be what the model
/// allows, and after each the store is looked at from inside.
///
/// ```
/// use counterclock::harness::{Config, Game, Op, Units, Way};
///
/// let mut game = Game::<String>::new(Config::default());
/// game.play(Op::Add { way: Way::Try, key: "a", units: Units::Few(9) });
/// game.play(Op::Remove { key: "a" });
/// assert_eq!(game.store().totals().removed, 9);
/// game.finish();
/// ```
pub struct Game<K: Send + Sync + 'static> {
    config: Config,
    store: CounterStore<K, FewBits>,
    time: Arc<Mock>,
    model: Model<K>,
    guard: Option<Guard>,
    counters: VecDeque<Counter<K, FewBits>>,
    snapshots: VecDeque<(Snapshot<K>, Map<K, u64>)>,
}

impl<K> Game<K>
where
    K: Clone + Hash + Eq + Debug + Send + Sync + 'static,
{
    /// # Panics
    ///
    /// If no store can be built from the configuration.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let ends = Ends::new();
        let heard = ends.clone();
        let (builder, time) = config.builder();
        let store = builder.on_removal(move |end| heard.hear(end)).build();
        Self {
            config,
            store: store.unwrap_or_else(|error| panic!("{config:?}: {error}")),
            time,
            model: Model::new(config, ends),
            guard: None,
            counters: VecDeque::new(),
            snapshots: VecDeque::new(),
        }
    }

    /// The store. What is called directly is not known to the model: only look.
    pub fn store(&self) -> &CounterStore<K, FewBits> {
        &self.store
    }

    /// Makes one call, with any form of the key, and checks all.
    ///
    /// # Panics
    ///
    /// If the store did what the model does not allow.
    pub fn play<Q>(&mut self, op: Op<&Q>)
    where
        Q: ToKey<K> + ?Sized,
    {
        self.step(op);
        self.check();
    }

    fn step<Q>(&mut self, op: Op<&Q>)
    where
        Q: ToKey<K> + ?Sized,
    {
        match op {
            Op::Add { way, key, units } => self.add(way, key, units.get()),
            Op::Get { way, key } => self.get(way, key),
            Op::Contains { key } => {
                let there = self.store.contains(key);
                self.model.asked(&key.to_key(), there);
            }
            Op::Remove { key } => {
                let got = self.store.remove(key);
                self.model.removed(&key.to_key(), got);
            }
            Op::Batch { parts } => self.batch(&parts),
            Op::Counter { key } => self.counter(key),
            Op::CloneCounter => {
                if let Some(counter) = self.counters.front().cloned() {
                    self.counters.push_front(counter);
                    self.counters.truncate(KEPT);
                }
            }
            Op::DropCounter => drop(self.counters.pop_front()),
            Op::Pin => self.guard = Some(pin()),
            Op::Unpin => self.guard = None,
            Op::KeepSnapshot => self.snapshot(),
            Op::DropSnapshot => drop(self.snapshots.pop_front()),
            Op::Top { n } => self.top(n.into()),
            Op::Totals => self.totals(),
            Op::Clear => {
                self.store.clear();
                self.model.cleared();
            }
            Op::Prune => {
                let pruned = self.store.prune();
                assert_eq!(pruned, self.model.pruned(), "lives pruned");
            }
            Op::Advance { .. } | Op::Outlast { .. } => {
                let nanos = self.config.wait(&op);
                self.time.increment(nanos);
                self.model.now += nanos;
            }
        }
    }

    /// Whether an admission may find no memory: as many entries exist as may. Asked before the
    /// call, since another thread may run this store's deferred frees at any time.
    fn no_memory(&self) -> bool {
        let exist = self.store.len() + self.store.waiting();
        exist >= self.config.capacity + self.config.slack
    }

    /// Tells the model of an add whose answer does not tell a rejection from a new life.
    fn tell(&mut self, key: &K, n: u64, add: impl FnOnce(&mut Self) -> u64) {
        let (live, no_memory) = (self.model.is_live(key), self.no_memory());
        let rejections = self.store.stats().rejections;
        let got = add(self);
        let rejected = self.store.stats().rejections > rejections;
        assert!(!rejected || got == n.min(MAX_COUNT), "rejected {key:?}, live before: {live}");
        self.model.added(key, n, if rejected { Err(None) } else { Ok(got) }, no_memory);
    }

    fn add<Q>(&mut self, way: Way, key: &Q, n: u64)
    where
        Q: ToKey<K> + ?Sized,
    {
        let known = key.to_key();
        match way {
            Way::Try => {
                let no_memory = self.no_memory();
                let got = self.store.try_add(key, n).map_err(Some);
                self.model.added(&known, n, got, no_memory);
            }
            Way::Owned => self.tell(&known, 1, |game| game.store.increment_owned(key.to_key())),
            Way::Pinned => self.tell(&known, n, |game| game.store.pin().add(key, n)),
            Way::Counter if !self.counters.is_empty() => {
                let known = self.counters[0].key().clone();
                self.tell(&known, n, |game| game.counters[0].add(n));
            }
            Way::Counter | Way::Store => self.tell(&known, n, |game| game.store.add(key, n)),
        }
    }

    fn get<Q>(&mut self, way: Way, key: &Q)
    where
        Q: ToKey<K> + ?Sized,
    {
        let (key, got) = match (way, self.counters.front()) {
            (Way::Pinned, _) => (key.to_key(), self.store.pin().get(key)),
            (Way::Counter, Some(counter)) => (counter.key().clone(), counter.get()),
            _ => (key.to_key(), self.store.get(key)),
        };
        self.model.got(&key, got);
    }

    fn batch<Q>(&mut self, parts: &[(&Q, Units)])
    where
        Q: ToKey<K> + ?Sized,
    {
        let store = self.store.clone();
        let pinned = store.pin();
        for &(key, units) in parts {
            let known = key.to_key();
            self.tell(&known, units.get(), |_| pinned.add(key, units.get()));
            let got = pinned.get(key);
            self.model.got(&known, got);
        }
    }

    /// Making a handle is a use of no units, and says nothing of the count.
    fn counter<Q>(&mut self, key: &Q)
    where
        Q: ToKey<K> + ?Sized,
    {
        let (known, no_memory) = (key.to_key(), self.no_memory());
        let rejections = self.store.stats().rejections;
        self.counters.push_front(self.store.counter(key));
        if self.store.stats().rejections > rejections {
            self.model.added(&known, 0, Err(None), no_memory);
            let count = self.counters[0].get();
            self.model.got(&known, count);
        } else {
            let count = self.counters[0].get().expect("just used");
            self.model.added(&known, 0, Ok(count), no_memory);
        }
        self.counters.truncate(KEPT);
    }

    fn snapshot(&mut self) {
        let snapshot = self.store.snapshot();
        self.model.pruned();
        self.compare(snapshot.totals());
        self.snapshots.push_front((snapshot, self.model.live()));
        self.snapshots.truncate(KEPT);
    }

    fn top(&mut self, n: usize) {
        let top = self.store.top(n);
        self.model.pruned();
        let live = self.model.live();
        let mut counts: Vec<_> = live.values().copied().collect();
        counts.sort_unstable_by_key(|&count| Reverse(count));
        counts.truncate(n);
        assert!(top.iter().map(|(_, count)| count).eq(&counts), "the top {n}: {top:?}");
        let shown: Map<_, _> = top.into_iter().collect();
        assert_eq!(shown.len(), counts.len(), "a key twice");
        assert!(shown.iter().all(|(key, count)| live.get(key) == Some(count)), "{shown:?}");
    }

    fn totals(&mut self) {
        let totals = self.store.totals();
        self.model.pruned();
        self.compare(totals);
    }

    fn compare(&self, totals: Totals) {
        let [evicted, expired, removed] = self.model.units;
        let (live, rejected) = (self.model.live_units(), self.model.rejected);
        let parts = [live, evicted, expired, removed, rejected];
        let recorded = parts.into_iter().fold(0, u64::wrapping_add);
        assert_eq!(totals, Totals { recorded, live, evicted, expired, removed, rejected });
    }

    /// Compares what the store says of itself, and what snapshots still show, with the model, and
    /// looks at the insides.
    ///
    /// # Panics
    ///
    /// If something is wrong.
    pub fn check(&self) {
        let (store, Config { capacity, slack, .. }) = (&self.store, self.config);
        assert_eq!(store.len(), self.model.len(), "live counters");
        assert!(store.len() <= capacity, "above the cap");
        let exist = store.len() + store.waiting();
        assert!(exist <= capacity + slack, "{exist} entries exist");
        let stats = store.stats();
        let admitted_and_rejected = (self.model.admitted, self.model.rejections);
        assert_eq!((stats.admitted, stats.rejections), admitted_and_rejected);
        assert_eq!([stats.evicted, stats.expired, stats.removed], self.model.lives);
        for (snapshot, expected) in &self.snapshots {
            let shown: Map<_, _> =
                snapshot.iter().map(|(key, count)| (key.clone(), count)).collect();
            assert_eq!((&shown, snapshot.len()), (expected, expected.len()));
        }
        validate(store);
    }

    /// Lets go of all that is held and clears the store: then each unit has been reported, and all
    /// memory comes back. Waits for pins of other threads.
    ///
    /// # Panics
    ///
    /// If something is left.
    pub fn finish(mut self) {
        self.guard = None;
        self.counters.clear();
        self.snapshots.clear();
        self.store.clear();
        self.model.cleared();
        self.totals();
        drain(&self.store);
        self.check();
    }
}

/// Frees what has ended. With nothing in flight and nothing held, all of it.
pub(super) fn drain<K>(store: &CounterStore<K, FewBits>)
where
    K: Hash + Eq + Send + Sync + 'static,
{
    let drained = eventually(|| {
        store.prune();
        store.waiting() == 0
    });
    assert!(drained, "{} ended entries are never freed", store.waiting());
}

impl<K: Debug + Send + Sync + 'static> fmt::Debug for Game<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Game")
            .field("config", &self.config)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}
