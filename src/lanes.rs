//! Several counters per key: one lookup, one place under the cap, one end.
//!
//! The first lane is the entry's own cell; the others are cells beside it. A use of any lane is first
//! counted as a use on the own cell, with the units of the first lane or with none, and then adds
//! its units to the cells of the others. A life that an admission begins has them all from the
//! start: else two adds could end each other's lives for ever before either is done. So what a
//! store of one counter promises of a use holds for each lane:
//!
//! - The seal of the own cell decides that the life has ended. The sealer then seals the other
//!   lanes, and whoever meets the entry before it has finished (a reader, or who puts in the next
//!   life of the key) helps. An add that meets a sealed lane goes on in the next life.
//! - The use on the own cell comes after the tick of last use was written: an expirer that has read
//!   an older tick fails to seal (unless 1024 uses came in between, which look like none). The policy
//!   needs to look at the own cell alone.
//!
//! # Orderings
//!
//! The cells are made before the entry is published. A lane is read by who has seen its seal, or
//! the seal of the own cell and then sealed the lane: both by way of [`Cell`], which orders them.
//!
//! [`Cell`]: crate::cell::Cell

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use crate::cell::{Amount, MAX_COUNT, State};
use crate::counter::Counter;
use crate::engine::Engine;
use crate::entry::{Entry, Load, Ref};
use crate::error::Rejected;
use crate::hash::{KeyHash, RandomState};
use crate::key::ToKey;
use crate::shard::Stats;
use crate::snapshot::{Snapshot, Totals};
use crate::store::{CounterStore, WeakStore};

/// The most lanes.
pub(crate) const MAX_LANES: usize = 8;

/// Several counters per key: `L` *lanes* that share one lookup, one place under the cap and one end.
/// Made by [`Builder::build_lanes`](crate::Builder::build_lanes). A clone is another handle to the
/// same store.
///
/// ```
/// use counterclock::{CounterStore, LaneStore};
///
/// let tenants: LaneStore<String, 2> = CounterStore::<String>::builder()
///     .capacity(1000)
///     .on_removal(|end| println!("{}: requests and bytes {:?}", end.key, end.lanes))
///     .build_lanes()?;
/// assert_eq!(tenants.add("acme", [1, 1500]), [1, 1500]); // one request of 1500 bytes
///
/// let [requests, bytes] = tenants.lanes(); // count in one, or read it
/// requests.increment("acme");
/// assert_eq!(tenants.get("acme"), Some([2, 1500]));
/// assert_eq!(bytes.top(1), [("acme".to_owned(), 1500)]);
/// assert_eq!(tenants.remove("acme"), Some([2, 1500]));
/// # Ok::<(), counterclock::BuildError>(())
/// ```
///
/// The promises of a [`CounterStore`] hold for each lane: no unit is lost, a removal has the exact
/// final count of each, snapshots show each unit once. An operation on several lanes is one for each
/// of them, not one instant: if the key's life ends in the middle of an [`add`](Self::add), some
/// lanes are in its final counts and the rest begins the next life.
///
/// A use of the first lane costs what it does in a store of one counter; each other lane that is
/// added to, one `fetch_add` more. An entry has two allocations more, of 32 bytes and of 16 for each
/// lane after the first, and each such lane has totals of 1 to 2 bytes for each counter of the
/// capacity.
pub struct LaneStore<K, const L: usize, S = RandomState> {
    store: CounterStore<K, S>,
}

/// Amounts for all lanes, some of which have been counted.
#[derive(Clone, Copy)]
struct Adds<const L: usize> {
    amounts: [u64; L],
    counts: [u64; L],
    /// Lanes before this one have been counted.
    next: usize,
}

impl<const L: usize> Adds<L> {
    fn new(amounts: [u64; L]) -> Self {
        Self { amounts, counts: [0; L], next: 0 }
    }

    /// What is left for the first lane.
    fn first(&self) -> u64 {
        if self.next == 0 { self.amounts[0] } else { 0 }
    }

    /// What is left for the others, with which a new life begins.
    fn others(&self) -> [u64; MAX_LANES] {
        let left = |lane| if lane < self.next { 0 } else { self.amounts[lane] };
        std::array::from_fn(|i| if i + 1 < L { left(i + 1) } else { 0 })
    }

