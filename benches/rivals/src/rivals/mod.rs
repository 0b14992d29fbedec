//! Who is measured, each in its best configuration for counting.
//!
//! All have the same keys, the same hasher where it can be set, and the system's allocator. Each
//! call returns the count after it, so that no rival counts less than another.

mod dash;
mod floors;
mod lru;
mod mini;
mod moka;
mod original;
mod ours;
mod papaya;
mod quick;
mod rwlock;
mod scc;
mod tiny;

use std::hint::black_box;

use clap::ValueEnum;
use hdrhistogram::Histogram;
use quanta::Clock;

use crate::key::Form;
use crate::workload::{Call, Kind, Part};

pub use self::ours::{TTL, Ttl, with_shards};

/// A store of counters.
pub trait Store<F: Form + ?Sized>: Send + Sync {
    /// Counts `n` under the key; the count after it.
    fn add(&self, key: &F, n: u64) -> u64;

    fn remove(&self, key: &F);

    /// How many keys it has, if it can tell.
    fn len(&self) -> Option<usize>;

    fn is_empty(&self) -> Option<bool> {
        self.len().map(|len| len == 0)
    }

    /// Ended entries that it has not freed yet, if it can tell.
    fn waiting(&self) -> Option<usize> {
        None
    }

    /// Calls that it has rejected so far.
    fn rejections(&self) -> u64 {
        0
    }

    /// Does what it has put off.
    fn settle(&self) {}

    // The loops are here and not in the caller, so that they are compiled for each store: one
    // virtual call a round, none an operation.

    fn count(&self, keys: &[&F]) {
        for &key in keys {
            black_box(self.add(key, 1));
        }
    }

    fn repeat(&self, key: &F, n: usize) {
        for _ in 0..n {
            black_box(self.add(black_box(key), 1));
        }
    }

