//! Idle means gone: never early, late by a tick at most, and found by ordinary traffic alone.

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use common::{Bed, Config, End, Rng, SetOnDrop, Spread, TTL, matrix, tick};
use counterclock::quanta::Clock;
use counterclock::{AtCapacity, Cause, CounterStore, Rejected};

const NANO: Duration = Duration::from_nanos(1);
/// The longest that a builder takes.
const LONGEST: Duration = Duration::from_nanos(u64::MAX / 4);

fn with_ttl(ttl: Duration) -> Bed<u64> {
    let config = Config { ttl: Some(ttl), ..Config::plain(8, 2) };
    config.bed()
}

/// Everybody who could see a life.
fn is_seen(bed: &Bed<u64>, key: u64) -> [bool; 5] {
    [
        bed.store.get(&key).is_some(),
        bed.store.contains(&key),
        bed.store.pin().get(&key).is_some(),
        bed.store.snapshot().get(&key).is_some(),
        bed.store.top(9).iter().any(|top| top.0 == key),
    ]
}

fn ttls() -> Vec<Duration> {
    let mut ttls: Vec<Duration> =
        [1, 2, 63, 64, 65, 127, 128, 1000].map(Duration::from_nanos).to_vec();
    ttls.extend([TTL, Duration::from_secs(1800), LONGEST / 2, LONGEST]);
    ttls
}

#[test]
fn never_early_and_late_by_a_tick_at_most() {
    for ttl in ttls() {
        let tick = tick(ttl);
        assert!(tick == NANO || tick <= ttl / 64);
        for start in [Duration::ZERO, NANO, tick - NANO, tick, 5 * tick + NANO] {
            for key in [1, 2] {
                let bed = with_ttl(ttl);
                bed.advance(start);
                assert_eq!(bed.store.try_add(&key, 5), Ok(5));
                bed.advance(ttl);
                assert_eq!(is_seen(&bed, key), [true; 5], "early: {ttl:?} {start:?}");
                assert_eq!(bed.store.try_increment(&key), Ok(6), "early: {ttl:?}");
                assert_eq!(bed.ends.count(), 0);

                bed.advance(ttl);
                assert_eq!(bed.store.get(&key), Some(6), "early: {ttl:?}");
                bed.advance(tick);
                assert_eq!(is_seen(&bed, key), [false; 5], "late: {ttl:?} {start:?}");
                assert_eq!(bed.store.try_increment(&key), Ok(1), "{ttl:?}");
                let end = End { count: 6, cause: Cause::Idle };
                assert_eq!(bed.ends.of(&key), [end], "{ttl:?}");
            }
        }
    }
}

#[test]
fn an_increment_itself_finds_that_its_key_is_over() {
    for ttl in ttls() {
        let bed = with_ttl(ttl);
        assert_eq!(bed.store.try_add(&1, 5), Ok(5));
        bed.advance(ttl + tick(ttl));
        assert_eq!(bed.store.try_add(&1, 2), Ok(2), "{ttl:?}");
        let end = End { count: 5, cause: Cause::Idle };
        assert_eq!(bed.ends.of(&1), [end], "{ttl:?}");
        assert_eq!(bed.store.len(), 1);
    }
}

#[test]
fn uses_put_it_off_and_looks_do_not() {
    type Look = fn(&Bed<u64>);
    let uses: [Look; 6] = [
        |bed| _ = bed.store.increment(&1),
        |bed| _ = bed.store.add(&1, 0),
        |bed| _ = bed.store.increment_owned(1),
        |bed| _ = bed.store.pin().add(&1, 0),
        |bed| _ = bed.store.counter(&1),
        |bed| _ = bed.store.try_add(&1, u64::MAX),
    ];
    for it in uses {
        let bed = with_ttl(TTL);
        bed.store.increment(&1);
        for _ in 0..5 {
            bed.advance(TTL * 3 / 4);
            it(&bed);
        }
        assert_eq!(bed.ends.count(), 0);
        assert!(bed.store.contains(&1));
    }
    let looks: [Look; 7] = [
        |bed| _ = bed.store.get(&1),
        |bed| _ = bed.store.contains(&1),
        |bed| _ = bed.store.pin().get(&1),
        |bed| _ = bed.store.snapshot(),
        |bed| _ = bed.store.top(1),
        |bed| _ = bed.store.totals(),
        |bed| _ = bed.store.prune(),
    ];
    for it in looks {
        let bed = with_ttl(TTL);
        bed.store.increment(&1);
        bed.advance(TTL * 3 / 4);
        it(&bed);
        assert!(bed.store.contains(&1));
        bed.advance(TTL / 4 + tick(TTL));
        it(&bed);
        assert!(!bed.store.contains(&1));
    }
}

