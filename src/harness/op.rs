//! The calls of a store, as the fuzzer draws them.

use arbitrary::Arbitrary;

use crate::MAX_COUNT;

/// One call. `K` is the key, or any form of it: see [`map`](Self::map).
#[derive(Arbitrary, Clone, Debug)]
#[non_exhaustive]
pub enum Op<K> {
    /// Counts.
    Add {
        /// By which face.
        way: Way,
        /// Under which key.
        key: K,
        /// How much.
        units: Units,
    },
    /// Reads a count.
    Get {
        /// By which face.
        way: Way,
        /// Of which key.
        key: K,
    },
    /// Asks for a key.
    Contains {
        /// Which.
        key: K,
    },
    /// Ends a life.
    Remove {
        /// Of which key.
        key: K,
    },
    /// Counts one after the other under one [`Pinned`](crate::Pinned).
    Batch {
        /// Keys and how much.
        parts: Vec<(K, Units)>,
    },
    /// Makes a [`Counter`](crate::Counter) and keeps it; the newest is used by [`Way::Counter`].
    Counter {
        /// Of which key.
        key: K,
    },
    /// Clones the newest of the kept counters.
    CloneCounter,
    /// Drops the newest of the kept counters.
    DropCounter,
    /// Keeps the thread pinned, so that nothing is freed.
    Pin,
    /// Ends that.
    Unpin,
    /// Takes a snapshot and keeps it.
    KeepSnapshot,
    /// Drops the newest of the kept snapshots.
    DropSnapshot,
    /// The largest counters.
    Top {
        /// How many.
        n: u8,
    },
    /// Where every unit is.
    Totals,
    /// Ends all lives.
    Clear,
    /// Ends idle lives.
    Prune,
    /// Moves the clock.
    Advance {
        /// In 2^15ths of the TTL: up to twice that.
        by: u16,
    },
    /// Moves the clock to about when what was just used is over.
    Outlast {
        /// In nanoseconds, after the TTL and a tick.
        by: i8,
    },
}

impl<K> Op<K> {
    /// The same call with another key: one of fewer, or another form of it.
    pub fn map<L>(self, mut f: impl FnMut(K) -> L) -> Op<L> {
        match self {
            Self::Add { way, key, units } => Op::Add { way, key: f(key), units },
            Self::Get { way, key } => Op::Get { way, key: f(key) },
            Self::Contains { key } => Op::Contains { key: f(key) },
            Self::Remove { key } => Op::Remove { key: f(key) },
            Self::Batch { parts } => {
                Op::Batch { parts: parts.into_iter().map(|(key, units)| (f(key), units)).collect() }
            }
            Self::Counter { key } => Op::Counter { key: f(key) },
            Self::CloneCounter => Op::CloneCounter,
            Self::DropCounter => Op::DropCounter,
            Self::Pin => Op::Pin,
            Self::Unpin => Op::Unpin,
            Self::KeepSnapshot => Op::KeepSnapshot,
            Self::DropSnapshot => Op::DropSnapshot,
            Self::Top { n } => Op::Top { n },
            Self::Totals => Op::Totals,
            Self::Clear => Op::Clear,
            Self::Prune => Op::Prune,
            Self::Advance { by } => Op::Advance { by },
            Self::Outlast { by } => Op::Outlast { by },
        }
    }

    /// The same call, its key borrowed.
    pub fn as_ref(&self) -> Op<&K> {
        match self {
            Self::Add { way, key, units } => Op::Add { way: *way, key, units: *units },
            Self::Get { way, key } => Op::Get { way: *way, key },
            Self::Contains { key } => Op::Contains { key },
            Self::Remove { key } => Op::Remove { key },
            Self::Batch { parts } => {
                Op::Batch { parts: parts.iter().map(|(key, units)| (key, *units)).collect() }
            }
            Self::Counter { key } => Op::Counter { key },
            Self::CloneCounter => Op::CloneCounter,
            Self::DropCounter => Op::DropCounter,
            Self::Pin => Op::Pin,
            Self::Unpin => Op::Unpin,
            Self::KeepSnapshot => Op::KeepSnapshot,
            Self::DropSnapshot => Op::DropSnapshot,
            Self::Top { n } => Op::Top { n: *n },
            Self::Totals => Op::Totals,
            Self::Clear => Op::Clear,
            Self::Prune => Op::Prune,
            Self::Advance { by } => Op::Advance { by: *by },
            Self::Outlast { by } => Op::Outlast { by: *by },
        }
    }
}

/// By which of the store's faces.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// [`CounterStore::add`](crate::CounterStore::add).
    Store,
    /// [`CounterStore::try_add`](crate::CounterStore::try_add).
    Try,
    /// [`CounterStore::increment_owned`](crate::CounterStore::increment_owned), which counts one.
    Owned,
    /// A [`Pinned`](crate::Pinned) for this call.
    Pinned,
    /// The newest of the kept counters, and its key; the store if none is kept.
    Counter,
}

/// How much to count.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Units {
    /// One.
    One,
    /// So many.
    Few(u8),
    /// So far above [`MAX_COUNT`] or below it.
    AboutMax(i8),
    /// So many.
    Any(u64),
}

impl Units {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        match self {
            Self::One => 1,
            Self::Few(n) => n.into(),
            Self::AboutMax(n) => MAX_COUNT.wrapping_add_signed(n.into()),
            Self::Any(n) => n,
        }
    }
}
