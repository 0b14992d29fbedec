//! Time that others tell. It belongs to the process, so all of it is one test.

use std::time::Duration;

use counterclock::CounterStore;
use counterclock::quanta::{self, Instant, set_recent};

fn store(ttl: Duration) -> CounterStore<u64> {
    let builder = CounterStore::builder().capacity(8).idle_ttl(ttl).recent_time(true);
    builder.build().expect("a store")
}

/// Two counts with more than a nanosecond between them.
fn count_twice(store: &CounterStore<u64>) -> [u64; 2] {
    let first = store.increment(&1);
    let then = Instant::now();
    while then.elapsed() < Duration::from_micros(1) {}
    [first, store.increment(&1)]
}

#[test]
fn the_time_is_what_was_told() {
    const NANOSECOND: Duration = Duration::from_nanos(1);
    const TTL: Duration = Duration::from_secs(64);

    // Nobody has told it: the counter is read.
    assert_eq!(count_twice(&store(NANOSECOND)), [1, 1]);
    // Nor since this one was built.
    set_recent(quanta::Clock::mock().0.now() + NANOSECOND);
    assert_eq!(count_twice(&store(NANOSECOND)), [1, 1]);

    let (brief, minute) = (store(NANOSECOND), store(TTL));
    let (counter, striped) = (minute.counter(&2), minute.striped(&3));
    let told = Instant::now() + TTL * 100;
    set_recent(told);
    assert_eq!((count_twice(&brief), count_twice(&brief)), ([1, 2], [3, 4]), "it stands still");
    assert_eq!(count_twice(&minute), [1, 2]);
    assert_eq!(counter.increment(), 1);
    striped.add(7);

    set_recent(told + TTL);
    assert_eq!((minute.get(&1), minute.get(&2), minute.get(&3)), (Some(2), Some(1), Some(7)));
    assert_eq!(counter.increment(), 2, "used anew");
    set_recent(told + TTL + TTL / 64);
    assert_eq!((minute.get(&1), minute.get(&2), minute.get(&3)), (None, Some(2), None));
    striped.add(5);
    assert_eq!((striped.get(), count_twice(&minute)), (Some(5), [1, 2]));
    set_recent(told + TTL * 4);
    assert_eq!(counter.increment(), 1);
    minute.prune();
    let totals = minute.totals();
    assert_eq!((totals.recorded, totals.live, totals.expired), (19, 1, 18));
    assert_eq!((minute.stats().rejections, brief.stats().rejections), (0, 0));
}