#[test]
fn a_handle_looks_and_uses_as_the_store_does() {
    let bed = with_ttl(TTL);
    let counter = bed.store.counter(&1);
    for count in 1..=5 {
        bed.advance(TTL);
        assert_eq!(counter.increment(), count);
    }
    bed.advance(TTL * 3 / 4);
    assert_eq!(counter.get(), Some(5));
    bed.advance(TTL / 4 + tick(TTL));
    assert_eq!(counter.get(), None);
    let end = End { count: 5, cause: Cause::Idle };
    assert_eq!(bed.ends.of(&1), [end]);
    assert_eq!(counter.increment(), 1);
    bed.advance(TTL + tick(TTL));
    assert_eq!(counter.increment(), 1);
    assert_eq!(bed.ends.count(), 2);
}

// ---- who finds what is over ---------------------------------------------------------------------

/// As many idle lives as there is room for, but for `room` places.
fn idle_store(config: Config, room: u64) -> Bed<u64> {
    let bed = config.bed();
    for key in 0..config.capacity as u64 - room {
        assert_eq!(bed.store.try_add(&key, 2), Ok(2));
    }
    bed.advance(TTL + tick(TTL));
    bed
}

fn idle_configs() -> Vec<Config> {
    let with_ttl = |config: &Config| config.ttl.is_some();
    matrix(64).into_iter().filter(with_ttl).collect()
}

/// Does `step` until the store has no more than `few` lives. A tick passes with each: one that is
/// not over yet is not to be found, and each tick pays once.
fn until_few(bed: &Bed<u64>, few: usize, mut step: impl FnMut(u64)) {
    for i in 0.. {
        if bed.store.len() <= few {
            return;
        }
        assert!(i < 60_000, "{} are left: {:?}", bed.store.len(), bed.config);
        bed.advance(tick(TTL));
        step(i);
    }
}

fn all_were_idle(bed: &Bed<u64>, lives: u64) {
    assert_eq!(bed.ends.by(Cause::Idle), (lives, 2 * lives), "{:?}", bed.config);
    assert_eq!(bed.ends.count() as u64, lives, "{:?}", bed.config);
}

#[test]
fn snapshots_alone_find_them() {
    for config in idle_configs() {
        let bed = idle_store(config, 0);
        assert!(bed.store.snapshot().is_empty());
        assert_eq!(bed.store.len(), 0, "{config:?}");
        all_were_idle(&bed, config.capacity as u64);
        let bed = idle_store(config, 0);
        assert_eq!(bed.store.totals().live, 0);
        assert_eq!(bed.store.len(), 0, "{config:?}");
    }
}

/// One key is used over and over; nobody does anything else.
#[test]
fn hits_on_one_key_alone_find_them() {
    for config in idle_configs().into_iter().filter(|config| config.capacity > 1) {
        let bed = idle_store(config, 1);
        let hot = 1 << 40;
        assert_eq!(bed.store.try_increment(&hot), Ok(1));
        until_few(&bed, 1, |_| assert!(bed.store.increment(&hot) > 1));
        all_were_idle(&bed, config.capacity as u64 - 1);
    }
}

#[test]
fn hits_on_one_handle_alone_find_them() {
    for config in idle_configs().into_iter().filter(|config| config.capacity > 1) {
        let bed = idle_store(config, 1);
        let hot = bed.store.counter(&(1 << 40));
        until_few(&bed, 1, |i| assert_eq!(hot.increment(), i + 1));
        all_were_idle(&bed, config.capacity as u64 - 1);
    }
}

#[test]
fn reads_of_one_other_key_alone_find_them() {
    for config in idle_configs() {
        let bed = idle_store(config, 0);
        until_few(&bed, 0, |_| assert_eq!(bed.store.get(&(1 << 40)), None));
        all_were_idle(&bed, config.capacity as u64);
    }
}

#[test]
fn removals_of_one_missing_key_alone_find_them() {
    for config in idle_configs() {
        let bed = idle_store(config, 0);
        until_few(&bed, 0, |_| assert_eq!(bed.store.remove(&(1 << 40)), None));
        all_were_idle(&bed, config.capacity as u64);
    }
}

/// The store is full of lives that are over, and one new key wants in.
#[test]
fn one_new_key_gets_in_where_all_are_over() {
    for config in idle_configs() {
        let bed = idle_store(config, 0);
        let new = 1 << 40;
        let mut rejections = 0;
        while let Err(why) = bed.store.try_increment(&new) {
            assert_eq!((why, config.at_capacity), (Rejected::Capacity, AtCapacity::Reject));
            rejections += 1;
            assert!(rejections < 5_000, "never let in: {config:?}");
        }
        assert_eq!(bed.ends.by(Cause::Capacity), (0, 0), "{config:?}");
        assert!(bed.ends.by(Cause::Idle).0 > 0, "{config:?}");
    }
}

