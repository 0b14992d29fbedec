//! The rules of attribution, against a naive model of them, and as readers see them.

mod common;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use common::lives::{Lives, Shown, Step};
use common::traffic::while_adding;
use common::{Config, TTL};
use counterclock::export::{Source, TopSeries, Update};
use counterclock::quanta::Clock;
use counterclock::{AtCapacity, CounterStore, LaneStore};
use proptest::prelude::*;

/// The unit of time of the histories.
const TICK: Duration = Duration::from_secs(1);

fn values<L: Copy + Eq + Hash>(update: &Update<'_, L>) -> HashMap<L, u64> {
    let mut values = HashMap::new();
    for (&label, series) in update.series() {
        assert_eq!(values.insert(label, series.value()), None, "a label twice");
    }
    values
}

fn of<S: Source<Key = u64>>(series: &mut TopSeries<S>) -> (HashMap<u64, u64>, u64) {
    let update = series.update();
    (values(&update), update.other())
}

fn map<const N: usize>(values: [(u64, u64); N]) -> HashMap<u64, u64> {
    values.into()
}

#[test]
fn a_series_starts_at_0_and_has_what_is_added_from_then_on() {
    let store = CounterStore::<u64>::new(64);
    let mut top = TopSeries::new(store.clone(), 2);
    assert_eq!(of(&mut top), (map([]), 0));
    store.add(&1, 10);
    store.add(&2, 20);
    store.add(&3, 5);
    assert_eq!(of(&mut top), (map([(1, 0), (2, 0)]), 35));
    store.add(&1, 1);
    store.add(&3, 1);
    // Ended and back: the same series.
    store.add(&2, 2);
    store.remove(&2);
    store.add(&2, 30);
    assert_eq!(of(&mut top), (map([(1, 1), (2, 32)]), 36));
    let update = top.update();
    assert_eq!((update.recorded(), update.other()), (69, 36));
    assert!(update.series().all(|(_, series)| series.growth() == 0 && !series.is_final()));
}

/// A store and a lane tell the same of lives, and a lane of its own units.
#[test]
fn what_sources_have_in_common() {
    fn look<S: Source>(source: &S) -> (usize, bool, usize, usize, u64) {
        let admitted = source.stats().admitted;
        (source.len(), source.is_empty(), source.capacity(), source.waiting(), admitted)
    }
    let store = CounterStore::<u64>::new(5);
    let lanes: LaneStore<u64, 2> = CounterStore::builder().capacity(6).build_lanes().unwrap();
    let [_, lane] = lanes.lanes();
    assert_eq!([look(&store), look(&lane)], [(0, true, 5, 0, 0), (0, true, 6, 0, 0)]);
    // So that what ends waits.
    let pinned = store.pin();
    for key in [1, 2] {
        store.increment(&key);
        lane.increment(&key);
    }
    assert_eq!((store.remove(&1), lanes.remove(&1)), (Some(1), Some([0, 1])));
    assert_eq!([look(&store), look(&lane)], [(1, false, 5, 1, 2), (1, false, 6, 1, 2)]);
    drop(pinned);
    lane.add(&2, 8);
    assert_eq!((Source::totals(&lane).recorded, Source::totals(&store).recorded), (10, 2));
}

#[test]
fn what_debug_shows() {
    let store = CounterStore::<u64>::new(5);
    let mut top = TopSeries::new(store.clone(), 2);
    store.add(&7, 40);
    top.update();
    store.add(&7, 2);
    let update = format!("{:?}", top.update());
    assert!(update.starts_with("Update { series: {7: Series { value: 2, growth: 2,"), "{update}");
    assert!(update.ends_with("other: 40, recorded: 42 }"), "{update}");
    let shown = format!("{top:?}");
    assert!(shown.starts_with("TopSeries { n: 2, linger: 0ns, series: {7: Series {"), "{shown}");
    assert!(shown.ends_with("recorded: 42, .. }"), "{shown}");
}

