//! Progress: a thread is stopped before each of its operations on shared memory in turn, and the
//! others go on.
//!
//! While it stands, another thread counts, admits, evicts, removes, reads, expires and clears, and
//! each of these must end within a number of steps of its own. When it moves on, everything must
//! balance: what callers were told, what the listener was told, totals, statistics, and every entry
//! freed.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::harness::eventually;
use crate::quanta::{Clock, Mock};
use crate::reclaim::pin;
use crate::stop::{bounded, run_to, turn};
use crate::{AtCapacity, Cause, CounterStore, Rejected, Totals};

/// The first part counts how many keys are alive.
type Key = (Arc<()>, u64);

const TTL: Duration = Duration::from_nanos(6400);
const TICK: Duration = Duration::from_nanos(64);
/// More than any of the steps that are measured here; a thread that waits goes past it.
const FOR_EVER: u64 = 1_000_000;

#[derive(Clone, Copy, Debug)]
struct Config {
    capacity: usize,
    shards: usize,
    slack: usize,
    ttl: bool,
    rejects: bool,
}

/// What the stopped thread does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Hit,
    HitThatMovesTheTick,
    LargeAdd,
    Admission,
    AdmissionWithRoom,
    /// The key's own old life is idle.
    Readmission,
    Get,
    GetOfAnIdleKey,
    Remove,
    Clear,
    Prune,
    Snapshot,
    Totals,
    Top,
    NewCounter,
    CounterHit,
    CounterWhoseEntryHasEnded,
    LastHandleOfAnEnded,
    SnapshotOfAnEnded,
    Pinned,
    NewStriped,
    StripedHit,
    RemovalOfStripes,
}

const OPS: [Op; 23] = [
    Op::Hit,
    Op::HitThatMovesTheTick,
    Op::LargeAdd,
    Op::Admission,
    Op::AdmissionWithRoom,
    Op::Readmission,
    Op::Get,
    Op::GetOfAnIdleKey,
    Op::Remove,
    Op::Clear,
    Op::Prune,
    Op::Snapshot,
    Op::Totals,
    Op::Top,
    Op::NewCounter,
    Op::CounterHit,
    Op::CounterWhoseEntryHasEnded,
    Op::LastHandleOfAnEnded,
    Op::SnapshotOfAnEnded,
    Op::Pinned,
    Op::NewStriped,
    Op::StripedHit,
    Op::RemovalOfStripes,
];

const LARGE: u64 = 1 << 40;
/// A key that only the stopped thread admits.
const ITS_OWN: u64 = 1_000_000;

impl Op {
    /// Units that it adds.
    fn units(self) -> u64 {
        match self {
            Op::LargeAdd => LARGE,
            Op::Hit
            | Op::HitThatMovesTheTick
            | Op::Admission
            | Op::AdmissionWithRoom
            | Op::Readmission
            | Op::CounterHit
            | Op::CounterWhoseEntryHasEnded
            | Op::Pinned
            | Op::StripedHit => 1,
            _ => 0,
        }
    }

    fn needs_ttl(self) -> bool {
        matches!(self, Op::HitThatMovesTheTick | Op::Readmission | Op::GetOfAnIdleKey | Op::Prune)
    }
}

/// What the stopped thread was told.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Counted(Result<u64, Rejected>),
    /// As counted, or 1 where it was rejected.
    Perhaps(u64),
    Seen(Option<u64>),
    Removed(Option<u64>),
    /// All units that were ever added.
    Sum(u64),
    Done,
}