    /// After the first lane was counted in a life that has begun with all that was left, or has been
    /// there: then the others are counted here.
    fn on<K>(mut self, entry: &Entry<K>, is_new: bool) -> Self {
        self.next = self.next.max(1);
        for (lane, cell) in (1..).zip(entry.lanes()).skip(self.next - 1) {
            let units = self.amounts[lane];
            let added = match cell.read() {
                _ if is_new => Ok(units.min(MAX_COUNT)),
                State::Live(count) | State::Ended(_, count) if units == 0 => Ok(count),
                _ => cell.add_amount(Amount { units, uses: 0 }),
            };
            let Ok(count) = added else { break };
            self.counts[lane] = count;
            self.next = lane + 1;
        }
        self
    }
}

/// An add in progress. Where a panic of the user's code interrupts it between two lives, what is left
/// of it is counted as rejected; where nothing was counted yet, nothing is.
///
/// It does not ask whether the thread panics: a whole add may be made while one is under way.
struct Adding<'a, K: Send + Sync + 'static, const L: usize> {
    engine: &'a Engine<K>,
    hash: KeyHash,
    adds: Cell<Adds<L>>,
}

impl<K: Send + Sync + 'static, const L: usize> Adding<'_, K, L> {
    /// The first lane's units go with the call. Nothing is left.
    fn reject_rest(&self) {
        let adds = self.adds.get();
        self.adds.set(Adds { next: L, ..adds });
        for (lane, &units) in adds.amounts.iter().enumerate().skip(adds.next.max(1)) {
            self.engine.reject_units(self.hash, lane, units);
        }
    }
}

impl<K: Send + Sync + 'static, const L: usize> Drop for Adding<'_, K, L> {
    fn drop(&mut self) {
        if self.adds.get().next > 0 {
            self.reject_rest();
        }
    }
}

/// All lanes of an entry, of which the first was read.
fn all<K, const L: usize>(entry: &Entry<K>, first: u64) -> [u64; L] {
    std::array::from_fn(|lane| if lane == 0 { first } else { entry.lane_units(lane) })
}

impl<K, const L: usize, S> LaneStore<K, L, S> {
    pub(crate) fn new(store: CounterStore<K, S>) -> Self {
        Self { store }
    }

    /// Each lane by itself.
    #[must_use]
    pub fn lanes(&self) -> [Lane<K, S>; L] {
        std::array::from_fn(|lane| Lane { store: self.store.clone(), lane })
    }

    /// As [`CounterStore::len`]: keys, not counters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether [`len`](Self::len) is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// The most keys that are counted at once.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.store.capacity()
    }

    /// As [`CounterStore::waiting`].
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.store.waiting()
    }

    /// As [`CounterStore::stats`]: lives of keys, whatever lanes they used.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.store.stats()
    }

    /// As [`CounterStore::downgrade`].
    #[must_use]
    pub fn downgrade(&self) -> WeakLaneStore<K, L, S> {
        WeakLaneStore(self.store.downgrade())
    }
}