    fn call(&self, calls: &[Call<'_, F>]) {
        for call in calls {
            if call.remove {
                self.remove(call.key);
            } else {
                black_box(self.add(call.key, 1));
            }
        }
    }

    /// As `count`, and takes the time of each, in the clock's own units.
    fn time(&self, keys: &[&F], clock: &Clock, times: &mut Histogram<u64>) {
        for &key in keys {
            let start = clock.raw();
            black_box(self.add(key, 1));
            let end = clock.raw();
            times.saturating_record(end.saturating_sub(start));
        }
    }
}

/// A store that shows what it holds, without that counting as a use.
pub trait Visible: Store<u64> {
    /// Keys and counts.
    fn live(&self) -> Vec<(u64, u64)>;
}

/// Plays a thread's part of a round.
pub fn play(store: &dyn Store<str>, part: Part<'_>) {
    match part {
        Part::Increments(keys) => store.count(keys),
        Part::Repeat(key, n) => store.repeat(key, n),
        Part::Calls(calls) => store.call(calls),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Ours,
    /// Holds about as many keys as it is told to.
    Bounded,
    Unbounded,
    /// Counts, and is no store: what no store can be faster than.
    Floor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Rival {
    Counterclock,
    CounterclockTtl,
    CounterclockRecent,
    CounterclockPinned,
    CounterclockPinnedTtl,
    MutexLru,
    ShardedLru,
    Scc,
    QuickCache,
    TinyUfo,
    Moka,
    MiniMoka,
    Original,
    Papaya,
    Dashmap,
    RwLock,
    Array,
    ArrayPinned,
    Chain,
}

impl Rival {
    pub const ALL: [Self; 19] = [
        Self::Counterclock,
        Self::CounterclockTtl,
        Self::CounterclockRecent,
        Self::CounterclockPinned,
        Self::CounterclockPinnedTtl,
        Self::MutexLru,
        Self::ShardedLru,
        Self::Scc,
        Self::QuickCache,
        Self::TinyUfo,
        Self::Moka,
        Self::MiniMoka,
        Self::Original,
        Self::Papaya,
        Self::Dashmap,
        Self::RwLock,
        Self::Array,
        Self::ArrayPinned,
        Self::Chain,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Counterclock => "counterclock",
            Self::CounterclockTtl => "counterclock, TTL",
            Self::CounterclockRecent => "counterclock, TTL, recent time",
            Self::CounterclockPinned => "counterclock, pin held",
            Self::CounterclockPinnedTtl => "counterclock, pin held, TTL",
            Self::MutexLru => "Mutex<LruCache>",
            Self::ShardedLru => "16 x Mutex<LruCache>",
            Self::Scc => "scc HashCache",
            Self::QuickCache => "quick_cache",
            Self::TinyUfo => "TinyUFO",
            Self::Moka => "moka",
            Self::MiniMoka => "mini-moka",
            Self::Original => "the original",
            Self::Papaya => "papaya",
            Self::Dashmap => "dashmap",
            Self::RwLock => "RwLock<HashMap>",
            Self::Array => "floor: array",
            Self::ArrayPinned => "floor: array, pin",
            Self::Chain => "floor: boxed chain, pin",
        }
    }

    pub fn group(self) -> Group {
        match self {
            Self::Counterclock
            | Self::CounterclockTtl
            | Self::CounterclockRecent
            | Self::CounterclockPinned
            | Self::CounterclockPinnedTtl => Group::Ours,
            Self::MutexLru
            | Self::ShardedLru
            | Self::Scc
            | Self::QuickCache
            | Self::TinyUfo
            | Self::Moka
            | Self::MiniMoka
            | Self::Original => Group::Bounded,
            Self::Papaya | Self::Dashmap | Self::RwLock => Group::Unbounded,
            Self::Array | Self::ArrayPinned | Self::Chain => Group::Floor,
        }
    }

    /// A store of that capacity; the unbounded ones have room for as many before they grow.
    pub fn build<F: Form + ?Sized>(self, capacity: usize) -> Box<dyn Store<F>> {
        match self {
            Self::Counterclock => Box::new(ours::Counterclock::new(capacity, Ttl::Off)),
            Self::CounterclockTtl => Box::new(ours::Counterclock::new(capacity, Ttl::On)),
            Self::CounterclockRecent => Box::new(ours::Counterclock::new(capacity, Ttl::Recent)),
            Self::CounterclockPinned => Box::new(ours::Pinned::new(capacity, Ttl::Off)),
            Self::CounterclockPinnedTtl => Box::new(ours::Pinned::new(capacity, Ttl::On)),
            Self::MutexLru => Box::new(lru::MutexLru::new(capacity)),
            Self::ShardedLru => Box::new(lru::ShardedLru::new(capacity)),
            Self::Scc => Box::new(scc::Scc::new(capacity)),
            Self::QuickCache => Box::new(quick::Quick::new(capacity)),
            Self::TinyUfo => Box::new(tiny::Tiny::new(capacity)),
            Self::Moka => Box::new(moka::Moka::new(capacity)),
            Self::MiniMoka => Box::new(mini::MiniMoka::new(capacity)),
            Self::Original => Box::new(original::Original::new(capacity)),
            Self::Papaya => Box::new(papaya::Papaya::new(capacity)),
            Self::Dashmap => Box::new(dash::Dash::new(capacity)),
            Self::RwLock => Box::new(rwlock::RwLockMap::new(capacity)),
            Self::Array => Box::new(floors::Array::new(capacity)),
            Self::ArrayPinned => Box::new(floors::ArrayPinned::new(capacity)),
            Self::Chain => Box::new(floors::Chain::new(capacity)),
        }
    }

    /// A store that shows what it holds; none for those that take no part in retention.
    pub fn build_visible(self, capacity: usize) -> Option<Box<dyn Visible>> {
        Some(match self {
            Self::Counterclock => Box::new(ours::Counterclock::new(capacity, Ttl::Off)),
            Self::Scc => Box::new(scc::Scc::new(capacity)),
            Self::QuickCache => Box::new(quick::Quick::new(capacity)),
            Self::TinyUfo => Box::new(tiny::Observed::new(capacity)),
            Self::Moka => Box::new(moka::Moka::new(capacity)),
            _ => return None,
        })
    }

    /// Whether it keeps keys apart: the arrays only have slots.
    pub fn is_keyed(self) -> bool {
        !matches!(self, Self::Array | Self::ArrayPinned)
    }

    /// Whether its lives end when the key is removed.
    pub fn removes(self) -> bool {
        self.is_keyed() && self != Self::Chain
    }

    /// Which part of a round it plays, `1 / share`, so that a slow rival's takes about as long as
    /// the others'; none where it takes no part.
    pub fn share(self, kind: Kind, capacity: usize) -> Option<usize> {
        let hits = matches!(kind, Kind::Hit | Kind::One);
        let takes_part = match self {
            // A pin is held over a batch of hits.
            Self::CounterclockPinned | Self::CounterclockPinnedTtl => kind == Kind::Hit,
            // They never evict: under a scan they would grow for ever.
            Self::Papaya | Self::Dashmap | Self::RwLock => match kind {
                Kind::Hit | Kind::One | Kind::Sessions => true,
                Kind::Churn => capacity <= 1 << 16,
                Kind::Scan => false,
            },
            Self::Array | Self::ArrayPinned | Self::Chain => hits,
            // It sorts the whole map for each new key: 60 us at 2048 entries, 5 ms at 65,536.
            Self::Original => hits || kind == Kind::Sessions || capacity <= 1 << 12,
            _ => true,
        };
        takes_part.then(|| match (self, kind) {
            (Self::Moka | Self::MiniMoka, _) => 4,
            (Self::Original, Kind::Churn | Kind::Scan) => 256,
            // Each 256 increments it walks the map.
            (Self::Original, Kind::Hit) => (capacity >> 13).max(1),
            _ => 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rival_is_listed_once() {
        assert_eq!(Rival::value_variants(), Rival::ALL);
        let mut names = Rival::ALL.map(Rival::name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
