//! Snapshots and totals are exact, by tallies kept outside, while others add, evict, remove and
//! expire.

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;

use common::{Bed, Config, Key, Rng, SetOnDrop, TTL, live, matrix, serially};
use counterclock::{CounterStore, Totals};

/// Units of calls that were begun, and of those that have returned.
#[derive(Default)]
struct Books {
    begun: AtomicU64,
    done: AtomicU64,
}

fn churn(bed: &Bed<u64>, books: &Books, seed: u64) {
    let mut rng = Rng::new(seed);
    let store = &bed.store;
    let handle = store.counter(&1);
    for _ in 0..500 + bed.config.capacity / 2 {
        let key = rng.below(2 * bed.config.capacity as u64 + 1);
        let n = rng.below(50);
        // Rejected units are counted as well, as rejected.
        books.begun.fetch_add(n, SeqCst);
        match rng.below(8) {
            0 => _ = handle.add(n),
            1 => _ = store.pin().add(&key, n),
            _ => _ = store.add(&key, n),
        }
        books.done.fetch_add(n, SeqCst);
        match rng.below(100) {
            0..10 => _ = store.remove(&key),
            10..13 => bed.advance(TTL / 9),
            13 => _ = store.prune(),
            14 if n == 0 => store.clear(),
            _ => {}
        }
    }
}

fn parts(totals: Totals) -> u64 {
    totals.live + totals.evicted + totals.expired + totals.removed + totals.rejected
}

/// Takes one after the other and holds each to the books and to the last one.
fn watch(bed: &Bed<u64>, books: &Books, stop: &AtomicBool) -> u64 {
    let (mut last, mut taken) = (Totals::default(), 0);
    while !stop.load(SeqCst) {
        let before = books.done.load(SeqCst);
        let totals = if taken % 2 == 0 {
            let snapshot = bed.store.snapshot();
            live(&snapshot);
            snapshot.totals()
        } else {
            bed.store.totals()
        };
        let after = books.begun.load(SeqCst);
        assert_eq!(totals.recorded, parts(totals));
        let between = before..=after;
        assert!(between.contains(&totals.recorded), "{totals:?} {between:?}");
        for (now, then) in [
            (totals.recorded, last.recorded),
            (totals.evicted, last.evicted),
            (totals.expired, last.expired),
            (totals.removed, last.removed),
            (totals.rejected, last.rejected),
        ] {
            assert!(now >= then, "{totals:?} after {last:?}");
        }
        last = totals;
        taken += 1;
    }
    taken
}

fn bracketed(config: Config) {
    let bed = &config.bed::<u64>();
    let (books, stop) = (&Books::default(), &AtomicBool::new(false));
    let taken = thread::scope(|scope| {
        let stopping = SetOnDrop(stop);
        let watcher = scope.spawn(move || watch(bed, books, stop));
        let churners = [1, 2].map(|seed| scope.spawn(move || churn(bed, books, seed)));
        for churner in churners {
            churner.join().expect("a churner");
        }
        drop(stopping);
        watcher.join().expect("a watcher")
    });
    TAKEN.fetch_add(taken, Relaxed);
    let totals = bed.store.snapshot().totals();
    assert_eq!(totals.recorded, books.done.load(SeqCst), "{config:?}");
    assert_eq!(totals.recorded, parts(totals), "{config:?}");
    for (cause, units) in [
        (counterclock::Cause::Capacity, totals.evicted),
        (counterclock::Cause::Idle, totals.expired),
        (counterclock::Cause::Removed, totals.removed),
    ] {
        assert_eq!(bed.ends.by(cause).1, units, "{config:?}");
    }
}

static TAKEN: AtomicU64 = AtomicU64::new(0);

#[test]
fn between_what_was_done_before_and_begun_after() {
    let _turn = serially();
    let configs = matrix(64);
    let runs = configs.len() as u64;
    configs.into_iter().for_each(bracketed);
    assert!(TAKEN.load(Relaxed) > runs, "hardly any were taken");
}

/// Per key: what a snapshot shows is between what had been returned before and what was returned
/// after.
#[test]
fn each_key_is_between_its_own_books() {
    let _turn = serially();
    for shards in [1, 16] {
        let bed = &Config::plain(64, shards).bed::<u64>();
        let counts = &[const { AtomicU64::new(0) }; 16];
        let stop = &AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(move || {
                let _stop = SetOnDrop(stop);
                for i in 0..20_000 {
                    let key = i % 16;
                    counts[key].store(bed.store.increment(&(key as u64)), SeqCst);
                }
            });
            while !stop.load(SeqCst) {
                let read = || counts.each_ref().map(|count| count.load(SeqCst));
                let before = read();
                let shown = live(&bed.store.snapshot());
                let after = read();
                for key in 0..16 {
                    let shown = *shown.get(&(key as u64)).unwrap_or(&0);
                    // One more may have been counted and not yet noted.
                    assert!((before[key]..=after[key] + 1).contains(&shown), "{key} {shown}");
                }
            }
        });
        assert_eq!(bed.store.totals().live, 20_000);
    }
}

#[test]
fn what_it_shows_is_what_there_is() {
    let _turn = serially();
    for config in matrix(64) {
        shows::<u64>(config);
        shows::<String>(config);
    }
}

