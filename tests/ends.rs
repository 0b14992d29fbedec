//! Each life ends once, with the exact count and the cause, and within it `increment` returns
//! 1..=n.

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use common::{Bed, Config, End, Key, Rng, Spread, TTL, matrix, tick};
use counterclock::{AtCapacity, Cause, CounterStore};

const HOT: u64 = 0;

/// What races with the increments of the hot key.
#[derive(Clone, Copy, Debug)]
enum Rival {
    Remove,
    Clear,
    Evict,
    Expire,
    All,
}

impl Rival {
    fn step(self, bed: &Bed<u64>, rng: &mut Rng) {
        match self {
            Self::Remove => _ = bed.store.remove(&HOT),
            Self::Clear => bed.store.clear(),
            Self::Evict => {
                // Keys of their own, so that every one of them needs room.
                let key = 1 + rng.next() % (1 << 40);
                _ = bed.store.try_increment(&key);
            }
            Self::Expire => {
                bed.advance(TTL + tick(TTL));
                _ = bed.store.get(&HOT);
                if rng.below(9) == 0 {
                    bed.store.prune();
                }
            }
            Self::All => {
                let one = [Self::Remove, Self::Clear, Self::Evict, Self::Expire];
                one[rng.below(4) as usize].step(bed, rng);
            }
        }
    }
}

/// The ways to count; each returned value is kept. `None` where it was rejected.
fn increment(bed: &Bed<u64>, way: u64) -> Option<u64> {
    // Only `try_increment` tells a rejection, so the others need a store that never rejects.
    if bed.config.capacity < 64 || bed.config.at_capacity == AtCapacity::Reject {
        return bed.store.try_increment(&HOT).ok();
    }
    Some(match way {
        0 => bed.store.increment(&HOT),
        1 => bed.store.increment_owned(HOT),
        2 => bed.store.pin().increment(&HOT),
        _ => bed.store.try_increment(&HOT).expect("there is a victim"),
    })
}

fn count_up(bed: &Bed<u64>, done: &AtomicBool, thread: u64, returned: &mut Vec<u64>) {
    let handle = bed.store.counter(&HOT);
    let mut rounds = 0_u64;
    while rounds < 400 || !done.load(Relaxed) && rounds < 4_000 {
        rounds += 1;
        if bed.config.capacity >= 64
            && bed.config.at_capacity == AtCapacity::Evict
            && rounds % 5 == thread
        {
            returned.push(handle.increment());
        } else {
            returned.extend(increment(bed, rounds % 4));
        }
    }
}

/// Three threads count on one key while one or two others end its lives.
fn race(config: Config, rival: Rival) {
    let bed = &config.bed::<u64>();
    let (start, done) = (&Barrier::new(3), &AtomicBool::new(false));
    let returned: Vec<u64> = thread::scope(|scope| {
        let counters = [0, 1].map(|t| {
            scope.spawn(move || {
                let mut returned = Vec::new();
                start.wait();
                count_up(bed, done, t, &mut returned);
                returned
            })
        });
        let mut rng = Rng::new(9);
        start.wait();
        for _ in 0..150 {
            rival.step(bed, &mut rng);
        }
        done.store(true, Relaxed);
        let returned = counters.map(|thread| thread.join().expect("a counter"));
        returned.concat()
    });
    check_lives(bed, returned, rival);
}

/// A life of n increments returned each of 1..=n once: so as many returned c as there are lives of
/// at least c.
fn check_lives(bed: &Bed<u64>, mut returned: Vec<u64>, rival: Rival) {
    let mut lives: Vec<u64> = bed.ends.of(&HOT).iter().map(|end| end.count).collect();
    lives.extend(bed.store.snapshot().get(&HOT));
    let mut expected: Vec<u64> = lives.iter().flat_map(|&count| 1..=count).collect();
    returned.sort_unstable();
    expected.sort_unstable();
    let same = returned == expected;
    assert!(
        same,
        "{rival:?} {:?}: {} returned, {} in {} lives",
        bed.config,
        returned.len(),
        expected.len(),
        lives.len()
    );
    let totals = bed.store.totals();
    for (cause, units) in [
        (Cause::Capacity, totals.evicted),
        (Cause::Idle, totals.expired),
        (Cause::Removed, totals.removed),
    ] {
        assert_eq!(bed.ends.by(cause).1, units, "{cause:?} {:?}", bed.config);
    }
    if bed.config.capacity >= 64 {
        assert_eq!(bed.store.stats().rejections, 0, "{:?}", bed.config);
    }
}

fn race_with(rival: Rival) {
    for capacity in [1, 2, 64] {
        for shards in [1, 16] {
            for spread in [Spread::Default, Spread::Colliding] {
                for ttl in [None, Some(TTL)] {
                    let config = Config { ttl, spread, ..Config::plain(capacity, shards) };
                    race(config, rival);
                }
            }
        }
    }
}

#[test]
fn increments_race_with_removal() {
    race_with(Rival::Remove);
}

#[test]
fn increments_race_with_clear() {
    race_with(Rival::Clear);
}

#[test]
fn increments_race_with_eviction() {
    race_with(Rival::Evict);
}

#[test]
fn increments_race_with_expiry() {
    race_with(Rival::Expire);
}

#[test]
fn increments_race_with_all_of_them() {
    race_with(Rival::All);
}

