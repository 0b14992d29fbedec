//! A `Counter` is never orphaned, whatever becomes of its entry, its store's other handles and its
//! thread.

mod common;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use common::{Added, Bed, Config, End, Key, TTL, TestState, matrix, serially, tick, until_freed};
use counterclock::{AtCapacity, Cause, Counter, CounterStore, Rejected};

/// Evicts `key` by use of others.
fn evict<K: Key>(bed: &Bed<K>, key: &K) {
    for other in 1_000.. {
        for _ in 0..40 {
            assert!(bed.store.try_increment(&K::nth(other)).is_ok());
        }
        if !bed.store.contains(key) {
            return;
        }
        assert!(other < 100_000, "never evicted: {:?}", bed.config);
    }
}

/// One handle through every kind of end.
fn outlive<K: Key>(config: Config) {
    let _turn = serially();
    let bed = config.bed::<K>();
    let key = K::nth(1);
    let handle = bed.store.counter(&key);
    assert_eq!(handle.key(), &key);
    assert_eq!((handle.get(), bed.store.len()), (Some(0), 1));
    let mut told = Vec::new();
    let mut lives = |end: &dyn Fn(), cause| {
        assert_eq!((handle.increment(), handle.add(4), handle.get()), (1, 5, Some(5)));
        assert_eq!(bed.store.get(&key), Some(5));
        end();
        assert_eq!(handle.get(), None, "{cause:?} {config:?}");
        told.push(End { count: 5, cause });
        assert_eq!(bed.ends.of(&key), told, "{config:?}");
    };
    lives(&|| assert_eq!(bed.store.remove(&key), Some(5)), Cause::Removed);
    lives(&|| bed.store.clear(), Cause::Removed);
    if config.ttl.is_some() {
        lives(&|| bed.advance(TTL + tick(TTL)), Cause::Idle);
        lives(
            &|| {
                bed.advance(TTL + tick(TTL));
                bed.store.prune();
            },
            Cause::Idle,
        );
    }
    if config.at_capacity == AtCapacity::Evict {
        lives(&|| evict(&bed, &key), Cause::Capacity);
    }
    // A life that others began in between is counted on.
    if bed.store.try_add(&key, 10).is_ok() {
        assert_eq!((handle.get(), handle.increment()), (Some(10), 11));
    }
    assert_eq!(bed.store.stats().rejections, 0, "{config:?}");
}

#[test]
fn a_handle_outlives_its_entries() {
    for config in matrix(64) {
        outlive::<u64>(config);
        outlive::<Arc<str>>(config);
    }
}

#[test]
fn a_handle_keeps_its_store() {
    let _turn = serially();
    let (store, weak) = {
        let store = CounterStore::<String>::new(4);
        let weak = store.downgrade();
        (store, weak)
    };
    let handle = store.counter("a");
    drop(store);
    assert_eq!(handle.increment(), 1);
    let store = weak.upgrade().expect("the handle keeps it");
    assert_eq!(store.get("a"), Some(1));
    store.remove("a");
    drop(store);
    let clone = handle.clone();
    drop(handle);
    assert_eq!((clone.get(), clone.increment()), (None, 1));
    drop(clone);
    assert!(weak.upgrade().is_none());
}

#[test]
fn clones_count_on_the_same_life() {
    let _turn = serially();
    let bed = Config::plain(4, 1).bed::<u64>();
    let one = bed.store.counter(&1);
    let two = one.clone();
    assert_eq!((one.increment(), two.increment(), one.increment()), (1, 2, 3));
    bed.store.remove(&1);
    // One cloned after the end is bound to nothing, and goes on all the same.
    let three = one.clone();
    assert_eq!((two.increment(), one.increment(), three.increment()), (1, 2, 3));
    // A clone is no use and admits nothing.
    bed.store.remove(&1);
    let four = one.clone();
    assert_eq!((bed.store.len(), four.get(), four.key()), (0, None, &1));
    assert!(format!("{four:?}").contains('1'));
}

#[test]
fn threads_count_through_clones() {
    let _turn = serially();
    for config in matrix(64) {
        if config.at_capacity == AtCapacity::Reject {
            continue;
        }
        let bed = &config.bed::<u64>();
        let handle = bed.store.counter(&1);
        let mut added = Added::new();
        added.unsaid(&1, 900);
        thread::scope(|scope| {
            for t in 0..3 {
                let handle = handle.clone();
                scope.spawn(move || {
                    for i in 0..300 {
                        handle.increment();
                        if i % 50 == t {
                            bed.store.remove(&1);
                        }
                        if i % 90 == t {
                            bed.advance(TTL + tick(TTL));
                        }
                    }
                });
            }
        });
        bed.check(&added);
        // Nobody but this one key wants room, so nothing is rejected but what races at a capacity
        // of 1 or 2.
        if config.capacity > 2 {
            assert_eq!(bed.store.totals().rejected, 0, "{config:?}");
        }
    }
}

