//! After any mix of all operations, every unit is where the outside tallies say.

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use common::{Added, Bed, Config, Key, Rng, TTL, TestState, live, matrix, tick};
use counterclock::{AtCapacity, Cause, Counter};

/// One thread's part of the mix.
struct Worker<'a, K: Key> {
    bed: &'a Bed<K>,
    rng: Rng,
    added: Added<K>,
    /// What `remove` returned, by key.
    removed: HashMap<K, Vec<u64>>,
    handles: Vec<Counter<K, TestState>>,
}

impl<'a, K: Key> Worker<'a, K> {
    fn new(bed: &'a Bed<K>, seed: u64) -> Self {
        Self {
            bed,
            rng: Rng::new(seed),
            added: Added::new(),
            removed: HashMap::new(),
            handles: Vec::new(),
        }
    }

    /// Twice as many keys as there is room for, some of them hot.
    fn key(&mut self) -> K {
        let range = 2 * self.bed.config.capacity as u64 + 1;
        let range = if self.rng.below(3) == 0 { range.min(3) } else { range };
        K::nth(self.rng.below(range))
    }

    fn step(&mut self) {
        let (key, store) = (self.key(), &self.bed.store);
        let n = self.rng.below(1000);
        match self.rng.below(100) {
            0..20 => {
                store.increment(&key);
                self.added.unsaid(&key, 1);
            }
            20..25 => {
                store.add(&key, n);
                self.added.unsaid(&key, n);
            }
            25..45 => self.added.said(&key, 1, store.try_increment(&key)),
            45..55 => self.added.said(&key, n, store.try_add(&key, n)),
            55..60 => {
                store.increment_owned(key.clone());
                self.added.unsaid(&key, 1);
            }
            60..65 => _ = store.get(&key),
            65..67 => _ = store.contains(&key),
            67..77 => {
                if let Some(count) = store.remove(&key) {
                    self.removed.entry(key).or_default().push(count);
                }
            }
            77..87 => self.handle(key, n),
            87..95 => self.pinned(key, n),
            _ => self.rarely(),
        }
    }

    fn handle(&mut self, key: K, n: u64) {
        // Making one admits the key.
        self.added.unsaid(&key, 0);
        if self.handles.len() < 4 {
            self.handles.push(self.bed.store.counter(&key));
            return;
        }
        let at = n as usize % 4;
        let handle = &self.handles[at];
        let key = handle.key().clone();
        self.added.unsaid(&key, n + 1);
        handle.add(n);
        handle.increment();
        _ = handle.get();
        match n % 3 {
            0 => drop(self.handles.swap_remove(at)),
            1 => self.handles[at] = self.handles[n as usize / 4 % 4].clone(),
            _ => {}
        }
    }

    fn pinned(&mut self, key: K, n: u64) {
        let other = self.key();
        let pinned = self.bed.store.pin();
        pinned.increment(&key);
        pinned.add(&other, n);
        _ = pinned.get(&key);
        pinned.increment(&other);
        self.added.unsaid(&key, 1);
        self.added.unsaid(&other, n + 1);
    }

    fn rarely(&mut self) {
        let store = &self.bed.store;
        match self.rng.below(60) {
            0..2 => store.clear(),
            2..6 => _ = store.prune(),
            6..12 => drop(live(&store.snapshot())),
            12..16 => drop(store.top(3)),
            16..20 => _ = (store.totals(), store.stats(), store.len(), store.waiting()),
            20..24 => self.bed.advance(TTL),
            _ => self.bed.advance(TTL / 7),
        }
    }

    fn run(mut self) -> (Added<K>, HashMap<K, Vec<u64>>) {
        for _ in 0..200 + self.bed.config.capacity {
            self.step();
        }
        (self.added, self.removed)
    }
}

/// What `remove` returned is among what the listener was told; the rest of that was `clear`'s.
fn check_removed<K: Key>(bed: &Bed<K>, removed: &HashMap<K, Vec<u64>>) {
    for (key, counts) in removed {
        let mut told = bed.ends.of(key);
        told.retain(|end| end.cause == Cause::Removed);
        for &count in counts {
            let at = told.iter().position(|end| end.count == count);
            told.swap_remove(at.unwrap_or_else(|| panic!("not told: {key:?} {count}")));
        }
    }
}

fn mix<K: Key>(config: Config) {
    let bed = config.bed::<K>();
    let (mut added, mut removed) = (Added::new(), HashMap::<K, Vec<u64>>::new());
    thread::scope(|scope| {
        let workers: Vec<_> = (1..=3)
            .map(|seed| {
                scope.spawn({
                    let bed = &bed;
                    move || Worker::new(bed, seed).run()
                })
            })
            .collect();
        for worker in workers {
            let (more, returned) = worker.join().expect("a worker");
            added = std::mem::replace(&mut added, Added::new()).merge(more);
            for (key, counts) in returned {
                removed.entry(key).or_default().extend(counts);
            }
        }
    });
    bed.check(&added);
    check_removed(&bed, &removed);

    // It goes on from there, and balances again when everything has ended.
    bed.store.clear();
    bed.check(&added);
    assert_eq!(bed.store.totals().live, 0, "{config:?}");
}

#[test]
fn the_mix_balances_for_integers() {
    matrix(64).into_iter().for_each(mix::<u64>);
}

#[test]
fn the_mix_balances_for_strings() {
    matrix(64).into_iter().for_each(mix::<String>);
}

