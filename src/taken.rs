//! The store while somebody owns lists: nobody waits, nothing is lost, and the next owner heeds
//! what was left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock_list::HEED;
use crate::harness::eventually;
use crate::reclaim::pin;
use crate::{CounterStore, Rejected, quanta};

/// Runs `f` while all lists are taken.
fn with_lists_taken<R>(store: &CounterStore<u64>, f: impl FnOnce() -> R) -> R {
    fn take<R>(store: &CounterStore<u64>, shard: usize, f: impl FnOnce() -> R) -> R {
        let shards = &store.inner.engine.shards;
        if shard == shards.len() {
            return f();
        }
        let taken = shards[shard].roster.own(|_| take(store, shard + 1, f));
        let (result, gone) = taken.expect("nobody else has the shard");
        store.inner.engine.limbo().let_go_of(shard, gone, &pin());
        result
    }
    take(store, 0, f)
}

/// An owner of a store's only shard, with nothing of its own to do.
fn come_by(store: &CounterStore<u64>) {
    let engine = &store.inner.engine;
    engine.own_lists(&engine.shards[0], &pin(), |_| ()).expect("nobody else has the shard");
}

fn settled(store: &CounterStore<u64>) {
    let settled = eventually(|| {
        store.prune();
        store.waiting() == 0
    });
    assert!(settled, "{} are waiting", store.waiting());
    store.inner.engine.validate();
}

#[test]
fn evicts_from_a_sample_of_the_index() {
    for (capacity, shards) in [(1, 1), (2, 1), (64, 4), (64, 64)] {
        let store =
            CounterStore::builder().capacity(capacity).shards(shards).build().expect("valid");
        with_lists_taken(&store, || {
            for key in 0..1000_u64 {
                assert_eq!(store.try_increment(&key), Ok(1));
                assert!(store.len() <= capacity);
            }
        });
        assert_eq!(store.len(), capacity);
        assert_eq!(store.stats().evicted, 1000 - capacity as u64);
        settled(&store);
    }
}

#[test]
fn removals_leave_notes_that_the_next_owners_heed() {
    let store = CounterStore::<u64>::builder().capacity(4096).shards(1).build().expect("valid");
    for key in 0..1000 {
        store.increment(&key);
    }
    // Half of them still arriving, half in the lists.
    store.inner.engine.tidy();
    for key in 1000..2000 {
        store.increment(&key);
    }
    with_lists_taken(&store, || {
        for key in 0..2000 {
            assert_eq!(store.remove(&key), Some(1));
        }
    });
    // Ended entries stay in their chains till then, also where the key has a new life.
    store.inner.engine.validate();
    with_lists_taken(&store, || store.increment(&0));
    store.inner.engine.validate();
    assert_eq!((store.remove(&0), store.len(), store.totals().removed), (Some(1), 0, 2001));
    let before = store.inner.engine.steps();
    // A note is paid for once, some at a time.
    store.increment(&5000);
    let steps = store.inner.engine.steps() - before;
    assert!((HEED as u64..=4 * (HEED + 64) as u64).contains(&steps), "{steps} steps");
    store.remove(&5000);
    settled(&store);
}

/// One prune does all that was left to owners, notes or arrivals alone as well as both.
#[test]
fn a_prune_leaves_no_work_behind() {
    for (arrivals, notes) in [(300, 0), (0, 300), (300, 300)] {
        let store = CounterStore::<u64>::builder().capacity(4096).shards(1).build().expect("valid");
        assert!((0..notes).all(|key| store.increment(&key) == 1));
        with_lists_taken(&store, || {
            assert!((1000..1000 + arrivals).all(|key| store.increment(&key) == 1));
            assert!((0..notes).all(|key| store.remove(&key) == Some(1)));
        });
        store.prune();
        let (engine, guard) = (&store.inner.engine, pin());
        let linked = (0..engine.index.len()).flat_map(|bucket| engine.index.walk(bucket, &guard));
        assert_eq!(linked.count() as u64, arrivals, "ended entries are still linked");
        let listed = engine.own_lists(&engine.shards[0], &guard, |lists| lists.len());
        assert_eq!(listed, Some(arrivals as usize), "of {arrivals} arrivals");
        engine.validate();
    }
}

