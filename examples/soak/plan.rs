//! What a round does, drawn from the seed.

use std::time::Duration;

use counterclock::AtCapacity;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// The slack where none is drawn: the store's own default.
const DEFAULT_SLACK: usize = 65_536;
const SHORT_ROUND: u64 = 200_000;
const LONG_ROUND: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    Default,
    SipHash,
    /// All keys in one chain.
    Colliding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    No,
    Counts,
    /// Also looks into the store that told it.
    LooksBack,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// A thread.
    pub operations: u64,
    pub capacity: usize,
    pub shards: Option<usize>,
    pub ttl: Option<Duration>,
    pub at_capacity: AtCapacity,
    pub slack: usize,
    pub spread: Spread,
    pub listening: Listening,
    /// Handles and snapshots, which keep entries beyond the bound. Without them the bound on keys
    /// that exist is checked exactly.
    pub holders: bool,
    pub clears: bool,
    /// Adds beyond 2^32, which take another path. A long life would saturate.
    pub large_adds: bool,
}

impl Plan {
    /// The same for the same seed and round.
    pub fn draw(seed: u64, round: u64) -> Self {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(round);
        let mut rng = SmallRng::seed_from_u64(seed);
        let one_in = |rng: &mut SmallRng, n: u32| rng.random_range(0..n) == 0;
        let capacity = pick(&mut rng, &[1, 2, 7, 64, 500, 2048, 2048, 65_536]);
        let ttls = [None, None, Some(1), Some(10), Some(100)];
        Self {
            seed,
            operations: if one_in(&mut rng, 16) { LONG_ROUND } else { SHORT_ROUND },
            capacity,
            shards: pick(&mut rng, &[None, None, Some(1), Some(16)]),
            ttl: pick(&mut rng, &ttls).map(Duration::from_millis),
            at_capacity: pick(
                &mut rng,
                &[AtCapacity::Evict, AtCapacity::Evict, AtCapacity::Evict, AtCapacity::Reject],
            ),
            slack: pick(&mut rng, &[DEFAULT_SLACK, DEFAULT_SLACK, DEFAULT_SLACK, 1000, 40, 0]),
            spread: match rng.random_range(0..4) {
                0 => Spread::SipHash,
                1 if capacity <= 64 => Spread::Colliding,
                _ => Spread::Default,
            },
            listening: pick(
                &mut rng,
                &[Listening::No, Listening::Counts, Listening::Counts, Listening::LooksBack],
            ),
            holders: !one_in(&mut rng, 4),
            clears: one_in(&mut rng, 2),
            large_adds: one_in(&mut rng, 2),
        }
    }

    /// The store that lives as long as the soak.
    pub fn lasting() -> Self {
        Self {
            seed: 0,
            operations: 0,
            capacity: 4096,
            shards: None,
            ttl: Some(Duration::from_secs(1)),
            at_capacity: AtCapacity::Evict,
            slack: DEFAULT_SLACK,
            spread: Spread::Default,
            listening: Listening::Counts,
            holders: true,
            clears: false,
            large_adds: false,
        }
    }

    /// Keys have numbers below this.
    pub fn keys(&self) -> u64 {
        4 * self.capacity as u64 + 3
    }
}

fn pick<T: Copy>(rng: &mut SmallRng, from: &[T]) -> T {
    *from.choose(rng).expect("none of the lists is empty")
}
