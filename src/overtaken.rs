//! Passes and rounds that others overtake: several threads stand at chosen places at once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::quanta::Clock;
use crate::reclaim::pin;
use crate::removal::Removals;
use crate::stop::{Stopped, run_to, turn};
use crate::{AtCapacity, CounterStore, Rejected};

type Store = CounterStore<u64>;

fn bucket(store: &Store, key: u64) -> usize {
    store.inner.engine.index.bucket_of(store.hash(&key))
}

/// Another key of this bucket.
fn key_in(store: &Store, wanted: usize, not: &[u64]) -> u64 {
    (1..).find(|key| bucket(store, *key) == wanted && !not.contains(key)).expect("some key")
}

/// Admissions that were about to be published.
fn begun(store: &Store) -> u64 {
    let shard = &store.inner.engine.shards[0];
    [&shard.owned, &shard.tally].map(|tally| tally.begun.load(Ordering::SeqCst)).iter().sum()
}

/// On, step by step, to the first place at which `there` holds.
fn on_until(mut stopped: Stopped<Answer>, there: impl Fn() -> bool) -> Stopped<Answer> {
    while !there() {
        stopped = stopped.go_on_to(0).unwrap_or_else(|answer| panic!("{answer:?} before that"));
    }
    stopped
}

/// Adds on a thread of its own, up to the first place at which `there` holds.
fn add_until(store: &Store, key: u64, n: u64, there: impl Fn() -> bool) -> Stopped<Answer> {
    let own = store.clone();
    let start = run_to(0, move || own.try_add(&key, n));
    on_until(start.unwrap_or_else(|answer| panic!("{answer:?} at once")), there)
}

type Answer = Result<u64, Rejected>;

/// How far the two admissions go that are published behind the walker's back.
#[derive(Clone, Copy, Debug)]
enum Published {
    /// From where they have their room to where they are visible.
    Visible,
    /// From where they were announced to their ends.
    Counted,
}

/// An admission looks for room in a full store whose only shard is taken, so it walks the index;
/// it stands at `first_at` and then at `then_at`. Meanwhile others evict ahead of it and admit
/// behind it, with one key visible at every instant. Whether it was told that there is no room;
/// `None` where the game cannot be played like that: the walker is through, or has taken one of the
/// keys itself.
fn walk_overtaken_twice(published: Published, first_at: u64, then_at: u64) -> Option<bool> {
    let store = Store::builder().capacity(3).shards(1).build().expect("a store");
    let last = store.inner.engine.index.len() - 1;
    let early = key_in(&store, last, &[]);
    store.increment(&early);
    let walking = key_in(&store, 0, &[]);
    let next = key_in(&store, last - 1, &[walking]);
    let after = key_in(&store, 0, &[walking, next]);
    let other = key_in(&store, 0, &[walking, next, after]);
    let another = key_in(&store, 0, &[walking, next, after, other]);
    let live = |key: u64| store.contains(&key);
    let stands = |n: u64| match published {
        Published::Visible => store.len() as u64 == 1 + n,
        Published::Counted => begun(&store) == 1 + n,
    };
    let publish = |stopped: Stopped<Answer>, key: u64| match published {
        Published::Visible => Some(on_until(stopped, || live(key))),
        Published::Counted => {
            stopped.go_on().expect("it has its room");
            None
        }
    };
    let shard = &store.inner.engine.shards[0];
    let played = shard.roster.own(|_| {
        let first = add_until(&store, next, 5, || stands(1));
        let second = add_until(&store, after, 9, || stands(2));
        assert!(live(early) && !live(next) && !live(after));
        let own = store.clone();
        let Ok(walker) = run_to(first_at, move || own.try_increment(&walking)) else {
            _ = (first.go_on(), second.go_on());
            return None;
        };
        // It has passed the bucket of the first; now that one goes in, and the early one out.
        let first = publish(first, next);
        let end = |stopped: Option<Stopped<Answer>>| stopped.map(Stopped::go_on);
        if !(live(early) && live(next)) {
            _ = (walker.go_on(), end(first), second.go_on());
            return None;
        }
        let evictor = add_until(&store, other, 1, || !live(early));
        let Ok(walker) = walker.go_on_to(then_at) else {
            _ = (evictor.go_on(), end(first), second.go_on());
            return None;
        };
        let second = publish(second, after);
        if !(live(next) && live(after)) {
            _ = (walker.go_on(), evictor.go_on(), end(first), end(second));
            return None;
        }
        let last = add_until(&store, another, 1, || !live(next));
        assert!(live(after));
        let answer = walker.go_on();
        _ = (evictor.go_on(), last.go_on(), end(first), end(second));
        assert_ne!(answer, Err(Rejected::Memory));
        Some(answer.is_err())
    });
    let (rejected, gone) = played.expect("nobody else has the shard");
    store.inner.engine.limbo().let_go_of(0, gone, &pin());
    rejected
}

