//! Striped handles: sums are exact, whoever ends the life, and uses count.

mod common;

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use common::until_freed;
use counterclock::{AtCapacity, Cause, CounterStore, MAX_COUNT, quanta};

fn balanced<K: Hash + Eq + Send + Sync + 'static>(store: &CounterStore<K>) -> u64 {
    let totals = store.totals();
    let parts = totals.live + totals.evicted + totals.expired + totals.removed + totals.rejected;
    assert_eq!(totals.recorded, parts);
    totals.recorded
}

#[test]
fn reads_see_all_stripes() {
    let store = CounterStore::<String>::new(8);
    let striped = store.striped("a");
    let clones: Vec<_> = (0..20).map(|_| striped.clone()).collect();
    for (n, striped) in clones.iter().enumerate() {
        striped.add(n as u64);
        striped.increment();
    }
    assert_eq!(store.get("a"), Some(190 + 20));
    assert_eq!(striped.get(), Some(210));
    assert_eq!(store.increment("a"), 211);
    assert_eq!(store.snapshot().get("a"), Some(211));
    assert_eq!(store.top(1), [("a".to_owned(), 211)]);
    assert_eq!(balanced(&store), 211);
    assert_eq!(store.remove("a"), Some(211));
    assert_eq!((striped.get(), store.totals().removed), (None, 211));
    // The next life.
    clones[3].increment();
    assert_eq!((striped.get(), store.get("a"), striped.key()), (Some(1), Some(1), &"a".to_owned()));
    striped.add(2);
    striped.increment();
    assert_eq!(store.get("a"), Some(4));
    assert_eq!(store.stats().rejections, 0);
}

/// Each life's removal has exactly what was added in it: together with what is live, all.
#[test]
fn lives_that_end_under_adds_are_exact() {
    let reported = Arc::new(AtomicU64::new(0));
    let reports = Arc::clone(&reported);
    let store = CounterStore::<u64>::builder()
        .capacity(4)
        .on_removal(move |removal| {
            reports.fetch_add(removal.count, SeqCst);
        })
        .build()
        .expect("valid");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (store, done) = (&store, &done);
        let adders: Vec<_> = (0..3)
            .map(|_| {
                let striped = store.striped(&0);
                scope.spawn(move || {
                    let mut added = 0;
                    while !done.load(SeqCst) {
                        (0..100).for_each(|_| striped.increment());
                        added += 100;
                    }
                    added
                })
            })
            .collect();
        let reader = scope.spawn(move || {
            let mut last = 0;
            while !done.load(SeqCst) {
                let recorded = balanced(store);
                assert!(recorded >= last, "{recorded} after {last}");
                last = recorded;
            }
        });
        let (mut removed, mut added) = (0, 0);
        while removed < 200 {
            removed += u64::from(store.remove(&0).is_some());
            // Now and then it is evicted.
            for key in 1..10 {
                store.increment(&key);
                added += 1;
            }
            thread::yield_now();
        }
        done.store(true, SeqCst);
        reader.join().expect("no panic");
        added += adders.into_iter().map(|adder| adder.join().expect("no panic")).sum::<u64>();
        let live: u64 = store.snapshot().iter().map(|(_, count)| count).sum();
        let rejected = store.totals().rejected;
        assert_eq!(reported.load(SeqCst) + live + rejected, added);
        assert_eq!(balanced(store), added);
    });
}

#[test]
fn is_idle_only_when_no_stripe_was_used() {
    let (clock, mock) = quanta::Clock::mock();
    let builder = CounterStore::<u64>::builder().capacity(8).idle_ttl(Duration::from_secs(64));
    let store = builder.clock(clock).build().expect("valid");
    let (one, other) = (store.striped(&1), store.striped(&1));
    for round in 1..=100 {
        mock.increment(Duration::from_secs(40));
        (if round % 3 == 0 { &one } else { &other }).increment();
        // The second in the same tick is on the stripe alone.
        (if round % 2 == 0 { &one } else { &other }).increment();
        assert_eq!(store.get(&1), Some(2 * round));
    }
    mock.increment(Duration::from_secs(66));
    assert_eq!(store.get(&1), None);
    assert_eq!(store.totals().expired, 200);
    one.increment();
    other.increment();
    assert_eq!((one.get(), store.stats().expired), (Some(2), 1));
}

/// Uses on stripes keep a key in the store as any others do.
#[test]
fn uses_are_seen_by_the_policy() {
    for used in [true, false] {
        let store = CounterStore::<u64>::builder().capacity(64).shards(1).build().expect("valid");
        let striped = store.striped(&0);
        for key in 1..10_000 {
            store.increment(&key);
            if used {
                (0..3).for_each(|_| striped.increment());
            }
        }
        // In one life: it is not enough that the last use has admitted the key again.
        let count = used.then_some(3 * 9999);
        assert_eq!((store.get(&0), store.stats().rejections), (count, 0));
    }
}

#[test]
fn sums_saturate() {
    let store = CounterStore::<u64>::new(8);
    let handles: Vec<_> = (0..4).map(|_| store.striped(&1)).collect();
    for striped in &handles {
        striped.add(MAX_COUNT);
        striped.add(5);
        assert!(striped.get().is_some_and(|count| count <= MAX_COUNT));
    }
    assert_eq!(store.get(&1), Some(MAX_COUNT));
    assert_eq!(store.totals().live, MAX_COUNT);
    assert_eq!(store.remove(&1), Some(MAX_COUNT));
    assert_eq!(balanced(&store), MAX_COUNT);
}

#[test]
fn is_rejected_where_the_store_may_not_evict() {
    let builder = CounterStore::<u64>::builder().capacity(1).at_capacity(AtCapacity::Reject);
    let store = builder.build().expect("valid");
    store.increment(&1);
    let striped = store.striped(&2);
    striped.add(7);
    assert_eq!((striped.get(), store.totals().rejected), (None, 7));
    store.remove(&1);
    striped.add(3);
    striped.add(3);
    assert_eq!((striped.get(), store.totals().rejected), (Some(6), 7));
}

/// Entries with stripes are freed with all that they have, whoever lets go last.
#[test]
fn nothing_is_left() {
    let alive = Arc::new(());
    let store = CounterStore::<(Arc<()>, u64)>::builder()
        .capacity(2)
        .on_removal(|removal| assert_eq!(removal.cause, Cause::Capacity))
        .build()
        .expect("valid");
    let mut handles = Vec::new();
    for n in 0..100 {
        let striped = store.striped(&(Arc::clone(&alive), n));
        striped.increment();
        handles.push(striped);
    }
    drop(store);
    drop(handles);
    until_freed(1000, &CounterStore::<u64>::new(1), || Arc::strong_count(&alive) - 1, "keys");
}
