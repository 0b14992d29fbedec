//! Exact pictures of a store that goes on counting.

use std::fmt;
use std::hash::Hash;
use std::ops::Range;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;

use equivalent::Equivalent;

use crate::engine::Engine;
use crate::entry::{Entry, Ref};
use crate::ledger::Units;
use crate::limbo::Limbo;
use crate::reclaim::pin;
use crate::removal::Removals;
use crate::sync::{Arc, moment};

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
    pub(crate) fn take<K: Send + Sync + 'static>(engine: &Engine<K>) -> Self {
        let mut totals = Self::default();
        for group in 0..engine.groups() {
            let mut out = Removals::new(engine);
            let (live, ended) = engine.read_group(group, &mut out, |_| true);
            totals.add(live, ended);
            out.deliver();
        }
        totals.finish(engine.rejected_units())
    }

    fn add(&mut self, live: u64, [evicted, expired, removed]: Units) {
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

/// The live counters and the totals of a store, taken by
/// [`CounterStore::snapshot`](crate::CounterStore::snapshot).
///
/// No keys are cloned: it holds on to the entries that it shows, also when they end. That memory is
/// the snapshot's, and does not count against the store's slack. What was added between two of them
/// is told by [`since`](Self::since).
pub struct Snapshot<K: Send + Sync + 'static> {
    /// Each with one handle's hold.
    entries: Vec<(NonNull<Entry<K>>, u64)>,
    totals: Totals,
    limbo: Arc<Limbo<K>>,
    /// From the moment it began to the one at which it was complete.
    taken: Range<u64>,
    /// Whether it still shows all that it was taken with.
    whole: bool,
}

// SAFETY: the pointers are holds on entries, which any thread may read and let go of.
unsafe impl<K: Send + Sync + 'static> Send for Snapshot<K> {}
// SAFETY: as above; nothing changes through a shared snapshot.
unsafe impl<K: Send + Sync + 'static> Sync for Snapshot<K> {}

// It changes nothing while it is shared, so a panic finds and leaves it whole.
impl<K: Send + Sync + 'static> UnwindSafe for Snapshot<K> {}
impl<K: Send + Sync + 'static> RefUnwindSafe for Snapshot<K> {}

impl<K: Send + Sync + 'static> Snapshot<K> {
    pub(crate) fn take(engine: &Engine<K>) -> Self {
        let limbo = Arc::clone(engine.limbo());
        let entries = Vec::with_capacity(engine.len());
        let (totals, taken) = (Totals::default(), moment()..0);
        let mut snapshot = Self { entries, totals, limbo, taken, whole: true };
        for group in 0..engine.groups() {
            let mut out = Removals::new(engine);
            let (live, ended) = engine.read_group(group, &mut out, |found| snapshot.keep(found));
            snapshot.totals.add(live, ended);
            out.deliver();
        }
        snapshot.totals = snapshot.totals.finish(engine.rejected_units());
        snapshot.taken.end = moment();
        snapshot
    }

    /// All of them or, if one has been let go of by all others meanwhile, none.
    fn keep(&mut self, found: &[(Ref<'_, K>, u64)]) -> bool {
        let before = self.entries.len();
        for &(entry, count) in found {
            if !entry.hold() {
                self.let_go_from(before);
                return false;
            }
            self.entries.push((entry.as_non_null(), count));
        }
        true
    }

    fn let_go_from(&mut self, first: usize) {
        // One pin for all: those inside are nested.
        let _guard = pin();
        for (entry, _) in self.entries.drain(first..) {
            // SAFETY: the hold was ours, and the pointer is gone with it.
            unsafe { self.limbo.let_go_handle(entry) };
        }
    }

    /// Whether both are of one store.
    pub(crate) fn is_of_store_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.limbo, &other.limbo)
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
        // SAFETY: our hold keeps the entry alive.
        self.entries.iter().map(|&(entry, count)| (unsafe { &*entry.as_ptr() }, count))
    }

    /// Keeps only the counters for which `keep` says so, and lets go of the others' memory. The
    /// totals stay, so [`Totals::live`] is no longer the sum of what is shown. What this means for
    /// [`since`](Self::since) is said there.
    ///
    /// If `keep` panics, nothing is dropped.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, u64) -> bool) {
        let (mut kept, before) = (0, self.entries.len());
        for i in 0..before {
            let (entry, count) = self.entries[i];
            // SAFETY: our hold keeps the entry alive.
            if keep(unsafe { &*entry.as_ptr() }.key(), count) {
                self.entries.swap(kept, i);
                kept += 1;
            }
        }
        self.whole &= kept == before;
        self.let_go_from(kept);
        self.entries.shrink_to_fit();
        self.limbo.flush_all(before - kept);
    }

    /// Keys and counts, in no order.
    pub fn iter(&self) -> Iter<'_, K> {
        Iter(self.entries.iter())
    }

    /// How many counters it shows. The store is read bit by bit, so while others admit and evict
    /// this may be more than its capacity.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it shows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
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
        let entries = self.entries.len();
        self.let_go_from(0);
        self.limbo.flush_all(entries);
    }
}

impl<K: fmt::Debug + Send + Sync + 'static> fmt::Debug for Snapshot<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The counters of a [`Snapshot`].
pub struct Iter<'a, K>(std::slice::Iter<'a, (NonNull<Entry<K>>, u64)>);

// SAFETY: it gives out shared references to keys, which the snapshot that it borrows keeps alive.
unsafe impl<K: Sync> Send for Iter<'_, K> {}
// SAFETY: as above; `next` wants it whole.
unsafe impl<K: Sync> Sync for Iter<'_, K> {}

impl<'a, K> Iterator for Iter<'a, K> {
    type Item = (&'a K, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let &(entry, count) = self.0.next()?;
        // SAFETY: the snapshot's hold keeps the entry alive for as long as it is borrowed, and the
        // key of a published entry never changes.
        Some((unsafe { &*entry.as_ptr() }.key(), count))
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
