//! The model: what is live with its count and last use, and what has ended.
//!
//! It does not know whom the policy evicts. It learns each end from the listener and checks that it
//! was legal: the life was there, the count is exact, and the cause fits.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};
use std::sync::{Arc, Mutex, PoisonError};

use super::Config;
use crate::{AtCapacity, Cause, MAX_COUNT, Rejected, Removal};

/// Not seeded: the same input gives the same run.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// What the listener heard and the model has not learnt yet.
#[derive(Debug)]
pub(super) struct Ends<K>(Arc<Mutex<Vec<(K, u64, Cause)>>>);

impl<K> Clone for Ends<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone> Ends<K> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    pub(super) fn hear(&self, end: &Removal<'_, K>) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.push((end.key.clone(), end.count, end.cause));
    }

    fn take(&self) -> Vec<(K, u64, Cause)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone, Copy, Debug)]
struct Life {
    count: u64,
    last_use: u64,
}

/// What an operation may end, besides what is idle.
#[derive(Clone, Copy)]
pub(super) enum May<'a, K> {
    Nothing,
    /// One other life, if the store is full.
    EvictFor(&'a K),
    Remove(&'a K),
    RemoveAll,
}

#[derive(Debug)]
pub(super) struct Model<K> {
    config: Config,
    /// And the tick, in nanoseconds.
    ttl: Option<(u64, u64)>,
    ends: Ends<K>,
    live: Map<K, Life>,
    pub(super) now: u64,
    /// Units that have ended, and lives: evicted, expired, removed.
    pub(super) units: [u64; 3],
    pub(super) lives: [u64; 3],
    pub(super) admitted: u64,
    pub(super) rejected: u64,
    pub(super) rejections: u64,
    /// Ends of the last operation.
    ended: Vec<(K, Cause)>,
}

impl<K: Clone + Hash + Eq + Debug> Model<K> {
    pub(super) fn new(config: Config, ends: Ends<K>) -> Self {
        Self {
            ttl: config.ttl_and_tick(),
            config,
            ends,
            live: Map::default(),
            now: 0,
            units: [0; 3],
            lives: [0; 3],
            admitted: 0,
            rejected: 0,
            rejections: 0,
            ended: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    pub(super) fn live(&self) -> Map<K, u64> {
        self.live.iter().map(|(key, life)| (key.clone(), life.count)).collect()
    }

    /// All units of live keys, modulo 2^64.
    pub(super) fn live_units(&self) -> u64 {
        self.live.values().fold(0, |sum, life| sum.wrapping_add(life.count))
    }

    pub(super) fn is_live(&self, key: &K) -> bool {
        self.live.contains_key(key)
    }

    /// Long enough ago that it may be ended.
    fn is_idle(&self, life: &Life) -> bool {
        self.ttl.is_some_and(|(ttl, _)| self.now - life.last_use > ttl)
    }

    /// Too long ago by more than a tick: nobody may see it.
    fn is_gone(&self, life: &Life) -> bool {
        self.ttl.is_some_and(|(ttl, tick)| self.now - life.last_use >= ttl + tick)
    }

    fn is_full(&self) -> bool {
        self.live.len() == self.config.capacity
    }

    fn rejects(&self) -> bool {
        self.config.at_capacity == AtCapacity::Reject
    }

    /// Takes in what the last operation ended.
    fn learn(&mut self, may: May<'_, K>) {
        self.ended.clear();
        let ends = self.ends.take();
        let evictions = ends.iter().filter(|(.., cause)| *cause == Cause::Capacity).count();
        assert!(evictions == 0 || ends.len() == 1, "one eviction makes room for one: {ends:?}");
        for (key, count, cause) in ends {
            let full = self.is_full();
            let life = self.live.remove(&key).unwrap_or_else(|| panic!("{key:?} was not live"));
            assert_eq!(count, life.count, "the final count of {key:?}");
            match cause {
                Cause::Capacity => {
                    let May::EvictFor(newcomer) = may else { panic!("evicted {key:?} for nobody") };
                    assert!(full && !self.rejects() && *newcomer != key, "evicted {key:?}");
                    assert!(!self.live.contains_key(newcomer), "evicted for a live key");
                    assert!(!self.is_gone(&life), "{key:?} was idle");
                }
                Cause::Idle => assert!(self.is_idle(&life), "{key:?} expired early"),
                Cause::Removed => {
                    let may = match may {
                        May::Remove(asked) => *asked == key,
                        May::RemoveAll => true,
                        May::Nothing | May::EvictFor(_) => false,
                    };
                    assert!(may, "removed {key:?}");
                    assert!(!self.is_gone(&life), "{key:?} was idle");
                }
            }
            let i = cause.index();
            self.units[i] = self.units[i].wrapping_add(count);
            self.lives[i] += 1;
            self.ended.push((key, cause));
        }
    }

    /// What is visible must not be idle for too long.
    fn visible(&self, key: &K) -> Option<&Life> {
        let life = self.live.get(key)?;
        assert!(!self.is_gone(life), "{key:?} is seen although it is idle");
        Some(life)
    }

    pub(super) fn got(&mut self, key: &K, got: Option<u64>) {
        self.learn(May::Nothing);
        assert_eq!(got, self.visible(key).map(|life| life.count), "get {key:?}");
    }

    pub(super) fn asked(&mut self, key: &K, there: bool) {
        self.learn(May::Nothing);
        assert_eq!(there, self.visible(key).is_some(), "contains {key:?}");
    }

    pub(super) fn removed(&mut self, key: &K, got: Option<u64>) {
        let before = self.live.get(key).map(|life| life.count);
        self.learn(May::Remove(key));
        let removed = self.ended.iter().any(|end| end.0 == *key && end.1 == Cause::Removed);
        assert_eq!(got, before.filter(|_| removed), "remove {key:?}");
        assert!(!self.live.contains_key(key), "{key:?} is still there");
    }

    pub(super) fn cleared(&mut self) {
        self.learn(May::RemoveAll);
        assert!(self.live.is_empty(), "not cleared: {:?}", self.live);
    }

    /// After an operation that ends every idle life; how many it ended.
    pub(super) fn pruned(&mut self) -> usize {
        self.learn(May::Nothing);
        let gone = self.live.values().filter(|life| self.is_gone(life)).count();
        assert_eq!(gone, 0, "idle lives are left");
        self.ended.len()
    }

    /// `no_memory`: whether as many entries existed as may.
    pub(super) fn added(
        &mut self,
        key: &K,
        n: u64,
        got: Result<u64, Option<Rejected>>,
        no_memory: bool,
    ) {
        self.learn(May::EvictFor(key));
        match got {
            Ok(got) => self.counted(key, n, got),
            Err(why) => {
                // After many rejections in a row the store does not try hard each time: then the
                // key's own idle life is not ended.
                let may_stay = |life: &Life| self.is_idle(life) && no_memory;
                assert!(self.live.get(key).is_none_or(may_stay), "rejected the live {key:?}");
                let full = self.rejects() && self.is_full();
                let right = match why {
                    Some(Rejected::Capacity) => full,
                    Some(Rejected::Memory) => no_memory,
                    None => full || no_memory,
                };
                assert!(right, "rejected {key:?} for no reason: {why:?}");
                self.rejected = self.rejected.wrapping_add(n.min(MAX_COUNT));
                self.rejections += 1;
            }
        }
    }

    fn counted(&mut self, key: &K, n: u64, got: u64) {
        self.visible(key);
        let now = self.now;
        let count = if let Some(life) = self.live.get_mut(key) {
            life.count = life.count.saturating_add(n).min(MAX_COUNT);
            life.last_use = now;
            life.count
        } else {
            assert!(!self.is_full(), "above the cap");
            let life = Life { count: n.min(MAX_COUNT), last_use: now };
            self.admitted += 1;
            self.live.insert(key.clone(), life);
            life.count
        };
        assert_eq!(got, count, "add {n} to {key:?}");
    }
}
