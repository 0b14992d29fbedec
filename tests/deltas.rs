//! What was added per key between two snapshots, by lives that are followed outside.

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use common::lives::{Lives, Shown, Step};
use common::{Config, Rng, SetOnDrop, TTL};
use counterclock::{AtCapacity, CounterStore, Deltas, SinceError, Snapshot};
use proptest::prelude::*;

fn sorted(deltas: &Deltas<'_, u64>) -> Vec<(u64, u64)> {
    let mut all: Vec<_> = deltas.iter().map(|(&key, units)| (key, units)).collect();
    all.sort_unstable();
    all
}

/// By lives: what each was at, and what it is at now or was at when it ended.
fn expected(earlier: &Shown, later: &Shown, finals: &[u64], dropped: bool) -> HashMap<u64, u64> {
    let mut units = HashMap::<u64, u64>::new();
    for (key, &(life, then)) in earlier {
        let now = match later.get(key) {
            Some(&(same, now)) if same == life => now,
            None if dropped => continue,
            _ => finals[life],
        };
        *units.entry(*key).or_default() += now - then;
    }
    for (key, &(life, now)) in later {
        if earlier.get(key).is_none_or(|&(other, _)| other != life) {
            *units.entry(*key).or_default() += now;
        }
    }
    units.retain(|_, units| *units > 0);
    units
}

#[test]
fn what_debug_shows() {
    let store = CounterStore::<u64>::new(4);
    let earlier = store.snapshot();
    store.add(&7, 3);
    let later = store.snapshot();
    let shown = format!("{:?}", later.since(&earlier).expect("in order"));
    assert_eq!(shown, "Deltas { deltas: [(7, 3)], unattributed: 0, .. }");
}

#[test]
fn each_kind_of_life() {
    let store = CounterStore::<u64>::new(64);
    for (key, n) in [(1, 5), (2, 7), (3, 9), (4, 11)] {
        store.add(&key, n);
    }
    let earlier = store.snapshot();
    store.add(&1, 2);
    // Ended, with and without more; and back again.
    store.remove(&2);
    store.add(&3, 1);
    store.remove(&3);
    store.add(&3, 20);
    // Begun; begun and ended; nothing was added.
    store.add(&5, 3);
    store.add(&6, 4);
    store.remove(&6);
    store.add(&7, 0);
    let later = store.snapshot();
    // After the later one: what that shows of it stays.
    store.add(&1, 100);
    store.remove(&1);
    store.add(&5, 100);

    let deltas = later.since(&earlier).expect("in order");
    assert_eq!(sorted(&deltas), [(1, 2), (3, 21), (5, 3)]);
    assert_eq!((deltas.unattributed(), deltas.recorded()), (4, 30));
    assert_eq!((deltas.len(), deltas.is_empty()), (3, false));
    assert_eq!([1, 2, 3, 6].map(|key| deltas.get(&key)), [2, 0, 21, 0]);
    assert_eq!(deltas.top(2), [(&3, 21), (&5, 3)]);
    assert_eq!(deltas.into_iter().map(|(_, units)| units).sum::<u64>(), 26);
}

#[test]
fn only_of_one_store_and_in_order() {
    let stores = [(); 2].map(|()| CounterStore::<u64>::new(8));
    let [a, b] = stores.each_ref().map(CounterStore::snapshot);
    assert_eq!(b.since(&a).err(), Some(SinceError::OtherStore));
    assert_eq!(a.since(&a).err(), Some(SinceError::NotEarlier));
    let later = stores[0].snapshot();
    assert_eq!(a.since(&later).err(), Some(SinceError::NotEarlier));
    assert!(later.since(&a).is_ok_and(|deltas| deltas.is_empty()));
    // A clone is the same store.
    assert!(stores[0].clone().snapshot().since(&a).is_ok());
    assert!(SinceError::OtherStore.to_string().contains("different stores"));
    assert!(SinceError::NotEarlier.to_string().contains("not complete"));
}

