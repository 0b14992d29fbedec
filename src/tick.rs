//! Coarse time: when a key was last used, and whether that is too long ago.
//!
//! An entry keeps the *tick* of its last use, so that a hit writes it only when it has changed. A
//! tick is a power of two of nanoseconds, at most 1/64 of the TTL. The present is read once an
//! operation: exactly, straight from the processor's counter where there is one, or as quanta was
//! told last, where the user has asked for that.
//!
//! A tick is rounded down, so the last use may have been up to one tick later than it says: a key
//! expires when even that use is longer ago than the TTL. Never early; late by at most one tick.

use std::time::{Duration, SystemTime};

use quanta::{Clock, Instant};

/// The longest TTL: a quarter of the range of a clock that counts nanoseconds in 64 bits, about 146
/// years.
pub(crate) const MAX_TTL: Duration = Duration::from_nanos(u64::MAX / 4);

/// An instant in nanoseconds since the store was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Now(u64);

#[derive(Debug)]
pub(crate) struct Timer {
    clock: Clock,
    built: Built,
    /// `u64::MAX` where nothing expires.
    ttl: u64,
    shift: u32,
}

/// When the store was built, in the terms in which its clock is read.
#[derive(Debug)]
enum Built {
    /// The counter's own.
    Exact(u64),
    /// Of [`Clock::recent`].
    Recent(Instant),
}

/// A tick where nothing expires: about a second.
const TICK_SHIFT: u32 = 30;

impl Timer {
    /// `ttl` is above zero and at most [`MAX_TTL`].
    pub(crate) fn new(clock: Clock, ttl: Option<Duration>, recent: bool) -> Self {
        let ttl = ttl.map(|ttl| ttl.min(MAX_TTL).as_nanos() as u64);
        let shift = ttl.map_or(TICK_SHIFT, |ttl| (ttl / 64).max(1).ilog2());
        let built = if recent { Built::Recent(clock.now()) } else { Built::Exact(clock.raw()) };
        Self { clock, built, ttl: ttl.unwrap_or(u64::MAX), shift }
    }

    #[inline]
    pub(crate) fn now(&self) -> Now {
        Now(match self.built {
            Built::Exact(built) => self.clock.delta_as_nanos(built, self.clock.raw()),
            Built::Recent(built) => {
                let told = self.clock.recent();
                // What was told before, or never, is not the time.
                let now = if told > built { told } else { self.clock.now() };
                now.saturating_duration_since(built).as_nanos() as u64
            }
        })
    }

    #[inline]
    pub(crate) fn tick(&self, now: Now) -> u64 {
        now.0 >> self.shift
    }

    /// Whether a key last used in `tick` has been idle for longer than the TTL.
    #[inline]
    pub(crate) fn expired(&self, tick: u64, now: Now) -> bool {
        // The whole tick lies a TTL back.
        tick < now.0.saturating_sub(self.ttl) >> self.shift
    }

    /// The tick of seven eighths of a TTL ago.
    pub(crate) fn long_ago(&self, now: Now) -> u64 {
        self.tick(now).saturating_sub((self.ttl >> self.shift) / 8 * 7)
    }

    /// For a store that was built at this time of day.
    pub(crate) fn calendar(&self, built: SystemTime) -> Calendar {
        Calendar { built, shift: self.shift }
    }

    pub(crate) fn ttl(&self) -> Option<Duration> {
        (self.ttl != u64::MAX).then(|| Duration::from_nanos(self.ttl))
    }
}

/// Times of day, by the store's own clock: it does not follow when the system's is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calendar {
    built: SystemTime,
    shift: u32,
}

impl Calendar {
    fn at(self, Now(nanos): Now) -> SystemTime {
        // Beyond what the system's time can say, a mock clock has been set there.
        self.built.checked_add(Duration::from_nanos(nanos)).unwrap_or(self.built)
    }

    /// When a life began that has kept that, and when it was last used: in this tick.
    pub(crate) fn times(self, began: Option<Now>, tick: u64) -> Option<(SystemTime, SystemTime)> {
        let began = began?;
        let used = Now(tick.saturating_mul(1 << self.shift)).max(began);
        Some((self.at(began), self.at(used)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_early_and_late_by_at_most_a_tick() {
        let ttls = [1, 2, 63, 64, 65, 1000, 1 << 20, 1_800_000_000_000, u64::MAX / 4];
        for (ttl, recent) in ttls.into_iter().flat_map(|ttl| [(ttl, false), (ttl, true)]) {
            let (clock, mock) = Clock::mock();
            let timer = Timer::new(clock, Some(Duration::from_nanos(ttl)), recent);
            let tick_length = 1 << timer.shift;
            assert!(tick_length == 1 || tick_length <= ttl / 64, "{ttl}");
            for start in [0, 1, tick_length - 1, tick_length, 3 * tick_length + 1] {
                mock.decrement(mock.value());
                mock.increment(start);
                let tick = timer.tick(timer.now());
                mock.increment(ttl);
                assert!(!timer.expired(tick, timer.now()), "early: {ttl} from {start}");
                mock.increment(tick_length);
                assert!(timer.expired(tick, timer.now()), "late: {ttl} from {start}");
            }
        }
    }
}