#[test]
fn a_series_that_ends_is_shown_once_more_and_starts_again_at_0() {
    let store = CounterStore::<u64>::new(64);
    let mut top = TopSeries::new(store.clone(), 1);
    store.add(&1, 10);
    let created = top.update().series().map(|(_, series)| series.created()).next().expect("shown");
    store.add(&1, 3);
    store.remove(&1);
    let update = top.update();
    let (_, series) = update.series().next().expect("shown once more");
    assert_eq!((series.value(), series.growth(), series.is_final()), (3, 3, true));
    assert_eq!(of(&mut top), (map([]), 10));
    store.add(&1, 7);
    let update = top.update();
    let (_, series) = update.series().next().expect("back");
    assert_eq!((series.value(), update.other()), (0, 17));
    // Still later where times are written in milliseconds.
    assert!(series.created() >= created + Duration::from_millis(1));
}

/// By more than an eighth, and ties are the incumbent's.
#[test]
fn keys_of_nearly_equal_counts_do_not_take_turns() {
    for (challenger, wins) in [(79, false), (80, false), (89, false), (90, false), (91, true)] {
        let store = CounterStore::<u64>::new(64);
        let mut top = TopSeries::new(store.clone(), 1);
        store.add(&1, 80);
        top.update();
        store.add(&2, challenger);
        let update = top.update();
        let growing = update.series().find(|(_, series)| !series.is_final());
        assert_eq!(growing.map(|(&key, _)| key), Some(if wins { 2 } else { 1 }), "{challenger}");
    }
    // The smallest counts, at which eighths are no whole numbers.
    let store = CounterStore::<u64>::new(64);
    let mut top = TopSeries::new(store.clone(), 1);
    store.add(&1, 7);
    top.update();
    store.add(&2, 8);
    assert_eq!(of(&mut top).0, map([(1, 0), (2, 0)]), "8 is more than 7 and an eighth");
}

#[test]
fn back_while_it_lingers_and_after() {
    let (clock, mock) = Clock::mock();
    let store = CounterStore::<u64>::new(64);
    let mut top = TopSeries::new(store.clone(), 1).linger(4 * TICK).clock(clock);
    store.add(&1, 10);
    assert_eq!(of(&mut top), (map([(1, 0)]), 10));
    // It stays at 0 for as long as it takes all readers to see that.
    store.add(&1, 1);
    mock.increment(4 * TICK - Duration::from_nanos(1));
    assert_eq!(of(&mut top), (map([(1, 0)]), 11));
    store.add(&1, 2);
    mock.increment(1);
    assert_eq!(of(&mut top), (map([(1, 2)]), 11));
    // Demoted, and back while it lingers: it goes on.
    store.add(&2, 100);
    store.add(&1, 3);
    assert_eq!(of(&mut top), (map([(1, 5), (2, 0)]), 111));
    mock.increment(3 * TICK);
    store.add(&1, 200);
    assert_eq!(of(&mut top), (map([(1, 5), (2, 0)]), 311));
    store.add(&1, 6);
    assert_eq!(of(&mut top), (map([(1, 11), (2, 0)]), 311));
    mock.increment(TICK);
    assert_eq!(of(&mut top).0, map([(1, 11), (2, 0)]));
    mock.increment(3 * TICK);
    assert_eq!(of(&mut top).0, map([(1, 11)]), "the other has lingered");
    // Gone: all readers see that, too, before it starts again.
    store.remove(&1);
    assert_eq!(of(&mut top).0, map([(1, 11),]), "final; the other is barred");
    mock.increment(4 * TICK);
    store.add(&1, 1000);
    store.remove(&2);
    assert_eq!(of(&mut top).0, map([(1, 11)]), "back at the last moment");
    store.remove(&1);
    of(&mut top);
    mock.increment(4 * TICK);
    assert_eq!(of(&mut top).0, map([]));
    store.add(&1, 2000);
    mock.increment(4 * TICK - Duration::from_nanos(1));
    assert_eq!(of(&mut top).0, map([]), "its place stays free");
    mock.increment(1);
    assert_eq!(of(&mut top).0, map([(1, 0)]));
}