#[test]
fn a_snapshot_keeps_what_it_is_told_to() {
    let store = CounterStore::<u64>::new(64);
    (0..10).for_each(|key| _ = store.add(&key, key));
    let mut snapshot = store.snapshot();
    let totals = snapshot.totals();
    snapshot.retain(|&key, count| {
        assert_eq!(key, count);
        key % 3 == 0
    });
    let mut kept: Vec<u64> = snapshot.iter().map(|(&key, _)| key).collect();
    kept.sort_unstable();
    assert_eq!((kept, snapshot.totals()), (vec![0, 3, 6, 9], totals));
    // A panic drops nothing.
    let retained = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        snapshot.retain(|&key, _| if key == 6 { panic!("as asked") } else { false });
    }));
    assert!(retained.is_err());
    assert_eq!(snapshot.len(), 4);
    snapshot.retain(|_, _| false);
    assert!(snapshot.is_empty());
}

/// What a snapshot lets go of is freed: its entries do not pile up.
#[test]
fn what_is_let_go_of_is_freed() {
    let _turn = common::serially();
    let store = CounterStore::<std::sync::Arc<u64>>::builder().capacity(1000).build().expect("one");
    let keys: Vec<_> = (0..1000).map(std::sync::Arc::new).collect();
    for key in &keys {
        store.increment_owned(key.clone());
    }
    let mut snapshot = store.snapshot();
    store.clear();
    let held = |keys: &[std::sync::Arc<u64>]| {
        keys.iter().filter(|key| std::sync::Arc::strong_count(key) > 1).count()
    };
    assert_eq!(held(&keys), 1000);
    snapshot.retain(|key, _| **key < 10);
    // As often as it takes: other tests hold pins, each for a moment.
    (0..100_000).take_while(|_| held(&keys) > 10).for_each(|_| _ = store.prune());
    assert_eq!(held(&keys), 10, "held, and no more");
    assert_eq!(snapshot.len(), 10);
}