/// Wakes the thread that blocks on the task.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(task: impl Future<Output = T>) -> T {
    let mut task = pin!(task);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match task.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

/// Pending once.
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

async fn task(handle: Counter<String, TestState>, n: u64) {
    for _ in 0..n {
        handle.increment();
        Yield(false).await;
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The task, if it is not done.
fn poll(mut task: Task) -> Option<Task> {
    let mut context = Context::from_waker(Waker::noop());
    let pending = task.as_mut().poll(&mut context).is_pending();
    pending.then_some(task)
}

/// Each task is polled by one thread after the other.
#[test]
fn tasks_hold_handles_across_await() {
    let _turn = serially();
    let bed = Config::plain(8, 2).bed::<String>();
    block_on(task(bed.store.counter("a"), 5));
    assert_eq!(bed.store.get("a"), Some(5));

    let (to, from) = mpsc::channel::<Task>();
    let (back, home) = mpsc::channel::<Option<Task>>();
    thread::scope(|scope| {
        scope.spawn(move || {
            for task in from {
                back.send(poll(task)).expect("the other thread");
            }
        });
        for _ in 0..4 {
            let task = Box::pin(task(bed.store.counter("a"), 50));
            to.send(task).expect("the other thread");
        }
        let mut running = 4;
        let to = to;
        while running > 0 {
            match home.recv().expect("the other thread").and_then(poll) {
                Some(task) => to.send(task).expect("the other thread"),
                None => running -= 1,
            }
        }
    });
    assert_eq!(bed.store.get("a"), Some(205));
    let mut added = Added::new();
    added.unsaid(&"a".to_owned(), 205);
    bed.check(&added);
}

#[test]
fn under_reject_a_handle_is_unbound_and_tries_again() {
    let _turn = serially();
    for config in matrix(64) {
        if config.at_capacity != AtCapacity::Reject {
            continue;
        }
        let bed = config.bed::<u64>();
        for key in 0..config.capacity as u64 {
            assert_eq!(bed.store.try_increment(&key), Ok(1));
        }
        let handle = bed.store.counter(&(1 << 40));
        assert_eq!(handle.get(), None, "{config:?}");
        // What was added is returned, and is in the totals as rejected.
        assert_eq!((handle.increment(), handle.add(7), handle.get()), (1, 7, None));
        let clone = handle.clone();
        assert_eq!((clone.add(5), clone.get()), (5, None));
        assert_eq!(bed.store.totals().rejected, 13, "{config:?}");
        assert_eq!(bed.store.len(), config.capacity);
        assert_eq!(bed.ends.count(), 0);

        assert_eq!(bed.store.remove(&0), Some(1));
        assert_eq!((handle.increment(), clone.add(2), handle.get()), (1, 3, Some(3)));
        assert_eq!(bed.store.totals().rejected, 13, "{config:?}");
        assert_eq!(bed.store.len(), config.capacity);
    }
}

/// What handles hold of ended lives is theirs: with little slack, others come in as before.
#[test]
fn ended_lives_that_are_held_do_not_use_the_slack_up() {
    let _turn = serially();
    for shards in [1, 16] {
        for spread in [common::Spread::Default, common::Spread::Colliding] {
            let config = Config { spread, ..Config::plain(4, shards) };
            let (builder, _) = config.builder::<u64>();
            let store = builder.slack(64).build().expect("a store");
            let handles: Vec<_> = (0..10_000).map(|key| store.counter(&key)).collect();
            assert_eq!(store.stats().rejections, 0, "{config:?}");
            assert!(store.waiting() <= 64, "{}", store.waiting());
            for key in 0..10_000 {
                assert_eq!(store.try_increment(&(1 << 40 | key)), Ok(1), "{config:?}");
            }
            // Letting go of them gives back nothing that was given back before.
            drop(handles);
            for key in 0..10_000 {
                assert_eq!(store.try_increment(&(1 << 50 | key)), Ok(1), "{config:?}");
            }
            assert_eq!(store.stats().rejections, 0);
            assert!(store.len() <= 4 && store.waiting() <= 64);
            store.clear();
            (0..4).for_each(|_| _ = store.prune());
            assert_eq!((store.len(), store.waiting()), (0, 0), "{config:?}");
        }
    }
}

/// Removed, one by one, while handles are held: as above, by another way out.
#[test]
fn removed_lives_that_are_held_do_not_use_the_slack_up() {
    let _turn = serially();
    let store = CounterStore::builder().capacity(4).slack(64).build();
    let store: CounterStore<String> = store.expect("a store");
    let mut handles = Vec::new();
    for i in 0..10_000 {
        let key = format!("session-{i}");
        handles.push(store.counter(&key));
        handles.push(handles[handles.len() - 1].clone());
        assert_eq!(store.remove(&key), Some(0));
    }
    assert_eq!(store.stats().rejections, 0);
    assert!(handles.iter().all(|handle| handle.get().is_none()));
    assert_eq!(handles[7].increment(), 1);
    assert_eq!(handles[6].increment(), 2);
}

/// Keys do not outlive the last snapshot of a dropped store.
#[test]
fn the_last_snapshot_frees_its_keys() {
    use std::sync::Arc;
    let key = Arc::<str>::from("0");
    let store = CounterStore::<(Arc<str>, u32)>::new(2048);
    for n in 0..2048 {
        store.increment_owned((Arc::clone(&key), n));
    }
    let snapshot = store.snapshot();
    store.clear();
    drop(store);
    assert_eq!(snapshot.len(), 2048);
    assert_eq!(Arc::strong_count(&key), 2049);
    drop(snapshot);
    until_freed(100_000, &CounterStore::<u64>::new(1), || Arc::strong_count(&key) - 1, "keys");
}

/// A handle that is made and used once has used its key once, whatever the kind: a flood of them
/// does not drive out what is used again and again.
#[test]
fn making_a_handle_is_not_a_use() {
    let flood: [fn(&CounterStore<u64>, u64); 3] = [
        |store, key| _ = store.increment(&key),
        |store, key| _ = store.counter(&key).increment(),
        |store, key| store.striped(&key).increment(),
    ];
    for flood in flood {
        let store = CounterStore::<u64>::builder().capacity(256).shards(1).build().expect("valid");
        for key in 0..200 {
            (0..4).for_each(|_| _ = store.increment(&key));
        }
        (1000..10_000).for_each(|key| flood(&store, key));
        let left = (0..200).filter(|key| store.contains(key)).count();
        assert!(left > 150, "{left} of 200 are left");
        assert_eq!(store.stats().rejections, 0);
    }
}

/// A rejection is told apart from a new life, by handles and under a pin, and its units are kept.
#[test]
fn what_is_rejected_is_said() {
    let _turn = serially();
    let builder = CounterStore::<u64>::builder().capacity(1).at_capacity(AtCapacity::Reject);
    let store = builder.build().expect("a store");
    let counter = store.counter(&1);
    let crowded_out = store.counter(&2);
    assert_eq!((counter.try_increment(), counter.try_add(4)), (Ok(1), Ok(5)));
    assert_eq!(crowded_out.try_increment(), Err(Rejected::Capacity));
    assert_eq!((crowded_out.try_add(7), crowded_out.add(7)), (Err(Rejected::Capacity), 7));
    {
        let pinned = store.pin();
        assert_eq!((pinned.try_increment(&1), pinned.try_add(&1, 4)), (Ok(6), Ok(10)));
        assert_eq!(pinned.try_increment(&3), Err(Rejected::Capacity));
        assert_eq!((pinned.try_add(&3, 9), pinned.add(&3, 9)), (Err(Rejected::Capacity), 9));
    }
    // The two handles were admitted or rejected with no units.
    assert_eq!(store.totals().rejected, 1 + 7 + 7 + 1 + 9 + 9);
    store.remove(&1);
    assert_eq!((crowded_out.try_add(3), counter.try_increment()), (Ok(3), Err(Rejected::Capacity)));
}

/// What handles, their clones and snapshots held is freed when they are gone.
#[test]
fn what_was_held_is_freed() {
    let _turn = serially();
    let store = CounterStore::<(Arc<str>, u32)>::new(64);
    let name = Arc::<str>::from("a");
    for n in 0..50 {
        let key = (Arc::clone(&name), n);
        let handle = store.counter(&key);
        handle.increment();
        let clone = handle.clone();
        store.remove(&key);
        assert_eq!((handle.increment(), clone.increment()), (1, 2));
        let snapshot = store.snapshot();
        store.remove(&key);
        assert_eq!((snapshot.len(), handle.get()), (1, None));
    }
    until_freed(100_000, &store, || Arc::strong_count(&name) - 1, "keys");
}