/// There is room, so nobody needs to be evicted; each new key is used once.
#[test]
fn admissions_alone_find_them_before_the_store_is_full() {
    for config in idle_configs() {
        // Of one chain only the newest entries are looked at: see the next test.
        if config.capacity < 64 || config.spread == Spread::Colliding {
            continue;
        }
        let bed = config.bed::<u64>();
        let per_ttl = config.capacity as u32 / 4;
        for key in 0..20 * u64::from(per_ttl) {
            assert_eq!(bed.store.try_increment(&key), Ok(1), "{config:?}");
            bed.advance(TTL / per_ttl);
        }
        assert_eq!(bed.ends.by(Cause::Capacity), (0, 0), "{config:?}");
        assert_eq!(bed.store.stats().rejections, 0, "{config:?}");
        assert!(bed.ends.by(Cause::Idle).0 >= 16 * u64::from(per_ttl), "{config:?}");
    }
}

/// A poor hasher costs speed, never correctness: also where the newest entries of the one chain
/// stay in use.
#[test]
fn one_new_key_gets_in_over_a_long_chain() {
    for shards in [1, 16] {
        let config = Config {
            ttl: Some(TTL),
            at_capacity: AtCapacity::Reject,
            spread: Spread::Colliding,
            ..Config::plain(64, shards)
        };
        let bed = idle_store(config, 8);
        for _ in 0..200 {
            for hot in 100..108 {
                assert!(bed.store.try_increment(&hot).is_ok());
            }
            bed.advance(tick(TTL));
        }
        assert_eq!(bed.store.try_increment(&(1 << 40)), Ok(1), "{config:?}");
    }
}

// ---- at capacity, backwards, in a race ----------------------------------------------------------

#[test]
fn an_expired_key_carries_its_own_room_over() {
    for shards in [1, 16] {
        for capacity in [1, 2, 7] {
            let config = Config {
                ttl: Some(TTL),
                at_capacity: AtCapacity::Reject,
                ..Config::plain(capacity, shards)
            };
            for key in 0..capacity as u64 {
                let bed = idle_store(config, 0);
                assert_eq!(bed.store.try_add(&key, 9), Ok(9), "{config:?}");
                let end = End { count: 2, cause: Cause::Idle };
                assert_eq!(bed.ends.of(&key), [end]);
                assert!(bed.store.len() <= capacity);
                let handle = bed.store.counter(&key);
                bed.advance(TTL + tick(TTL));
                assert_eq!(handle.add(4), 4, "{config:?}");
                assert_eq!(bed.store.stats().rejections, 0, "{config:?}");
            }
        }
    }
}

#[test]
fn a_clock_that_goes_backwards_does_no_harm() {
    for config in idle_configs() {
        let bed = config.bed::<u64>();
        let mock = bed.mock.as_ref().expect("a TTL");
        mock.increment(10 * TTL);
        assert_eq!(bed.store.try_increment(&1), Ok(1));
        // Also to before the store was built.
        for back in [TTL / 2, TTL, 5 * TTL, Duration::from_nanos(mock.value()) - 7 * TTL] {
            mock.decrement(back);
            let count = bed.store.get(&1).expect("time went back");
            assert_eq!(bed.store.try_increment(&1), Ok(count + 1), "{config:?}");
            assert_eq!(bed.store.snapshot().get(&1), Some(count + 1));
            assert_eq!(bed.store.prune(), 0);
        }
        assert_eq!(bed.ends.count(), 0, "{config:?}");
        // Forward again: idle since the latest time at which it was used.
        mock.increment(11 * TTL - Duration::from_nanos(mock.value()));
        assert_eq!(bed.store.get(&1), Some(5), "{config:?}");
        mock.increment(100 * TTL);
        assert_eq!(bed.store.try_increment(&1), Ok(1), "{config:?}");
        assert_eq!(bed.ends.by(Cause::Idle), (1, 5), "{config:?}");
    }
}

#[test]
fn a_clock_that_starts_anywhere() {
    for start in [0, 1, u64::MAX / 4, u64::MAX / 2] {
        let (clock, mock) = Clock::mock();
        mock.increment(start);
        let builder = CounterStore::<u64>::builder().capacity(4);
        let store = builder.clock(clock).idle_ttl(TTL).build().expect("a store");
        store.increment(&1);
        mock.increment(TTL);
        assert_eq!(store.increment(&1), 2, "{start}");
        mock.increment(TTL + tick(TTL));
        assert_eq!(store.increment(&1), 1, "{start}");
    }
}

