//! Exact pictures of a store that goes on counting.

use std::fmt;
use std::hash::Hash;
use std::ops::Range;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::time::SystemTime;

use equivalent::Equivalent;

use crate::cell::State;
use crate::engine::Engine;
use crate::entry::{Entry, Ref};
use crate::groups::Sums;
use crate::limbo::Limbo;
use crate::reclaim::pin;
use crate::removal::Removals;
use crate::sync::{Arc, moment};
use crate::tick::Calendar;

/// Where every unit is. All modulo 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(::serde::Serialize, ::serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct Totals {
    /// All units that were ever added: the sum of the five below.
    pub recorded: u64,
    /// In live counters.
    pub live: u64,
    /// In lives that ended because the store was full.
    pub evicted: u64,
    /// In lives that ended because they were idle for longer than the TTL.
    pub expired: u64,
    /// In lives that ended by `remove` or `clear`.
    pub removed: u64,
    /// Of calls that were rejected.
    pub rejected: u64,
}

impl Totals {
    /// One for each of the given lanes.
    pub(crate) fn take<K: Send + Sync + 'static, const L: usize>(
        engine: &Engine<K>,
        lanes: [usize; L],
    ) -> [Self; L] {
        let mut all = [Self::default(); L];
        for group in 0..engine.groups() {
            let mut out = Removals::new(engine);
            let sums = engine.read_group(group, lanes, &mut out, |_| true);
            all.iter_mut().zip(sums).for_each(|(totals, sums)| totals.add(sums));
            out.deliver();
        }
        std::array::from_fn(|i| all[i].finish(engine.rejected_units(lanes[i])))
    }

    fn add(&mut self, (live, [evicted, expired, removed]): Sums) {
        self.live = self.live.wrapping_add(live);
        self.evicted = self.evicted.wrapping_add(evicted);
        self.expired = self.expired.wrapping_add(expired);
        self.removed = self.removed.wrapping_add(removed);
    }

    fn finish(mut self, rejected: u64) -> Self {
        self.rejected = rejected;
        let parts = [self.live, self.evicted, self.expired, self.removed, self.rejected];
        self.recorded = parts.into_iter().fold(0, u64::wrapping_add);
        self
    }
}

impl<K> Shown<K> {
    fn entry(&self) -> &Entry<K> {
        // SAFETY: its hold keeps the entry alive.
        unsafe { self.entry.as_ref() }
    }
}

/// A live counter that a [`Snapshot`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Life<'a, K> {
    /// The key.
    pub key: &'a K,
    /// The count.
    pub count: u64,
    /// When the life began, in a store with [`times`](crate::Builder::times).
    pub created: Option<SystemTime>,
    /// When the key was last used before the snapshot came by, rounded down to a tick.
    pub last_used: Option<SystemTime>,
}

/// The live counters and the totals of a store, taken by
/// [`CounterStore::snapshot`](crate::CounterStore::snapshot).
///
/// No keys are cloned: it holds on to the entries that it shows, also when they end. That memory is
/// the snapshot's, and does not count against the store's slack. What was added between two of them
/// is told by [`since`](Self::since).
pub struct Snapshot<K: Send + Sync + 'static> {
    shown: Vec<Shown<K>>,
    totals: Totals,
    lane: usize,
    calendar: Option<Calendar>,
    limbo: Arc<Limbo<K>>,
    /// From the moment it began to the one at which it was complete.
    taken: Range<u64>,
    /// Whether it still shows all that it was taken with.
    whole: bool,
}

/// A counter, with one handle's hold on its entry.
struct Shown<K> {
    entry: NonNull<Entry<K>>,
    count: u64,
    /// Of last use.
    tick: u64,
}

// SAFETY: the pointer is a hold on an entry, which any thread may read and let go of.
unsafe impl<K: Send + Sync + 'static> Send for Shown<K> {}
// SAFETY: as above; nothing changes through a shared snapshot.
unsafe impl<K: Send + Sync + 'static> Sync for Shown<K> {}

// It changes nothing while it is shared, so a panic finds and leaves it whole.
impl<K: Send + Sync + 'static> UnwindSafe for Snapshot<K> {}
impl<K: Send + Sync + 'static> RefUnwindSafe for Snapshot<K> {}

