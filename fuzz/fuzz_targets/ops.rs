//! What the fuzzer makes up: a configuration and a sequence of operations.

use std::hash::{BuildHasher, Hasher};

use arbitrary::Arbitrary;

#[derive(Arbitrary, Debug)]
pub struct Input {
    pub config: Config,
    pub ops: Vec<Op>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Config {
    capacity: u8,
    shards: u8,
    slack: u8,
    hash_bits: u8,
    pub ttl: bool,
    pub rejects: bool,
}

impl Config {
    /// Small mostly, so that it is full in every run.
    pub fn capacity(self) -> usize {
        match self.capacity % 16 {
            0 => 64,
            n => usize::from(n).div_ceil(2),
        }
    }

    pub fn shards(self) -> usize {
        1 << (self.shards % 5)
    }

    pub fn slack(self) -> usize {
        [0, 1, 4, 16, 1 << 14][usize::from(self.slack % 5)]
    }

    /// Keys are below this: enough to fill the store and to come back.
    pub fn keys(self) -> u8 {
        (3 * self.capacity()).min(100) as u8
    }

    /// With no bit at all, all keys collide.
    pub fn hasher(self) -> Bits {
        Bits(0, [0, 1, 3, u64::MAX][usize::from(self.hash_bits % 4)])
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Op {
    Add { way: Way, key: u8, units: Units },
    Get { way: Way, key: u8 },
    Contains { key: u8 },
    Remove { key: u8 },
    Counter { key: u8 },
    CloneCounter,
    DropCounter,
    Pin,
    Unpin,
    KeepSnapshot,
    DropSnapshot,
    Top { n: u8 },
    Totals,
    Clear,
    Prune,
    Advance { nanos: u16 },
}

/// By which of the store's faces.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Way {
    Store,
    Try,
    Owned,
    Pinned,
    /// The key is that of the counter.
    Counter,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Units {
    One,
    Few(u8),
    /// This far below the top, or above it.
    AboutMax(i8),
    Any(u64),
}

impl Units {
    pub fn get(self) -> u64 {
        match self {
            Self::One => 1,
            Self::Few(n) => n.into(),
            Self::AboutMax(n) => counterclock::MAX_COUNT.wrapping_add_signed(n.into()),
            Self::Any(n) => n,
        }
    }
}

/// A hasher that keeps only some bits of a small key.
#[derive(Clone, Copy)]
pub struct Bits(u64, u64);

impl BuildHasher for Bits {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for Bits {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0 & self.1
    }
}
