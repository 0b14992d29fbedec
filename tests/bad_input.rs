//! What is refused, what is clamped, and that the neighbours are unharmed.

mod common;

use std::panic::catch_unwind;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use common::{Config, matrix};
use counterclock::{AtCapacity, BuildError, Builder, CounterStore, MAX_COUNT, Rejected};

fn builder() -> Builder<u64> {
    CounterStore::builder()
}

fn error(builder: Builder<u64>) -> BuildError {
    builder.build().expect_err("it is refused")
}

/// The message names what was asked for and what is allowed.
fn says(error: &BuildError, words: &[&str]) {
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

#[test]
fn capacities() {
    let not_set = error(builder());
    assert_eq!(not_set, BuildError::CapacityNotSet);
    says(&not_set, &["capacity", "at least 1"]);
    let zero = error(builder().capacity(0));
    assert_eq!(zero, BuildError::CapacityZero);
    says(&zero, &["capacity", "0", "at least 1"]);
    for absurd in [usize::MAX / 2, usize::MAX / 64, 1 << 58] {
        let large = error(builder().capacity(absurd));
        assert_eq!(large, BuildError::CapacityTooLarge { capacity: absurd });
        says(&large, &["capacity", &absurd.to_string()]);
    }
    // Not even with a slack of 0.
    for absurd in [usize::MAX, usize::MAX - 1, 1 << 63, (1 << 63) + 1] {
        let large = error(builder().capacity(absurd).slack(0));
        assert_eq!(large, BuildError::CapacityTooLarge { capacity: absurd });
    }
    // The slack has its default, so the capacity is what was wrong.
    let large = error(builder().capacity(usize::MAX));
    says(&large, &["capacity"]);
}

#[test]
fn shards() {
    let zero = error(builder().capacity(9).shards(0));
    assert_eq!(zero, BuildError::ShardsZero);
    says(&zero, &["shards", "0", "at least 1"]);
    for absurd in [4097, usize::MAX] {
        let many = error(builder().capacity(9).shards(absurd));
        let expected = BuildError::TooManyShards { shards: absurd, max: 4096 };
        assert_eq!(many, expected);
        says(&many, &["shards", &absurd.to_string(), "4096"]);
    }
    // More shards than keys are fine.
    let store = builder().capacity(1).shards(4096).build().expect("a store");
    assert_eq!((store.increment(&1), store.increment(&1)), (1, 2));
}

#[test]
fn ttls() {
    let zero = error(builder().capacity(9).idle_ttl(Duration::ZERO));
    assert_eq!(zero, BuildError::IdleTtlZero);
    says(&zero, &["TTL", "zero", "at least"]);
    let longest = Duration::from_nanos(u64::MAX / 4);
    for absurd in [longest + Duration::from_nanos(1), Duration::MAX] {
        let long = error(builder().capacity(9).idle_ttl(absurd));
        let expected = BuildError::IdleTtlTooLong { idle_ttl: absurd, max: longest };
        assert_eq!(long, expected);
        says(&long, &["TTL", "at most", &format!("{longest:?}")]);
    }
    assert!(builder().capacity(9).idle_ttl(longest).build().is_ok());
}

#[test]
fn slacks() {
    for absurd in [usize::MAX, usize::MAX - 8] {
        let large = error(builder().capacity(9).slack(absurd));
        assert_eq!(large, BuildError::SlackTooLarge { slack: absurd });
        says(&large, &["slack", &absurd.to_string()]);
    }
    // A slack of 0 is allowed; a full store then has no room for a newcomer beside its victim.
    let store = builder().capacity(2).slack(0).build().expect("a store");
    assert_eq!(store.try_increment(&1), Ok(1));
    assert_eq!(store.try_increment(&2), Ok(1));
    assert_eq!(store.try_increment(&3), Err(Rejected::Memory));
    assert_eq!((store.get(&1), store.get(&2)), (Some(1), Some(1)));
    let stats = store.stats();
    assert_eq!((stats.evicted, stats.rejections), (0, 1));
    assert_eq!((stats.rejections_capacity, stats.rejections_memory), (0, 1));
}

#[test]
fn new_panics_and_says_so() {
    let panic = catch_unwind(|| CounterStore::<u64>::new(0)).expect_err("no room at all");
    let message = panic.downcast_ref::<String>().expect("a message");
    assert!(message.contains("capacity") && message.contains("at least 1"));
    assert!(catch_unwind(|| CounterStore::<u64>::new(usize::MAX)).is_err());
}

#[test]
fn the_listener_and_the_clock_survive_another_hasher() {
    let (clock, mock) = counterclock::quanta::Clock::mock();
    let (tx, rx) = std::sync::mpsc::channel();
    let store = CounterStore::<u64>::builder()
        .capacity(1)
        .idle_ttl(common::TTL)
        .clock(clock)
        .at_capacity(AtCapacity::Reject)
        .on_removal(move |removal| tx.send(removal.count).expect("it listens"))
        .hasher(std::hash::RandomState::new())
        .build()
        .expect("a store");
    assert_eq!(store.try_add(&1, 5), Ok(5));
    assert_eq!(store.try_add(&2, 5), Err(Rejected::Capacity));
    mock.increment(2 * common::TTL);
    assert_eq!((store.get(&1), rx.try_recv()), (None, Ok(5)));
}

#[test]
fn counts_end_at_the_top_and_never_wrap() {
    assert_eq!(MAX_COUNT, (1 << 51) - 1);
    for config in matrix(64).into_iter().filter(|config| config.capacity > 2) {
        let bed = config.bed::<u64>();
        for neighbour in [2, 3] {
            assert_eq!(bed.store.try_add(&neighbour, 7), Ok(7));
        }
        assert_eq!(bed.store.try_add(&1, u64::MAX), Ok(MAX_COUNT));
        for n in [1, 0, 1 << 32, (1 << 32) + 1, MAX_COUNT, u64::MAX] {
            assert_eq!(bed.store.try_add(&1, n), Ok(MAX_COUNT), "{n}");
            assert_eq!(bed.store.get(&1), Some(MAX_COUNT), "{n}");
        }
        // Step by step up to the top, in small adds and large ones.
        assert_eq!(bed.store.try_add(&4, MAX_COUNT - 2), Ok(MAX_COUNT - 2));
        assert_eq!(bed.store.try_increment(&4), Ok(MAX_COUNT - 1));
        assert_eq!(bed.store.try_add(&4, 5), Ok(MAX_COUNT));
        assert_eq!(bed.store.try_add(&5, 6), Ok(6));
        assert_eq!(bed.store.try_add(&5, MAX_COUNT - 5), Ok(MAX_COUNT));
        // What does not fit is not recorded.
        let totals = bed.store.totals();
        assert_eq!(totals.recorded, 14 + 3 * MAX_COUNT, "{config:?}");
        assert_eq!(totals.live, totals.recorded);
        for neighbour in [2, 3] {
            assert_eq!(bed.store.try_increment(&neighbour), Ok(8), "{config:?}");
        }
        assert_eq!(bed.store.remove(&1), Some(MAX_COUNT));
        assert_eq!(bed.ends.of(&1)[0].count, MAX_COUNT);
        assert_eq!(bed.store.try_increment(&1), Ok(1));
    }
}

/// Each add that overshoots takes its own excess back; else 2^19 of the largest of them would fill
/// the word.
#[test]
fn any_number_of_adds_at_the_top() {
    let bed = Config::plain(2, 1).bed::<u64>();
    assert_eq!(bed.store.try_add(&1, u64::MAX), Ok(MAX_COUNT));
    let pinned = bed.store.pin();
    for _ in 0..(1 << 19) + 10 {
        assert_eq!(pinned.add(&1, 1 << 32), MAX_COUNT);
    }
    assert_eq!((bed.store.get(&1), bed.ends.count()), (Some(MAX_COUNT), 0));
    assert_eq!(bed.store.remove(&1), Some(MAX_COUNT));
    assert_eq!(bed.store.totals().recorded, MAX_COUNT);
}

/// Thirds of the range and small adds meet at the top, while the neighbours count on.
#[test]
fn threads_race_at_the_top() {
    for shards in [1, 16] {
        for round in 0..30 {
            let bed = &Config::plain(8, shards).bed::<u64>();
            let barrier = &Barrier::new(4);
            for key in 0..3 {
                assert_eq!(bed.store.try_add(&key, 0), Ok(0));
            }
            thread::scope(|scope| {
                for t in 0..4_u64 {
                    scope.spawn(move || {
                        barrier.wait();
                        let large = MAX_COUNT / 3 + round % 2;
                        for i in 0..40 {
                            let n = if i % 10 == t { large } else { 1 << (i % 33) };
                            let count = bed.store.try_add(&1, n).expect("it lives");
                            assert!((n..=MAX_COUNT).contains(&count), "{n} {count}");
                            assert!(bed.store.get(&1).expect("it lives") <= MAX_COUNT);
                            let totals = bed.store.totals();
                            assert!(totals.live <= MAX_COUNT + 400, "{totals:?}");
                            bed.store.increment(&(t % 2 * 2));
                        }
                    });
                }
            });
            assert_eq!(bed.store.get(&1), Some(MAX_COUNT));
            assert_eq!((bed.store.get(&0), bed.store.get(&2)), (Some(80), Some(80)));
            assert_eq!(bed.store.totals().recorded, MAX_COUNT + 160);
            assert_eq!(bed.store.remove(&1), Some(MAX_COUNT));
            assert_eq!(bed.ends.of(&1)[0].count, MAX_COUNT);
        }
    }
}

/// Saturated, and ended while others are still adding: the final count is the top, never beyond.
#[test]
fn lives_end_at_the_top_under_adds() {
    let bed = &Config::plain(8, 2).bed::<u64>();
    thread::scope(|scope| {
        for n in [1, 1 << 32, u64::MAX] {
            scope.spawn(move || {
                for _ in 0..300 {
                    assert!(bed.store.try_add(&1, n).expect("room") <= MAX_COUNT);
                }
            });
        }
        for _ in 0..300 {
            if let Some(count) = bed.store.remove(&1) {
                assert!(count <= MAX_COUNT, "{count}");
            }
        }
    });
    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::wrapping_add);
    let ended = bed.ends.of(&1);
    assert!(ended.iter().all(|end| end.count <= MAX_COUNT));
    let totals = bed.store.totals();
    assert_eq!(totals.removed, sum(&mut ended.iter().map(|end| end.count)));
    assert_eq!(totals.live, bed.store.get(&1).unwrap_or(0));
}