/// A shard that has less than its share grows at the cost of one that has more, up to a sixteenth
/// below its share, and not of its own.
#[test]
fn shares_even_out() {
    let store = CounterStore::<u64>::builder().capacity(256).shards(4).build().expect("valid");
    let engine = &store.inner.engine;
    let keys_of = |shard: usize| {
        let store = &store;
        (0..).filter(move |key| store.inner.engine.shard(store.hash(key)).number == shard)
    };
    let populations = || {
        let of = |shard| engine.own_lists(shard, &pin(), |lists| lists.len()).expect("free");
        engine.shards.iter().map(|shard| of(shard)).collect::<Vec<_>>()
    };
    for (shard, n) in [(0, 62), (1, 10), (2, 64), (3, 120)] {
        keys_of(shard).take(n).for_each(|key| _ = store.increment(&key));
    }
    assert_eq!(populations(), [62, 10, 64, 120]);
    keys_of(1).skip(10).take(49).for_each(|key| _ = store.increment(&key));
    assert_eq!(populations(), [62, 59, 64, 71], "only the larger one gives");
    keys_of(1).skip(59).take(1000).for_each(|key| _ = store.increment(&key));
    assert_eq!(populations(), [62, 60, 64, 70], "near its share it makes its own room");
    keys_of(2).skip(64).take(1000).for_each(|key| _ = store.increment(&key));
    assert_eq!(populations(), [62, 60, 64, 70], "and so does one that has it");
    assert_eq!((store.len(), store.stats().rejections), (256, 0));
    engine.validate();
}

/// What only a handle holds gives its slot back at once, not when it is freed.
#[test]
fn an_ended_entry_of_a_handle_takes_no_slot() {
    let _turn = crate::stop::turn();
    let builder = CounterStore::<u64>::builder().capacity(1).shards(1).slack(4);
    let store = builder.build().expect("valid");
    let _pinned = store.pin();
    let handles: Vec<_> = (0..100).map(|key| store.counter(&key)).collect();
    assert!(handles.iter().all(|handle| handle.try_increment().is_ok()));
    assert_eq!((store.stats().rejections, store.waiting()), (0, 0));
}

/// Traps 4 and 6: sealed before it was drained, between the drain and the sealer's visit, and
/// after.
#[test]
fn who_comes_second_lets_go() {
    let store = CounterStore::<u64>::builder().capacity(64).shards(1).build().expect("valid");
    let roster = &store.inner.engine.shards[0].roster;
    store.increment(&0);
    for key in 1..60 {
        // Its sealer comes by while it is arriving: the drain lets go of it.
        with_lists_taken(&store, || {
            store.increment(&key);
            store.remove(&key);
        });
        // Drained and dead, and still to be buried.
        store.increment(&(key + 1000));
        come_by(&store);
        with_lists_taken(&store, || store.remove(&(key + 1000)));
        come_by(&store);
        assert!(!roster.has_work());
    }
    assert_eq!(store.len(), 1);
    settled(&store);
}

/// An idle life gives its slot to the next where there is no slack, and a pending report does not
/// keep it.
#[test]
fn idle_lives_pay_for_slots() {
    let (clock, mock) = quanta::Clock::mock();
    let store = CounterStore::<u64>::builder()
        .capacity(4)
        .slack(0)
        .idle_ttl(Duration::from_secs(1))
        .clock(clock)
        .on_removal(|_| ())
        .build()
        .expect("valid");
    let _handle = store.counter(&0);
    for round in 0..100 {
        for key in 0..4 {
            // Other tests of this process pin, too, and four yields may not be enough.
            while store.try_increment(&key) != Ok(1) {
                std::thread::yield_now();
            }
        }
        assert_eq!(store.try_increment(&9), Err(Rejected::Memory), "round {round}");
        mock.increment(Duration::from_secs(2));
    }
    assert_eq!(store.stats().expired, 4 * 99);
}