/// A walk finds room at whatever places it stood: an admission counts as turnover before it is
/// visible, and once more afterwards. (It may be rejected if all that is visible belongs to
/// admissions that have been under way ever since it began, which is not so here.)
#[test]
fn a_walk_that_is_overtaken_twice_finds_what_was_visible_all_along() {
    let _turn = turn();
    for published in [Published::Visible, Published::Counted] {
        let mut played = 0;
        for first_at in (0..60).step_by(3) {
            for then_at in (first_at + 1..first_at + 80).step_by(5) {
                let rejected = walk_overtaken_twice(published, first_at, then_at);
                played += u32::from(rejected.is_some());
                assert_ne!(rejected, Some(true), "{published:?}: at {first_at} and {then_at}");
            }
        }
        assert!(played > 30, "{played} games");
    }
}

const TTL: u64 = 64_000;
const TICK: u64 = TTL / 125;

/// A thread stands at a place of the last step of the idle hand's round, and others take so many
/// steps, after the clock has moved. Then nothing is in flight. How long after its TTL, in
/// nanoseconds, does a life that is not used any more make room in a store that rejects? `None` if
/// the step has no such place.
fn late(capacity: u64, place: u64, others: u64, moved: u64) -> Option<u64> {
    let (clock, mock) = Clock::mock();
    let builder = Store::builder().capacity(capacity as usize).shards(1).clock(clock);
    let builder = builder.at_capacity(AtCapacity::Reject).idle_ttl(Duration::from_nanos(TTL));
    let store = builder.build().expect("a store");
    let mut now = 0;
    let mut wait = |nanos: u64| {
        mock.increment(nanos);
        now += nanos;
        now
    };
    // All but the last, which is used once more and then never again.
    let use_others = || (0..capacity - 1).for_each(|key| _ = store.increment(&key));
    let used_last = wait(40_000);
    (0..capacity).for_each(|key| _ = store.increment(&key));
    wait(27_000);
    // The first round, which learns nothing, and the second but for its last step.
    let engine = &store.inner.engine;
    for step in 0..2 * (engine.index.len() as u64 / 8) - 1 {
        let hand = engine.shards[0].idle_hand.load(Ordering::Relaxed);
        assert_eq!(hand as u64, 8 * step, "one step a tick");
        wait(TICK);
        store.increment(&(step % (capacity - 1)));
    }
    wait(TICK);
    let own = store.clone();
    let stopped = run_to(place, move || own.increment(&0)).ok()?;
    wait(moved);
    (0..others).for_each(|key| _ = store.increment(&(2000 + key)));
    stopped.go_on();
    loop {
        let at = wait(TICK);
        use_others();
        if (0..200).any(|key| store.try_increment(&(3000 + key)).is_ok()) {
            return Some(at.saturating_sub(used_last + TTL));
        }
        assert!(at < 10 * TTL, "never");
    }
}

