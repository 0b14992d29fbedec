//! The known traps that no other file plays, by their numbers; `docs/IMPLEMENTATION.md` says where
//! the others are.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use common::{serially, until_freed};
use counterclock::{CounterStore, quanta};

/// A key that counts how many of its kind are alive.
#[derive(PartialEq, Eq, Hash)]
struct Counted(u64, Alive);

struct Alive(Arc<AtomicUsize>);

impl PartialEq for Alive {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Alive {}

impl std::hash::Hash for Alive {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Counted {
    fn new(n: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(n, Alive(Arc::clone(alive)))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Another crate that is pinned on the epoch crate's default collector does not stop our frees.
#[test]
fn trap_3_another_crates_pin_stops_nothing() {
    let _turn = serially();
    let _theirs = crossbeam_epoch::pin();
    let store = CounterStore::<u64>::builder().capacity(8).slack(1000).build().expect("valid");
    for key in 0..100_000 {
        store.increment(&key);
    }
    let stats = store.stats();
    assert_eq!((stats.rejections, stats.evicted), (0, 99_992));
}

/// A thread that keeps using one key slowly keeps it alive, however rarely anything happens.
#[test]
fn trap_8_a_key_in_slow_use_stays() {
    let _turn = serially();
    let (clock, mock) = quanta::Clock::mock();
    let ttl = Duration::from_secs(64);
    let store = CounterStore::<u64>::builder()
        .capacity(8)
        .idle_ttl(ttl)
        .clock(clock)
        .build()
        .expect("valid");
    let handle = store.counter(&2);
    for n in 1..100 {
        assert_eq!(store.increment(&1), n);
        assert_eq!(handle.increment(), n);
        mock.increment(ttl);
    }
}

/// A batch of new keys under one pin does not hold on to its own garbage.
#[test]
fn trap_12_a_batch_of_new_keys_under_one_pin() {
    let _turn = serially();
    let store = CounterStore::<u64>::builder().capacity(8).slack(1000).build().expect("valid");
    let pinned = store.pin();
    for key in 0..100_000 {
        assert_eq!(pinned.increment(&key), 1);
    }
    drop(pinned);
    assert_eq!(store.stats().rejections, 0);
}

/// What was deferred outlives its store, and touches nothing of it.
#[test]
fn trap_13_deferred_frees_outlive_the_store() {
    let _turn = serially();
    let alive = Arc::new(AtomicUsize::new(0));
    let (pinned, dropped) = (Barrier::new(2), Barrier::new(2));
    let other = CounterStore::<u64>::new(1);
    thread::scope(|scope| {
        scope.spawn(|| {
            let pin = other.pin();
            pinned.wait();
            dropped.wait();
            drop(pin);
        });
        pinned.wait();
        let store = CounterStore::<Counted>::new(100);
        for n in 0..1000 {
            store.increment_owned(Counted::new(n, &alive));
        }
        drop(store);
        assert!(alive.load(Ordering::Relaxed) > 0, "the pin keeps some");
        dropped.wait();
    });
    for _ in 0..1_000_000 {
        if alive.load(Ordering::Relaxed) == 0 {
            return;
        }
        other.increment(&1);
        other.prune();
    }
    panic!("{} keys are alive", alive.load(Ordering::Relaxed));
}

/// A key's `Drop` may use the store, wherever it is run.
#[test]
fn trap_13_a_key_that_uses_the_store_when_it_is_dropped() {
    let _turn = serially();
    #[derive(PartialEq, Eq, Hash)]
    struct Nested(u64);

    static STORE: std::sync::OnceLock<CounterStore<Nested>> = std::sync::OnceLock::new();
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    static QUIET: AtomicBool = AtomicBool::new(false);

    impl Drop for Nested {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            if self.0 < 10_000 && !QUIET.load(Ordering::Relaxed) {
                let store = STORE.get().expect("set before the first drop");
                store.increment_owned(Nested(self.0 + 10_000));
            }
        }
    }

    let store = STORE.get_or_init(|| CounterStore::new(16));
    for n in 0..10_000 {
        store.increment_owned(Nested(n));
        assert!(store.len() <= 16);
    }
    assert!(DROPPED.load(Ordering::Relaxed) > 9_000);
    let totals = store.totals();
    assert_eq!(totals.recorded, totals.live + totals.evicted + totals.rejected);
    assert!(totals.recorded > 19_000, "the keys counted, too: {totals:?}");
    QUIET.store(true, Ordering::Relaxed);
}

/// The same when all the slack has waited for a pin: what the `Drop`s admit finds no slot, and is not
/// to free the next batch from inside this one.
#[test]
fn trap_13_keys_that_count_when_a_full_slack_is_freed() {
    let _turn = serially();
    struct Counted(u64, bool);

    static STORE: std::sync::OnceLock<CounterStore<Counted>> = std::sync::OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static ARMED: AtomicBool = AtomicBool::new(false);
    static DEEPEST: AtomicUsize = AtomicUsize::new(0);

    thread_local!(static DEPTH: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

    fn next(counts: bool) -> Counted {
        Counted(NEXT.fetch_add(1, Ordering::Relaxed), counts)
    }

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }

    impl Eq for Counted {}

    impl std::hash::Hash for Counted {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            if self.1 && ARMED.load(Ordering::Relaxed) {
                DEPTH.set(DEPTH.get() + 1);
                DEEPEST.fetch_max(DEPTH.get(), Ordering::Relaxed);
                STORE.get().expect("set before the first drop").increment_owned(next(false));
                DEPTH.set(DEPTH.get() - 1);
            }
        }
    }