#[test]
fn nothing_added_still_admits_and_uses() {
    for config in matrix(64) {
        let bed = config.bed::<u64>();
        assert_eq!(bed.store.try_add(&1, 0), Ok(0));
        assert_eq!(bed.store.get(&1), Some(0));
        assert_eq!(bed.store.len(), 1);
        assert_eq!(bed.store.snapshot().get(&1), Some(0));
        for _ in 0..4 {
            bed.advance(common::TTL);
            assert_eq!(bed.store.try_add(&1, 0), Ok(0));
        }
        assert_eq!(bed.ends.count(), 0, "{config:?}");
        assert_eq!(bed.store.remove(&1), Some(0));
        assert_eq!(bed.ends.by(counterclock::Cause::Removed), (1, 0));
        assert_eq!(bed.store.totals().recorded, 0);
        assert_eq!(bed.store.stats().admitted, 1);
    }
}

/// More than 2^64 units: the totals wrap together.
#[test]
fn totals_wrap_and_balance() {
    let store = builder().capacity(4).shards(1).build().expect("a store");
    let (mut removed, mut evicted) = (0_u64, 0_u64);
    for i in 0..9000_u64 {
        assert_eq!(store.try_add(&0, u64::MAX), Ok(MAX_COUNT), "{i}");
        assert_eq!(store.remove(&0), Some(MAX_COUNT));
        removed = removed.wrapping_add(MAX_COUNT);
    }
    for key in 1..=9000 {
        assert_eq!(store.try_add(&key, u64::MAX), Ok(MAX_COUNT));
        evicted = evicted.wrapping_add(if key > 4 { MAX_COUNT } else { 0 });
    }
    let totals = store.totals();
    assert_eq!((totals.removed, totals.evicted), (removed, evicted));
    assert_eq!(totals.live, 4 * MAX_COUNT);
    let recorded = removed.wrapping_add(evicted).wrapping_add(4 * MAX_COUNT);
    assert_eq!(totals.recorded, recorded);
    assert_eq!(store.snapshot().totals(), totals);
    assert_eq!(store.stats().rejections, 0);
}

#[test]
fn what_is_rejected_is_clamped_too() {
    let builder = builder().capacity(1).at_capacity(AtCapacity::Reject);
    let store = builder.build().expect("a store");
    assert_eq!(store.try_add(&1, 3), Ok(3));
    assert_eq!(store.try_add(&2, u64::MAX), Err(Rejected::Capacity));
    assert_eq!(store.add(&2, u64::MAX), MAX_COUNT);
    assert_eq!(store.add(&2, 5), 5);
    assert_eq!(store.increment(&2), 1);
    assert_eq!(store.increment_owned(2), 1);
    let pinned = store.pin();
    assert_eq!((pinned.add(&2, 5), pinned.increment(&2)), (5, 1));
    let totals = store.totals();
    assert_eq!(totals.rejected, 2 * MAX_COUNT + 13);
    assert_eq!(totals.recorded, totals.rejected + 3);
    assert_eq!(store.stats().rejections, 7);
    assert_eq!((store.len(), store.get(&2)), (1, None));
    for (why, word) in [(Rejected::Capacity, "full"), (Rejected::Memory, "waiting")] {
        assert!(why.to_string().contains(word));
    }
}