/// Steps that are made at once may overlook a life. The hand comes by again an eighth of a TTL
/// later, and not only when what it has met grows old.
#[test]
fn what_steps_at_once_overlook_is_found_soon() {
    let _turn = turn();
    let (mut worst, mut played) = (0, 0);
    for (capacity, others, moved) in
        [(4, 1, 0), (4, 4, 0), (64, 8, 0), (64, 40, 0), (4, 2, TICK), (64, 16, TICK)]
    {
        for found in (0..400).map_while(|place| late(capacity, place, others, moved)) {
            worst = worst.max(found);
            played += 1;
        }
    }
    assert!(played > 60, "{played} games");
    assert!(worst <= TTL / 8 + 4 * TICK, "{worst} ns late");
}

/// While nothing can be idle the hand rests: after two rounds it stands still until the oldest use
/// that it has met, or an eighth of a TTL, is too long ago.
#[test]
fn the_idle_hand_rests_while_nothing_can_be_idle() {
    let (clock, mock) = Clock::mock();
    let builder = Store::builder().capacity(64).shards(1).clock(clock);
    let store = builder.idle_ttl(Duration::from_nanos(TTL)).build().expect("a store");
    mock.increment(2 * TTL);
    (0..64).for_each(|key| _ = store.increment(&key));
    let engine = &store.inner.engine;
    let moves = |calls: usize| {
        let hand = || engine.shards[0].idle_hand.load(Ordering::Relaxed);
        let before = hand();
        let mut out = Removals::new(engine);
        for _ in 0..calls {
            drop(engine.expire_some(store.hash(&0), engine.time(), &pin(), &mut out));
        }
        hand() - before
    };
    let round = engine.index.len();
    moves(10 * round);
    assert_eq!(moves(100), 0, "in the same tick");
    mock.increment(TTL / 2);
    // The round that was made at once is not believed for longer than an eighth.
    let second = moves(10 * round);
    assert!((round..=2 * round).contains(&second), "{second} buckets of {round}");
    assert_eq!(moves(100), 0);
    (0..32).for_each(|key| _ = store.increment(&key));
    mock.increment(TTL / 2 + 4 * TICK);
    moves(10 * round);
    assert_eq!((store.len(), store.stats().expired), (32, 32));
    assert_eq!(moves(100), 0);
}

/// A clock that was set back makes lives that are older than what the hand has met.
#[test]
fn the_idle_hand_does_not_rest_when_the_clock_was_set_back() {
    let (clock, mock) = Clock::mock();
    let builder = Store::builder().capacity(64).shards(1).clock(clock);
    let store = builder.idle_ttl(Duration::from_nanos(TTL)).build().expect("a store");
    mock.increment(100 * TTL);
    (0..64).for_each(|key| _ = store.increment(&key));
    store.clear();
    mock.decrement(99 * TTL);
    (0..32).for_each(|key| _ = store.increment(&key));
    mock.increment(2 * TTL);
    (100..132).for_each(|key| _ = store.increment(&key));
    assert_eq!(store.stats().expired, 32);
}

/// Two admissions of one key for the last place of a store that rejects: who finds it taken finds the
/// key, too. Only where the other has its place and is not visible yet is there nothing to find.
#[test]
fn the_last_place_goes_to_the_key_itself() {
    let _turn = turn();
    let mut hidden = 0;
    for step in 0.. {
        let builder = Store::builder().capacity(1).shards(1);
        let store = builder.at_capacity(AtCapacity::Reject).build().expect("a store");
        let own = store.clone();
        let Ok(stopped) = run_to(step, move || own.try_increment(&1)) else { break };
        let place_is_taken = store.len() == 1 && !store.contains(&1);
        let other = store.try_increment(&1);
        assert_eq!(other.is_err(), place_is_taken, "step {step}");
        hidden += u64::from(place_is_taken);
        let counts = (stopped.go_on(), other);
        assert!(matches!(counts.0, Ok(1 | 2)), "step {step}: {counts:?}");
        assert_ne!(counts.0, counts.1, "step {step}");
        assert_eq!(store.totals().recorded, 2, "step {step}");
    }
    assert!(hidden > 0);
}
