//! The store beside a naive writing of its policy (`harness::Duel`) on long traces, and the work
//! that it does for it.

use crate::clock_list::{DRAIN, HEED};
use crate::harness::Duel;
use crate::sweep::{MAX_DEAD, MAX_VISITS};
use crate::{AtCapacity, CounterStore};

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Skewed keys with scans in between; `spread` is about how many there are.
fn key(rng: &mut u64, step: u64, spread: u64) -> u64 {
    match step / 1000 % 4 {
        0 => step % (spread * 3),
        _ => {
            let wide = xorshift(rng) % spread + 1;
            xorshift(rng) % wide
        }
    }
}

/// `uses`: one in so many keys is used again a random number of times, up to this.
fn play(capacity: usize, seed: u64, steps: u64, removals: bool, uses: u64) {
    let mut duel = Duel::new(capacity);
    let mut rng = seed;
    let spread = capacity as u64 * 5 + 3;
    for step in 0..steps {
        let key = key(&mut rng, step, spread);
        if removals && xorshift(&mut rng).is_multiple_of(10) {
            duel.remove(key);
            continue;
        }
        let again =
            if xorshift(&mut rng).is_multiple_of(20) { xorshift(&mut rng) % uses } else { 0 };
        for _ in 0..=again {
            duel.increment(key);
        }
        if step % 512 == 0 {
            duel.check();
        }
    }
    duel.check();
    let stats = duel.store().stats();
    assert_eq!(stats.rejections, 0);
    if capacity > 2 {
        assert!(stats.evicted > steps / 100, "the test evicts: {stats:?}");
    }
}

#[test]
fn evicts_what_the_twin_evicts() {
    for capacity in [1, 2, 3, 7, 16, 64, 200, 1000] {
        for seed in 1..4 {
            play(capacity, seed, 20_000, false, 40);
        }
    }
}

#[test]
fn evicts_what_the_twin_evicts_with_removals_between() {
    for capacity in [1, 2, 7, 64, 200] {
        for seed in 1..4 {
            play(capacity, seed, 20_000, true, 40);
        }
    }
}

/// Trap 9, a field of uses wraps: both count uses modulo its range.
#[test]
fn evicts_what_the_twin_evicts_where_uses_wrap() {
    for capacity in [3, 20] {
        play(capacity, 5, 4_000, false, 3000);
    }
}

/// The documented bound on the work of one admission: its own shard's lists, taken once to evict
/// and once to settle.
#[test]
fn an_admission_takes_a_bounded_number_of_hand_steps() {
    let bound = (2 * (DRAIN + HEED) + MAX_VISITS + MAX_DEAD) as u64;
    for capacity in [1, 2, 7, 64, 2048] {
        let duel = Duel::new(capacity);
        let store = duel.store();
        let engine = &store.inner.engine;
        let (mut rng, mut worst, mut before) = (9, 0, engine.steps());
        let admissions = 50_000;
        for step in 0..admissions {
            // Everything in the store is in use all the time: the hand has the most to do.
            let key = step + (1 << 32);
            store.increment(&key);
            for _ in 0..3 {
                store.increment(
                    &(step - xorshift(&mut rng) % (step + 1).min(capacity as u64) + (1 << 32)),
                );
            }
            let now = engine.steps();
            worst = worst.max(now - before);
            before = now;
        }
        // Up to four admissions since the last look.
        assert!(worst <= 4 * bound, "capacity {capacity}: {worst} steps");
        let stats = store.stats();
        let mean = before as f64 / stats.admitted as f64;
        assert!(mean <= 8.0, "capacity {capacity}: {mean} steps an admission");
        assert_eq!(stats.rejections, 0);
    }
}

/// Removals leave nothing behind in the lists, so a store that never fills stays small, step by
/// step.
#[test]
fn a_removal_takes_a_bounded_number_of_hand_steps() {
    let duel = Duel::new(2048);
    let store = duel.store();
    let engine = &store.inner.engine;
    let mut before = engine.steps();
    for key in 0..50_000 {
        store.increment(&key);
        store.remove(&key);
        let now = engine.steps();
        assert!(now - before <= (2 * (DRAIN + HEED)) as u64);
        before = now;
    }
    assert!(before <= 2 * 50_000, "{before} steps");
    engine.validate();
}

/// With `Reject` the hand never moves.
#[test]
fn rejecting_moves_no_hand() {
    let store = CounterStore::<u64>::builder()
        .capacity(64)
        .at_capacity(AtCapacity::Reject)
        .build()
        .unwrap();
    for key in 0..64 {
        store.increment(&key);
    }
    let before = store.inner.engine.steps();
    for key in 64..10_000 {
        assert!(store.try_increment(&key).is_err());
    }
    assert_eq!(store.inner.engine.steps(), before);
    assert_eq!((store.len(), store.stats().rejections), (64, 10_000 - 64));
}