#[test]
fn the_mix_balances_for_shared_strings() {
    matrix(64).into_iter().for_each(mix::<Arc<str>>);
}

/// Without a listener entries are let go of in another way.
#[test]
fn the_totals_balance_without_a_listener() {
    for config in matrix(64) {
        let (builder, mock) = config.builder::<u64>();
        let store = builder.build().expect("a valid configuration");
        let work = |seed| {
            let (mut rng, mut units, mut removed) = (Rng::new(seed), 0, 0);
            for _ in 0..200 + config.capacity {
                let key = rng.below(2 * config.capacity as u64 + 1);
                let n = rng.below(9);
                store.add(&key, n);
                units += n;
                if n == 0 {
                    removed += store.remove(&key).unwrap_or(0);
                }
                if let (7, Some(mock)) = (n, &mock) {
                    mock.increment(TTL / 50);
                }
            }
            (units, removed)
        };
        let sums = thread::scope(|scope| {
            let threads = [1, 2, 3].map(|seed| scope.spawn(move || work(seed)));
            threads.map(|thread| thread.join().expect("a worker"))
        });
        let totals = store.totals();
        let stats = store.stats();
        assert_eq!(totals.recorded, sums.iter().map(|sum| sum.0).sum::<u64>());
        assert_eq!(totals.removed, sums.iter().map(|sum| sum.1).sum::<u64>());
        let placed = totals.live + totals.evicted + totals.expired + totals.removed;
        assert_eq!(totals.recorded, placed + totals.rejected, "{config:?}");
        let ended = stats.evicted + stats.expired + stats.removed;
        assert_eq!(stats.admitted, ended + store.len() as u64, "{config:?}");
        if config.at_capacity == AtCapacity::Evict && config.capacity >= 64 {
            assert_eq!(stats.rejections, 0, "{config:?}");
        }
        if config.ttl.is_none() {
            assert_eq!(stats.expired, 0, "{config:?}");
        }
    }
}

/// One thread against a map: key, count, time of last use, rounded to ticks.
struct Model {
    lives: HashMap<u64, (u64, u64)>,
    now: u64,
}

impl Model {
    fn find(&mut self, key: u64, ttl: u64, tick: u64) -> Option<&mut (u64, u64)> {
        let used = self.lives.get(&key)?.1;
        if self.now >= (used / tick + 1) * tick + ttl {
            self.lives.remove(&key);
        }
        self.lives.get_mut(&key)
    }

    fn add(&mut self, key: u64, n: u64, ttl: u64, tick: u64) -> u64 {
        let now = self.now;
        if let Some(life) = self.find(key, ttl, tick) {
            *life = (life.0 + n, now);
            return life.0;
        }
        self.lives.insert(key, (n, now));
        n
    }
}

/// A store that is never full is a map whose entries expire.
fn compare_with_a_map<K: Key>(config: Config) {
    let bed = config.bed::<K>();
    let keys = config.capacity.min(200) as u64;
    let nanos = |time: std::time::Duration| time.as_nanos() as u64;
    // Without a TTL the clock stands still.
    let (ttl, tick) = (nanos(TTL), nanos(tick(TTL)));
    let mut model = Model { lives: HashMap::new(), now: 0 };
    let mut rng = Rng::new(7);
    for _ in 0..1500 {
        let (number, n) = (rng.below(keys), rng.below(5));
        let key = K::nth(number);
        match rng.below(12) {
            0..5 => {
                let expected = model.add(number, n, ttl, tick);
                assert_eq!(bed.store.try_add(&key, n), Ok(expected), "{config:?}");
            }
            5 => {
                let expected = model.add(number, 1, ttl, tick);
                assert_eq!(bed.store.increment_owned(key), expected, "{config:?}");
            }
            6 => {
                let expected = model.add(number, n, ttl, tick);
                assert_eq!(bed.store.pin().add(&key, n), expected, "{config:?}");
            }
            7 => {
                // Admits, or counts as a use.
                model.add(number, 0, ttl, tick);
                let counter = bed.store.counter(&key);
                assert_eq!(counter.add(n), model.add(number, n, ttl, tick), "{config:?}");
            }
            8 => {
                let expected = model.find(number, ttl, tick).map(|life| life.0);
                model.lives.remove(&number);
                assert_eq!(bed.store.remove(&key), expected, "{config:?}");
            }
            9..11 => {
                let expected = model.find(number, ttl, tick).map(|life| life.0);
                assert_eq!(bed.store.get(&key), expected, "{config:?}");
                assert_eq!(bed.store.contains(&key), expected.is_some(), "{config:?}");
            }
            _ if bed.mock.is_some() => {
                let step = rng.below(ttl / 2);
                bed.advance(std::time::Duration::from_nanos(step));
                model.now += step;
            }
            _ => {}
        }
    }
    for number in 0..keys {
        model.find(number, ttl, tick);
    }
    let expected: HashMap<K, u64> =
        model.lives.iter().map(|(&number, &(count, _))| (K::nth(number), count)).collect();
    assert_eq!(live(&bed.store.snapshot()), expected, "{config:?}");
    assert_eq!(bed.ends.by(Cause::Capacity), (0, 0), "{config:?}");
    assert_eq!(bed.store.stats().rejections, 0, "{config:?}");
}

#[test]
fn a_store_that_is_not_full_is_a_map() {
    for config in matrix(64) {
        compare_with_a_map::<u64>(config);
        compare_with_a_map::<String>(config);
    }
}
