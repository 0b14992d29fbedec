//! The model: what is live with its count and last use, and what has ended.
//!
//! It does not know whom the policy evicts. It learns each end from the listener and checks that it was
//! legal: the life was there, the count is exact, and the cause fits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use counterclock::{Cause, MAX_COUNT, Rejected};

use crate::ops::Config;

pub const TTL: u64 = 1000;
/// As documented: a 64th of the TTL, rounded down to a power of two.
const TICK: u64 = 8;

pub type Key = u8;
pub type Ends = Arc<Mutex<Vec<(Key, u64, Cause)>>>;

#[derive(Clone, Copy)]
struct Life {
    count: u64,
    last_use: u64,
}

/// What an operation may end, besides what is idle.
#[derive(Clone, Copy, PartialEq)]
pub enum May {
    Nothing,
    /// One other life, if the store is full.
    EvictFor(Key),
    Remove(Key),
    RemoveAll,
}

pub struct Model {
    config: Config,
    ends: Ends,
    live: BTreeMap<Key, Life>,
    pub now: u64,
    /// Units that have ended, and lives: evicted, expired, removed.
    pub units: [u64; 3],
    pub lives: [u64; 3],
    pub admitted: u64,
    pub rejected: u64,
    pub rejections: u64,
    /// Ends of the last operation.
    pub ended: Vec<(Key, Cause)>,
}

impl Model {
    pub fn new(config: Config, ends: Ends) -> Self {
        Self {
            config,
            ends,
            live: BTreeMap::new(),
            now: 0,
            units: [0; 3],
            lives: [0; 3],
            admitted: 0,
            rejected: 0,
            rejections: 0,
            ended: Vec::new(),
        }
    }

    pub fn live(&self) -> BTreeMap<Key, u64> {
        self.live.iter().map(|(key, life)| (*key, life.count)).collect()
    }

    fn idle_for(&self, life: &Life) -> u64 {
        self.now - life.last_use
    }

    /// Too long ago by more than a tick: nobody may see it.
    fn is_gone(&self, life: &Life) -> bool {
        self.config.ttl && self.idle_for(life) >= TTL + TICK
    }

    fn is_full(&self) -> bool {
        self.live.len() == self.config.capacity()
    }

    /// Takes in what the last operation ended.
    pub fn learn(&mut self, may: May) {
        self.ended.clear();
        let ends = std::mem::take(&mut *self.ends.lock().unwrap());
        let evictions = ends.iter().filter(|(.., cause)| *cause == Cause::Capacity).count();
        assert!(evictions == 0 || ends.len() == 1, "one eviction makes room for one: {ends:?}");
        for (key, count, cause) in ends {
            let full = self.is_full();
            let life = self.live.remove(&key).unwrap_or_else(|| panic!("{key} was not live"));
            assert_eq!(count, life.count, "the final count of {key}");
            let i = match cause {
                Cause::Capacity => {
                    let May::EvictFor(newcomer) = may else { panic!("evicted {key} for nobody") };
                    assert!(full && !self.config.rejects && newcomer != key);
                    assert!(!self.live.contains_key(&newcomer), "evicted for a live key");
                    assert!(!self.is_gone(&life), "{key} was idle");
                    0
                }
                Cause::Idle => {
                    assert!(self.config.ttl && self.idle_for(&life) > TTL, "{key} expired early");
                    1
                }
                Cause::Removed => {
                    assert!(may == May::Remove(key) || may == May::RemoveAll, "removed {key}");
                    assert!(!self.is_gone(&life), "{key} was idle");
                    2
                }
                _ => panic!("an unknown cause"),
            };
            self.units[i] = self.units[i].wrapping_add(count);
            self.lives[i] += 1;
            self.ended.push((key, cause));
        }
    }

    /// What is visible must not be idle for too long.
    fn visible(&self, key: Key) -> Option<&Life> {
        let life = self.live.get(&key)?;
        assert!(!self.is_gone(life), "{key} is seen although it is idle");
        Some(life)
    }

    pub fn got(&mut self, key: Key, got: Option<u64>) {
        self.learn(May::Nothing);
        assert_eq!(got, self.visible(key).map(|life| life.count), "get {key}");
    }

    pub fn removed(&mut self, key: Key, got: Option<u64>) {
        let before = self.live.get(&key).map(|life| life.count);
        self.learn(May::Remove(key));
        let removed = self.ended.contains(&(key, Cause::Removed));
        assert_eq!(got, before.filter(|_| removed), "remove {key}");
        assert!(!self.live.contains_key(&key), "{key} is still there");
    }

    pub fn cleared(&mut self) {
        self.learn(May::RemoveAll);
        assert!(self.live.is_empty(), "not cleared: {:?}", self.live());
    }

    /// After an operation that ends every idle life.
    pub fn pruned(&mut self) -> usize {
        self.learn(May::Nothing);
        let gone = self.live.values().filter(|life| self.is_gone(life)).count();
        assert_eq!(gone, 0, "idle lives are left");
        self.ended.len()
    }

    /// `no_memory`: whether as many entries exist as may.
    pub fn added(&mut self, key: Key, n: u64, got: Result<u64, Option<Rejected>>, no_memory: bool) {
        self.learn(May::EvictFor(key));
        let now = self.now;
        match got {
            Ok(got) => {
                self.visible(key);
                if let Some(life) = self.live.get_mut(&key) {
                    life.count = life.count.saturating_add(n).min(MAX_COUNT);
                    life.last_use = now;
                    assert_eq!(got, life.count, "add to {key}");
                } else {
                    assert!(!self.is_full(), "above the cap");
                    let count = n.min(MAX_COUNT);
                    assert_eq!(got, count, "a new life of {key}");
                    self.live.insert(key, Life { count, last_use: now });
                    self.admitted += 1;
                }
            }
            Err(why) => {
                // After many rejections in a row the store does not try hard each time: then the key's
                // own idle life is not ended.
                let idle = |life: &Life| self.config.ttl && self.idle_for(life) > TTL && no_memory;
                assert!(self.live.get(&key).is_none_or(idle), "rejected a live key");
                let full = self.config.rejects && self.is_full();
                match why {
                    Some(Rejected::Capacity) => assert!(full, "rejected for no reason"),
                    Some(Rejected::Memory) => assert!(no_memory, "rejected for no reason"),
                    _ => assert!(full || no_memory, "rejected for no reason"),
                }
                self.rejected = self.rejected.wrapping_add(n.min(MAX_COUNT));
                self.rejections += 1;
            }
        }
    }
}
