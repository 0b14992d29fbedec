//! Which keys are shown, and what belongs to each.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quanta::{Clock, Instant};

use super::Source;
use crate::{RandomState, Snapshot};

/// How a key becomes a label.
pub(super) type Label<K, L> = Box<dyn Fn(&K) -> L + Send + Sync>;

type Map<K, V> = HashMap<K, V, RandomState>;

/// The top n keys of a store as counters that never fall, and one more, `other`, for everything
/// else.
///
/// Each [`update`](Self::update) takes a snapshot and *attributes* what was added since the last
/// one. The top n are those of the largest counts above 0.
///
/// - What was added to a key that has a series goes to that series, ended lives included.
/// - All else goes to `other`: other keys, rejected units, and what a key had before its series
///   began.
///
/// So each unit is in one place, and stays there. The rules of the series:
///
/// - It **starts at 0** when its key is promoted to the top n, and has the time of that as its
///   [created time](Series::created). What its key had before stays in `other`.
/// - It is **shown once more, final**, when its key has left the top n, has ended or was removed.
///   Then it goes. Its units go with it, and not back to `other`: they were shown once, and
///   `rate()` would count them again.
/// - If its key is back among the top n at the very next update, or while the series
///   [lingers](Self::linger), it **goes on**; what was added in between is in `other`. A key that
///   is back later starts a new series at 0, with a later created time.
/// - A key that has a series **keeps its place** until another's count exceeds its own by more than
///   an eighth: two keys of nearly equal counts that took turns would leave a series behind for
///   each turn, in every database that is fed with them.
///
/// # What is exact
///
/// `other`, and each series from its created time on, never fall. The increase of `other` and of
/// all series, those that went included, is exactly what was recorded: so `sum(increase(...))` and
/// `sum(rate(...))` miss nothing and count nothing twice. The plain sum over the series that are
/// *shown* falls when one goes; the total that never falls is [`Update::recorded`]. All numbers are
/// modulo 2^64.
///
/// # Several readers
///
/// Each update may begin and end series. If several readers, such as a pair of Prometheus servers,
/// share one `TopSeries`, one may cause an update and another not see it. Then set
/// [`linger`](Self::linger), or give each reader one of its own.
///
/// # Cost
///
/// An update is a snapshot, [`Snapshot::since`] and a selection: O(capacity). In between it holds
/// the entries of at most n keys.
///
/// ```
/// use counterclock::CounterStore;
/// use counterclock::export::TopSeries;
///
/// let store: CounterStore<String> = CounterStore::new(1000);
/// store.add("a", 5);
/// let mut series = TopSeries::new(store.clone(), 1);
/// assert_eq!(series.update().other(), 5); // "a" has a series from now on, at 0
///
/// store.add("a", 2);
/// store.add("b", 1);
/// let update = series.update();
/// for (key, series) in update.series() {
///     assert_eq!((key.as_str(), series.value()), ("a", 2));
/// }
/// assert_eq!((update.other(), update.recorded()), (6, 8));
/// ```
pub struct TopSeries<S: Source, L = <S as Source>::Key> {
    source: S,
    label: Label<S::Key, L>,
    n: usize,
    linger: Duration,
    clock: Clock,
    /// Keys that have a place, and whose series is theirs.
    places: Map<S::Key, Arc<L>>,
    series: Map<Arc<L>, Series>,
    /// At the last update; only keys that have a place.
    previous: Option<Snapshot<S::Key>>,
    recorded: u64,
    /// All that was ever attributed to a series.
    attributed: u64,
    last_created: SystemTime,
}

/// Where a series is in its life.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// One of its keys has a place.
    Placed,
    /// Shown for as long as series linger, and does not change.
    Final(Instant),
    /// Not shown; not to start again for as long as series linger.
    Gone(Instant),
}

/// One labelled series of a [`TopSeries`].
#[derive(Clone, Debug)]
pub struct Series {
    value: u64,
    growth: u64,
    created: SystemTime,
    /// From then on it is shown at 0 for as long as series linger.
    started: Instant,
    phase: Phase,
}

impl Series {
    fn start(created: SystemTime, started: Instant) -> Self {
        Self { value: 0, growth: 0, created, started, phase: Phase::Placed }
    }

