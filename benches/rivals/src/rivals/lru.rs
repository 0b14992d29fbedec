//! A mutex around an LRU list, alone and in 16 shards.

use std::hash::BuildHasher;
use std::num::NonZero;
use std::sync::{Mutex, MutexGuard};

use ::lru::LruCache;
use counterclock::RandomState;
use crossbeam_utils::CachePadded;

use super::Store;
use crate::key::Form;

const SHARDS: usize = 16;

/// One `std` mutex around the crate `lru`, counted in place: a plain `u64`, found by the borrowed
/// key, so that a hit allocates nothing, and a new key at the cap takes over the evicted node. The
/// table is allocated at once.
pub struct MutexLru<F: Form + ?Sized>(Mutex<LruCache<F::Owned, u64, RandomState>>);

impl<F: Form + ?Sized> MutexLru<F> {
    pub fn new(capacity: usize) -> Self {
        let capacity = NonZero::new(capacity).expect("a capacity above 0");
        Self(Mutex::new(LruCache::with_hasher(capacity, RandomState::new())))
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<F::Owned, u64, RandomState>> {
        self.0.lock().expect("nobody panics under it")
    }
}

impl<F: Form + ?Sized> Store<F> for MutexLru<F> {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        let mut cache = self.lock();
        let count = cache.get_or_insert_mut_ref(key, || 0);
        *count += n;
        *count
    }

    fn remove(&self, key: &F) {
        self.lock().pop(key);
    }

    fn len(&self) -> Option<usize> {
        Some(self.lock().len())
    }
}

/// The same in 16 shards of a sixteenth of the capacity each, on cache lines of their own. The key
/// is hashed twice, for the shard and by the shard: `lru` takes no hash.
pub struct ShardedLru<F: Form + ?Sized> {
    shards: [CachePadded<MutexLru<F>>; SHARDS],
    hasher: RandomState,
}

impl<F: Form + ?Sized> ShardedLru<F> {
    pub fn new(capacity: usize) -> Self {
        let share = capacity.div_ceil(SHARDS);
        let shards = std::array::from_fn(|_| CachePadded::new(MutexLru::new(share)));
        Self { shards, hasher: RandomState::new() }
    }

    #[inline]
    fn shard(&self, key: &F) -> &MutexLru<F> {
        &self.shards[(self.hasher.hash_one(key) >> 32) as usize % SHARDS]
    }
}

impl<F: Form + ?Sized> Store<F> for ShardedLru<F> {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        self.shard(key).add(key, n)
    }

    fn remove(&self, key: &F) {
        self.shard(key).remove(key);
    }

    fn len(&self) -> Option<usize> {
        self.shards.iter().map(|shard| shard.len()).sum()
    }
}