impl<K: Send + Sync + 'static> Snapshot<K> {
    /// One for each of the given lanes, of the same counters in the same order.
    pub(crate) fn take<const L: usize>(engine: &Engine<K>, lanes: [usize; L]) -> [Self; L] {
        let begun = moment();
        let mut all = lanes.map(|lane| Self {
            shown: Vec::with_capacity(engine.len()),
            totals: Totals::default(),
            lane,
            calendar: engine.calendar(),
            limbo: Arc::clone(engine.limbo()),
            taken: begun..0,
            whole: true,
        });
        for group in 0..engine.groups() {
            let mut out = Removals::new(engine);
            let sums =
                engine.read_group(group, lanes, &mut out, |found| Self::keep(&mut all, found));
            all.iter_mut().zip(sums).for_each(|(snapshot, sums)| snapshot.totals.add(sums));
            out.deliver();
        }
        for snapshot in &mut all {
            snapshot.totals = snapshot.totals.finish(engine.rejected_units(snapshot.lane));
        }
        let complete = moment();
        all.iter_mut().for_each(|snapshot| snapshot.taken.end = complete);
        all
    }

    /// All of them or, if one has been let go of by all others meanwhile, none.
    fn keep<const L: usize>(all: &mut [Self; L], found: &[(Ref<'_, K>, [u64; L])]) -> bool {
        let before = all.each_ref().map(|snapshot| snapshot.shown.len());
        for &(entry, counts) in found {
            let tick = entry.last_tick();
            for i in 0..L {
                if !entry.hold() {
                    all.iter_mut().zip(before).for_each(|(it, before)| it.let_go_from(before));
                    return false;
                }
                let (entry, count) = (entry.as_non_null(), counts[i]);
                all[i].shown.push(Shown { entry, count, tick });
            }
        }
        true
    }

    fn let_go_from(&mut self, first: usize) {
        let mut retired = 0;
        {
            // One pin for all: those inside are nested.
            let _guard = pin();
            for Shown { entry, .. } in self.shown.drain(first..) {
                // SAFETY: the hold was ours, and the pointer is gone with it.
                retired += usize::from(unsafe { self.limbo.let_go_handle(entry) });
            }
        }
        self.limbo.flush_all(retired);
    }

    /// Whether both are of one store, and of one lane of it.
    pub(crate) fn is_of_store_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.limbo, &other.limbo) && self.lane == other.lane
    }

    /// The exact final count of a life that has ended.
    pub(crate) fn final_count(&self, entry: &Entry<K>) -> Option<u64> {
        match (entry.read(), self.lane) {
            (State::Live(_), _) => None,
            (State::Ended(_, units), 0) => Some(units),
            (State::Ended(..), lane) => Some(entry.lane_units(lane)),
        }
    }

    /// Whether the other one was complete when this one began.
    pub(crate) fn is_later_than(&self, other: &Self) -> bool {
        other.taken.end < self.taken.start
    }

    /// Whether [`retain`](Self::retain) has dropped nothing.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The entries with the counts shown. Two snapshots hold the same life if, and only if, the
    /// address is the same: an entry that is held is not used again.
    pub(crate) fn held(&self) -> impl ExactSizeIterator<Item = (&Entry<K>, u64)> {
        self.shown.iter().map(|shown| (shown.entry(), shown.count))
    }

    /// Keeps only the counters for which `keep` says so, and lets go of the others' memory. The
    /// totals stay, so [`Totals::live`] is no longer the sum of what is shown. What this means for
    /// [`since`](Self::since) is said there.
    ///
    /// If `keep` panics, nothing is dropped.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, u64) -> bool) {
        let (mut kept, before) = (0, self.shown.len());
        for i in 0..before {
            let (key, count) = self.shown(i);
            if keep(key, count) {
                self.shown.swap(kept, i);
                kept += 1;
            }
        }
        self.whole &= kept == before;
        self.let_go_from(kept);
        self.shown.shrink_to_fit();
    }

    /// Keys and counts, in no order.
    pub fn iter(&self) -> Iter<'_, K> {
        Iter(self.shown.iter())
    }

    /// The lives that it shows, in no order: as [`iter`](Self::iter), with their times.
    pub fn lives(&self) -> impl ExactSizeIterator<Item = Life<'_, K>> {
        self.shown.iter().map(|shown| {
            let times = self.calendar.and_then(|c| c.times(shown.entry().began(), shown.tick));
            Life {
                key: shown.entry().key(),
                count: shown.count,
                created: times.map(|(created, _)| created),
                last_used: times.map(|(_, last_used)| last_used),
            }
        })
    }

    pub(crate) fn shown(&self, i: usize) -> (&K, u64) {
        let shown = &self.shown[i];
        (shown.entry().key(), shown.count)
    }

    /// How many counters it shows. The store is read bit by bit, so while others admit and evict
    /// this may be more than its capacity.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shown.len()
    }

    /// Whether it shows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// The count of one key. O(len): it does not have the store's hasher.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<u64>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.iter().find(|(known, _)| key.equivalent(known)).map(|(_, count)| count)
    }

    /// Where every unit was. `totals().live` is the sum of the counts shown, unless some were
    /// dropped by [`retain`](Self::retain).
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The `n` largest counters, largest first; ties in no order. O(len + n log n).
    #[must_use]
    pub fn top(&self, n: usize) -> Vec<(&K, u64)> {
        largest(self.iter().collect(), n)
    }
}

/// The `n` largest, largest first.
pub(crate) fn largest<K>(mut counters: Vec<(&K, u64)>, n: usize) -> Vec<(&K, u64)> {
    let descending = |a: &(&K, u64), b: &(&K, u64)| b.1.cmp(&a.1);
    if n < counters.len() {
        counters.select_nth_unstable_by(n, descending);
        counters.truncate(n);
    }
    counters.sort_unstable_by(descending);
    counters
}

impl<K: Send + Sync + 'static> Drop for Snapshot<K> {
    fn drop(&mut self) {
        self.let_go_from(0);
    }
}

impl<K: fmt::Debug + Send + Sync + 'static> fmt::Debug for Snapshot<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The counters of a [`Snapshot`].
pub struct Iter<'a, K>(std::slice::Iter<'a, Shown<K>>);

impl<'a, K> Iterator for Iter<'a, K> {
    type Item = (&'a K, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let shown = self.0.next()?;
        Some((shown.entry().key(), shown.count))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K> ExactSizeIterator for Iter<'_, K> {}

impl<K> fmt::Debug for Iter<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("left", &self.0.len()).finish()
    }
}

impl<'a, K: Send + Sync + 'static> IntoIterator for &'a Snapshot<K> {
    type Item = (&'a K, u64);
    type IntoIter = Iter<'a, K>;

    fn into_iter(self) -> Iter<'a, K> {
        self.iter()
    }
}

impl<K: Clone + Send + Sync + 'static> IntoIterator for Snapshot<K> {
    type Item = (K, u64);
    type IntoIter = std::vec::IntoIter<(K, u64)>;

    /// Clones the keys.
    fn into_iter(self) -> Self::IntoIter {
        self.iter().map(|(key, count)| (key.clone(), count)).collect::<Vec<_>>().into_iter()
    }
}