    /// Units since it was created, modulo 2^64.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value
    }

    /// What the last update has added to it, and updates that panicked since the one before.
    #[must_use]
    pub fn growth(&self) -> u64 {
        self.growth
    }

    /// When it started, at 0. Greater than that of any series that went before: also when the
    /// clock was set back.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        self.created
    }

    /// Whether it has its last value, unless its key comes back.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.phase, Phase::Final(_))
    }

    fn is_shown(&self) -> bool {
        !matches!(self.phase, Phase::Gone(_))
    }

    /// What the next phase is for a series that has a place, or none.
    fn proceed(&mut self, has_place: bool, now: Instant, linger: Duration) {
        self.phase = match (self.phase, has_place) {
            (Phase::Placed, false) => Phase::Final(now),
            (Phase::Final(_), true) => Phase::Placed,
            (Phase::Final(since), false) if now.duration_since(since) >= linger => Phase::Gone(now),
            (phase, _) => phase,
        };
    }
}

impl<S: Source> TopSeries<S>
where
    S::Key: Clone,
{
    /// At most `n` series, each with its key.
    pub fn new(source: S, n: usize) -> Self {
        Self::labelled(source, n, S::Key::clone)
    }
}

impl<S: Source, L: Eq + Hash> TopSeries<S, L>
where
    S::Key: Clone,
{
    /// At most `n` series, each with a label that is made of its key. Keys of one label share a
    /// series, which ends when none of them has a place.
    ///
    /// `label` is called when a key is promoted, and not again while it has its place.
    pub fn labelled(
        source: S,
        n: usize,
        label: impl Fn(&S::Key) -> L + Send + Sync + 'static,
    ) -> Self {
        Self {
            source,
            label: Box::new(label),
            n,
            linger: Duration::ZERO,
            clock: Clock::new(),
            places: Map::default(),
            series: Map::default(),
            previous: None,
            recorded: 0,
            attributed: 0,
            last_created: SystemTime::UNIX_EPOCH,
        }
    }

    /// For several readers, each of which looks at least once in any period of this length: each
    /// sees where a series starts, its final value, and that it is gone. So for this long
    ///
    /// - a new series stays at 0 (what is added meanwhile goes to `other`);
    /// - a final one is shown;
    /// - the label of one that went starts no new series, and its place stays free.
    ///
    /// Twice the longest interval of the readers is a good choice. Zero by default: then each of
    /// the three is true of one update at least, which is right for one reader.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Another clock for [`linger`](Self::linger), such as quanta's mock in tests.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// What is read.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Takes a snapshot and attributes what was added since the last update.
    ///
    /// If the user's code panics (a key's `Hash`, `Eq` or `Clone`, or the label's), what is added
    /// until the next update may go to `other`; all else that is said of the series stays true.
    pub fn update(&mut self) -> Update<'_, L> {
        let now = self.clock.now();
        let mut snapshot = self.source.snapshot();
        // Taken, for the sake of a panic: nothing is attributed twice.
        let previous = self.previous.take();
        let places = mem::take(&mut self.places);

        self.forget(now, previous.is_some());
        // First, for the same sake: what is not attributed belongs to `other`.
        self.recorded = snapshot.totals().recorded;
        if let Some(previous) = previous {
            self.attribute(now, &snapshot, &previous, &places);
        }

        let places = self.place(&snapshot, places);
        snapshot.retain(|key, _| places.contains_key(key));
        self.end(now, &places);
        (self.places, self.previous) = (places, Some(snapshot));
        self.last()
    }

    /// What the last update has come to, or, if it panicked, up to where.
    pub(super) fn last(&self) -> Update<'_, L> {
        let other = self.recorded.wrapping_sub(self.attributed);
        Update { series: &self.series, recorded: self.recorded, other }
    }

    /// Forgets series of which all readers have seen that they are gone.
    fn forget(&mut self, now: Instant, growth_was_seen: bool) {
        self.series.retain(|_, series| {
            if growth_was_seen {
                series.growth = 0;
            }
            !matches!(series.phase, Phase::Gone(since) if now.duration_since(since) >= self.linger)
        });
    }

    /// Within each part of the store that a snapshot reads at once, what the keys shown have grown
    /// by is at most what was recorded; so `other` does not fall.
    fn attribute(
        &mut self,
        now: Instant,
        snapshot: &Snapshot<S::Key>,
        previous: &Snapshot<S::Key>,
        places: &Map<S::Key, Arc<L>>,
    ) {
        let deltas = snapshot.since(previous).expect("one store, one after the other");
        for (key, units) in deltas {
            let series = places.get(key).and_then(|label| self.series.get_mut(label));
            let seen = |series: &&mut Series| now.duration_since(series.started) >= self.linger;
            if let Some(series) = series.filter(seen) {
                series.growth = series.growth.wrapping_add(units);
                series.value = series.value.wrapping_add(units);
                self.attributed = self.attributed.wrapping_add(units);
            }
        }
    }

    /// The keys that have a place from now on.
    fn place(
        &self,
        snapshot: &Snapshot<S::Key>,
        mut before: Map<S::Key, Arc<L>>,
    ) -> Map<S::Key, Arc<L>> {
        // In sixteenths: who has a place is an eighth better, and wins a tie.
        let rank = |(key, count): (&_, u64)| {
            if before.contains_key(key) { 18 * count + 1 } else { 16 * count }
        };
        let counted = snapshot.iter().filter(|found| found.1 > 0);
        let mut ranked: Vec<_> = counted.map(|found| (rank(found), found.0)).collect();
        if self.n < ranked.len() {
            ranked.select_nth_unstable_by(self.n, |a, b| b.0.cmp(&a.0));
            ranked.truncate(self.n);
        }
        let label = |key: &S::Key| match before.remove_entry(key) {
            Some(place) => place,
            None => (key.clone(), Arc::new((self.label)(key))),
        };
        let mut places: Map<_, _> = ranked.into_iter().map(|(_, key)| key).map(label).collect();
        places.retain(|_, label| self.series.get(label).is_none_or(Series::is_shown));
        places
    }

    /// Starts the series of keys that have come to a place, and ends others.
    ///
    /// The last of an update, and its last step calls nothing of the user's: a series that has
    /// become final is shown.
    fn end(&mut self, now: Instant, places: &Map<S::Key, Arc<L>>) {
        let labels: HashSet<&Arc<L>, RandomState> = places.values().collect();
        let created = SystemTime::now().max(self.last_created + Duration::from_millis(1));
        for &label in &labels {
            if !self.series.contains_key(label) {
                self.series.insert(Arc::clone(label), Series::start(created, now));
                self.last_created = created;
            }
        }
        let has_place: Vec<_> = self.series.keys().map(|label| labels.contains(label)).collect();
        for (series, has_place) in self.series.values_mut().zip(has_place) {
            series.proceed(has_place, now, self.linger);
        }
    }
}

