//! The default hasher, and how a hash is cut into bucket, shard and fingerprint.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::OnceLock;

use foldhash::SharedSeed;
use foldhash::quality::{FoldHasher, SeedableRandomState};

/// The default hasher: foldhash (its `quality` variant), keyed with 128 bits that come from the
/// operating system by way of `std`'s `RandomState`, 64 of them per store.
///
/// An attacker who chooses keys without seeing the store's timing cannot aim them at one bucket. It
/// is not a cryptographic hash: against one who can measure single operations over a long time,
/// build the store with [`hasher(std::hash::RandomState::new())`](crate::Builder::hasher), which is
/// SipHash-1-3 and costs more per operation.
#[derive(Clone)]
pub struct RandomState(SeedableRandomState);

impl RandomState {
    /// A hasher with a seed of its own.
    #[must_use]
    pub fn new() -> Self {
        static SHARED: OnceLock<SharedSeed> = OnceLock::new();
        let shared = SHARED.get_or_init(|| SharedSeed::from_u64(entropy()));
        Self(SeedableRandomState::with_seed(entropy(), shared))
    }
}

/// 64 bits from the keys of `std`'s `RandomState`.
#[cfg(not(crossbeam_loom))]
fn entropy() -> u64 {
    std::hash::RandomState::new().hash_one(0x636f_756e_7465_7263_u64)
}

/// The same in each execution: loom replays a model step by step.
#[cfg(crossbeam_loom)]
fn entropy() -> u64 {
    0x636f_756e_7465_7263
}

impl Default for RandomState {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RandomState {
    /// Does not show the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RandomState").finish_non_exhaustive()
    }
}

impl BuildHasher for RandomState {
    type Hasher = FoldHasher<'static>;

    #[inline]
    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

/// A key's hash with all its bits mixed, whatever hasher the user brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    #[inline]
    pub(crate) fn of<Q: Hash + ?Sized>(hasher: &impl BuildHasher, key: &Q) -> Self {
        Self::mixed(hasher.hash_one(key))
    }

    /// A folded multiplication by the golden ratio: identity hashers are spread over all bits.
    #[inline]
    pub(crate) fn mixed(hash: u64) -> Self {
        let wide = u128::from(hash ^ 0xa076_1d64_78bd_642f) * 0x9e37_79b9_7f4a_7c15;
        Self((wide >> 64) as u64 ^ wide as u64)
    }

    /// The topmost `bits` bits.
    #[inline]
    pub(crate) fn top(self, bits: u32) -> usize {
        // Two shifts: `bits` may be 0.
        (self.0 >> 1 >> (63 - bits)) as usize
    }

    /// A number below `n`, from the low 32 bits, which `top` uses last.
    #[inline]
    pub(crate) fn below(self, n: usize) -> usize {
        (((self.0 & 0xffff_ffff) * n as u64) >> 32) as usize
    }

    /// 15 bits, never 0.
    pub(crate) fn fingerprint(self) -> u16 {
        ((self.0 >> 32) as u16 & 0x7fff).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_takes_the_topmost_bits() {
        assert_eq!(KeyHash(u64::MAX).top(0), 0);
        assert_eq!(KeyHash(u64::MAX).top(3), 7);
        assert_eq!(KeyHash(1 << 63).top(1), 1);
        assert_eq!(KeyHash(0x8000_0000_0000_0001).top(63), 1 << 62);
    }

    #[test]
    fn identity_hashes_spread_over_the_buckets() {
        let mut buckets = [0; 64];
        for n in 0..6400_u64 {
            buckets[KeyHash::mixed(n).top(6)] += 1;
        }
        assert!(buckets.iter().all(|&n| (50..200).contains(&n)), "{buckets:?}");
    }

    #[test]
    fn two_hashers_have_two_seeds() {
        assert_ne!(RandomState::new().hash_one(7), RandomState::new().hash_one(7));
    }
}