impl<K, const L: usize, S> LaneStore<K, L, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    /// Adds to all lanes of a key; returns the counts after it. When rejected, `amounts`, each
    /// at most [`MAX_COUNT`].
    ///
    /// One lookup; lanes with an amount of 0 are only read. Counts saturate at
    /// [`MAX_COUNT`]. Progress as [`CounterStore::add`], and lock-free where a
    /// life ends in the middle.
    pub fn add<Q>(&self, key: &Q, amounts: [u64; L]) -> [u64; L]
    where
        Q: ToKey<K> + ?Sized,
    {
        self.try_add(key, amounts).unwrap_or_else(|_| amounts.map(|n| n.min(MAX_COUNT)))
    }

    /// As [`add`](Self::add), and says when it was rejected.
    ///
    /// # Errors
    ///
    /// [`Rejected`], with the reason. What was not counted is in [`Totals::rejected`] of its lane.
    /// That is all of it, unless the key's life ended in the middle.
    pub fn try_add<Q>(&self, key: &Q, amounts: [u64; L]) -> Result<[u64; L], Rejected>
    where
        Q: ToKey<K> + ?Sized,
    {
        let hash = self.store.hash(key);
        self.try_add_by(hash, amounts, |n, adds| {
            let bind = |entry: Ref<'_, K>, is_new| adds.set(adds.get().on(&entry, is_new));
            self.store.try_add_with(hash, key, n, bind).map(|(first, ())| first)
        })
    }

    /// `once` counts what is left on one life of the key, as far as that goes; the count of the first
    /// lane. Mostly that is all.
    fn try_add_by(
        &self,
        hash: KeyHash,
        amounts: [u64; L],
        once: impl Fn(Load<'_>, &Cell<Adds<L>>) -> Result<u64, Rejected>,
    ) -> Result<[u64; L], Rejected> {
        let adding =
            Adding { engine: self.store.engine(), hash, adds: Cell::new(Adds::new(amounts)) };
        loop {
            let before = adding.adds.get();
            let others = before.others();
            match once(Load { first: Amount::once(before.first()), others: &others }, &adding.adds)
            {
                Ok(first) if before.next == 0 => {
                    let mut after = adding.adds.get();
                    after.counts[0] = first;
                    adding.adds.set(after);
                }
                Ok(_) => {}
                Err(why) => {
                    adding.reject_rest();
                    return Err(why);
                }
            }
            let Adds { counts, next, .. } = adding.adds.get();
            if next == L {
                return Ok(counts);
            }
        }
    }

    /// The counts of a key, if it is live. Does not count as use. Progress as
    /// [`CounterStore::get`].
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<[u64; L]>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.store.get_with(key, |entry, first| all(&entry, first))
    }

    /// Whether the key is live. Does not count as use.
    #[must_use]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.store.contains(key)
    }

    /// Ends the life of a key; returns its exact final counts. Lock-free.
    pub fn remove<Q>(&self, key: &Q) -> Option<[u64; L]>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.store.remove_with(key, |entry, first| all(&entry, first))
    }

    /// As [`CounterStore::clear`].
    pub fn clear(&self) {
        self.store.clear();
    }

    /// As [`CounterStore::prune`].
    pub fn prune(&self) -> usize {
        self.store.prune()
    }

    /// As [`CounterStore::counter`], for all lanes of the key.
    #[must_use]
    pub fn counter<Q>(&self, key: &Q) -> LaneCounter<K, L, S>
    where
        K: Clone,
        Q: ToKey<K> + ?Sized,
    {
        LaneCounter { counter: self.store.counter(key), store: self.clone() }
    }

    /// As [`CounterStore::snapshot`], of all lanes.
    #[must_use]
    pub fn snapshot(&self) -> LaneSnapshot<K, L> {
        LaneSnapshot { lanes: Snapshot::take(self.store.engine(), every()) }
    }

    /// As [`CounterStore::totals`], lane by lane.
    #[must_use]
    pub fn totals(&self) -> [Totals; L] {
        Totals::take(self.store.engine(), every())
    }
}

fn every<const L: usize>() -> [usize; L] {
    std::array::from_fn(|lane| lane)
}

impl<K, const L: usize, S> Clone for LaneStore<K, L, S> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone() }
    }
}

impl<K, const L: usize, S> fmt::Debug for LaneStore<K, L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneStore").field("lanes", &L).field("store", &self.store).finish()
    }
}

/// A handle that does not keep its store alive. See [`LaneStore::downgrade`] and [`WeakStore`].
pub struct WeakLaneStore<K, const L: usize, S = RandomState>(WeakStore<K, S>);

impl<K, const L: usize, S> WeakLaneStore<K, L, S> {
    /// The store, if any other handle is left.
    #[must_use]
    pub fn upgrade(&self) -> Option<LaneStore<K, L, S>> {
        self.0.upgrade().map(LaneStore::new)
    }
}

impl<K, const L: usize, S> Clone for WeakLaneStore<K, L, S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, const L: usize, S> fmt::Debug for WeakLaneStore<K, L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakLaneStore").field(&self.upgrade()).finish()
    }
}

/// One lane of a [`LaneStore`]: counts in it and reads it. A clone is another handle to it.
///
/// What ends a key's life ends it in all lanes, so `remove` and `clear` are the [`LaneStore`]'s; so are
/// `len` and the handles of [`LaneStore::counter`]. There are no striped handles, buffers or pins.
pub struct Lane<K, S = RandomState> {
    store: CounterStore<K, S>,
    lane: usize,
}

impl<K, S> Lane<K, S> {
    /// What is common to all lanes.
    #[cfg(not(crossbeam_loom))] // For exporters.
    pub(crate) fn store(&self) -> &CounterStore<K, S> {
        &self.store
    }
}