impl<S: Source, L: fmt::Debug> fmt::Debug for TopSeries<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopSeries")
            .field("n", &self.n)
            .field("linger", &self.linger)
            .field("series", &self.series)
            .field("recorded", &self.recorded)
            .finish_non_exhaustive()
    }
}

/// What [`TopSeries::update`] has come to. All of it is of one snapshot.
pub struct Update<'a, L> {
    series: &'a Map<Arc<L>, Series>,
    recorded: u64,
    other: u64,
}

impl<'a, L> Update<'a, L> {
    /// The labelled series to show, in no order; each label once. At most n, and those that are
    /// final.
    pub fn series(&self) -> impl Iterator<Item = (&'a L, &'a Series)> + use<'a, L> {
        let shown = self.series.iter().filter(|(_, series)| series.is_shown());
        shown.map(|(label, series)| (&**label, series))
    }

    /// All units that belong to no series, modulo 2^64. Never falls.
    #[must_use]
    pub fn other(&self) -> u64 {
        self.other
    }

    /// All units that were ever added, modulo 2^64, as
    /// [`Totals::recorded`](crate::Totals::recorded). Never falls.
    #[must_use]
    pub fn recorded(&self) -> u64 {
        self.recorded
    }
}

impl<L: fmt::Debug> fmt::Debug for Update<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update")
            .field("series", &self.series)
            .field("other", &self.other)
            .field("recorded", &self.recorded)
            .finish()
    }
}