/// The most steps that an operation took by itself while the other thread stood, by operation and
/// by whether there was a TTL.
#[derive(Default)]
struct Worst(BTreeMap<(&'static str, bool), u64>);

impl Worst {
    fn see(&mut self, what: (&'static str, bool), steps: u64) {
        let worst = self.0.entry(what).or_default();
        *worst = steps.max(*worst);
    }
}

/// What the listener was told, by cause: lives and units.
type Told = Arc<Mutex<[(u64, u64); 3]>>;

struct World {
    config: Config,
    store: CounterStore<Key>,
    mock: Arc<Mock>,
    told: Told,
    alive: Arc<()>,
    fresh: u64,
    /// Units that this thread added.
    added: u64,
    /// The sum that it was shown last.
    shown: u64,
    /// Of this thread: without room, without memory, and of hits on what had ended.
    rejections: [u64; 3],
    worst: Worst,
    turn: MutexGuard<'static, ()>,
}

impl World {
    fn new(config: Config) -> Self {
        let (clock, mock) = Clock::mock();
        let told = Told::default();
        let ends = Arc::clone(&told);
        let at_capacity = if config.rejects { AtCapacity::Reject } else { AtCapacity::Evict };
        let mut builder = CounterStore::builder()
            .capacity(config.capacity)
            .shards(config.shards)
            .slack(config.slack)
            .at_capacity(at_capacity)
            .on_removal(move |removal| {
                let mut told = ends.lock().unwrap_or_else(PoisonError::into_inner);
                let (lives, units) = &mut told[removal.cause.index()];
                lives.add_assign(1);
                units.add_assign(removal.count);
            });
        if config.ttl {
            builder = builder.idle_ttl(TTL).clock(clock);
        }
        let (alive, worst) = Default::default();
        let store = builder.build().expect("valid");
        Self {
            config,
            store,
            mock,
            told,
            alive,
            fresh: 1000,
            added: 0,
            shown: 0,
            rejections: [0; 3],
            worst,
            turn: turn(),
        }
    }

    fn key(&self, n: u64) -> Key {
        (Arc::clone(&self.alive), n)
    }

    fn fill(&mut self, n: usize) {
        for key in 0..n as u64 {
            // The collector may be busy with what other tests have retired.
            while self.store.try_increment(&self.key(key)).is_err() {
                self.added += 1;
                self.rejections[1] += 1;
            }
            self.added += 1;
        }
    }

    /// What the other thread is to do, on a store that has been brought to where it matters.
    fn prepare(&mut self, op: Op) -> impl FnOnce() -> Answer + Send + use<> {
        let capacity = self.config.capacity;
        self.fill(if op == Op::AdmissionWithRoom { capacity - 1 } else { capacity });
        let (zero, its_own) = (self.key(0), self.key(ITS_OWN));
        let counter = match op {
            Op::CounterHit | Op::CounterWhoseEntryHasEnded | Op::LastHandleOfAnEnded => {
                Some(self.store.counter(&zero))
            }
            _ => None,
        };
        let striped = matches!(op, Op::StripedHit | Op::RemovalOfStripes).then(|| {
            let striped = self.store.striped(&zero);
            (0..3).for_each(|_| striped.increment());
            self.added += 3;
            striped
        });
        let snapshot = (op == Op::SnapshotOfAnEnded).then(|| self.store.snapshot());
        match op {
            Op::HitThatMovesTheTick => self.mock.increment(TICK),
            Op::Readmission | Op::GetOfAnIdleKey | Op::Prune => self.mock.increment(TTL + TICK),
            Op::CounterWhoseEntryHasEnded | Op::LastHandleOfAnEnded | Op::SnapshotOfAnEnded => {
                self.store.remove(&zero);
            }
            _ => {}
        }
        let store = self.store.clone();
        move || match op {
            Op::Hit | Op::HitThatMovesTheTick | Op::Readmission => {
                Answer::Counted(store.try_increment(&zero))
            }
            Op::LargeAdd => Answer::Counted(store.try_add(&zero, LARGE)),
            Op::Admission | Op::AdmissionWithRoom => Answer::Counted(store.try_increment(&its_own)),
            Op::Get | Op::GetOfAnIdleKey => Answer::Seen(store.get(&zero)),
            Op::Remove => Answer::Removed(store.remove(&zero)),
            Op::NewStriped => {
                drop(store.striped(&zero));
                Answer::Done
            }
            Op::StripedHit => {
                if let Some(striped) = striped {
                    striped.increment();
                }
                Answer::Done
            }
            Op::RemovalOfStripes => {
                let removed = store.remove(&zero);
                // Lets go of the entry, as its last holder.
                drop(striped);
                Answer::Removed(removed)
            }
            Op::Clear => {
                store.clear();
                Answer::Done
            }
            Op::Prune => {
                store.prune();
                Answer::Done
            }
            Op::Snapshot => {
                let snapshot = store.snapshot();
                let shown: u64 = snapshot.iter().map(|(_, count)| count).sum();
                assert_eq!(shown, snapshot.totals().live);
                Answer::Sum(snapshot.totals().recorded)
            }
            Op::Totals => Answer::Sum(store.totals().recorded),
            Op::Top => {
                drop(store.top(1));
                Answer::Done
            }
            Op::NewCounter => {
                drop(store.counter(&zero));
                Answer::Done
            }
            Op::CounterHit | Op::CounterWhoseEntryHasEnded => {
                Answer::Perhaps(counter.expect("made above").increment())
            }
            Op::LastHandleOfAnEnded => {
                drop(counter);
                Answer::Done
            }
            Op::SnapshotOfAnEnded => {
                drop(snapshot);
                Answer::Done
            }
            Op::Pinned => Answer::Perhaps(store.pin().increment(&zero)),
        }
    }

    /// Runs an operation of this thread's, which must not wait for anybody.
    fn run<R>(&mut self, what: &'static str, f: impl FnOnce(&CounterStore<Key>) -> R) -> R {
        let (result, steps) = bounded(FOR_EVER, || f(&self.store));
        self.worst.see((what, self.config.ttl), steps);
        let engine = &self.store.inner.engine;
        assert!(self.store.len() <= self.config.capacity, "above the cap");
        let exist = engine.limbo().exist();
        assert!(exist <= self.config.capacity + self.config.slack, "{exist} entries exist");
        result
    }

    fn add(&mut self, what: &'static str, key: u64) -> Result<u64, Rejected> {
        let key = self.key(key);
        self.added += 1;
        self.run(what, |store| store.try_increment(&key))
    }

    /// Admits a new key, which may fail only where the promises allow it.
    fn admit(&mut self) -> Option<u64> {
        let Config { capacity, slack, rejects, .. } = self.config;
        let visible = self.run("snapshot", |store| store.snapshot().len());
        let full = self.store.len() == capacity;
        self.fresh += 1;
        let key = self.fresh;
        let before = self.store.inner.engine.limbo().exist();
        match self.add("new key", key) {
            Ok(count) => assert_eq!(count, 1, "a new key"),
            Err(Rejected::Capacity) => {
                assert!(full && (rejects || visible == 0), "{visible} were visible");
                self.rejections[0] += 1;
                return None;
            }
            Err(Rejected::Memory) => {
                // It takes its slot before it evicts. Spares that the other thread owns are out of
                // reach.
                assert_eq!(before, capacity + slack, "there was memory");
                self.rejections[1] += 1;
                return None;
            }
        }
        Some(key)
    }

    /// Everything that others do while one thread stands.
    fn go_on(&mut self, its_units: &[u64]) {
        for _ in 0..self.config.slack.min(10) + 3 {
            let seen = self.run("snapshot", |store| store.snapshot());
            let keys: Vec<_> = seen.iter().take(3).map(|((_, key), _)| *key).collect();
            drop(seen);
            for key in keys {
                let counted = self.add("hit", key);
                self.rejections[2] += u64::from(counted.is_err());
                if let Ok(count) = counted {
                    let got = self.run("get", |store| store.get(&(Arc::default(), key)));
                    // One that nobody else is about.
                    assert!(got.is_none() || got >= Some(count));
                }
            }
            let Some(key) = self.admit() else { continue };
            let mine = self.key(key);
            assert_eq!(self.run("get", |store| store.get(&mine)), Some(1));
            assert_eq!(self.add("hit", key), Ok(2));
            let handle = self.store.counter(&mine);
            self.added += 1;
            assert_eq!(self.run("handle's hit", |_| handle.increment()), 3);
            drop(handle);
            assert_eq!(self.run("len", CounterStore::len), self.store.len());
            self.run("waiting", CounterStore::waiting);
            self.run("stats", CounterStore::stats);
            if key.is_multiple_of(3) {
                assert_eq!(self.run("remove", |store| store.remove(&mine)), Some(3));
                assert!(!self.run("get", |store| store.contains(&mine)), "removed");
            }
            self.check(its_units);
        }
        if self.config.ttl {
            self.mock.increment(TTL + TICK);
            self.run("prune", |store| store.prune());
            assert_eq!(self.run("snapshot", |store| store.snapshot().len()), 0, "all are idle");
            self.admit();
        }
        self.run("clear", |store| store.clear());
        assert_eq!(self.run("snapshot", |store| store.snapshot().len()), 0, "cleared");
        self.admit();
        self.check(its_units);
    }

    /// Each unit once: what this thread added, and of each other's add all or nothing.
    fn check(&mut self, its_units: &[u64]) {
        let totals = self.run("totals", |store| store.totals());
        assert!(totals.recorded >= self.shown, "the sum has fallen");
        self.shown = totals.recorded;
        let its = totals.recorded - self.added;
        let sums = |units: &[u64]| units.iter().sum::<u64>();
        let possible = (0..=its_units.len()).flat_map(|i| {
            let (done, rest) = its_units.split_at(i);
            [sums(done), sums(rest)]
        });
        assert!(possible.into_iter().any(|sum| sum == its), "{totals:?}, {} here", self.added);
    }

    /// What the other thread was told fits what the listener was told, and what there is.
    fn judge(&self, op: Op, answer: Answer) {
        let Config { rejects, slack, .. } = self.config;
        let told = *self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            // In some life: what others have added to this key is at most all that they have.
            Answer::Counted(Ok(count)) => {
                assert!((op.units()..=self.added + op.units()).contains(&count), "{op:?}: {count}");
            }
            Answer::Counted(Err(Rejected::Capacity)) => {
                assert!(rejects, "{op:?} found no room");
            }
            Answer::Counted(Err(Rejected::Memory)) => {
                assert!(slack <= 16, "{op:?} found no memory");
            }
            Answer::Perhaps(count) | Answer::Seen(Some(count)) => {
                assert!((1..=self.added + op.units()).contains(&count), "{op:?}: {count}");
            }
            Answer::Removed(Some(count)) => {
                let (lives, units) = told[Cause::Removed.index()];
                assert!(lives > 0 && count <= units, "{op:?}: {count} of {units}");
            }
            Answer::Sum(sum) => assert!(sum <= self.added, "{op:?}: {sum} of {}", self.added),
            Answer::Seen(None) | Answer::Removed(None) | Answer::Done => {}
        }
        let its = match answer {
            Answer::Counted(Err(_)) => 1..=1,
            Answer::Perhaps(_) | Answer::Done => 0..=1,
            _ => 0..=0,
        };
        let rejections = self.store.stats().rejections - self.rejections.iter().sum::<u64>();
        assert!(its.contains(&rejections), "{op:?}: {answer:?} and {rejections} rejections");
    }

    /// Nothing is in flight any more.
    fn finish(self, its_units: u64) -> Worst {
        drop(self.turn);
        let settled = eventually(|| {
            self.store.prune();
            self.store.waiting() == 0
        });
        assert!(settled, "{} are waiting", self.store.waiting());
        self.store.inner.engine.validate();
        let Totals { recorded, evicted, expired, removed, .. } = self.store.totals();
        assert_eq!(recorded, self.added + its_units, "each unit once");
        let stats = self.store.stats();
        let told = *self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let lives = [stats.evicted, stats.expired, stats.removed];
        let ends = [evicted, expired, removed];
        for cause in [Cause::Capacity, Cause::Idle, Cause::Removed] {
            let i = cause.index();
            assert_eq!(told[i], (lives[i], ends[i]), "{cause:?}");
        }
        assert_eq!(stats.admitted, lives.iter().sum::<u64>() + self.store.len() as u64);
        drop(self.store);
        let freed = eventually(|| {
            pin().flush();
            Arc::strong_count(&self.alive) == 1
        });
        assert!(freed, "{} keys are alive", Arc::strong_count(&self.alive) - 1);
        self.worst
    }
}

/// The steps that an operation takes at most by itself, without and with a TTL. A hit takes up to
/// six, and one more for each other entry of its chain; a few more than that is a second attempt.
const STEPS: [(&str, bool, u64); 12] = [
    ("hit", false, 25),
    ("hit", true, 45),
    ("handle's hit", false, 2),
    ("get", false, 25),
    ("get", true, 250),
    ("new key", false, 300),
    ("new key", true, 400),
    ("remove", false, 150),
    ("remove", true, 150),
    ("len", false, 1),
    ("waiting", false, 10),
    ("stats", false, 40),
];

fn configs(op: Op) -> impl Iterator<Item = Config> {
    let all = [(1, 1, 4), (2, 1, 4), (2, 2, 16), (7, 4, 4), (40, 1, 1 << 14), (3, 1, 0)];
    let all = all.into_iter().flat_map(move |(capacity, shards, slack)| {
        [(false, false), (true, false), (false, true), (true, true)]
            .map(move |(ttl, rejects)| Config { capacity, shards, slack, ttl, rejects })
    });
    // What takes many steps is stopped at each of them in small stores only.
    let long = matches!(op, Op::Clear | Op::Prune | Op::Snapshot | Op::Totals | Op::Top);
    all.filter(move |config| config.ttl || !op.needs_ttl())
        .filter(move |config| !long || config.capacity <= 3)
}

/// Stops `op` everywhere, and returns how many places that were, and the worst of the others.
fn stop_everywhere(op: Op) -> (u64, Worst) {
    let mut places = 0;
    let mut worst = Worst::default();
    for config in configs(op) {
        let mut without_room = 0;
        for n in 0.. {
            let mut world = World::new(config);
            let its = world.prepare(op);
            let stopped = run_to(n, its);
            if stopped.is_ok() {
                world.go_on(&[op.units()]);
            }
            without_room += u64::from(world.rejections[0] > 0);
            let (is_done, answer) = match stopped {
                Ok(stopped) => (false, stopped.go_on()),
                Err(answer) => (true, answer),
            };
            world.judge(op, answer);
            let seen = world.finish(op.units());
            if is_done {
                places += n;
                break;
            }
            seen.0.into_iter().for_each(|(what, steps)| worst.see(what, steps));
        }
        // The permit goes back right after the seal, so there is one place at which the room of an
        // ended life is nobody's. (Frees that fall due shift it, so it may be met again.)
        if op == Op::Remove && !config.rejects {
            assert!(without_room <= 8, "no room at {without_room} places, {config:?}");
        }
    }
    (places, worst)
}

#[test]
fn others_go_on() {
    for op in OPS {
        let (places, worst) = stop_everywhere(op);
        println!("{op:?}: stopped at {places} places; steps of others: {:?}", worst.0);
        // What the table in docs/IMPLEMENTATION.md says.
        for (what, ttl, bound) in STEPS {
            let steps = worst.0.get(&(what, ttl)).copied().unwrap_or(0);
            assert!(steps <= bound, "{what} took {steps} steps while {op:?} stood, TTL {ttl}");
        }
    }
}

/// An admission is overtaken at each of its steps: others evict ahead of it and admit behind it,
/// while one more thread stands with the lists. There is a visible entry at every instant, so it must
/// find room.
#[test]
fn an_admission_that_is_overtaken_finds_room() {
    let config = Config { capacity: 4, shards: 1, slack: 1 << 14, ttl: false, rejects: false };
    for owner_at in (0..40).step_by(3) {
        let mut world = World::new(config);
        let [owns, admits] = [Op::Remove, Op::Admission].map(|op| world.prepare(op));
        let owner = run_to(owner_at, owns);
        let mut admission = run_to(0, admits);
        for at in 1.. {
            let Ok(stands) = admission else { break };
            assert!(at < 100_000, "it never ends");
            // Not for ever: then it would be for ever that others get something done.
            for _ in 0..if at < 400 { 3 } else { 0 } {
                world.admit().expect("there are visible entries");
            }
            admission = stands.go_on_to(at);
        }
        let answer = admission.err().expect("it has ended");
        assert!(matches!(answer, Answer::Counted(Ok(1))), "{answer:?}, owner at {owner_at}");
        if let Ok(owner) = owner {
            owner.go_on();
        }
        world.finish(1);
    }
}

/// One thread counts on a key, another ends its life: the first goes to one place, then the second,
/// then the first further on. With both standing, the others go on. So an add is made on a life that
/// has been sealed by a thread that stands.
#[test]
fn others_go_on_past_a_late_add() {
    for add in [Op::Hit, Op::LargeAdd, Op::CounterHit] {
        for end in [Op::Remove, Op::Clear, Op::Admission, Op::Readmission] {
            for config in configs(end).filter(|config| config.capacity == 1 && !config.rejects) {
                late_adds(config, add, end);
            }
        }
    }
}

fn late_adds(config: Config, add: Op, end: Op) {
    let units = [add.units(), end.units()];
    for at in 0.. {
        for end_at in (0..40).step_by(3) {
            let mut world = World::new(config);
            let [adds, ends] = [add, end].map(|op| world.prepare(op));
            let Ok(adder) = run_to(at, adds) else {
                ends();
                world.finish(units.iter().sum());
                return;
            };
            let ender = run_to(end_at, ends);
            // Past the add, and before it takes back what came too late; then past that.
            let adder = adder.go_on_to(at + 1);
            world.go_on(&units);
            let adder = adder.and_then(|adder| adder.go_on_to(at + 2));
            world.check(&units);
            if let Ok(ender) = ender {
                ender.go_on();
            }
            if let Ok(adder) = adder {
                adder.go_on();
            }
            world.finish(units.iter().sum());
        }
    }
}

/// Two threads stand, at places drawn at random.
#[test]
fn others_go_on_past_two() {
    let mut random = 88_172_645_463_325_252_u64;
    let mut below = |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) as usize % n
    };
    let mut both = 0;
    for _ in 0..1500 {
        let ops = [OPS[below(OPS.len())], OPS[below(OPS.len())]];
        let of_both: Vec<_> =
            configs(ops[0]).filter(|config| config.ttl || !ops[1].needs_ttl()).collect();
        let mut world = World::new(of_both[below(of_both.len())]);
        let [first, second] = ops.map(|op| world.prepare(op));
        let first = run_to(below(60) as u64, first);
        let second = run_to(below(60) as u64, second);
        both += usize::from(first.is_ok() && second.is_ok());
        let units = ops.map(Op::units);
        world.go_on(&units);
        // Either may be the first to move on.
        let mut stopped = [first.ok(), second.ok()];
        if below(2) == 0 {
            stopped.reverse();
        }
        for stopped in stopped.into_iter().flatten() {
            stopped.go_on();
        }
        world.finish(units.iter().sum());
    }
    assert!(both > 100, "both stood in {both} of 1500 only");
}