#[test]
fn keys_of_one_label_share_a_series() {
    let store = CounterStore::<u64>::new(64);
    let mut top = TopSeries::labelled(store.clone(), 3, |key| key % 2);
    for key in [1, 2, 3] {
        store.add(&key, 10 + key);
    }
    top.update();
    for key in [1, 2, 3] {
        store.add(&key, key);
    }
    let update = top.update();
    assert_eq!((values(&update), update.other()), (HashMap::from([(0, 2), (1, 4)]), 36));
    // One of two goes: the series goes on, and does not fall.
    store.add(&3, 5);
    store.remove(&3);
    let update = top.update();
    assert_eq!((values(&update), update.other()), (HashMap::from([(0, 2), (1, 9)]), 36));
    assert!(update.series().all(|(_, series)| !series.is_final()));
    // Another of the same label takes the place.
    store.add(&5, 1);
    top.update();
    store.add(&5, 1);
    store.remove(&1);
    let update = top.update();
    assert_eq!(values(&update), HashMap::from([(0, 2), (1, 10)]));
    store.remove(&5);
    let update = top.update();
    assert!(update.series().all(|(&label, series)| series.is_final() == (label == 1)));
}

/// A key that has nothing is not at the top of anything.
#[test]
fn keys_without_units_have_no_series() {
    let store = CounterStore::<u64>::new(64);
    let mut top = TopSeries::new(store.clone(), 3);
    store.add(&1, 0);
    store.add(&2, 1);
    assert_eq!(of(&mut top), (map([(2, 0)]), 1));
    store.add(&1, 1);
    assert_eq!(of(&mut top), (map([(1, 0), (2, 0)]), 2));
}

#[test]
fn none_at_all() {
    let store = CounterStore::<u64>::new(64);
    let mut top = TopSeries::new(store.clone(), 0);
    store.add(&1, 10);
    assert_eq!(of(&mut top), (map([]), 10));
    store.add(&1, 10);
    assert_eq!(of(&mut top), (map([]), 20));
    assert_eq!(top.source().capacity(), 64);
}

/// Totals are modulo 2^64, and so is everything here.
#[test]
fn totals_that_wrap() {
    let store = CounterStore::<u64>::new(64);
    let mut top = TopSeries::new(store.clone(), 1);
    let fill = |n: u64| {
        for _ in 0..n {
            store.add(&9, counterclock::MAX_COUNT);
            store.remove(&9);
        }
    };
    // One short of 2^64 from 2^13 lives.
    fill((1 << 13) - 1);
    store.add(&1, 5);
    let before = top.update().recorded();
    fill(2);
    store.add(&1, 6);
    let update = top.update();
    assert!(update.recorded() < before && update.other() < before, "it has wrapped");
    assert_eq!(values(&update), map([(1, 6)]));
    assert_eq!(update.other().wrapping_add(6), update.recorded());
}

/// What was added up to then goes to the rest, and nothing is counted twice.
#[test]
fn a_label_that_panics() {
    let store = CounterStore::<u64>::new(64);
    let panics = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&panics);
    let mut top = TopSeries::labelled(store.clone(), 2, move |key| {
        assert!(!asked.load(SeqCst), "as asked");
        *key
    });
    store.add(&1, 10);
    top.update();
    store.add(&1, 5);
    assert_eq!(values(&top.update()), map([(1, 5)]));
    store.add(&1, 2);
    store.add(&2, 2);
    panics.store(true, SeqCst);
    for _ in 0..2 {
        assert!(catch_unwind(AssertUnwindSafe(|| _ = top.update())).is_err());
    }
    panics.store(false, SeqCst);
    let mut last = 0;
    for (one, two, grown) in [(7, 0, 2), (8, 1, 2)] {
        let update = top.update();
        assert_eq!(update.series().map(|(_, series)| series.growth()).sum::<u64>(), grown);
        assert_eq!(values(&update), map([(1, one), (2, two)]));
        assert_eq!(update.other() + one + two, update.recorded());
        assert!(update.other() >= last);
        last = update.other();
        store.add(&1, 1);
        store.add(&2, 1);
    }
}