impl<K, S> Lane<K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    /// As [`CounterStore::increment`].
    #[inline]
    pub fn increment<Q>(&self, key: &Q) -> u64
    where
        Q: ToKey<K> + ?Sized,
    {
        self.add(key, 1)
    }

    /// As [`CounterStore::add`].
    #[inline]
    pub fn add<Q>(&self, key: &Q, n: u64) -> u64
    where
        Q: ToKey<K> + ?Sized,
    {
        self.try_add(key, n).unwrap_or(n.min(MAX_COUNT))
    }

    /// As [`CounterStore::try_increment`].
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn try_increment<Q>(&self, key: &Q) -> Result<u64, Rejected>
    where
        Q: ToKey<K> + ?Sized,
    {
        self.try_add(key, 1)
    }

    /// As [`CounterStore::try_add`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_add<Q>(&self, key: &Q, n: u64) -> Result<u64, Rejected>
    where
        Q: ToKey<K> + ?Sized,
    {
        let Some(other) = self.lane.checked_sub(1) else {
            return self.store.try_add(key, n);
        };
        let hash = self.store.hash(key);
        let amount = Amount { units: n, uses: 0 };
        let mut others = [0; MAX_LANES];
        others[other] = n;
        let load = Load { first: Amount::once(0), others: &others };
        let add = |entry: Ref<'_, K>, is_new| match is_new {
            true => Ok(n.min(MAX_COUNT)),
            false => entry.lanes()[other].add_amount(amount),
        };
        loop {
            match self.store.try_add_with(hash, key, load, add) {
                Ok((_, Ok(count))) => return Ok(count),
                // The life has ended meanwhile.
                Ok((_, Err(_))) => {}
                Err(why) => {
                    self.store.engine().reject_units(hash, self.lane, n);
                    return Err(why);
                }
            }
        }
    }

    /// As [`CounterStore::get`]: 0 for a live key that was only counted in other lanes.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<u64>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.store.get_with(key, |entry, first| match self.lane {
            0 => first,
            lane => entry.lane_units(lane),
        })
    }

    /// As [`CounterStore::snapshot`], of this lane. Shows all live keys, with 0 where only other
    /// lanes were used.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<K> {
        let [snapshot] = Snapshot::take(self.store.engine(), [self.lane]);
        snapshot
    }

    /// As [`CounterStore::top`], by this lane.
    #[must_use]
    pub fn top(&self, n: usize) -> Vec<(K, u64)>
    where
        K: Clone,
    {
        let snapshot = self.snapshot();
        snapshot.top(n).into_iter().map(|(key, count)| (key.clone(), count)).collect()
    }

    /// As [`CounterStore::totals`], of this lane.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let [totals] = Totals::take(self.store.engine(), [self.lane]);
        totals
    }
}

impl<K, S> Clone for Lane<K, S> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), lane: self.lane }
    }
}

impl<K, S> fmt::Debug for Lane<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("lane", &self.lane).field("store", &self.store).finish()
    }
}

/// A handle to the counters of one key. See [`LaneStore::counter`] and [`Counter`].
pub struct LaneCounter<K: Send + Sync + 'static, const L: usize, S = RandomState> {
    counter: Counter<K, S>,
    store: LaneStore<K, L, S>,
}

impl<K, const L: usize, S> LaneCounter<K, L, S>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    /// The key.
    #[must_use]
    pub fn key(&self) -> &K {
        self.counter.key()
    }

    /// As [`LaneStore::add`], without hash, pin and search while the key's life lasts.
    pub fn add(&self, amounts: [u64; L]) -> [u64; L] {
        self.try_add(amounts).unwrap_or_else(|_| amounts.map(|n| n.min(MAX_COUNT)))
    }

    /// As [`LaneStore::try_add`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_add(&self, amounts: [u64; L]) -> Result<[u64; L], Rejected> {
        self.store.try_add_by(self.counter.hash(), amounts, |n, adds| {
            let bind = |entry: &Entry<K>, is_new| adds.set(adds.get().on(entry, is_new));
            self.counter.try_add_with(n, bind).map(|(first, ())| first)
        })
    }

    /// The counts, if the key is live. Does not count as use.
    #[must_use]
    pub fn get(&self) -> Option<[u64; L]> {
        self.counter.get_with(|entry, first| all(&entry, first))
    }
}

impl<K: Clone + Send + Sync + 'static, const L: usize, S> Clone for LaneCounter<K, L, S> {
    /// A handle for another holder. Does not count as use.
    fn clone(&self) -> Self {
        Self { counter: self.counter.clone(), store: self.store.clone() }
    }
}