/// One life, four threads that want to end it: one of them does.
#[test]
fn one_of_the_removers_gets_the_count() {
    for config in matrix(64) {
        let bed = &config.bed::<u64>();
        let barrier = &Barrier::new(3);
        let mut added = 0;
        for round in 1..=10 {
            let store = &bed.store;
            assert_eq!(store.try_add(&HOT, round), Ok(round));
            added += round;
            let got: Vec<u64> = thread::scope(|scope| {
                let removers = [0, 1, 2].map(|_| {
                    scope.spawn(move || {
                        barrier.wait();
                        store.remove(&HOT)
                    })
                });
                let got = removers.map(|thread| thread.join().expect("a remover"));
                got.into_iter().flatten().collect()
            });
            assert_eq!(got, [round], "{config:?}");
            assert_eq!(bed.store.len(), 0, "{config:?}");
        }
        assert_eq!(bed.ends.by(Cause::Removed), (10, added), "{config:?}");
        assert_eq!(bed.ends.count(), 10, "{config:?}");
    }
}

/// Ways to end the life of `HOT`, which has the count 3 and is not idle.
#[test]
fn each_cause_is_told_with_the_count() {
    for config in matrix(64) {
        let bed = config.bed::<u64>();
        let three = || assert_eq!(bed.store.try_add(&HOT, 3), Ok(3), "{config:?}");
        let mut told = Vec::new();
        let mut ended = |cause| {
            told.push(End { count: 3, cause });
            assert_eq!(bed.ends.of(&HOT), told, "{config:?}");
            assert!(!bed.store.contains(&HOT));
        };
        three();
        assert_eq!(bed.store.remove(&HOT), Some(3));
        ended(Cause::Removed);
        assert_eq!(bed.store.remove(&HOT), None);
        three();
        bed.store.clear();
        ended(Cause::Removed);
        if config.at_capacity == AtCapacity::Evict {
            three();
            // Each of the others is used more often.
            for other in 1.. {
                for _ in 0..40 {
                    assert!(bed.store.try_increment(&other).is_ok());
                }
                if !bed.store.contains(&HOT) {
                    break;
                }
                assert!(other < 100_000, "never evicted: {config:?}");
            }
            ended(Cause::Capacity);
        }
    }
}

/// Each way by which a life that is over is found; all report the same end.
#[test]
fn idle_lives_are_told_as_idle_whoever_finds_them() {
    type Find = fn(&CounterStore<u64, common::TestState>);
    let ways: [(&str, Find); 14] = [
        ("get", |store| assert_eq!(store.get(&HOT), None)),
        ("contains", |store| assert!(!store.contains(&HOT))),
        ("increment", |store| assert_eq!(store.increment(&HOT), 1)),
        ("add", |store| assert_eq!(store.add(&HOT, 7), 7)),
        ("owned", |store| assert_eq!(store.increment_owned(HOT), 1)),
        ("pinned", |store| assert_eq!(store.pin().add(&HOT, 2), 2)),
        ("pinned get", |store| assert_eq!(store.pin().get(&HOT), None)),
        ("counter", |store| assert_eq!(store.counter(&HOT).increment(), 1)),
        ("remove", |store| assert_eq!(store.remove(&HOT), None)),
        ("clear", |store| store.clear()),
        ("prune", |store| assert_eq!(store.prune(), 1)),
        ("snapshot", |store| assert!(store.snapshot().is_empty())),
        ("top", |store| assert_eq!(store.top(3), [])),
        ("totals", |store| assert_eq!(store.totals().expired, 3)),
    ];
    for config in matrix(64).into_iter().filter(|config| config.ttl.is_some()) {
        for (name, find) in ways {
            let bed = config.bed::<u64>();
            assert_eq!(bed.store.try_add(&HOT, 3), Ok(3));
            bed.advance(TTL + tick(TTL));
            assert_eq!(bed.store.len(), 1, "not found yet");
            find(&bed.store);
            let idle = End { count: 3, cause: Cause::Idle };
            assert_eq!(bed.ends.of(&HOT), [idle], "{name} {config:?}");
            let stats = bed.store.stats();
            assert_eq!((stats.expired, stats.removed), (1, 0), "{name} {config:?}");
        }
    }
}

#[test]
fn an_idle_life_that_makes_room_is_idle_not_evicted() {
    for config in matrix(64).into_iter().filter(|config| config.ttl.is_some()) {
        if config.at_capacity == AtCapacity::Reject {
            continue;
        }
        let bed = config.bed::<String>();
        let n = config.capacity as u64;
        for i in 0..n {
            assert_eq!(bed.store.try_add(&String::nth(i), 2), Ok(2));
        }
        bed.advance(TTL + tick(TTL));
        for i in n..2 * n {
            assert_eq!(bed.store.try_add(&String::nth(i), 3), Ok(3), "{config:?}");
        }
        // A newcomer may have had to go for another while idle ones were elsewhere.
        for end in bed.ends.all().values().flatten() {
            let idle = end.count == 2;
            assert_eq!(end.cause == Cause::Idle, idle, "{end:?} {config:?}");
        }
        assert!(bed.ends.by(Cause::Idle).0 > 0, "{config:?}");
        let ended = 2 * config.capacity - bed.store.len();
        assert_eq!(bed.ends.count(), ended, "{config:?}");
    }
}

#[test]
fn the_drop_of_the_store_tells_nothing() {
    for config in matrix(64) {
        let common::Bed { store, ends, .. } = config.bed::<u64>();
        assert!(store.try_add(&HOT, 3).is_ok());
        drop(store);
        assert_eq!(ends.count(), 0, "{config:?}");
    }
}