/// Trap 9: a field of uses wraps, and a heavy key must not leave probation by the wrong door.
#[test]
fn a_heavy_key_stays_when_its_uses_wrap() {
    for uses in [2, 1023, 1024, 1025, 1026, 2049, 100_000] {
        let store = CounterStore::<u64>::builder().capacity(64).shards(1).build().expect("valid");
        for _ in 0..uses {
            store.increment(&0);
        }
        for key in 1..128 {
            store.increment(&key);
        }
        assert_eq!(store.get(&0), (uses > 2).then_some(uses), "{uses} uses");
    }
}

/// Dead entries that wait for an owner of their lists do not use up the slack: an admission that
/// finds no slot owns them.
#[test]
fn a_small_slack_is_not_used_up_by_notes() {
    for slack in [1, 8, 1024] {
        let builder = CounterStore::<u64>::builder().capacity(64).shards(1).slack(slack);
        let store = builder.build().expect("valid");
        with_lists_taken(&store, || {
            for key in 0..64 + slack as u64 {
                assert_eq!(store.try_increment(&key), Ok(1));
            }
        });
        // Other tests of this process pin, too: not each is admitted, but they go on. One whose
        // threads stand while they are pinned does not run meanwhile.
        let turn = crate::stop::turn();
        let admitted = (1000..21_000).filter(|key| store.try_increment(key).is_ok()).count();
        drop(turn);
        assert!(admitted > 0, "slack {slack}: stuck");
        settled(&store);
    }
}

/// What arrives or departs while a former owner's rest is still to be worked off is not lost when
/// the store is dropped.
#[test]
fn a_drop_takes_all_that_is_on_its_way() {
    let alive = Arc::new(());
    let key = |n: u64| (Arc::clone(&alive), n);
    for (first, removed, late, is_owned_again) in [
        (70, 0, 3, false),
        (40, 20, 3, false),
        (200, 150, 3, false),
        (200, 0, 0, false),
        (200, 150, 4, true),
    ] {
        let builder = CounterStore::<(Arc<()>, u64)>::builder().capacity(4096).shards(1);
        let store = builder.build().expect("valid");
        let taken = |f: &dyn Fn()| {
            let (_, gone) = store.inner.engine.shards[0].roster.own(|_| f()).expect("free");
            store.inner.engine.limbo().let_go_of(0, gone, &pin());
        };
        taken(&|| assert!((0..first).all(|n| store.increment_owned(key(n)) == 1)));
        taken(&|| (0..removed).for_each(|n| assert_eq!(store.remove(&key(n)), Some(1))));
        taken(&|| {
            for n in 1000..1000 + late {
                store.increment_owned(key(n));
                store.remove(&key(n));
                store.increment_owned(key(n + 10));
            }
        });
        if is_owned_again {
            // An owner comes by: a rest stays with it, and what it has buried is in its batch.
            let engine = &store.inner.engine;
            engine.own_lists(&engine.shards[0], &pin(), |_| ()).expect("free");
        }
        drop(store);
        let freed = eventually(|| {
            pin().flush();
            Arc::strong_count(&alive) == 1
        });
        assert!(freed, "keys of {first} and {removed}");
    }
}

