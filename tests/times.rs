//! When a life began and when its key was last used.

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::{lock, tick};
use counterclock::quanta::Clock;
use counterclock::{Cause, CounterStore};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_life_has_its_times() {
    let (clock, mock) = Clock::mock();
    let ttl = 64 * SECOND;
    let ends = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&ends);
    let before = SystemTime::now();
    let store: CounterStore<u64> = CounterStore::builder()
        .capacity(8)
        .idle_ttl(ttl)
        .clock(clock)
        .times(true)
        .on_removal(move |end| lock(&told).push((end.cause, end.created, end.last_used)))
        .build()
        .unwrap();
    let after = SystemTime::now();
    let at_built = |time: Option<SystemTime>, since: Duration| {
        let built = time.expect("it is kept") - since;
        assert!((before..=after).contains(&built), "{since:?} off");
    };
    mock.increment(10 * SECOND);
    store.increment(&1);
    mock.increment(20 * SECOND);
    store.increment(&1);
    let snapshot = store.snapshot();
    // Neither this use nor the next life shows in what was taken before.
    mock.increment(SECOND);
    store.increment(&1);
    let life = snapshot.lives().next().expect("one");
    assert_eq!((life.key, life.count), (&1, 2));
    at_built(life.created, 10 * SECOND);
    let late = 30 * SECOND
        - life.last_used.unwrap().duration_since(life.created.unwrap() - 10 * SECOND).unwrap();
    assert!(late < tick(ttl), "rounded down by {late:?}");

    assert_eq!(store.remove(&1), Some(3));
    mock.increment(SECOND);
    store.increment(&1);
    mock.increment(ttl + tick(ttl));
    assert_eq!(store.prune(), 1);
    let ends = lock(&ends);
    let [(Cause::Removed, first, _), (Cause::Idle, second, last_used)] = ends[..] else {
        panic!("{ends:?}")
    };
    at_built(first, 10 * SECOND);
    at_built(second, 32 * SECOND);
    assert!(last_used.unwrap() <= second.unwrap());
    assert!(last_used.unwrap() + tick(ttl) > second.unwrap());
}

/// Without a TTL the tick is about a second, and nothing expires.
#[test]
fn times_without_a_ttl() {
    let (clock, mock) = Clock::mock();
    let builder = CounterStore::<u64>::builder().capacity(8).clock(clock).times(true);
    let store = builder.build().unwrap();
    store.increment(&1);
    let counter = store.counter(&1);
    let year = 365 * 24 * 3600 * SECOND;
    mock.increment(year);
    assert_eq!((store.prune(), counter.increment()), (0, 2));
    let snapshot = store.snapshot();
    let life = snapshot.lives().next().expect("one");
    let used = life.last_used.unwrap().duration_since(life.created.unwrap()).unwrap();
    assert!((year - 2 * SECOND..=year).contains(&used), "{used:?}");
    assert!(!format!("{store:?}").contains("idle_ttl: Some"));
}

/// Whatever the tick and however long building the store took: created, used, now.
#[test]
fn times_are_in_order() {
    for capacity in [1000, 100_000, 4_000_000] {
        let builder = CounterStore::<u64>::builder().capacity(capacity).times(true);
        let store = builder.build().unwrap();
        store.increment(&1);
        let snapshot = store.snapshot();
        let life = snapshot.lives().next().expect("one");
        let (created, used) = (life.created.unwrap(), life.last_used.unwrap());
        assert!(created <= used && used <= SystemTime::now(), "{capacity}: {created:?}, {used:?}");
    }
}

/// A clock that stands at its end is not past any TTL.
#[test]
fn the_end_of_time() {
    let (clock, mock) = Clock::mock();
    let builder = CounterStore::<u64>::builder().capacity(8).clock(clock).times(true);
    let store = builder.build().unwrap();
    store.increment(&1);
    mock.increment(u64::MAX - mock.value());
    assert_eq!((store.get(&1), store.increment(&1)), (Some(1), 2));
}

#[test]
fn nothing_is_kept_unless_it_is_asked_for() {
    let store: CounterStore<u64> =
        CounterStore::builder().capacity(8).idle_ttl(SECOND).build().unwrap();
    store.increment(&1);
    let snapshot = store.snapshot();
    let life = snapshot.lives().next().expect("one");
    assert_eq!((life.created, life.last_used), (None, None));
}
