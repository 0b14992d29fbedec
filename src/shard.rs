//! What a shard has of its own: lists, hands and statistics.

use crate::clock_list::Roster;
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Lives and calls, since the store was built. Each is exact once nothing is in flight; together
/// they are not one instant's picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Lives that began.
    pub admitted: u64,
    /// Lives that ended because the store was full.
    pub evicted: u64,
    /// Lives that ended because they were idle for longer than the TTL.
    pub expired: u64,
    /// Lives that ended by `remove` or `clear`.
    pub removed: u64,
    /// Calls that were rejected.
    pub rejections: u64,
}

/// All Relaxed: they count, and order nothing.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) admitted: AtomicU64,
    pub(crate) ended: [AtomicU64; 3],
    pub(crate) rejections: AtomicU64,
    /// Units. They were nowhere else before, so a plain sum that only grows is exact.
    pub(crate) rejected: AtomicU64,
}

impl Tally {
    pub(crate) fn count(counter: &AtomicU64, n: u64) -> u64 {
        counter.fetch_add(n, Ordering::Relaxed)
    }

    /// Lives that began and lives that ended, together.
    pub(crate) fn turnover(&self) -> u64 {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.ended.iter().map(load).fold(load(&self.admitted), u64::wrapping_add)
    }

    pub(crate) fn add_to(&self, stats: &mut Stats) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.admitted += load(&self.admitted);
        stats.evicted += load(&self.ended[0]);
        stats.expired += load(&self.ended[1]);
        stats.removed += load(&self.ended[2]);
        stats.rejections += load(&self.rejections);
    }
}

pub(crate) struct Shard<K> {
    pub(crate) roster: Roster<K>,
    pub(crate) tally: Tally,
    /// How far the shard's idle hand has gone.
    pub(crate) idle_hand: AtomicUsize,
    /// The tick in which a reader last paid for expiry.
    pub(crate) paid_tick: AtomicU64,
}

impl<K> Shard<K> {
    /// `share`: entries that it will have if keys are spread evenly.
    pub(crate) fn new(share: usize) -> Self {
        Self {
            roster: Roster::new(share),
            tally: Tally::default(),
            idle_hand: AtomicUsize::new(0),
            paid_tick: AtomicU64::new(0),
        }
    }
}
