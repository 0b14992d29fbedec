//! Shared by the integration tests: a matrix of configurations, keys and hashers, and tallies that
//! are kept outside the store, so that it is never judged by its own books alone.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod lives;
pub mod openmetrics;
pub mod traffic;

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use counterclock::quanta::{Clock, Mock};
use counterclock::{
    AtCapacity, Builder, Cause, CounterStore, RandomState, Rejected, Removal, Snapshot,
};

/// The TTL of the matrix.
pub const TTL: Duration = Duration::from_millis(64);

/// More than the process ever has waiting: no admission is rejected for want of memory.
pub const AMPLE: usize = 1 << 20;

/// As documented: a 64th of the TTL, rounded down to a power of two of nanoseconds, at least one.
pub fn tick(ttl: Duration) -> Duration {
    let nanos = u64::try_from(ttl.as_nanos()).expect("a TTL of 64 bits");
    Duration::from_nanos(1 << (nanos / 64).max(1).ilog2())
}

/// Locks also what a panicking test has poisoned.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For tests that count what waits to be freed: the collector belongs to the process, so another
/// test's pin would be seen.
pub fn serially() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    lock(&TURN)
}

/// Prunes `store` until `left` says 0, at most `rounds` times: what was deferred is done as epochs go
/// by. What a dropped store left is done by calls on any other. Many rounds are for tests beside
/// which others hold pins.
#[track_caller]
pub fn until_freed<K>(
    rounds: usize,
    store: &CounterStore<K>,
    left: impl Fn() -> usize,
    what: impl Debug,
) where
    K: Hash + Eq + Send + Sync + 'static,
{
    for _ in 0..rounds {
        if left() == 0 {
            return;
        }
        store.prune();
        std::thread::yield_now();
    }
    panic!("{} are left: {what:?}", left());
}

/// Set when this goes, on the way out of a panic too: else a failed test would wait for ever.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// xorshift64: the same sequence for the same seed.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        // Spread, and never 0.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
}

/// The kinds of key that the matrix runs with.
pub trait Key: Clone + Hash + Eq + Debug + Send + Sync + 'static {
    fn nth(n: u64) -> Self;
}

impl Key for u64 {
    fn nth(n: u64) -> Self {
        n
    }
}

impl Key for String {
    fn nth(n: u64) -> Self {
        format!("key-{n}")
    }
}

impl Key for Arc<str> {
    fn nth(n: u64) -> Self {
        format!("key-{n}").into()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    Default,
    /// The number itself; for text the sum of its bytes.
    Identity,
    /// All keys alike.
    Colliding,
}

/// One type for all hashers, so that the matrix is data.
#[derive(Clone)]
pub struct TestState {
    spread: Spread,
    default: RandomState,
}

pub enum TestHasher {
    Default(<RandomState as BuildHasher>::Hasher),
    Identity(u64),
    Colliding,
}

impl BuildHasher for TestState {
    type Hasher = TestHasher;

    fn build_hasher(&self) -> TestHasher {
        match self.spread {
            Spread::Default => TestHasher::Default(self.default.build_hasher()),
            Spread::Identity => TestHasher::Identity(0),
            Spread::Colliding => TestHasher::Colliding,
        }
    }
}

impl Hasher for TestHasher {
    fn finish(&self) -> u64 {
        match self {
            Self::Default(hasher) => hasher.finish(),
            Self::Identity(sum) => *sum,
            Self::Colliding => 42,
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Default(hasher) => hasher.write(bytes),
            Self::Identity(sum) => *sum += bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>(),
            Self::Colliding => {}
        }
    }