/// Each key is used in each round, a third of a TTL passes in each: nobody is ever idle for long.
#[test]
fn never_early_while_time_passes_under_the_increments() {
    for config in idle_configs().into_iter().filter(|config| config.capacity <= 64) {
        let bed = &config.bed::<u64>();
        let (barrier, rounds) = (&Barrier::new(3), 20);
        let keys = config.capacity as u64;
        // Admissions of one key that race may cost a neighbour; here nothing may.
        (0..keys).for_each(|key| assert_eq!(bed.store.try_add(&key, 0), Ok(0)));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(move || {
                    for _ in 0..rounds {
                        barrier.wait();
                        for key in 0..keys {
                            assert!(bed.store.try_increment(&key).is_ok(), "{config:?}");
                        }
                    }
                });
            }
            for _ in 0..rounds {
                barrier.wait();
                for _ in 0..30 {
                    bed.advance(TTL / 90);
                    bed.store.prune();
                }
            }
        });
        assert_eq!(bed.ends.count(), 0, "{config:?}");
        for key in 0..keys {
            assert_eq!(bed.store.get(&key), Some(2 * rounds), "{config:?}");
        }
    }
}

/// A reader knows, before it looks, what time it is; and after it, when the key was last used at
/// the latest.
#[test]
fn never_late_while_time_passes_under_the_increments() {
    for config in idle_configs().into_iter().filter(|config| [2, 64].contains(&config.capacity)) {
        let bed = &config.bed::<u64>();
        let mock = bed.mock.as_ref().expect("a TTL");
        // u64::MAX while a use is under way.
        let (used, stop) = (&AtomicU64::new(0), &AtomicBool::new(false));
        let late = u64::try_from((TTL + tick(TTL)).as_nanos()).expect("nanoseconds");
        thread::scope(|scope| {
            scope.spawn(move || {
                let _stop = SetOnDrop(stop);
                let mut rng = Rng::new(3);
                for _ in 0..100 {
                    let before = used.swap(u64::MAX, SeqCst);
                    // Rejected where the reader has ended the old life and has its room still.
                    let result = bed.store.try_increment(&0);
                    let now = if result.is_ok() { mock.value() } else { before };
                    used.store(now, SeqCst);
                    for _ in 0..rng.below(4) {
                        mock.increment(TTL * 2 / 5);
                    }
                    thread::yield_now();
                }
            });
            let looks: [fn(&Bed<u64>) -> bool; 3] = [
                |bed| bed.store.get(&0).is_some(),
                |bed| bed.store.pin().get(&0).is_some(),
                |bed| bed.store.snapshot().get(&0).is_some(),
            ];
            while !stop.load(Relaxed) {
                for look in looks {
                    let time = mock.value();
                    let seen = look(bed);
                    let used = used.load(SeqCst);
                    if seen && used != u64::MAX {
                        assert!(used + late > time, "{used} {time} {config:?}");
                    }
                }
            }
        });
    }
}

/// An idle life that nobody asks for is found by admissions of other keys, however the hand's steps
/// fell before: in a store that rejects it would hold its room.
#[test]
fn traffic_finds_an_idle_life_wherever_the_hand_stands() {
    let (ttl, tick) = (64_000, 1024);
    for seed in 1..=60_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) % n
        };
        for capacity in [3, 40] {
            let (clock, mock) = quanta::Clock::mock();
            let store = CounterStore::<u64>::builder()
                .capacity(capacity as usize)
                .shards(1)
                .at_capacity(AtCapacity::Reject)
                .idle_ttl(Duration::from_nanos(ttl))
                .clock(clock)
                .build()
                .expect("valid");
            (0..capacity).for_each(|key| _ = store.increment(&key));
            let idle = below(capacity);
            let (mut now, mut last) = (0, 0);
            while now <= last + ttl + 2 * tick {
                let step = below(ttl / 6);
                mock.increment(step);
                now += step;
                if now < last + ttl && now < 5 * ttl && below(3) == 0 {
                    assert!(store.try_increment(&idle).is_ok_and(|count| count > 1));
                    last = now;
                }
                for key in (0..capacity).filter(|&key| key != idle) {
                    assert!(store.try_increment(&key).is_ok());
                    if below(20) == 0 {
                        // The first reader of a tick makes several steps.
                        mock.increment(tick);
                        now += tick;
                        assert_eq!(store.get(&(5000 + key)), None);
                    }
                }
            }
            let found = store.stats().expired == 1
                || (0..3000).any(|n| store.try_increment(&(1_000_000 + n)).is_ok());
            assert!(found, "seed {seed}, capacity {capacity}");
        }
    }
}
