//! How a store is built, and what is checked.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::num::NonZero;
use std::time::{Duration, SystemTime};

use quanta::Clock;

use crate::engine::{AtCapacity, Engine, Plan};
use crate::entry::Entry;
use crate::error::BuildError;
use crate::hash::RandomState;
use crate::index::Index;
use crate::lanes::{LaneStore, MAX_LANES};
use crate::removal::{Listener, Removal};
use crate::store::CounterStore;
use crate::tick::{MAX_TTL, Timer};

/// The most shards.
const MAX_SHARDS: usize = 4096;
/// By default a shard has at least this many entries: the policy is worse in smaller ones.
const MIN_SHARE: usize = 64;
/// Entries beyond the capacity that may exist by default.
const DEFAULT_SLACK: usize = 65_536;

/// Builds a [`CounterStore`]. The capacity must be set.
///
/// ```
/// use std::time::Duration;
/// use counterclock::CounterStore;
///
/// let store = CounterStore::<String>::builder()
///     .capacity(10_000)
///     .idle_ttl(Duration::from_secs(1800))
///     .on_removal(|removal| println!("{}: {} ({:?})", removal.key, removal.count, removal.cause))
///     .build()?;
/// # Ok::<(), counterclock::BuildError>(())
/// ```
#[must_use = "call `build`"]
pub struct Builder<K, S = RandomState> {
    capacity: Option<usize>,
    idle_ttl: Option<Duration>,
    times: bool,
    shards: Option<usize>,
    slack: usize,
    hasher: S,
    clock: Option<Clock>,
    recent_time: bool,
    at_capacity: AtCapacity,
    listener: Option<Listener<K>>,
    keys: PhantomData<K>,
}

impl<K> Builder<K> {
    pub(crate) fn new() -> Self {
        Self {
            capacity: None,
            idle_ttl: None,
            times: false,
            shards: None,
            slack: DEFAULT_SLACK,
            hasher: RandomState::new(),
            clock: None,
            recent_time: false,
            at_capacity: AtCapacity::default(),
            listener: None,
            keys: PhantomData,
        }
    }
}