impl<K, const L: usize, S> fmt::Debug for LaneCounter<K, L, S>
where
    K: fmt::Debug + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneCounter").field("counter", &self.counter).finish_non_exhaustive()
    }
}

/// All lanes of a store, taken by [`LaneStore::snapshot`]. See [`Snapshot`].
pub struct LaneSnapshot<K: Send + Sync + 'static, const L: usize> {
    lanes: [Snapshot<K>; L],
}

impl<K: Send + Sync + 'static, const L: usize> LaneSnapshot<K, L> {
    /// Keys and their counts, in no order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, [u64; L])> {
        (0..self.len()).map(|i| {
            let counts = self.lanes.each_ref().map(|lane| lane.shown(i).1);
            (self.lanes[0].shown(i).0, counts)
        })
    }

    /// The snapshot of each lane.
    #[must_use]
    pub fn lanes(&self) -> &[Snapshot<K>; L] {
        &self.lanes
    }

    /// How many keys it shows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes[0].len()
    }

    /// Whether it shows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where every unit was, lane by lane.
    #[must_use]
    pub fn totals(&self) -> [Totals; L] {
        self.lanes.each_ref().map(Snapshot::totals)
    }
}

impl<K: fmt::Debug + Send + Sync + 'static, const L: usize> fmt::Debug for LaneSnapshot<K, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use std::panic::{catch_unwind, resume_unwind};
    use std::time::Duration;

    use super::*;
    use crate::cell::Cause;
    use crate::quanta::Clock;
    use crate::stop::{Stopped, run_to, turn};

    type Store = LaneStore<u64, 3>;

    const KEY: u64 = 7;
    /// More than any operation here has.
    const STEPS: u64 = 400;

    fn sums(store: &Store) -> [[u64; 4]; 3] {
        store.totals().map(|t| [t.recorded, t.live, t.removed, t.rejected])
    }

    /// An add stands before each of its steps, on a live key and on a new one, while the key is
    /// removed: each lane's units are in the final count or in the next life.
    #[test]
    fn an_add_against_a_removal_at_every_step() {
        let _turn = turn();
        for is_new in [false, true] {
            let mut parted = 0;
            for step in 0..STEPS {
                let store: Store =
                    CounterStore::builder().capacity(2).shards(1).build_lanes().expect("a store");
                if !is_new {
                    store.add(&KEY, [10, 20, 30]);
                }
                let before: [u64; 3] = store.get(&KEY).unwrap_or_default();
                let own = store.clone();
                let Ok(stopped) = run_to(step, move || own.try_add(&KEY, [1, 2, 3])) else { break };
                let removed = store.remove(&KEY);
                let counts = stopped.go_on().expect("there is room");
                let next = store.get(&KEY).unwrap_or_default();
                let ended = removed.unwrap_or_default();
                for lane in 0..3 {
                    let (n, at) = (lane as u64 + 1, (is_new, step, lane));
                    assert_eq!(ended[lane] + next[lane], before[lane] + n, "{at:?}");
                    assert!(counts[lane] == n || counts[lane] == before[lane] + n, "{at:?}");
                    let [recorded, live, removed, rejected] = sums(&store)[lane];
                    assert_eq!((recorded, live), (before[lane] + n, next[lane]), "{at:?}");
                    assert_eq!((removed, rejected), (ended[lane], 0), "{at:?}");
                }
                let is_first_counted = removed.is_some_and(|ended| ended[0] == before[0] + 1);
                parted += u64::from(is_first_counted && next != [0; 3]);
            }
            // A new life begins with all of them.
            assert_eq!(parted > 0, !is_new, "removals that came between two lanes: {parted}");
        }
    }

    /// The key's name, of which no second key can be made.
    #[derive(Hash)]
    struct Name(u64);

    impl Equivalent<u64> for Name {
        fn equivalent(&self, key: &u64) -> bool {
            self.0 == *key
        }
    }

    impl ToKey<u64> for Name {
        fn to_key(&self) -> u64 {
            resume_unwind(Box::new("no more keys"));
        }
    }

    /// An add stands before each of its steps while the key is removed, and cannot begin the next
    /// life: either nothing of it was counted, or what was not is rejected.
    #[test]
    fn an_add_that_panics_after_a_removal_at_every_step() {
        let _turn = turn();
        let (mut parted, mut not_at_all) = (0, 0);
        for step in 0..STEPS {
            let store: Store =
                CounterStore::builder().capacity(2).shards(1).build_lanes().expect("a store");
            store.add(&KEY, [10, 20, 30]);
            let own = store.clone();
            let add = move || catch_unwind(|| own.try_add(&Name(KEY), [1, 2, 3]));
            let Ok(stopped) = run_to(step, add) else { break };
            let ended = store.remove(&KEY).expect("live");
            let panicked = stopped.go_on().is_err();
            let counted = ended[0] == 11;
            assert!(panicked || counted, "{step}: {ended:?}");
            for (lane, n) in [1, 2, 3].into_iter().enumerate() {
                let before = 10 * n;
                let n = if counted { n } else { 0 };
                let rejected = before + n - ended[lane];
                assert_eq!(sums(&store)[lane], [before + n, 0, ended[lane], rejected], "{step}");
                assert!(panicked || rejected == 0, "{step}");
            }
            parted += u64::from(panicked && counted);
            not_at_all += u64::from(!counted);
        }
        assert!(parted > 0 && not_at_all > 0, "{parted} in parts, {not_at_all} not at all");
    }

    /// An add stands before each of its steps while the key is removed and another takes the last place:
    /// what is rejected is counted once, also where the thread is unwinding all the while.
    #[test]
    fn an_add_that_is_rejected_half_way_at_every_step() {
        struct AddOnDrop(Store);
        impl Drop for AddOnDrop {
            fn drop(&mut self) {
                let _ = self.0.try_add(&KEY, [1, 2, 3]);
            }
        }

        let _turn = turn();
        for unwinds in [false, true] {
            let mut parted = 0;
            for step in 0..STEPS {
                let builder = CounterStore::builder().capacity(1).shards(1);
                let builder = builder.at_capacity(crate::AtCapacity::Reject);
                let store: Store = builder.build_lanes().expect("a store");
                store.add(&KEY, [10, 20, 30]);
                let add = AddOnDrop(store.clone());
                let drop_it = move || {
                    let unwound = catch_unwind(std::panic::AssertUnwindSafe(|| {
                        let _add = add;
                        if unwinds {
                            resume_unwind(Box::new("the add is made on the way out"));
                        }
                    }));
                    assert_eq!(unwound.is_err(), unwinds);
                };
                let Ok(stopped) = run_to(step, drop_it) else { break };
                let ended = store.remove(&KEY).expect("live");
                store.add(&99, [100, 200, 300]);
                stopped.go_on();
                let rejected = store.totals().map(|totals| totals.rejected);
                for (lane, n) in [1, 2, 3].into_iter().enumerate() {
                    assert_eq!(ended[lane] + rejected[lane], 11 * n, "{unwinds}, {step}, {lane}");
                    assert_eq!(sums(&store)[lane][..2], [111 * n, 100 * n], "{unwinds}, {step}");
                }
                parted += u64::from(rejected[0] == 0 && rejected[2] > 0);
            }
            assert!(parted > 0, "no removal came between two lanes");
        }
    }

    /// A removal stands before each of its steps while others read, add and take snapshots.
    #[test]
    fn a_removal_that_stands_at_every_step() {
        let _turn = turn();
        for step in 0..STEPS {
            let store: Store =
                CounterStore::builder().capacity(2).shards(1).build_lanes().expect("a store");
            store.add(&KEY, [10, 20, 30]);
            let own = store.clone();
            let Ok(stopped) = run_to(step, move || own.remove(&KEY)) else { break };
            for (lane, totals) in store.totals().into_iter().enumerate() {
                assert_eq!(totals.recorded, 10 * (lane as u64 + 1), "{step}, {lane}");
            }
            let counts = store.add(&KEY, [1, 1, 1]);
            assert!(counts == [1, 1, 1] || counts == [11, 21, 31], "{step}: {counts:?}");
            assert_eq!(store.get(&KEY), Some(counts), "{step}");
            let snapshot = store.snapshot();
            let shown: Vec<_> = snapshot.iter().collect();
            assert_eq!(shown, [(&KEY, counts)], "{step}");
            assert_eq!(snapshot.totals(), store.totals(), "{step}");
            let removed = stopped.go_on().expect("it was live");
            let next = store.get(&KEY).unwrap_or_default();
            for lane in 0..3 {
                let all = 10 * (lane as u64 + 1) + 1;
                assert_eq!(removed[lane] + next[lane], all, "{step}, {lane}");
                assert_eq!(sums(&store)[lane][0], all, "{step}, {lane}");
            }
        }
    }

    /// A use of any lane keeps its key from being idle, wherever the expirer stands.
    #[test]
    fn an_expirer_that_stands_while_a_lane_is_used() {
        let _turn = turn();
        let ttl = Duration::from_secs(64);
        let mut ended = 0;
        for step in 0..STEPS {
            let (clock, mock) = Clock::mock();
            let builder = CounterStore::builder().capacity(2).shards(1);
            let store: Store = builder.idle_ttl(ttl).clock(clock).build_lanes().expect("a store");
            store.add(&KEY, [0, 20, 0]);
            // Not idle yet when it is used, and idle when the expirer reads the clock.
            mock.increment(ttl);
            let [_, used, _] = store.lanes();
            let own = store.clone();
            mock.increment(Duration::from_secs(1));
            let Ok(stopped) = run_to(step, move || own.prune()) else { break };
            mock.decrement(Duration::from_secs(1));
            let count = used.increment(&KEY);
            mock.increment(Duration::from_secs(1));
            let pruned = stopped.go_on();
            ended += pruned;
            let expected = if count == 21 { 0 } else { 1 };
            assert_eq!(pruned, expected, "{step}: a used key was ended, or an idle one was not");
            assert_eq!(used.get(&KEY), Some(count), "{step}");
            let totals = used.totals();
            assert_eq!((totals.recorded, totals.expired), (21, 20 * pruned as u64), "{step}");
        }
        assert!(ended > 0, "nothing expired");
    }

    /// At capacity 1 two adds do not end each other's lives for ever, though each goes on whenever the
    /// other's key is the one that is live: a life begins with all lanes.
    #[test]
    fn two_adds_for_one_place_come_to_an_end() {
        let _turn = turn();
        let store: Store =
            CounterStore::builder().capacity(1).shards(1).build_lanes().expect("a store");
        let start = |key: u64| {
            let own = store.clone();
            run_to(0, move || own.try_add(&key, [1, 2, 3]))
        };
        let mut adds = [0, 1].map(|key| Some(start(key).expect("it has steps")));
        let finished = (0..4 * STEPS).find_map(|round| {
            let key = round % 2;
            while !store.contains(&key) {
                let add = adds[key as usize].take().expect("it stands");
                match add.go_on_to(0) {
                    Ok(add) => adds[key as usize] = Some(add),
                    Err(counts) => return Some(counts),
                }
            }
            None
        });
        let others: Vec<_> = adds.into_iter().flatten().map(Stopped::go_on).collect();
        assert_eq!(finished, Some(Ok([1, 2, 3])), "and {others:?}");
        let first = store.totals()[0];
        assert_eq!(sums(&store).map(|sums| sums[0]), [2, 4, 6]);
        assert_eq!(first.evicted + first.live, 2, "each life had its units");
    }

    /// What an [`Adds`] has counted is not counted again on the next life.
    #[test]
    fn the_rest_goes_on_elsewhere() {
        let entry = |sealed: &[usize]| {
            let extra = Some(Box::new(crate::entry::Extra::new(3)));
            let entry = Entry::new(KeyHash::mixed(KEY), KEY, extra, crate::entry::SHARD);
            sealed.iter().for_each(|&lane| _ = entry.lanes()[lane - 1].seal(Cause::Removed));
            entry
        };
        let (first, second) = (entry(&[2, 3]), entry(&[]));
        let adds = Adds::new([1, 2, 3, 0]);
        assert_eq!((adds.first(), adds.others()[..3].to_vec()), (1, vec![2, 3, 0]));
        let half = adds.on(&first, false);
        assert_eq!((half.next, half.first(), half.counts), (2, 0, [0, 2, 0, 0]));
        assert_eq!(half.others()[..3], [0, 3, 0]);
        let whole = half.on(&second, false);
        assert_eq!((whole.next, whole.counts), (4, [0, 2, 3, 0]));
        // A new life has begun with it.
        assert_eq!(half.on(&entry(&[]), true).counts, [0, 2, 3, 0]);
        assert_eq!(all::<_, 4>(&first, 1), [1, 2, 0, 0]);
        assert_eq!(all::<_, 4>(&second, 0), [0, 0, 3, 0]);
    }
}