    fn write_u64(&mut self, n: u64) {
        match self {
            Self::Default(hasher) => hasher.write_u64(n),
            Self::Identity(sum) => *sum = n,
            Self::Colliding => {}
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub capacity: usize,
    pub shards: usize,
    pub ttl: Option<Duration>,
    pub at_capacity: AtCapacity,
    pub spread: Spread,
}

impl Config {
    /// Evicts, without a TTL, with the default hasher.
    pub fn plain(capacity: usize, shards: usize) -> Self {
        Self {
            capacity,
            shards,
            ttl: None,
            at_capacity: AtCapacity::Evict,
            spread: Spread::Default,
        }
    }

    pub fn state(&self) -> TestState {
        TestState { spread: self.spread, default: RandomState::new() }
    }

    /// Everything but the listener; a mock clock where there is a TTL.
    pub fn builder<K: Key>(&self) -> (Builder<K, TestState>, Option<Arc<Mock>>) {
        let builder = CounterStore::builder()
            .capacity(self.capacity)
            .shards(self.shards)
            .slack(AMPLE)
            .at_capacity(self.at_capacity)
            .hasher(self.state());
        match self.ttl {
            None => (builder, None),
            Some(ttl) => {
                let (clock, mock) = Clock::mock();
                (builder.idle_ttl(ttl).clock(clock), Some(mock))
            }
        }
    }

    /// A store with a listener that keeps books.
    pub fn bed<K: Key>(&self) -> Bed<K> {
        let ends = Arc::new(Ends(Mutex::default()));
        let (builder, mock) = self.builder();
        let store = builder.on_removal(ends.listener()).build();
        Bed { store: store.expect("a valid configuration"), ends, mock, config: *self }
    }
}

/// Capacity 1 and large, 1 shard and many, with TTL and without, both ways at capacity, each
/// hasher. A chain of more than `longest` colliding keys is left out.
pub fn matrix(longest: usize) -> Vec<Config> {
    let mut configs = Vec::new();
    for capacity in [1, 2, 7, 64, 2048] {
        for shards in [1, 16] {
            for ttl in [None, Some(TTL)] {
                for at_capacity in [AtCapacity::Evict, AtCapacity::Reject] {
                    for spread in [Spread::Default, Spread::Identity, Spread::Colliding] {
                        if spread != Spread::Colliding || capacity <= longest {
                            configs.push(Config { capacity, shards, ttl, at_capacity, spread });
                        }
                    }
                }
            }
        }
    }
    configs
}

/// How one life ended, as the listener was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub count: u64,
    pub cause: Cause,
}

/// All ends by key, in the order in which the listener was told.
pub struct Ends<K>(Mutex<HashMap<K, Vec<End>>>);

impl<K: Key> Ends<K> {
    pub fn listener(self: &Arc<Self>) -> impl Fn(&Removal<'_, K>) + Send + Sync + 'static {
        let ends = Arc::clone(self);
        move |removal| {
            let end = End { count: removal.count, cause: removal.cause };
            let mut map = lock(&ends.0);
            map.entry(removal.key.clone()).or_default().push(end);
        }
    }

    pub fn of(&self, key: &K) -> Vec<End> {
        lock(&self.0).get(key).cloned().unwrap_or_default()
    }

    pub fn all(&self) -> HashMap<K, Vec<End>> {
        lock(&self.0).clone()
    }

    /// Lives and units that ended for this reason.
    pub fn by(&self, cause: Cause) -> (u64, u64) {
        let map = lock(&self.0);
        let ends = map.values().flatten().filter(|end| end.cause == cause);
        ends.fold((0, 0), |(lives, units), end| (lives + 1, units + end.count))
    }

    pub fn count(&self) -> usize {
        lock(&self.0).values().map(Vec::len).sum()
    }
}

/// What was added under one key.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// By calls that said that it was counted.
    pub counted: u64,
    /// By calls that do not tell a count from a rejection.
    pub unsaid: u64,
}

/// What was added, as its caller knows it.
#[derive(Debug)]
pub struct Added<K> {
    pub keys: HashMap<K, Sum>,
    /// Units and calls of which a `try_` call said that they were rejected.
    pub rejected: u64,
    pub rejections: u64,
}

impl<K: Key> Added<K> {
    pub fn new() -> Self {
        Self { keys: HashMap::new(), rejected: 0, rejections: 0 }
    }

    pub fn said(&mut self, key: &K, n: u64, result: Result<u64, Rejected>) {
        match result {
            Ok(_) => self.keys.entry(key.clone()).or_default().counted += n,
            Err(_) => {
                self.rejected += n;
                self.rejections += 1;
            }
        }
    }