impl<K, S> Builder<K, S> {
    /// The most keys that are counted at once; at least 1. A store of capacity `n` holds `n` keys,
    /// however its hasher spreads them.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = Some(capacity);
        self
    }

    /// Ends the life of a key that was not counted for longer than this. Never early, and late by
    /// at most 1/64 of it (rounded down to a power of two of nanoseconds, at least 1 ns). None
    /// by default: then no clock is read.
    pub fn idle_ttl(mut self, ttl: Duration) -> Self {
        self.idle_ttl = Some(ttl);
        self
    }

    /// Keeps when each life began and when it was last used: in [`Removal`] and
    /// [`Snapshot::lives`](crate::Snapshot::lives). Off by default.
    ///
    /// An entry then has one allocation of 32 bytes more, and each use reads the clock as it does with
    /// a TTL. Last use is rounded down to a tick: at most 1/64 of the TTL, or about a second without
    /// one; but not to before the life began.
    pub fn times(mut self, times: bool) -> Self {
        self.times = times;
        self
    }

    /// The number of shards, at most 4096; rounded up to a power of two. It is about contention
    /// only: the capacity belongs to the whole store. By default four for each core, as long as
    /// each has at least 64 entries.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Entries beyond the capacity that may exist while ended ones wait to be freed; 65,536 by
    /// default.
    ///
    /// While some thread of the process stays pinned, this many lives can end before new keys are
    /// rejected with [`Rejected::Memory`](crate::Rejected::Memory). In that case alone a store grows
    /// by so many entries: by default some 12 MiB, of which a third is the collector's (64 bytes an
    /// entry, and up to 8 KiB a shard), and what the keys and lanes have on the heap. Lower it for
    /// many small stores. With 0, a full store rejects every new key, and with a few it may do so
    /// while the process has much else to free, which comes first.
    pub fn slack(mut self, slack: usize) -> Self {
        self.slack = slack;
        self
    }

    /// Another hasher. A poor one costs speed, never correctness; if its seed can be known, who
    /// chooses the keys can make calls take time linear in the capacity. The store's type names it:
    /// `CounterStore<String, std::hash::RandomState>`.
    pub fn hasher<S2>(self, hasher: S2) -> Builder<K, S2> {
        let Self { capacity, idle_ttl, times, shards, slack, clock, .. } = self;
        let Self { recent_time, at_capacity, listener, keys, .. } = self;
        Builder {
            capacity,
            idle_ttl,
            times,
            shards,
            slack,
            hasher,
            clock,
            recent_time,
            at_capacity,
            listener,
            keys,
        }
    }

    /// Another clock for the TTL, such as quanta's mock in tests.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Takes the time from [`Clock::recent`], which costs a load, instead of reading the processor's
    /// counter with each use. Off by default.
    ///
    /// That time is told by others, for the whole process: by the thread of a [`quanta::Upkeep`] that
    /// you start and keep, or by calls of [`quanta::set_recent`], say in a task that ticks. Let it be
    /// told often, against the TTL: a life ends early by as much as the time was behind at its last
    /// use, and late by as much as it is behind now. Where telling stops, time stands still, and
    /// nothing expires; until it has been told once since the store was built, the counter is read.
    ///
    /// ```
    /// use std::time::Duration;
    /// use counterclock::{CounterStore, quanta};
    ///
    /// let upkeep = quanta::Upkeep::new(Duration::from_millis(10)).start()?;
    /// let store: CounterStore<String> = CounterStore::builder()
    ///     .capacity(10_000)
    ///     .idle_ttl(Duration::from_secs(1800))
    ///     .recent_time(true)
    ///     .build()?;
    /// store.increment("session-1");
    /// drop(upkeep); // the time stands still from here on
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recent_time(mut self, recent_time: bool) -> Self {
        self.recent_time = recent_time;
        self
    }

    /// What to do with a new key when the store is full; [`AtCapacity::Evict`] by default.
    pub fn at_capacity(mut self, at_capacity: AtCapacity) -> Self {
        self.at_capacity = at_capacity;
        self
    }

    /// Called once for each life that ends, on the thread that ended it, after its critical
    /// section and outside any pin of the store's own. It may call the store.
    ///
    /// If it panics, the rest of the batch is still delivered, the store stays whole, and the first
    /// panic goes on to the caller of the operation. Dropping the store delivers nothing: call
    /// [`clear`](crate::CounterStore::clear) first to have the live counts reported. A listener
    /// that holds the store itself keeps it alive for ever: give it a
    /// [`WeakStore`](crate::WeakStore).
    ///
    /// The count is 0 where a handle has admitted the key and nobody has counted. A closure knows its
    /// key's type if the builder does: `CounterStore::<String>::builder()`.
    pub fn on_removal(
        mut self,
        listener: impl Fn(&Removal<'_, K>) + Send + Sync + 'static,
    ) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }
}

