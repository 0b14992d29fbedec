//! The policy once more, naively: deques and maps, written from its description alone. The store
//! must evict the same keys in the same order.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use crate::cell::{Cause, USES_RANGE};
use crate::clock_list::{DRAIN, HEED};
use crate::hash::KeyHash;
use crate::sweep::{MAX_DEAD, MAX_VISITS};
use crate::{AtCapacity, CounterStore};

struct Card {
    key: u64,
    snap: u64,
    credit: u64,
}

struct Twin {
    capacity: usize,
    /// Newest in front.
    probation: VecDeque<Card>,
    main: VecDeque<Card>,
    /// Per bucket, newest in front: fingerprint, and whether it left main.
    ghost: Vec<VecDeque<(u16, bool)>>,
    target: Option<i64>,
    uses: HashMap<u64, u64>,
    hash: fn(u64) -> KeyHash,
}

fn lg(x: u64) -> u64 {
    u64::from(64 - x.leading_zeros())
}

impl Twin {
    fn new(capacity: usize, hash: fn(u64) -> KeyHash) -> Self {
        let buckets = (capacity / 8).max(1);
        Self {
            capacity,
            probation: VecDeque::new(),
            main: VecDeque::new(),
            ghost: (0..buckets).map(|_| VecDeque::new()).collect(),
            target: None,
            uses: HashMap::new(),
            hash,
        }
    }

    fn since(&self, key: u64, snap: u64) -> u64 {
        (self.uses[&key] - snap) % u64::from(USES_RANGE)
    }

    fn recall(&mut self, key: u64) -> Option<(bool, usize)> {
        let hash = (self.hash)(key);
        let at = hash.below(self.ghost.len());
        let bucket = &mut self.ghost[at];
        let way = bucket.iter().position(|&(print, _)| print == hash.fingerprint())?;
        bucket.remove(way).map(|(_, main)| (main, way))
    }

    fn remember(&mut self, key: u64, main: bool) {
        let hash = (self.hash)(key);
        let at = hash.below(self.ghost.len());
        self.ghost[at].push_front((hash.fingerprint(), main));
        self.ghost[at].truncate(8);
    }

    fn adapt(&mut self, hit: Option<(bool, usize)>) {
        let fine = self.capacity as i64 * 64;
        let start = fine * 10 / 100;
        let target = self.target.unwrap_or(start);
        let count = |main| self.ghost.iter().flatten().filter(|word| word.1 == main).count() as i64;
        let (n0, n1) = (count(false) + 1, count(true) + 1);
        self.target = Some(match hit {
            Some((false, 0..4)) => (target + (64 * n1 / n0).clamp(64, 512)).min(fine * 75 / 100),
            Some((true, 0..4)) => {
                (target - (64 * n0 / n1).clamp(64, 512)).max((fine / 100).max(64))
            }
            Some(_) => target,
            None => (target - 1).max(start.min(target)),
        });
    }

    fn evict(&mut self) -> u64 {
        let mut passed: Vec<Card> = Vec::new();
        let mut victim = None;
        while victim.is_none() && passed.len() < 16 {
            let in_main = self.main.len() + passed.len();
            let share = self.capacity as i64 - self.target.unwrap() / 64;
            if self.probation.is_empty() || in_main as i64 > share {
                let Some(mut card) = self.main.pop_back() else {
                    break;
                };
                let credit = (card.credit + lg(self.since(card.key, card.snap))).min(63);
                if credit == 0 {
                    victim = Some((card, true));
                } else {
                    card.credit = credit - 1;
                    card.snap = self.uses[&card.key];
                    passed.push(card);
                }
            } else {
                let mut card = self.probation.pop_back().unwrap();
                // In probation the units, one a use, say how often the field has wrapped.
                let uses = (self.uses[&card.key] - card.snap).min(u16::MAX.into());
                if uses < 2 {
                    victim = Some((card, false));
                } else {
                    card.credit = lg(uses).saturating_sub(3);
                    card.snap = self.uses[&card.key];
                    passed.push(card);
                }
            }
        }
        let (card, main) = victim.unwrap_or_else(|| {
            let lowest = (0..passed.len()).min_by_key(|&i| passed[i].credit).unwrap();
            (passed.remove(lowest), true)
        });
        self.remember(card.key, main);
        self.uses.remove(&card.key);
        for card in passed {
            self.main.push_front(card);
        }
        card.key
    }

    /// Counts one; returns the key that it evicted.
    fn increment(&mut self, key: u64) -> Option<u64> {
        if let Some(uses) = self.uses.get_mut(&key) {
            *uses += 1;
            return None;
        }
        let full = self.uses.len() == self.capacity;
        let hit = self.recall(key);
        let evicted = full.then(|| {
            self.adapt(hit);
            self.evict()
        });
        self.uses.insert(key, 1);
        let card = Card { key, snap: 1, credit: 0 };
        if hit.is_some() { &mut self.main } else { &mut self.probation }.push_front(card);
        evicted
    }

    fn remove(&mut self, key: u64) {
        if self.uses.remove(&key).is_some() {
            self.probation.retain(|card| card.key != key);
            self.main.retain(|card| card.key != key);
        }
    }
}

#[derive(Clone, Default)]
struct Identity;

impl std::hash::BuildHasher for Identity {
    type Hasher = IdentityHasher;
    fn build_hasher(&self) -> IdentityHasher {
        IdentityHasher(0)
    }
}

struct IdentityHasher(u64);