/// A snapshot that panics takes nothing from a series.
#[test]
fn a_listener_that_panics() {
    let (clock, mock) = Clock::mock();
    let store = CounterStore::<u64>::builder()
        .capacity(64)
        .idle_ttl(TTL)
        .clock(clock)
        .on_removal(|_| panic!("as asked"))
        .build()
        .expect("a store");
    let mut top = TopSeries::new(store.clone(), 1);
    store.add(&1, 10);
    top.update();
    store.add(&1, 7);
    mock.increment(3 * TTL);
    assert!(catch_unwind(AssertUnwindSafe(|| _ = top.update())).is_err());
    assert_eq!(of(&mut top), (map([(1, 7)]), 10));
}

thread_local! {
    /// How many hashes are left before one panics.
    static FUSE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// A key whose hash may panic.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fused(u64);

impl Hash for Fused {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let left = FUSE.get();
        FUSE.set(left.and_then(|left| left.checked_sub(1)));
        assert_ne!(left, Some(0), "as asked");
        self.0.hash(state);
    }
}

/// Wherever an update panics: what a series has grown by is shown before it goes.
#[test]
fn a_hash_that_panics() {
    let panics = (0..).take_while(|&hashes| {
        let store = CounterStore::<Fused>::new(64);
        let mut top = TopSeries::new(store.clone(), 1);
        store.add(&Fused(1), 100);
        top.update();
        store.add(&Fused(1), 7);
        store.add(&Fused(2), 1000);
        FUSE.set(Some(hashes));
        let panicked = catch_unwind(AssertUnwindSafe(|| _ = top.update())).is_err();
        FUSE.set(None);
        let update = top.update();
        let shown: u64 = update.series().map(|(_, series)| series.value()).sum();
        assert!(!panicked || shown + update.other() == update.recorded(), "after {hashes}");
        panicked
    });
    assert!(panics.count() > 0);
}

// ---- against a model --------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Placed,
    Final(u32),
    Gone(u32),
}

#[derive(Debug)]
struct Modelled {
    value: u64,
    started: u32,
    phase: Phase,
    created: Option<SystemTime>,
}

/// The rules as they are written, except which of several equal challengers comes first: that is
/// taken from what is shown, and judged.
#[derive(Default)]
struct Model {
    n: usize,
    linger: u32,
    series: HashMap<u64, Modelled>,
    /// Keys that have a place, with the life and the count at the last update.
    places: Shown,
    attributed: u64,
    other: u64,
    created: Option<SystemTime>,
    /// The last value of each series that there ever was.
    ever: HashMap<(u64, SystemTime), u64>,
}

impl Model {
    fn attribute(&mut self, now: u32, shown: &Shown, finals: &[u64]) {
        for (key, &(life, then)) in &self.places {
            let growth = match shown.get(key) {
                Some(&(same, count)) if same == life => count - then,
                Some(&(_, count)) => finals[life] - then + count,
                None => finals[life] - then,
            };
            let series = self.series.get_mut(key).expect("who has a place has a series");
            assert_eq!(series.phase, Phase::Placed);
            if now - series.started >= self.linger {
                series.value += growth;
                self.attributed += growth;
            }
        }
    }

    /// Whether `a` is better than `b`: by more than an eighth if it has no place and the other has.
    fn better(&self, shown: &Shown, a: u64, b: u64) -> bool {
        let (x, y) = (shown[&a].1, shown[&b].1);
        match (self.places.contains_key(&a), self.places.contains_key(&b)) {
            (false, true) => 8 * x > 9 * y,
            (true, false) => 8 * y <= 9 * x,
            _ => x > y,
        }
    }

    fn judge(&self, shown: &Shown, placed: &HashSet<u64>) {
        let barred = |key| self.series.get(key).is_some_and(|s| matches!(s.phase, Phase::Gone(_)));
        let mut shown = shown.clone();
        shown.retain(|_, (_, count)| *count > 0);
        let shown = &shown;
        assert!(placed.len() <= self.n);
        for key in placed {
            assert!(shown.contains_key(key) && !barred(key), "{key} is placed");
        }
        for &key in shown.keys().filter(|key| !placed.contains(key) && !barred(key)) {
            let taken = shown.keys().filter(|other| placed.contains(other) || barred(other));
            let as_good = taken.filter(|&&other| !self.better(shown, key, other)).count();
            assert!(as_good >= self.n, "{key} has no place in {shown:?}");
        }
    }

