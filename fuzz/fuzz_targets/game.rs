//! Plays the operations on a store and tells the model what came of each.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use counterclock::quanta::{Clock, Mock};
use counterclock::{AtCapacity, Counter, CounterStore, MAX_COUNT, Pinned, Snapshot};

use crate::model::{Ends, Key, May, Model, TTL};
use crate::ops::{Bits, Config, Input, Op, Way};

type Store = CounterStore<Key, Bits>;

/// Handles and snapshots that are kept at once.
const KEPT: usize = 4;

struct Game<'a> {
    config: Config,
    store: &'a Store,
    time: std::sync::Arc<Mock>,
    model: Model,
    pinned: Option<Pinned<'a, Key, Bits>>,
    counters: VecDeque<Counter<Key, Bits>>,
    snapshots: VecDeque<(Snapshot<Key>, BTreeMap<Key, u64>)>,
}

pub fn play(Input { config, ops }: Input) {
    let (clock, time) = Clock::mock();
    let ends = Ends::default();
    let store = build(config, clock, &ends);
    let model = Model::new(config, ends);
    let (counters, snapshots) = Default::default();
    let mut game = Game { config, store: &store, time, model, pinned: None, counters, snapshots };
    for op in ops {
        game.step(op);
        game.check();
    }
    game.totals();
}

fn build(config: Config, clock: Clock, ends: &Ends) -> Store {
    let told = Ends::clone(ends);
    let at_capacity = if config.rejects { AtCapacity::Reject } else { AtCapacity::Evict };
    let mut builder = CounterStore::<Key>::builder()
        .capacity(config.capacity())
        .shards(config.shards())
        .slack(config.slack())
        .at_capacity(at_capacity)
        .hasher(config.hasher())
        .clock(clock)
        .on_removal(move |end| told.lock().unwrap().push((*end.key, end.count, end.cause)));
    if config.ttl {
        builder = builder.idle_ttl(Duration::from_nanos(TTL));
    }
    builder.build().expect("a sane configuration")
}

