//! What can go wrong, and what is allowed.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why a [`Builder`](crate::Builder) could not build.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// `capacity` was not called.
    CapacityNotSet,
    /// The capacity was 0.
    CapacityZero,
    /// The memory for this many counters cannot be had.
    CapacityTooLarge {
        /// What was asked for.
        capacity: usize,
    },
    /// The number of shards was 0.
    ShardsZero,
    /// The number of shards was above the limit.
    TooManyShards {
        /// What was asked for.
        shards: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// Capacity and slack together overflow a `usize`.
    SlackTooLarge {
        /// What was asked for.
        slack: usize,
    },
    /// The TTL was zero.
    IdleTtlZero,
    /// The TTL is longer than the clock can tell.
    IdleTtlTooLong {
        /// What was asked for.
        idle_ttl: Duration,
        /// The longest that is allowed.
        max: Duration,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CapacityNotSet => {
                f.write_str("the capacity is not set: call `capacity` with at least 1")
            }
            Self::CapacityZero => f.write_str("the capacity is 0: it must be at least 1"),
            Self::CapacityTooLarge { capacity } => {
                write!(f, "the memory for a capacity of {capacity} counters cannot be had")
            }
            Self::ShardsZero => f.write_str("the number of shards is 0: it must be at least 1"),
            Self::TooManyShards { shards, max } => {
                write!(f, "{shards} shards are too many: at most {max} are allowed")
            }
            Self::SlackTooLarge { slack } => {
                write!(f, "a slack of {slack} entries is too large: with the capacity it overflows")
            }
            Self::IdleTtlZero => {
                f.write_str("the idle TTL is zero: it must be at least one nanosecond")
            }
            Self::IdleTtlTooLong { idle_ttl, max } => {
                write!(f, "an idle TTL of {idle_ttl:?} is too long: at most {max:?} is allowed")
            }
        }
    }
}

impl Error for BuildError {}

/// Why an increment was not counted under its key. Its units are in
/// [`Totals::rejected`](crate::Totals::rejected).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejected {
    /// The store is full and may not evict
    /// ([`AtCapacity::Reject`](crate::AtCapacity::Reject)), or all its room is with
    /// admissions that are still under way on other threads.
    Capacity,
    /// `capacity + slack` entries exist: entries that have ended could not be freed yet, because
    /// some thread has been pinned for a long time.
    Memory,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Capacity => "rejected: the store is full",
            Self::Memory => "rejected: too many ended entries are waiting to be freed",
        })
    }
}

impl Error for Rejected {}

/// Why there is no difference between two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SinceError {
    /// The snapshots are of two different stores, or of two lanes of one.
    OtherStore,
    /// The earlier snapshot was not complete when the later one began: the two are the same, were
    /// taken at the same time, or were given in the wrong order.
    NotEarlier,
}

impl fmt::Display for SinceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherStore => "the two snapshots are of different stores or lanes",
            Self::NotEarlier => {
                "the snapshot given as the earlier was not complete when the later one began"
            }
        })
    }
}

impl Error for SinceError {}