    fn update(&mut self, now: u32, shown: &Shown, finals: &[u64], update: &Update<'_, u64>) {
        let (linger, placed) = (self.linger, &mut HashSet::new());
        self.series.retain(|_, s| !matches!(s.phase, Phase::Gone(t) if now - t >= linger));
        self.attribute(now, shown, finals);
        placed.extend(update.series().filter(|(_, s)| !s.is_final()).map(|(&key, _)| key));
        self.judge(shown, placed);

        for key in &*placed {
            let start = Modelled { value: 0, started: now, phase: Phase::Placed, created: None };
            self.series.entry(*key).or_insert(start);
        }
        for (key, series) in &mut self.series {
            series.phase = match (series.phase, placed.contains(key)) {
                (Phase::Final(_), true) => Phase::Placed,
                (Phase::Placed, false) => Phase::Final(now),
                (Phase::Final(t), false) if now - t >= linger => Phase::Gone(now),
                (phase, _) => phase,
            };
        }
        self.places = shown.clone();
        self.places.retain(|key, _| placed.contains(key));
        self.compare(update);
    }

    fn compare(&mut self, update: &Update<'_, u64>) {
        let shown = self.series.iter().filter(|(_, s)| !matches!(s.phase, Phase::Gone(_)));
        let expected: HashMap<u64, u64> = shown.map(|(&key, s)| (key, s.value)).collect();
        assert_eq!(values(update), expected);
        let newest = self.created;
        for (key, shown) in update.series() {
            let series = self.series.get_mut(key).expect("as compared");
            let created = *series.created.get_or_insert_with(|| {
                assert!(newest.is_none_or(|newest| newest < shown.created()), "not later");
                shown.created()
            });
            assert_eq!(shown.created(), created);
            assert_eq!(shown.is_final(), matches!(series.phase, Phase::Final(_)));
            self.created = self.created.max(Some(created));
            let last = self.ever.insert((*key, created), shown.value()).unwrap_or(0);
            assert_eq!(
                last + shown.growth(),
                shown.value(),
                "it has fallen, or its growth is wrong"
            );
        }
        assert_eq!(update.other(), update.recorded() - self.attributed);
        assert!(update.other() >= self.other, "the rest has fallen");
        self.other = update.other();
        // The increase of all series, those that went included.
        assert_eq!(self.ever.values().sum::<u64>() + update.other(), update.recorded());
    }
}