impl<K, S> Builder<K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    /// Builds the store and allocates its index: 11 to 21 bytes for each counter of the capacity,
    /// and about 2 for the eviction policy.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] that says what was wrong, and where there is a fixed limit, what it is.
    pub fn build(self) -> Result<CounterStore<K, S>, BuildError> {
        self.build_with(1)
    }

    /// Builds a store of `L` counters per key, 1 to 8. See [`LaneStore`]. More does not compile.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_lanes<const L: usize>(self) -> Result<LaneStore<K, L, S>, BuildError> {
        const { assert!(L >= 1 && L <= MAX_LANES, "a store has 1 to 8 lanes") };
        self.build_with(L).map(LaneStore::new)
    }

    fn build_with(self, lanes: usize) -> Result<CounterStore<K, S>, BuildError> {
        let capacity = self.checked_capacity()?;
        let shard_bits = self.shard_bits(capacity)?;
        // Before the timer's own beginning: no life began after the present.
        let built = self.times.then(SystemTime::now);
        let timer = self.timer()?;
        let slack = self.slack;
        let too_large = BuildError::CapacityTooLarge { capacity };
        let buckets = capacity.saturating_add(capacity / 3).checked_next_power_of_two();
        let buckets = buckets.ok_or(too_large.clone())?;
        if !can_be_had::<K>(capacity) {
            return Err(too_large);
        }
        if capacity.checked_add(slack).is_none() {
            return Err(BuildError::SlackTooLarge { slack });
        }
        let index = Index::new(buckets.ilog2().max(shard_bits)).ok_or(too_large)?;
        let Self { hasher, at_capacity, listener, .. } = self;
        let plan = Plan {
            capacity,
            slack,
            shard_bits,
            index,
            timer,
            at_capacity,
            listener,
            lanes: lanes - 1,
            built,
        };
        Ok(CounterStore::from_parts(Engine::new(plan), hasher))
    }

    fn checked_capacity(&self) -> Result<usize, BuildError> {
        match self.capacity {
            None => Err(BuildError::CapacityNotSet),
            Some(0) => Err(BuildError::CapacityZero),
            Some(capacity) => Ok(capacity),
        }
    }

    fn shard_bits(&self, capacity: usize) -> Result<u32, BuildError> {
        let shards = match self.shards {
            Some(0) => return Err(BuildError::ShardsZero),
            Some(shards) if shards > MAX_SHARDS => {
                return Err(BuildError::TooManyShards { shards, max: MAX_SHARDS });
            }
            Some(shards) => shards.next_power_of_two(),
            None => default_shards(capacity),
        };
        Ok(shards.ilog2())
    }

    fn timer(&self) -> Result<Option<Timer>, BuildError> {
        match self.idle_ttl {
            None if !self.times => return Ok(None),
            Some(Duration::ZERO) => return Err(BuildError::IdleTtlZero),
            Some(idle_ttl) if idle_ttl > MAX_TTL => {
                return Err(BuildError::IdleTtlTooLong { idle_ttl, max: MAX_TTL });
            }
            _ => {}
        }
        let clock = self.clock.clone().unwrap_or_default();
        Ok(Some(Timer::new(clock, self.idle_ttl, self.recent_time)))
    }
}

fn default_shards(capacity: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let most = (capacity / MIN_SHARE).max(1);
    let most = 1 << most.ilog2();
    (4 * cores).next_power_of_two().min(most).min(MAX_SHARDS)
}

/// Whether the allocator would give memory for so many entries. Asks, and gives it back untouched.
fn can_be_had<K>(entries: usize) -> bool {
    Vec::<std::mem::MaybeUninit<Entry<K>>>::new().try_reserve_exact(entries).is_ok()
}

impl<K, S> fmt::Debug for Builder<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("capacity", &self.capacity)
            .field("idle_ttl", &self.idle_ttl)
            .field("times", &self.times)
            .field("shards", &self.shards)
            .field("slack", &self.slack)
            .field("recent_time", &self.recent_time)
            .field("at_capacity", &self.at_capacity)
            .field("on_removal", &self.listener.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;

    /// Four a core, while each has [`MIN_SHARE`] counters.
    #[test]
    fn the_default_number_of_shards() {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let most = (4 * cores).next_power_of_two().min(MAX_SHARDS);
        for (capacity, shards) in [
            (1, 1),
            (MIN_SHARE, 1),
            (2 * MIN_SHARE - 1, 1),
            (2 * MIN_SHARE, 2),
            (4 * MIN_SHARE - 1, 2),
            (1 << 40, most),
        ] {
            assert_eq!(default_shards(capacity), shards.min(most), "{capacity}");
        }
        assert!(most >= 4);
    }
}
