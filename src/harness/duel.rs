//! The policy once more, naively: deques and maps, written from its description alone. The store
//! must evict the same keys in the same order.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::model::Map;
use super::{FewBits, validate};
use crate::CounterStore;
use crate::cell::{Cause, USES_RANGE};
use crate::hash::KeyHash;

/// A store of one shard beside a naive, sequential writing of its eviction policy. Both must evict
/// the same keys in the same order. This crate's own target `policy` plays it.
#[doc(hidden)]
pub struct Duel {
    store: CounterStore<u64, FewBits>,
    evicted: Arc<Mutex<Vec<u64>>>,
    twin: Twin,
}

impl Duel {
    /// # Panics
    ///
    /// If the capacity is 0.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let evicted = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&evicted);
        let builder = CounterStore::builder().capacity(capacity).shards(1).hasher(HASHER);
        let store = builder.on_removal(move |end| {
            if end.cause == Cause::Capacity {
                log.lock().unwrap_or_else(PoisonError::into_inner).push(*end.key);
            }
        });
        Self {
            store: store.build().expect("a sane configuration"),
            evicted,
            twin: Twin::new(capacity),
        }
    }

    /// Counts one on both sides.
    ///
    /// # Panics
    ///
    /// If they evict different keys.
    pub fn increment(&mut self, key: u64) {
        self.store.increment(&key);
        let expected: Vec<_> = self.twin.increment(key).into_iter().collect();
        let got = std::mem::take(&mut *self.evicted.lock().unwrap_or_else(PoisonError::into_inner));
        assert_eq!(got, expected, "capacity {}: evicted for {key}", self.twin.capacity);
    }

    /// Ends a life on both sides.
    ///
    /// # Panics
    ///
    /// If the key is not live on both or on neither.
    pub fn remove(&mut self, key: u64) {
        let removed = self.store.remove(&key).is_some();
        assert_eq!(removed, self.twin.remove(key), "whether {key} was live");
    }

    /// Looks at both.
    ///
    /// # Panics
    ///
    /// If they hold different keys, or if [`validate`](super::validate) does.
    pub fn check(&self) {
        validate(&self.store);
        assert_eq!(self.store.len(), self.twin.uses.len(), "live keys");
        assert!(self.twin.uses.keys().all(|key| self.store.contains(key)), "live keys");
    }

    /// The store: calls that do not count or remove change nothing for the policy.
    pub fn store(&self) -> &CounterStore<u64, FewBits> {
        &self.store
    }
}

impl fmt::Debug for Duel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Duel").field("store", &self.store).finish_non_exhaustive()
    }
}

const HASHER: FewBits = FewBits::new(u64::MAX);

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
    uses: Map<u64, u64>,
}

fn lg(x: u64) -> u64 {
    u64::from(64 - x.leading_zeros())
}

impl Twin {
    fn new(capacity: usize) -> Self {
        let buckets = (capacity / 8).max(1);
        Self {
            capacity,
            probation: VecDeque::new(),
            main: VecDeque::new(),
            ghost: (0..buckets).map(|_| VecDeque::new()).collect(),
            target: None,
            uses: Map::default(),
        }
    }

    fn since(&self, key: u64, snap: u64) -> u64 {
        (self.uses[&key] - snap) % u64::from(USES_RANGE)
    }

    fn recall(&mut self, key: u64) -> Option<(bool, usize)> {
        let hash = KeyHash::of(&HASHER, &key);
        let at = hash.below(self.ghost.len());
        let bucket = &mut self.ghost[at];
        let way = bucket.iter().position(|&(print, _)| print == hash.fingerprint())?;
        bucket.remove(way).map(|(_, main)| (main, way))
    }

    fn remember(&mut self, key: u64, main: bool) {
        let hash = KeyHash::of(&HASHER, &key);
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

    fn remove(&mut self, key: u64) -> bool {
        self.probation.retain(|card| card.key != key);
        self.main.retain(|card| card.key != key);
        self.uses.remove(&key).is_some()
    }
}