/// How often `f` has to be called until nothing is `left`. Those that free nothing do not count:
/// other tests of this process pin, and may be preempted while they do.
fn rounds<R>(mut f: impl FnMut() -> R, left: impl Fn() -> usize) -> usize {
    let (mut rounds, mut idle) = (0, 0);
    while left() > 0 {
        let before = left();
        f();
        if left() < before {
            rounds += 1;
        } else {
            idle += 1;
            assert!(idle < 100_000, "{before} are left");
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    rounds
}

/// A store of two shards in which 8,192 entries have ended while this thread was pinned.
fn with_a_backlog(slack: usize, alive: &Arc<()>) -> CounterStore<(Arc<()>, u64)> {
    let builder = CounterStore::builder().capacity(8192).shards(2).slack(slack);
    let store = builder.build().expect("valid");
    assert!((0..8192).all(|n| store.increment_owned((Arc::clone(alive), n)) == 1));
    let pinned = store.pin();
    store.clear();
    drop(pinned);
    store
}

/// With a small slack batches are small, and so a backlog is many of them: a prune and a drop take
/// all that can be freed, not a few batches.
#[test]
fn a_backlog_is_freed_at_once() {
    let alive = Arc::new(());
    let left = || Arc::strong_count(&alive) - 1;
    let _turn = crate::stop::turn();
    for slack in [0, 40, 1 << 14] {
        let store = with_a_backlog(slack, &alive);
        let prunes = rounds(|| store.prune(), || store.waiting());
        assert!(prunes < 100, "slack {slack}: {prunes} prunes");
        drop(store);
        rounds(|| pin().flush(), left);
        // All flushes of one drop may meet another test's thread that was preempted in a pin.
        let mut flushes = (0..20).map(|_| {
            drop(with_a_backlog(slack, &alive));
            rounds(|| pin().flush(), left)
        });
        assert!(flushes.any(|n| n < 100), "slack {slack}: 100 flushes and more");
    }
}

/// Bytes are not uses: one use of any size leaves probation as one use.
#[test]
fn one_large_use_does_not_save_a_key() {
    let mut saved = 0;
    for bytes in 1..=1500 {
        let store = CounterStore::<u64>::builder().capacity(16).shards(1).build().expect("valid");
        store.add(&0, bytes);
        store.add(&0, bytes);
        for key in 1..20 {
            store.increment(&key);
        }
        saved += u64::from(store.contains(&0));
    }
    assert!(saved <= 2, "{saved} of 1500 sizes look like wrapped uses");
    // Sizes beyond what is known of a life's beginning.
    for (first, second) in [(1 << 16, 1 << 16), (1 << 20, 1 << 20), (1 << 20, 1 << 16)] {
        let store = CounterStore::<u64>::builder().capacity(16).shards(1).build().expect("valid");
        store.add(&0, first);
        store.add(&0, second);
        assert!((1..20).all(|key| store.increment(&key) == 1));
        assert!(!store.contains(&0), "{first} and {second}");
    }
    for once in [u64::MAX, u64::from(u32::MAX), 66_559] {
        let store = CounterStore::<u64>::builder().capacity(16).shards(1).build().expect("valid");
        store.add(&0, once);
        assert!((1..20).all(|key| store.increment(&key) == 1));
        assert!(!store.contains(&0), "{once}");
    }
}

/// The permit goes back at the seal: once a key is gone for a reader, its room is there.
#[test]
fn a_listener_finds_the_room_of_what_ended() {
    let room = Arc::new(AtomicU64::new(u64::MAX));
    let seen = room.clone();
    let store = Arc::new_cyclic(|weak: &std::sync::Weak<CounterStore<u64>>| {
        let weak = weak.clone();
        CounterStore::builder()
            .capacity(1)
            .on_removal(move |_| {
                let store = weak.upgrade().expect("in use");
                seen.store(store.len() as u64, Ordering::Relaxed);
            })
            .build()
            .expect("valid")
    });
    store.increment(&1);
    store.remove(&1);
    assert_eq!(room.load(Ordering::Relaxed), 0);
}

/// Traffic that is all of one shard is not rejected while other shards have spares.
#[test]
fn who_finds_no_slot_has_the_spares_of_all_shards() {
    let builder = CounterStore::<u64>::builder().capacity(1024).shards(16).slack(4096);
    let store = builder.build().expect("valid");
    (0..100_000).for_each(|key| _ = store.increment(&key));
    let pinned = pin();
    let mut of_one = (100_000..).filter(|key| store.hash(key).top(4) == 3);
    while store.try_increment(&of_one.next().expect("as many as wanted")).is_ok() {}
    let waiting = store.waiting();
    store.prune();
    assert_eq!(store.waiting(), waiting, "spares were left, and a key was rejected");
    drop(pinned);
    settled(&store);
}