fn shows<K: Key>(config: Config) {
    let bed = config.bed::<K>();
    let mut expected = HashMap::new();
    for i in 0..config.capacity as u64 {
        bed.store.add(&K::nth(i), i * i % 97);
        expected.insert(K::nth(i), i * i % 97);
    }
    let snapshot = bed.store.snapshot();
    assert_eq!(live(&snapshot), expected, "{config:?}");
    assert_eq!((snapshot.len(), snapshot.is_empty()), (expected.len(), false));
    assert_eq!(snapshot.iter().len(), expected.len());
    assert_eq!(snapshot.get(&K::nth(0)), Some(0));
    assert_eq!(snapshot.get(&K::nth(1 << 40)), None);

    for n in [0, 1, 2, config.capacity / 2, config.capacity, config.capacity + 5, usize::MAX] {
        let mut counts: Vec<u64> = expected.values().copied().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts.truncate(n);
        let shown = snapshot.top(n);
        assert_eq!(shown.iter().map(|top| top.1).collect::<Vec<_>>(), counts);
        assert!(shown.iter().all(|&(key, count)| expected[key] == count));
        let owned: HashMap<K, u64> = bed.store.top(n).into_iter().collect();
        assert_eq!(owned.len(), counts.len(), "no key twice");
        assert!(owned.iter().all(|(key, count)| expected[key] == *count));
        let order: Vec<u64> = bed.store.top(n).iter().map(|top| top.1).collect();
        assert_eq!(order, counts);
    }

    // It shows what was, whatever becomes of the store.
    bed.store.clear();
    bed.store.increment(&K::nth(0));
    assert_eq!(live(&snapshot), expected);
    let mut by_reference = HashMap::new();
    for (key, count) in &snapshot {
        by_reference.insert(key.clone(), count);
    }
    let by_value: HashMap<K, u64> = snapshot.into_iter().collect();
    assert_eq!((&by_reference, &by_value), (&expected, &expected));
}

#[test]
fn a_snapshot_and_a_handle_outlive_the_store() {
    let _turn = serially();
    for config in matrix(64) {
        let bed = config.bed::<String>();
        let key = String::nth(0);
        assert_eq!(bed.store.try_add(&key, 3), Ok(3));
        let first = bed.store.snapshot();
        // Held when it ends, too.
        bed.store.remove(&key);
        assert_eq!(bed.store.try_add(&key, 4), Ok(4));
        let second = bed.store.snapshot();
        let handle = bed.store.counter(&key);
        let weak = bed.store.downgrade();
        drop(bed);
        assert!(weak.upgrade().is_some(), "the handle keeps it");
        let third = handle.increment();
        drop(handle);
        assert!(weak.upgrade().is_none(), "a snapshot does not keep it");
        assert_eq!(third, 5);
        let (one, two) = (live(&first), live(&second));
        assert_eq!((one[&key], two[&key]), (3, 4));
        assert_eq!(second.totals().removed, 3);
        // On another thread, too.
        thread::spawn(move || drop(first)).join().expect("a drop");
        assert_eq!(second.into_iter().collect::<Vec<_>>(), [(key, 4)]);
    }
}

#[test]
fn of_an_empty_store() {
    let _turn = serially();
    let store = CounterStore::<u64>::new(9);
    let snapshot = store.snapshot();
    assert!(snapshot.is_empty() && snapshot.top(3).is_empty());
    assert_eq!((snapshot.len(), snapshot.totals()), (0, Totals::default()));
    assert_eq!((store.top(3), store.totals()), (vec![], Totals::default()));
    assert_eq!(format!("{snapshot:?}"), "{}");
}

/// It pins again for each part of the store, so that what ends meanwhile is freed: no admission is
/// rejected.
#[test]
fn a_large_store_admits_while_it_is_read() {
    let _turn = serially();
    let capacity = 100_000;
    let builder = CounterStore::<u64>::builder().capacity(capacity);
    // With the default slack.
    let store = &builder.build().expect("a store");
    for key in 0..capacity as u64 {
        assert_eq!(store.try_increment(&key), Ok(1));
    }
    let stop = &AtomicBool::new(false);
    let sum = thread::scope(|scope| {
        let stopping = SetOnDrop(stop);
        let churner = scope.spawn(move || {
            let mut key = capacity as u64;
            while !stop.load(SeqCst) {
                assert_eq!(store.try_increment(&key), Ok(1), "rejected");
                key += 1;
            }
            key
        });
        for _ in 0..3 {
            let snapshot = store.snapshot();
            assert!(snapshot.len() > capacity / 2);
            assert!(live_sum(&snapshot) > 0);
        }
        drop(stopping);
        churner.join().expect("the churner")
    });
    assert!(sum > capacity as u64, "it never came to run");
    assert_eq!(store.stats().rejections, 0);
    assert_eq!(store.totals().recorded, sum);
}

fn live_sum(snapshot: &counterclock::Snapshot<u64>) -> u64 {
    let sum = snapshot.iter().map(|(_, count)| count).sum();
    assert_eq!(sum, snapshot.totals().live);
    sum
}