    pub fn unsaid(&mut self, key: &K, n: u64) {
        self.keys.entry(key.clone()).or_default().unsaid += n;
    }

    pub fn merge(mut self, other: Self) -> Self {
        for (key, sum) in other.keys {
            let mine = self.keys.entry(key).or_default();
            mine.counted += sum.counted;
            mine.unsaid += sum.unsaid;
        }
        self.rejected += other.rejected;
        self.rejections += other.rejections;
        self
    }
}

/// A store, and what is known of it from outside.
pub struct Bed<K: Key> {
    pub store: CounterStore<K, TestState>,
    pub ends: Arc<Ends<K>>,
    pub mock: Option<Arc<Mock>>,
    pub config: Config,
}

impl<K: Key> Bed<K> {
    pub fn advance(&self, time: Duration) {
        if let Some(mock) = &self.mock {
            mock.increment(time);
        }
    }

    /// With nothing in flight: units and lives are where the outside tallies say, key by key.
    pub fn check(&self, added: &Added<K>) {
        let config = self.config;
        let snapshot = self.store.snapshot();
        let unsaid_rejected = self.check_keys(added, &live(&snapshot));

        let totals = self.store.totals();
        assert_eq!(totals, snapshot.totals(), "{config:?}");
        assert_eq!(totals.rejected, added.rejected + unsaid_rejected, "{config:?}");
        let asked: u64 = added.keys.values().map(|sum| sum.counted + sum.unsaid).sum();
        assert_eq!(totals.recorded, asked + added.rejected, "{config:?}");
        assert_eq!(
            totals.recorded,
            totals.live + totals.evicted + totals.expired + totals.removed + totals.rejected
        );

        let stats = self.store.stats();
        for (cause, lives, units) in [
            (Cause::Capacity, stats.evicted, totals.evicted),
            (Cause::Idle, stats.expired, totals.expired),
            (Cause::Removed, stats.removed, totals.removed),
        ] {
            assert_eq!((lives, units), self.ends.by(cause), "{cause:?} {config:?}");
        }
        let ended = stats.evicted + stats.expired + stats.removed;
        assert_eq!(stats.admitted, ended + self.store.len() as u64, "{config:?}");
        assert_eq!(self.store.len(), snapshot.len(), "{config:?}");
        assert!(self.store.len() <= config.capacity, "{config:?}");
        assert!(stats.rejections >= added.rejections, "{config:?}");
        // With as much room as this there is always a victim, so nothing may be rejected.
        if config.at_capacity == AtCapacity::Evict && config.capacity >= 64 {
            assert_eq!(stats.rejections, 0, "{config:?}");
        }
    }

    /// Units that were not counted under their key, and that nobody said anything about.
    fn check_keys(&self, added: &Added<K>, live: &HashMap<K, u64>) -> u64 {
        let ends = self.ends.all();
        let known = |key| assert!(added.keys.contains_key(key), "never added: {key:?}");
        ends.keys().for_each(known);
        live.keys().for_each(known);
        let mut missing = 0;
        for (key, sum) in &added.keys {
            let ended: u64 = ends.get(key).into_iter().flatten().map(|end| end.count).sum();
            let placed = ended + live.get(key).unwrap_or(&0);
            assert!(
                (sum.counted..=sum.counted + sum.unsaid).contains(&placed),
                "{key:?}: {placed} of {sum:?} {:?}",
                self.config
            );
            missing += sum.counted + sum.unsaid - placed;
        }
        missing
    }
}

/// What a snapshot shows. A key that it shows twice, or a sum that is wrong, fails.
pub fn live<K: Key>(snapshot: &Snapshot<K>) -> HashMap<K, u64> {
    let mut live = HashMap::new();
    for (key, count) in snapshot {
        assert_eq!(live.insert(key.clone(), count), None, "twice: {key:?}");
    }
    assert_eq!(live.len(), snapshot.len());
    assert_eq!(live.values().sum::<u64>(), snapshot.totals().live);
    live
}
