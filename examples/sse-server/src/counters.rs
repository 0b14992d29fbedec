//! What is counted: two counters for each session, and beside them totals that never shrink.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use counterclock::{BuildError, CounterStore, Lane, LaneSnapshot, LaneStore, Stats};

use crate::unbounded::Unbounded;

/// `drops` and `no_client` of each session: one key, one cap and one eviction for both.
///
/// Bounded by the capacity however many sessions there have been, since their names come from
/// outside.
pub struct Counters {
    sessions: LaneStore<String, 2>,
    drops: Lane<String>,
    no_client: Lane<String>,
    /// Counted before the session's own counters, so that it has at least what they have.
    all_drops: AtomicU64,
    all_no_client: AtomicU64,
    unbounded: Unbounded,
}

/// A session's drops have reached a power of two: worth a line in the log, so that a session
/// that drops without end costs lines only in the logarithm of what it drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Milestone(pub u64);

/// What this process has counted in all, by sums of its own beside the store's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct All {
    pub drops: u64,
    pub no_client: u64,
}

impl Counters {
    pub fn new(capacity: usize, idle_ttl: Duration) -> Result<Self, BuildError> {
        let sessions =
            CounterStore::builder().capacity(capacity).idle_ttl(idle_ttl).build_lanes()?;
        let [drops, no_client] = sessions.lanes();
        Ok(Self {
            sessions,
            drops,
            no_client,
            all_drops: AtomicU64::new(0),
            all_no_client: AtomicU64::new(0),
            unbounded: Unbounded::default(),
        })
    }

    /// An event was dropped, since a client's buffer was full.
    ///
    /// Within one life of the session's counters each count is returned once, so each milestone is
    /// too. A rejected increment has no count: it is in the totals, and is no milestone.
    pub fn dropped(&self, session: &str) -> Option<Milestone> {
        self.all_drops.fetch_add(1, Relaxed);
        let counted = self.drops.try_increment(session);
        self.unbounded.see(session, counted.as_ref().ok().copied());
        counted.ok().filter(|count| count.is_power_of_two()).map(Milestone)
    }

    /// An event was published, and nobody listened.
    pub fn met_nobody(&self, session: &str) {
        self.all_no_client.fetch_add(1, Relaxed);
        let counted = self.no_client.try_increment(session);
        self.unbounded.see(session, counted.ok());
    }

    /// Ends the life of a session's counters. Their units stay in the totals, as removed.
    pub fn forget(&self, session: &str) {
        self.sessions.remove(session);
    }

    pub fn all(&self) -> All {
        All { drops: self.all_drops.load(Relaxed), no_client: self.all_no_client.load(Relaxed) }
    }

    /// `[drops, no_client]` of a session.
    #[cfg(test)]
    pub fn get(&self, session: &str) -> Option<[u64; 2]> {
        self.sessions.get(session)
    }

    /// All sessions with `[drops, no_client]`, and where every unit is. O(capacity).
    pub fn snapshot(&self) -> LaneSnapshot<String, 2> {
        self.sessions.snapshot()
    }

    /// Drops and no_client, each by itself.
    pub fn lanes(&self) -> [Lane<String>; 2] {
        self.sessions.lanes()
    }

    pub fn stats(&self) -> Stats {
        self.sessions.stats()
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn capacity(&self) -> usize {
        self.sessions.capacity()
    }

    pub fn waiting(&self) -> usize {
        self.sessions.waiting()
    }

    pub fn unbounded(&self) -> &Unbounded {
        &self.unbounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(capacity: usize) -> Counters {
        Counters::new(capacity, Duration::from_secs(1800)).unwrap()
    }

    #[test]
    fn milestones_are_the_powers_of_two_once_per_life() {
        let counters = counters(8);
        for _life in 0..2 {
            let milestones: Vec<_> =
                (0..20).filter_map(|_| counters.dropped("a")).map(|m| m.0).collect();
            assert_eq!(milestones, [1, 2, 4, 8, 16]);
            counters.forget("a");
        }
    }

    #[test]
    fn milestones_are_told_once_among_threads() {
        let counters = counters(8);
        let told = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1000).filter_map(|_| counters.dropped("a")).collect::<Vec<_>>()
                    })
                })
                .collect();
            let mut told: Vec<_> =
                threads.into_iter().flat_map(|t| t.join().unwrap()).map(|m| m.0).collect();
            told.sort_unstable();
            told
        });
        assert_eq!(told, (0..12).map(|power| 1 << power).collect::<Vec<u64>>());
    }

    /// While a thread stays pinned nothing that ended is freed, so that lives run out of memory.
    #[test]
    fn a_rejected_drop_is_counted_and_no_milestone() {
        let counters = counters(8);
        let elsewhere = CounterStore::<u64>::new(1);
        let pinned = elsewhere.pin();
        for n in 0.. {
            counters.met_nobody(&format!("one-off-{n}"));
            if counters.stats().rejections > 0 {
                break;
            }
        }
        assert_eq!(counters.dropped("new"), None);
        drop(pinned);
        assert_eq!(counters.snapshot().totals()[0].rejected, 1);
        assert_eq!(counters.all().drops, 1);
    }

    #[test]
    fn one_session_for_both_counters() {
        let counters = counters(8);
        counters.met_nobody("a");
        counters.dropped("a");
        counters.dropped("a");
        assert_eq!(counters.get("a"), Some([2, 1]));
        assert_eq!(counters.len(), 1);
        assert_eq!(counters.stats().admitted, 1);
        counters.forget("a");
        assert_eq!(counters.get("a"), None);
        assert_eq!(counters.snapshot().totals().map(|totals| totals.removed), [2, 1]);
        assert_eq!(counters.all(), All { drops: 2, no_client: 1 });
    }

    #[test]
    fn totals_stay_when_sessions_go() {
        let counters = counters(4);
        for n in 0..1000 {
            counters.dropped(&format!("drop-{n}"));
            counters.met_nobody(&format!("nobody-{n}"));
            assert!(counters.len() <= 4);
        }
        assert_eq!(counters.snapshot().totals().map(|totals| totals.recorded), [1000, 1000]);
        assert_eq!(counters.all(), All { drops: 1000, no_client: 1000 });
    }
}