impl std::hash::Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unimplemented!("keys are u64")
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Skewed keys with scans in between; `spread` is about how many there are.
fn key(rng: &mut u64, step: u64, spread: u64) -> u64 {
    match step / 1000 % 4 {
        0 => step % (spread * 3),
        _ => {
            let wide = xorshift(rng) % spread + 1;
            xorshift(rng) % wide
        }
    }
}

fn store(capacity: usize) -> (CounterStore<u64, Identity>, Arc<Mutex<Vec<u64>>>) {
    let evicted = Arc::new(Mutex::new(Vec::new()));
    let log = evicted.clone();
    let store = CounterStore::builder()
        .capacity(capacity)
        .shards(1)
        .hasher(Identity)
        .on_removal(move |removal| {
            if removal.cause == Cause::Capacity {
                log.lock().unwrap().push(*removal.key);
            }
        })
        .build()
        .unwrap();
    (store, evicted)
}

/// `uses`: one in so many keys is used again a random number of times, up to this.
fn play(capacity: usize, seed: u64, steps: u64, removals: bool, uses: u64) {
    let (store, evicted) = store(capacity);
    let mut twin = Twin::new(capacity, KeyHash::mixed);
    let mut rng = seed;
    let spread = capacity as u64 * 5 + 3;
    for step in 0..steps {
        let key = key(&mut rng, step, spread);
        if removals && xorshift(&mut rng).is_multiple_of(10) {
            store.remove(&key);
            twin.remove(key);
            continue;
        }
        let again =
            if xorshift(&mut rng).is_multiple_of(20) { xorshift(&mut rng) % uses } else { 0 };
        for _ in 0..=again {
            store.increment(&key);
            let expected: Vec<_> = twin.increment(key).into_iter().collect();
            let got = std::mem::take(&mut *evicted.lock().unwrap());
            assert_eq!(got, expected, "capacity {capacity}, seed {seed}, step {step}");
        }
        if step % 512 == 0 {
            store.inner.engine.validate();
        }
    }
    store.inner.engine.validate();
    assert_eq!(store.stats().rejections, 0);
    if capacity > 2 {
        let stats = store.stats();
        assert!(stats.evicted > steps / 100, "the test evicts: {stats:?}");
    }
}

#[test]
fn evicts_what_the_twin_evicts() {
    for capacity in [1, 2, 3, 7, 16, 64, 200, 1000] {
        for seed in 1..4 {
            play(capacity, seed, 20_000, false, 40);
        }
    }
}

#[test]
fn evicts_what_the_twin_evicts_with_removals_between() {
    for capacity in [1, 2, 7, 64, 200] {
        for seed in 1..4 {
            play(capacity, seed, 20_000, true, 40);
        }
    }
}

/// Trap 9, a field of uses wraps: both count uses modulo its range.
#[test]
fn evicts_what_the_twin_evicts_where_uses_wrap() {
    for capacity in [3, 20] {
        play(capacity, 5, 4_000, false, 3000);
    }
}

/// The documented bound on the work of one admission: its own shard's lists, taken once to evict
/// and once to settle.
#[test]
fn an_admission_takes_a_bounded_number_of_hand_steps() {
    let bound = (2 * (DRAIN + HEED) + MAX_VISITS + MAX_DEAD) as u64;
    for capacity in [1, 2, 7, 64, 2048] {
        let (store, _) = store(capacity);
        let engine = &store.inner.engine;
        let (mut rng, mut worst, mut before) = (9, 0, engine.steps());
        let admissions = 50_000;
        for step in 0..admissions {
            // Everything in the store is in use all the time: the hand has the most to do.
            let key = step + (1 << 32);
            store.increment(&key);
            for _ in 0..3 {
                store.increment(
                    &(step - xorshift(&mut rng) % (step + 1).min(capacity as u64) + (1 << 32)),
                );
            }
            let now = engine.steps();
            worst = worst.max(now - before);
            before = now;
        }
        // Up to four admissions since the last look.
        assert!(worst <= 4 * bound, "capacity {capacity}: {worst} steps");
        let stats = store.stats();
        let mean = before as f64 / stats.admitted as f64;
        assert!(mean <= 8.0, "capacity {capacity}: {mean} steps an admission");
        assert_eq!(stats.rejections, 0);
    }
}

/// Removals leave nothing behind in the lists, so a store that never fills stays small, step by
/// step.
#[test]
fn a_removal_takes_a_bounded_number_of_hand_steps() {
    let (store, _) = store(2048);
    let engine = &store.inner.engine;
    let mut before = engine.steps();
    for key in 0..50_000 {
        store.increment(&key);
        store.remove(&key);
        let now = engine.steps();
        assert!(now - before <= (2 * (DRAIN + HEED)) as u64);
        before = now;
    }
    assert!(before <= 2 * 50_000, "{before} steps");
    engine.validate();
}

/// With `Reject` the hand never moves.
#[test]
fn rejecting_moves_no_hand() {
    let store = CounterStore::<u64>::builder()
        .capacity(64)
        .at_capacity(AtCapacity::Reject)
        .build()
        .unwrap();
    for key in 0..64 {
        store.increment(&key);
    }
    let before = store.inner.engine.steps();
    for key in 64..10_000 {
        assert!(store.try_increment(&key).is_err());
    }
    assert_eq!(store.inner.engine.steps(), before);
    assert_eq!((store.len(), store.stats().rejections), (64, 10_000 - 64));
}