fn configs() -> impl Strategy<Value = Config> {
    let capacity = prop::sample::select(vec![1, 3, 6, 32]);
    (capacity, any::<bool>(), any::<bool>()).prop_map(|(capacity, ttl, rejects)| Config {
        ttl: ttl.then_some(TTL),
        at_capacity: if rejects { AtCapacity::Reject } else { AtCapacity::Evict },
        ..Config::plain(capacity, 2)
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        16 => (0..9_u64, 0..20_u64).prop_map(|(key, n)| Step::Add(key, n)),
        3 => (0..9_u64).prop_map(Step::Remove),
        1 => Just(Step::Clear),
        2 => (1..10_u32).prop_map(Step::Advance),
    ];
    prop::collection::vec(step, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules(
        config in configs(),
        n in 0..4_usize,
        linger in prop::sample::select(vec![0, 1, 3]),
        history in prop::collection::vec((steps(), 0..3_u32), 1..24),
    ) {
        let (clock, mock) = Clock::mock();
        let mut lives = Lives::new(config);
        let top = TopSeries::new(lives.store.clone(), n);
        let mut top = top.linger(linger * TICK).clock(clock);
        let mut model = Model { n, linger, ..Model::default() };
        let mut now = 0;
        for (steps, ticks) in history {
            for step in steps {
                lives.play(step);
            }
            now += ticks;
            mock.increment(ticks * TICK);
            let snapshot = lives.store.snapshot();
            let shown = lives.shown(&snapshot);
            let update = top.update();
            prop_assert_eq!(update.recorded(), lives.recorded);
            model.update(now, &shown, &lives.counts, &update);
        }
    }

    /// Each reader by itself comes to the exact sum, as long as it looks often enough: one that
    /// reads falls as restarts, as Prometheus does, and one that subtracts what it saw last and
    /// forgets what it does not see, as the SDK of OpenTelemetry does for deltas.
    #[test]
    fn what_readers_make_of_it(
        config in configs(),
        n in 1..4_usize,
        linger in 1..6_u32,
        readers in 1..4_usize,
        history in prop::collection::vec((steps(), any::<[bool; 3]>()), 1..60),
    ) {
        // One reader alone may look as seldom as it likes.
        let linger = if readers == 1 { 0 } else { linger };
        let (clock, mock) = Clock::mock();
        let mut lives = Lives::new(config);
        let mut top = TopSeries::new(lives.store.clone(), n).linger(linger * TICK).clock(clock);
        let mut readers: Vec<Reader> = (0..readers).map(|_| Reader::default()).collect();
        for (now, (steps, looks)) in (0_u32..).zip(history) {
            for step in steps {
                lives.play(step);
            }
            for (reader, look) in readers.iter_mut().zip(looks) {
                let due = linger > 0 && now - reader.looked + 1 >= linger;
                if look || due {
                    reader.looked = now;
                    reader.look(&top.update());
                }
            }
            mock.increment(TICK);
        }
    }
}

#[derive(Default)]
struct Reader {
    looked: u32,
    /// What was recorded at the first look.
    base: Option<u64>,
    /// The last sample of each series, gone or not; `None` is the rest.
    samples: HashMap<Option<u64>, u64>,
    increase: u64,
    /// What was seen at the last look.
    reported: HashMap<Option<u64>, u64>,
    delta: u64,
}

impl Reader {
    fn look(&mut self, update: &Update<'_, u64>) {
        let first = self.base.is_none();
        let base = *self.base.get_or_insert(update.recorded());
        let mut seen: HashMap<_, _> =
            update.series().map(|(&key, series)| (Some(key), series.value())).collect();
        seen.insert(None, update.other());
        for (&label, &value) in &seen {
            // The first sample of a series adds nothing.
            self.increase += match self.samples.insert(label, value) {
                Some(last) if value < last => value,
                Some(last) => value - last,
                None => 0,
            };
            let last = self.reported.get(&label).copied().unwrap_or(0);
            let delta = value.checked_sub(last).expect("a delta that wraps");
            self.delta += if first { 0 } else { delta };
        }
        self.reported = seen;
        assert_eq!(self.increase, update.recorded() - base, "by increases");
        assert_eq!(self.delta, update.recorded() - base, "by deltas");
    }
}

#[test]
fn churn_while_it_is_read() {
    let config = Config { ttl: Some(TTL), ..Config::plain(32, 4) };
    let bed = &config.bed::<u64>();
    let mut top = TopSeries::new(bed.store.clone(), 5);
    let (mut ever, mut other, mut recorded) = (HashMap::new(), 0, 0);
    let mut look = |top: &mut TopSeries<_>| {
        let update = top.update();
        assert!(update.other() >= other && update.recorded() >= recorded, "it has fallen");
        (other, recorded) = (update.other(), update.recorded());
        let live = update.series().filter(|(_, series)| !series.is_final()).count();
        assert!(live <= 5 && update.series().count() <= 10);
        for (&key, series) in update.series() {
            let last = ever.insert((key, series.created()), series.value()).unwrap_or(0);
            assert!(last <= series.value(), "a series has fallen");
        }
        assert_eq!(ever.values().sum::<u64>() + other, recorded);
        (recorded, ever.len())
    };
    // Until enough has come of the threads.
    let mut looks = 0;
    let added = while_adding(bed, 3, 100, || {
        looks += 1;
        let (_, series) = look(&mut top);
        looks < 400 || (looks < 1_000_000 && series < 50)
    });
    let (recorded, series) = look(&mut top);
    assert_eq!(recorded, added);
    assert!(series >= 50, "no key was ever demoted");
}
