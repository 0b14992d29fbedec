//! A store as the fuzzer draws it.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};

use super::Op;
use crate::quanta::{Clock, Mock};
use crate::{AtCapacity, Builder, CounterStore};

/// How to build a store that is small enough to be full in every run.
///
/// Each field may be set to what a target needs.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Config {
    /// At least 1.
    pub capacity: usize,
    /// From 1 to 4096.
    pub shards: usize,
    /// Entries beyond the capacity that may exist.
    pub slack: usize,
    /// Above zero.
    pub idle_ttl: Option<Duration>,
    /// What to do with a new key when the store is full.
    pub at_capacity: AtCapacity,
    /// Good or poor, down to one at which all keys collide.
    pub hasher: FewBits,
}

impl Default for Config {
    /// A store of 8 that evicts, without a TTL.
    fn default() -> Self {
        Self {
            capacity: 8,
            shards: 1,
            slack: 1 << 14,
            idle_ttl: None,
            at_capacity: AtCapacity::Evict,
            hasher: FewBits::new(u64::MAX),
        }
    }
}

impl Config {
    /// The builder, to which a listener or another hasher may be added; and the hand that moves its
    /// clock, which stands still otherwise.
    pub fn builder<K>(&self) -> (Builder<K, FewBits>, Arc<Mock>)
    where
        K: Hash + Eq + Send + Sync + 'static,
    {
        let (clock, time) = Clock::mock();
        let mut builder = CounterStore::builder()
            .capacity(self.capacity)
            .shards(self.shards)
            .slack(self.slack)
            .at_capacity(self.at_capacity)
            .hasher(self.hasher)
            .clock(clock);
        if let Some(ttl) = self.idle_ttl {
            builder = builder.idle_ttl(ttl);
        }
        (builder, time)
    }

    /// The TTL and the tick, in nanoseconds. As documented, a tick is a 64th of the TTL, rounded
    /// down to a power of two, at least 1.
    pub(super) fn ttl_and_tick(&self) -> Option<(u64, u64)> {
        let ttl = u64::try_from(self.idle_ttl?.as_nanos()).expect("a TTL of 64 bits");
        Some((ttl, 1 << (ttl / 64).max(1).ilog2()))
    }

    /// How far an operation moves the clock: not at all without a TTL.
    pub(super) fn wait<K>(&self, op: &Op<K>) -> u64 {
        let Some((ttl, tick)) = self.ttl_and_tick() else { return 0 };
        match op {
            Op::Advance { by } => ((u128::from(ttl) * u128::from(*by)) >> 15) as u64,
            Op::Outlast { by } => (ttl + tick).saturating_add_signed(i64::from(*by)),
            _ => 0,
        }
    }

    /// How many different keys a target should use: enough to fill the store, few enough that they
    /// come back.
    #[must_use]
    pub fn keys(&self) -> usize {
        3 * self.capacity
    }
}

impl<'a> Arbitrary<'a> for Config {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let capacity = match u.int_in_range(0..=15)? {
            0 => 64,
            n => usize::div_ceil(n, 2),
        };
        let ttl = *u.choose(&[None, Some(1000), Some(1), Some(63)])?;
        Ok(Self {
            capacity,
            shards: 1 << u.int_in_range(0..=4)?,
            slack: *u.choose(&[1 << 14, 16, 4, 1, 0])?,
            idle_ttl: ttl.map(Duration::from_nanos),
            at_capacity: *u.choose(&[AtCapacity::Evict, AtCapacity::Reject])?,
            hasher: u.arbitrary()?,
        })
    }

    fn size_hint(_depth: usize) -> (usize, Option<usize>) {
        (6, Some(6))
    }
}

/// A seedless hasher that keeps some bits of FNV-1a: with no bit left, all keys collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FewBits {
    mask: u64,
}

impl FewBits {
    /// Keeps the bits of `mask`.
    #[must_use]
    pub const fn new(mask: u64) -> Self {
        Self { mask }
    }
}

impl BuildHasher for FewBits {
    type Hasher = FewBitsHasher;

    fn build_hasher(&self) -> FewBitsHasher {
        FewBitsHasher { state: 0xcbf2_9ce4_8422_2325, mask: self.mask }
    }
}

impl Arbitrary<'_> for FewBits {
    fn arbitrary(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        // All bits, none, one, two, four.
        u.choose(&[u64::MAX, 0, 1, 3, 0xf0]).copied().map(Self::new)
    }

    fn size_hint(_depth: usize) -> (usize, Option<usize>) {
        (1, Some(1))
    }
}

/// See [`FewBits`].
#[derive(Clone, Debug)]
pub struct FewBitsHasher {
    state: u64,
    mask: u64,
}

impl Hasher for FewBitsHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.state = (self.state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.state & self.mask
    }
}
