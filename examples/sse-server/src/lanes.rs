//! A stand-in.
use std::time::Duration;

use counterclock::{BuildError, CounterStore, Rejected, Stats, Totals};

pub struct LaneStore {
    lanes: [CounterStore<String>; 2],
}

pub type Lane = CounterStore<String>;

impl LaneStore {
    pub fn build(capacity: usize, ttl: Duration) -> Result<Self, BuildError> {
        let build = || CounterStore::<String>::builder().capacity(capacity).idle_ttl(ttl).build();
        Ok(Self { lanes: [build()?, build()?] })
    }
    pub fn lanes(&self) -> [Lane; 2] {
        self.lanes.clone()
    }
    pub fn get(&self, key: &str) -> Option<[u64; 2]> {
        let [a, b] = self.lanes.each_ref().map(|lane| lane.get(key));
        (a.is_some() || b.is_some()).then(|| [a.unwrap_or(0), b.unwrap_or(0)])
    }
    pub fn remove(&self, key: &str) -> Option<[u64; 2]> {
        let [a, b] = self.lanes.each_ref().map(|lane| lane.remove(key));
        (a.is_some() || b.is_some()).then(|| [a.unwrap_or(0), b.unwrap_or(0)])
    }
    pub fn len(&self) -> usize {
        self.lanes[0].len().max(self.lanes[1].len())
    }
    pub fn capacity(&self) -> usize {
        self.lanes[0].capacity()
    }
    pub fn waiting(&self) -> usize {
        self.lanes[0].waiting() + self.lanes[1].waiting()
    }
    pub fn stats(&self) -> Stats {
        let (mut a, b) = (self.lanes[0].stats(), self.lanes[1].stats());
        a.admitted += b.admitted;
        a.evicted += b.evicted;
        a.expired += b.expired;
        a.removed += b.removed;
        a.rejections += b.rejections;
        a
    }
    pub fn totals(&self) -> [Totals; 2] {
        self.lanes.each_ref().map(|lane| lane.totals())
    }
    #[allow(dead_code)]
    pub fn rejected() -> Option<Rejected> {
        None
    }
}