impl Game<'_> {
    fn step(&mut self, op: Op) {
        let key_of = |key: u8| key % self.config.keys();
        match op {
            Op::Add { way, key, units } => self.add(way, key_of(key), units.get()),
            Op::Get { way, key } => self.get(way, key_of(key)),
            Op::Contains { key } => {
                let key = key_of(key);
                let there = self.store.contains(&key);
                self.model.learn(May::Nothing);
                let live = self.model.live().get(&key).copied();
                assert_eq!(there, live.is_some(), "contains {key}");
                self.model.got(key, live);
            }
            Op::Remove { key } => {
                let key = key_of(key);
                let got = self.store.remove(&key);
                self.model.removed(key, got);
            }
            Op::Counter { key } => self.counter(key_of(key)),
            Op::CloneCounter => {
                if let Some(counter) = self.counters.front().cloned() {
                    self.counters.push_back(counter);
                    self.counters.truncate(KEPT);
                }
            }
            Op::DropCounter => drop(self.counters.pop_front()),
            Op::Pin => self.pinned = Some(self.store.pin()),
            Op::Unpin => self.pinned = None,
            Op::KeepSnapshot => self.snapshot(),
            Op::DropSnapshot => drop(self.snapshots.pop_front()),
            Op::Top { n } => self.top(usize::from(n)),
            Op::Totals => self.totals(),
            Op::Clear => {
                self.store.clear();
                self.model.cleared();
            }
            Op::Prune => {
                let pruned = self.store.prune();
                assert_eq!(pruned, self.model.pruned());
            }
            Op::Advance { nanos } => {
                self.time.increment(u64::from(nanos) % (2 * TTL));
                self.model.now += u64::from(nanos) % (2 * TTL);
            }
        }
    }

    /// Whether an admission may find no memory: as many entries exist as may.
    fn no_memory(&self) -> bool {
        let exist = self.store.len() + self.store.waiting();
        exist >= self.config.capacity() + self.config.slack()
    }

    fn add(&mut self, way: Way, key: Key, n: u64) {
        let store = self.store;
        let before = self.model.live().contains_key(&key);
        let rejections = store.stats().rejections;
        let (key, n, got) = match (way, &self.pinned, self.counters.front()) {
            (Way::Try, ..) => {
                let got = store.try_add(&key, n).map_err(Some);
                return self.model.added(key, n, got, self.no_memory());
            }
            (Way::Owned, ..) => (key, 1, store.increment_owned(key)),
            (Way::Pinned, Some(pinned), _) => (key, n, pinned.add(&key, n)),
            (Way::Counter, _, Some(counter)) => (*counter.key(), n, counter.add(n)),
            _ => (key, n, store.add(&key, n)),
        };
        let rejected = store.stats().rejections > rejections;
        assert!(!rejected || got == n.min(MAX_COUNT), "rejected {key}, which was live: {before}");
        let got = if rejected { Err(None) } else { Ok(got) };
        self.model.added(key, n, got, self.no_memory());
    }

    fn get(&mut self, way: Way, key: Key) {
        let (key, got) = match (way, &self.pinned, self.counters.front()) {
            (Way::Pinned, Some(pinned), _) => (key, pinned.get(&key)),
            (Way::Counter, _, Some(counter)) => (*counter.key(), counter.get()),
            _ => (key, self.store.get(&key)),
        };
        self.model.got(key, got);
    }

    /// Making a handle is a use of no units, and says nothing of the count.
    fn counter(&mut self, key: Key) {
        let rejections = self.store.stats().rejections;
        self.counters.push_front(self.store.counter(&key));
        let rejected = self.store.stats().rejections > rejections;
        if rejected {
            self.model.added(key, 0, Err(None), self.no_memory());
            let count = self.counters[0].get();
            self.model.got(key, count);
        } else {
            let count = self.counters[0].get().expect("just used");
            self.model.added(key, 0, Ok(count), false);
        }
        self.counters.truncate(KEPT);
    }

    fn snapshot(&mut self) {
        let snapshot = self.store.snapshot();
        self.model.pruned();
        let live = self.model.live();
        let sum = live.values().fold(0_u64, |sum, count| sum.wrapping_add(*count));
        assert_eq!(snapshot.totals().live, sum);
        self.snapshots.push_front((snapshot, live));
        self.snapshots.truncate(KEPT);
    }

    fn top(&mut self, n: usize) {
        let top = self.store.top(n);
        self.model.pruned();
        let mut counts: Vec<_> = self.model.live().into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let expected = counts.iter().take(n).map(|(_, count)| count);
        assert!(top.iter().map(|(_, count)| count).eq(expected));
        assert!(top.iter().all(|counter| counts.contains(counter)));
    }

    fn totals(&mut self) {
        let totals = self.store.totals();
        self.model.pruned();
        let [evicted, expired, removed] = self.model.units;
        let live = self.model.live().values().fold(0_u64, |sum, n| sum.wrapping_add(*n));
        let rejected = self.model.rejected;
        let parts = [live, evicted, expired, removed, rejected];
        assert_eq!(
            [totals.live, totals.evicted, totals.expired, totals.removed, totals.rejected],
            parts
        );
        assert_eq!(totals.recorded, parts.into_iter().fold(0, u64::wrapping_add));
    }

    fn check(&self) {
        let Model { admitted, lives, rejections, .. } = &self.model;
        assert_eq!(self.store.len(), self.model.live().len());
        assert!(self.store.len() <= self.config.capacity());
        let exist = self.store.len() + self.store.waiting();
        assert!(exist <= self.config.capacity() + self.config.slack(), "{exist} entries exist");
        let stats = self.store.stats();
        assert_eq!((stats.admitted, stats.rejections), (*admitted, *rejections));
        assert_eq!([stats.evicted, stats.expired, stats.removed], *lives);
        for (snapshot, expected) in &self.snapshots {
            let shown: BTreeMap<_, _> = snapshot.iter().map(|(key, count)| (*key, count)).collect();
            assert_eq!((&shown, snapshot.len()), (expected, expected.len()));
        }
    }
}