    let store = STORE.get_or_init(|| CounterStore::new(1024));
    let pin = store.pin();
    let churn = || {
        while store.stats().rejections == 0 {
            store.increment_owned(next(true));
        }
    };
    thread::scope(|scope| scope.spawn(churn).join()).expect("no panic");
    drop(pin);
    ARMED.store(true, Ordering::Relaxed);
    (0..20_000).for_each(|_| _ = store.increment_owned(next(true)));
    store.prune();
    assert!(DEEPEST.load(Ordering::Relaxed) <= 2, "{} deep", DEEPEST.load(Ordering::Relaxed));
    let totals = store.totals();
    assert_eq!(totals.recorded, totals.live + totals.evicted + totals.rejected);
    ARMED.store(false, Ordering::Relaxed);
    until_freed(1000, store, || store.waiting(), "entries");
}

/// The same of stores that are gone: what one's last key does when it is dropped frees the next
/// store's, but not inside of this one's `Drop`.
#[test]
fn trap_13_keys_of_dropped_stores_that_count_when_they_are_freed() {
    const STORES: usize = 64;

    let _turn = serially();
    static OTHER: std::sync::OnceLock<CounterStore<u64>> = std::sync::OnceLock::new();
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    static DEEPEST: AtomicUsize = AtomicUsize::new(0);

    thread_local!(static DEPTH: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

    #[derive(PartialEq, Eq, Hash)]
    struct Last(u64);

    impl Drop for Last {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() + 1);
            DEEPEST.fetch_max(DEPTH.get(), Ordering::Relaxed);
            let other = OTHER.get().expect("set before the first drop");
            assert_eq!(other.increment(&self.0), 1);
            // Flushes, so that more falls due.
            other.prune();
            DEPTH.set(DEPTH.get() - 1);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    let other = OTHER.get_or_init(|| CounterStore::new(STORES));
    let pin = other.pin();
    for n in 0..STORES as u64 {
        let builder = CounterStore::<Last>::builder().capacity(2).shards(1).slack(4);
        let store = builder.build().expect("a store");
        store.increment_owned(Last(n));
        store.clear();
    }
    assert_eq!(DROPPED.load(Ordering::Relaxed), 0, "they were pinned");
    drop(pin);
    until_freed(1000, other, || STORES - DROPPED.load(Ordering::Relaxed), "keys");
    assert_eq!(DEEPEST.load(Ordering::Relaxed), 1);
    let totals = other.totals();
    assert_eq!((totals.recorded, totals.live, totals.rejected), (STORES as u64, STORES as u64, 0));
}
