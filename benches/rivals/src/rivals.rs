//! Bounded stores of counters, each in its best configuration; all with the same hasher.

use std::hash::BuildHasher;
use std::num::NonZero;
use std::sync::Mutex;

use counterclock::{CounterStore, RandomState};
use lru::LruCache;

pub trait Store: Sync {
    fn increment(&self, key: &str);

    fn rejections(&self) -> u64 {
        0
    }
}

#[derive(Clone, Copy)]
pub enum Rival {
    Counterclock,
    CounterclockTtl,
    MutexLru,
    ShardedLru,
}

impl Rival {
    pub const ALL: [Self; 4] =
        [Self::Counterclock, Self::CounterclockTtl, Self::MutexLru, Self::ShardedLru];

    pub fn name(self) -> &'static str {
        match self {
            Self::Counterclock => "counterclock",
            Self::CounterclockTtl => "counterclock, TTL on",
            Self::MutexLru => "Mutex<LruCache>",
            Self::ShardedLru => "16 x Mutex<LruCache>",
        }
    }

    pub fn build(self, capacity: usize) -> Box<dyn Store> {
        match self {
            Self::Counterclock => Box::new(CounterStore::<String>::new(capacity)),
            Self::CounterclockTtl => {
                let ttl = std::time::Duration::from_secs(1800);
                let builder = CounterStore::<String>::builder().capacity(capacity).idle_ttl(ttl);
                Box::new(builder.build().expect("valid parameters"))
            }
            Self::MutexLru => Box::new(Sharded::new(1, capacity)),
            Self::ShardedLru => Box::new(Sharded::new(16, capacity)),
        }
    }
}

impl Store for CounterStore<String> {
    fn increment(&self, key: &str) {
        CounterStore::increment(self, key);
    }

    fn rejections(&self) -> u64 {
        self.stats().rejections
    }
}

struct Sharded {
    shards: Vec<Mutex<LruCache<String, u64, RandomState>>>,
    hasher: RandomState,
}

impl Sharded {
    fn new(shards: usize, capacity: usize) -> Self {
        let share = NonZero::new(capacity.div_ceil(shards)).expect("not zero");
        let shard = || Mutex::new(LruCache::with_hasher(share, RandomState::new()));
        Self { shards: (0..shards).map(|_| shard()).collect(), hasher: RandomState::new() }
    }
}

impl Store for Sharded {
    fn increment(&self, key: &str) {
        let shard = match self.shards.len() {
            1 => 0,
            n => (self.hasher.hash_one(key) >> 32) as usize % n,
        };
        let mut shard = self.shards[shard].lock().expect("nobody panics");
        *shard.get_or_insert_mut_ref(key, || 0) += 1;
    }
}
