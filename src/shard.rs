//! What a shard has of its own: lists, hands and statistics.

use crate::clock_list::Roster;
use crate::error::Rejected;
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Lives and calls, since the store was built. Each is exact once nothing is in flight; together
/// they are not one instant's picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(::serde::Serialize, ::serde::Deserialize), serde(default))]
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
    /// Calls that were rejected: the sum of the two below.
    pub rejections: u64,
    /// Of these, with [`Rejected::Capacity`].
    pub rejections_capacity: u64,
    /// Of these, with [`Rejected::Memory`].
    pub rejections_memory: u64,
}

/// Lives that began, and that ended by cause. All Relaxed: they count, and order nothing.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) admitted: AtomicU64,
    pub(crate) ended: [AtomicU64; 3],
    /// Admissions that were about to be published: whoever sees the entry sees this.
    pub(crate) begun: AtomicU64,
}

impl Tally {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// For the only writer.
    pub(crate) fn count_owned(counter: &AtomicU64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    fn load(&self) -> [u64; 4] {
        let [evicted, expired, removed] = &self.ended;
        [&self.admitted, evicted, expired, removed].map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// In this order: what an owner writes comes first, and together.
#[repr(C)]
pub(crate) struct Shard<K> {
    pub(crate) roster: Roster<K>,
    /// What the owners of the shard have counted.
    pub(crate) owned: Tally,
    /// Entries in the lists, as the last owner left them; a hint.
    pub(crate) population: AtomicUsize,
    pub(crate) number: usize,
    /// What others have.
    pub(crate) tally: Tally,
    /// Calls, by reason.
    rejections: [AtomicU64; 2],
    /// Units. They were nowhere else before, so a plain sum that only grows is exact.
    rejected: AtomicU64,
    /// The same for the lanes after the first.
    rejected_lanes: Box<[AtomicU64]>,
    /// How far the shard's idle hand has gone.
    pub(crate) idle_hand: AtomicUsize,
    /// No life was last used before this tick, as far as the idle hand's last round knows.
    pub(crate) oldest: AtomicU64,
    /// The same for the round that it is on.
    pub(crate) oldest_met: AtomicU64,
    /// The tick in which a reader last paid for expiry.
    pub(crate) paid_tick: AtomicU64,
}

impl<K> Shard<K> {
    /// `share`: entries that it will have if keys are spread evenly; `batch`: ended entries that
    /// are freed at a time; `lanes`: those after the first.
    pub(crate) fn new(number: usize, share: usize, batch: usize, lanes: usize) -> Self {
        Self {
            number,
            roster: Roster::new(share, batch),
            owned: Tally::default(),
            tally: Tally::default(),
            rejections: Default::default(),
            rejected: AtomicU64::new(0),
            rejected_lanes: (0..lanes).map(|_| AtomicU64::new(0)).collect(),
            population: AtomicUsize::new(0),
            idle_hand: AtomicUsize::new(0),
            oldest: AtomicU64::new(0),
            oldest_met: AtomicU64::new(0),
            paid_tick: AtomicU64::new(0),
        }
    }

    /// Units of rejected calls, in one lane.
    pub(crate) fn rejected(&self, lane: usize) -> &AtomicU64 {
        match lane {
            0 => &self.rejected,
            _ => &self.rejected_lanes[lane - 1],
        }
    }

    /// Changes with each admission, before and after it is published, and with each life that ends.
    pub(crate) fn turnover(&self) -> u64 {
        let of = |tally: &Tally| {
            let lives = tally.load().into_iter().fold(0, u64::wrapping_add);
            lives.wrapping_add(tally.begun.load(Ordering::Relaxed))
        };
        of(&self.owned).wrapping_add(of(&self.tally))
    }

    pub(crate) fn count_rejection(&self, why: Rejected) {
        let reason = match why {
            Rejected::Capacity => 0,
            Rejected::Memory => 1,
        };
        Tally::count(&self.rejections[reason]);
    }

    pub(crate) fn add_to(&self, stats: &mut Stats) {
        for tally in [&self.owned, &self.tally] {
            let [admitted, evicted, expired, removed] = tally.load();
            stats.admitted += admitted;
            stats.evicted += evicted;
            stats.expired += expired;
            stats.removed += removed;
        }
        let [capacity, memory] = &self.rejections;
        let [capacity, memory] = [capacity, memory].map(|calls| calls.load(Ordering::Relaxed));
        stats.rejections_capacity += capacity;
        stats.rejections_memory += memory;
        stats.rejections += capacity + memory;
    }
}