fn configs() -> impl Strategy<Value = Config> {
    let capacity = prop::sample::select(vec![1, 2, 5, 16]);
    (capacity, any::<bool>(), any::<bool>()).prop_map(|(capacity, ttl, rejects)| Config {
        ttl: ttl.then_some(TTL),
        at_capacity: if rejects { AtCapacity::Reject } else { AtCapacity::Evict },
        ..Config::plain(capacity, 4)
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..8_u64, 0..5_u64).prop_map(|(key, n)| Step::Add(key, n)),
        3 => (0..8_u64).prop_map(Step::Remove),
        1 => Just(Step::Clear),
        1 => Just(Step::Prune),
        3 => (1..10_u32).prop_map(Step::Advance),
    ];
    prop::collection::vec(step, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any history, any two of its snapshots, either of which may have dropped some keys.
    #[test]
    fn deltas_are_what_lives_have_grown_by(
        config in configs(),
        history in prop::collection::vec((steps(), any::<Option<u8>>()), 2..6),
    ) {
        let mut lives = Lives::new(config);
        let mut taken: Vec<(Snapshot<u64>, Shown, u64, bool)> = Vec::new();
        for (steps, keep) in history {
            for step in steps {
                lives.play(step);
            }
            let mut snapshot = lives.store.snapshot();
            let mut shown = lives.shown(&snapshot);
            prop_assert_eq!(snapshot.totals().recorded, lives.recorded);
            let all = shown.len();
            if let Some(keep) = keep {
                snapshot.retain(|key, _| keep >> key & 1 == 1);
                shown.retain(|key, _| keep >> key & 1 == 1);
            }
            let dropped = shown.len() < all;
            taken.push((snapshot, shown, lives.recorded, dropped));
        }
        for later in 1..taken.len() {
            for earlier in 0..later {
                let [earlier, later] = [&taken[earlier], &taken[later]];
                let mut units = expected(&earlier.1, &later.1, &lives.counts, later.3);
                if earlier.3 {
                    units.retain(|key, _| earlier.1.contains_key(key));
                }
                let deltas = later.0.since(&earlier.0).expect("in order");
                let found: HashMap<u64, u64> = deltas.iter().map(|(&key, n)| (key, n)).collect();
                prop_assert_eq!(found.len(), deltas.len(), "a key twice");
                prop_assert_eq!(&found, &units);
                let recorded = later.2 - earlier.2;
                prop_assert_eq!(deltas.recorded(), recorded);
                prop_assert_eq!(deltas.unattributed(), recorded - units.values().sum::<u64>());
                prop_assert!(earlier.0.since(&later.0).is_err());
            }
        }
    }
}

/// While threads count, only keys that the last snapshot shows are removed: so no life is missed,
/// and every unit belongs to a key. Each key's deltas add up to what its adders have added.
#[test]
fn with_threads_every_unit_is_its_keys() {
    const KEYS: usize = 48;
    let store = &CounterStore::<u64>::new(4096);
    let added = &[const { AtomicU64::new(0) }; KEYS];
    let stop = &AtomicBool::new(false);
    let snapshots = thread::scope(|scope| {
        let stopping = SetOnDrop(stop);
        for seed in 1..4 {
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                let striped = store.striped(&0);
                while !stop.load(SeqCst) {
                    let (key, n) = (rng.below(KEYS as u64), rng.below(9));
                    match key {
                        0 => striped.add(n),
                        _ => assert!(store.try_add(&key, n).is_ok()),
                    }
                    added[key as usize].fetch_add(n, Relaxed);
                }
            });
        }
        let (mut rng, mut snapshots) = (Rng::new(9), vec![store.snapshot()]);
        // Until enough has come of the threads.
        while snapshots.len() < 60 || (snapshots.len() < 10_000 && store.stats().removed < 200) {
            let last = &snapshots[snapshots.len() - 1];
            for (key, _) in last.iter().filter(|_| rng.below(4) == 0) {
                assert!(store.remove(key).is_some());
            }
            thread::yield_now();
            snapshots.push(store.snapshot());
        }
        drop(stopping);
        snapshots
    });
    let last = store.snapshot();
    let mut sums = [0; KEYS];
    let mut sum = 0;
    for (earlier, later) in snapshots.iter().zip(snapshots[1..].iter().chain([&last])) {
        let deltas = later.since(earlier).expect("in order");
        assert_eq!(deltas.unattributed(), 0);
        for (&key, units) in deltas.iter() {
            sums[key as usize] += units;
            sum += units;
        }
    }
    for (&key, count) in &snapshots[0] {
        sums[key as usize] += count;
        sum += count;
    }
    assert_eq!(sums, added.each_ref().map(|n| n.load(SeqCst)));
    assert_eq!(sum, store.totals().recorded);
    assert!(store.stats().removed >= 200, "nothing was removed");
}

/// Everything at once: what is attributed is never more than what was recorded.
#[test]
fn with_threads_and_evictions_nothing_is_attributed_twice() {
    let config = Config { ttl: Some(TTL), ..Config::plain(32, 4) };
    let bed = &config.bed::<u64>();
    let stop = &AtomicBool::new(false);
    let unattributed = thread::scope(|scope| {
        let stopping = SetOnDrop(stop);
        for seed in 1..4 {
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                while !stop.load(SeqCst) {
                    let key = rng.below(100);
                    bed.store.add(&key, rng.below(50));
                    match rng.below(100) {
                        0..9 => _ = bed.store.remove(&key),
                        9 => bed.advance(Duration::from_millis(5)),
                        _ => {}
                    }
                }
            });
        }
        let (mut earlier, mut unattributed) = (bed.store.snapshot(), 0);
        // Until enough has come of the threads.
        let mut rounds = 0;
        while rounds < 300 || (rounds < 100_000 && unattributed == 0) {
            rounds += 1;
            let later = bed.store.snapshot();
            let deltas = later.since(&earlier).expect("in order");
            let sum: u64 = deltas.iter().map(|(_, units)| units).sum();
            assert!(sum <= deltas.recorded(), "{sum} of {}", deltas.recorded());
            assert_eq!(sum + deltas.unattributed(), deltas.recorded());
            unattributed += deltas.unattributed();
            drop(deltas);
            earlier = later;
        }
        drop(stopping);
        unattributed
    });
    assert!(unattributed > 0, "no life was short");
}
