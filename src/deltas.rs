//! What was added per key between two snapshots.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::ptr;

use equivalent::Equivalent;

use crate::error::SinceError;
use crate::hash::RandomState;
use crate::snapshot::{Snapshot, largest};

/// What was added between two snapshots of a store, made by [`Snapshot::since`].
///
/// Keys are borrowed from the two snapshots. A key to which nothing was added is not among them.
pub struct Deltas<'a, K> {
    deltas: Vec<(&'a K, u64)>,
    recorded: u64,
    unattributed: u64,
}

impl<K: Hash + Eq + Send + Sync + 'static> Snapshot<K> {
    /// What was added per key since an earlier snapshot of the same store, ended lives included.
    ///
    /// - A life that both show: the difference of the two counts.
    /// - A life that has ended since: its exact final count less what the earlier one shows.
    /// - A life that has begun since: its whole count.
    ///
    /// Of one key these are added up. Lives that began *and* ended in between were never seen: they
    /// are in [`Deltas::unattributed`], together with rejected units. The sum of the deltas and of
    /// what is unattributed is exactly what the totals have grown by, modulo 2^64, whatever other
    /// threads do while the snapshots are taken.
    ///
    /// Of a snapshot that dropped counters by [`retain`](Self::retain) nobody can know what the
    /// dropped ones have become. So a key that such a snapshot does not show is left out, and what
    /// was added to it is unattributed.
    ///
    /// O(len) of both, in time and memory.
    ///
    /// # Errors
    ///
    /// [`SinceError`] if the two are of different stores, or `earlier` was not complete when this
    /// one began.
    ///
    /// ```
    /// use counterclock::CounterStore;
    ///
    /// let store: CounterStore<String> = CounterStore::new(1000);
    /// store.add("a", 5);
    /// store.add("b", 7);
    /// let earlier = store.snapshot();
    /// store.add("a", 1);
    /// store.increment("b");
    /// store.remove("b");
    /// store.add("c", 2);
    /// store.add("short", 4);
    /// store.remove("short");
    ///
    /// let later = store.snapshot();
    /// let deltas = later.since(&earlier)?;
    /// assert_eq!(["a", "b", "c", "short"].map(|key| deltas.get(key)), [1, 1, 2, 0]);
    /// assert_eq!((deltas.unattributed(), deltas.recorded()), (4, 8));
    /// # Ok::<(), counterclock::SinceError>(())
    /// ```
    pub fn since<'a>(&'a self, earlier: &'a Self) -> Result<Deltas<'a, K>, SinceError> {
        if !self.is_of_store_of(earlier) {
            return Err(SinceError::OtherStore);
        }
        if !self.is_later_than(earlier) {
            return Err(SinceError::NotEarlier);
        }
        let mut deltas = Vec::new();
        let lives = earlier.held().map(|(entry, then)| (ptr::from_ref(entry), (entry, then)));
        let mut lives: HashMap<_, _, RandomState> = lives.collect();
        let mut begun = Vec::new();
        for (entry, count) in self.held() {
            match lives.remove(&ptr::from_ref(entry)) {
                Some((_, then)) => deltas.push((entry.key(), count - then)),
                None => begun.push((entry.key(), count)),
            }
        }
        // What the later one does not show had ended when it was read, if it is whole.
        let ended = lives.into_values().filter_map(|(entry, then)| {
            let count = self.final_count(entry)?;
            Some((entry.key(), count - then))
        });
        let mut ended: HashMap<&K, u64, RandomState> = ended.collect();
        for (key, count) in begun {
            match ended.remove(key) {
                Some(rest) => deltas.push((key, rest + count)),
                None if earlier.is_whole() => deltas.push((key, count)),
                None => {}
            }
        }
        if self.is_whole() {
            deltas.extend(ended);
        }
        deltas.retain(|&(_, units)| units > 0);
        let recorded = self.totals().recorded.wrapping_sub(earlier.totals().recorded);
        Ok(Deltas::new(deltas, recorded))
    }
}

impl<'a, K> Deltas<'a, K> {
    fn new(deltas: Vec<(&'a K, u64)>, recorded: u64) -> Self {
        let attributed = deltas.iter().fold(0, |sum: u64, delta| sum.wrapping_add(delta.1));
        Self { deltas, recorded, unattributed: recorded.wrapping_sub(attributed) }
    }

    /// Keys and what was added to each, in no order; each key once.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a K, u64)> + '_ {
        self.deltas.iter().copied()
    }

    /// To how many keys something was added.
    #[must_use]
    pub fn len(&self) -> usize {
        self.deltas.len()
    }

    /// Whether nothing was added to any key. There may be unattributed units.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deltas.is_empty()
    }

    /// What was added to one key, 0 if nothing is known of it. O(len).
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> u64
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.iter().find(|(known, _)| key.equivalent(known)).map_or(0, |(_, units)| units)
    }

    /// The `n` keys to which most was added, largest first; ties in no order. O(len + n log n).
    #[must_use]
    pub fn top(&self, n: usize) -> Vec<(&'a K, u64)> {
        largest(self.deltas.clone(), n)
    }

    /// Units that were added in between and belong to none of the keys here: of lives that began
    /// and ended in between, of rejected calls, and of keys that were left out (see
    /// [`Snapshot::since`]).
    #[must_use]
    pub fn unattributed(&self) -> u64 {
        self.unattributed
    }

    /// All units that were added in between, modulo 2^64: by so much
    /// [`Totals::recorded`](crate::Totals::recorded) has grown.
    #[must_use]
    pub fn recorded(&self) -> u64 {
        self.recorded
    }
}

impl<'a, K> IntoIterator for Deltas<'a, K> {
    type Item = (&'a K, u64);
    type IntoIter = std::vec::IntoIter<(&'a K, u64)>;

    fn into_iter(self) -> Self::IntoIter {
        self.deltas.into_iter()
    }
}

impl<K: fmt::Debug> fmt::Debug for Deltas<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deltas")
            .field("deltas", &self.deltas)
            .field("unattributed", &self.unattributed)
            .finish_non_exhaustive()
    }
}
