//! Several counters per key: each lane keeps the promises of a store of its own.

mod common;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{Rng, lock, serially};
use counterclock::quanta::Clock;
use counterclock::{
    AtCapacity, Builder, Cause, CounterStore, LaneStore, MAX_COUNT, Rejected, Totals,
};
use proptest::prelude::*;

type Ends = Arc<Mutex<Vec<(u64, Vec<u64>, Cause)>>>;

/// With a listener that keeps what it is told.
fn listening(builder: Builder<u64>) -> (Builder<u64>, Ends) {
    let ends = Ends::default();
    let told = Arc::clone(&ends);
    let builder = builder.on_removal(move |end| {
        assert_eq!(end.lanes.first(), Some(&end.count));
        lock(&told).push((*end.key, end.lanes.to_vec(), end.cause));
    });
    (builder, ends)
}

fn recorded<const L: usize>(store: &LaneStore<u64, L>) -> [u64; L] {
    store.totals().map(|totals| totals.recorded)
}

#[test]
fn one_lookup_counts_all_lanes() {
    let store: LaneStore<String, 3> = CounterStore::builder().capacity(8).build_lanes().unwrap();
    assert_eq!(store.add("a", [1, 0, 1500]), [1, 0, 1500]);
    assert_eq!(store.try_add("a", [0, 2, 5]), Ok([1, 2, 1505]));
    assert_eq!(store.get("a"), Some([1, 2, 1505]));
    assert_eq!((store.len(), store.capacity(), store.is_empty()), (1, 8, false));
    assert!(store.contains("a") && !store.contains("b") && store.get("b").is_none());
    let [first, second, third] = store.lanes();
    assert_eq!(
        (first.increment("a"), second.add("a", 3), third.try_increment("a")),
        (2, 5, Ok(1506))
    );
    // A use of one lane admits the key in all.
    assert_eq!(second.increment("b"), 1);
    assert_eq!(store.get("b"), Some([0, 1, 0]));
    assert_eq!((first.get("b"), second.get("b"), third.get("c")), (Some(0), Some(1), None));
    assert_eq!(third.top(1), [("a".to_owned(), 1506)]);
    assert_eq!(store.remove("a"), Some([2, 5, 1506]));
    assert_eq!((store.remove("a"), store.len()), (None, 1));
    assert_eq!(store.stats().removed, 1);
    let [a, b, c] = store.totals();
    assert_eq!((a.removed, b.removed, c.removed), (2, 5, 1506));
    assert_eq!((a.live, b.live, c.live), (0, 1, 0));
    assert_eq!([a, b, c], [first.totals(), second.totals(), third.totals()]);
}

#[test]
fn each_number_of_lanes() {
    fn check<const L: usize>() {
        let (builder, ends) = listening(CounterStore::builder().capacity(1));
        let store: LaneStore<u64, L> = builder.build_lanes().unwrap();
        let amounts = std::array::from_fn(|lane| lane as u64 + 1);
        assert_eq!(store.add(&1, amounts), amounts);
        store.add(&2, amounts.map(|n| 2 * n));
        assert_eq!(*lock(&ends), [(1, amounts.to_vec(), Cause::Capacity)]);
        for (lane, one) in store.lanes().iter().enumerate() {
            let n = lane as u64 + 1;
            assert_eq!((one.get(&1), one.get(&2)), (None, Some(2 * n)));
            let totals = one.totals();
            assert_eq!((totals.evicted, totals.live, totals.recorded), (n, 2 * n, 3 * n));
        }
        store.clear();
        assert_eq!(lock(&ends)[1], (2, amounts.map(|n| 2 * n).to_vec(), Cause::Removed));
        assert!(store.is_empty());
    }
    check::<1>();
    check::<2>();
    check::<3>();
    check::<4>();
    check::<5>();
    check::<6>();
    check::<7>();
    check::<8>();
}

#[test]
fn a_snapshot_shows_all_lanes_of_each_key() {
    let store: LaneStore<u64, 2> = CounterStore::builder().capacity(100).build_lanes().unwrap();
    for key in 0..50 {
        store.add(&key, [key, 100 - key]);
    }
    let snapshot = store.snapshot();
    assert_eq!(snapshot.len(), 50);
    let shown: HashMap<_, _> = snapshot.iter().collect();
    assert!((0..50).all(|key| shown[&key] == [key, 100 - key]));
    let [first, second] = snapshot.lanes();
    assert_eq!(first.top(1), [(&49, 49)]);
    assert_eq!(second.top(1), [(&0, 100)]);
    assert_eq!(snapshot.totals(), [first.totals(), second.totals()]);
    assert_eq!(first.totals().live, (0..50).sum::<u64>());
    // It stays as it is.
    store.clear();
    assert_eq!(snapshot.iter().map(|(_, counts)| counts[0]).sum::<u64>(), (0..50).sum());
    assert!(!snapshot.is_empty() && store.snapshot().is_empty());
}

#[test]
fn what_has_ended_waits_for_its_grace_period() {
    let store: LaneStore<u64, 2> = CounterStore::builder().capacity(100).build_lanes().unwrap();
    let pinned = CounterStore::<u64>::new(1);
    let pinned = pinned.pin();
    for key in 0..10 {
        store.add(&key, [1, 1]);
        store.remove(&key);
    }
    assert_eq!((store.len(), store.waiting()), (0, 10));
    drop(pinned);
    // Other tests' pins come and go.
    while store.waiting() > 0 {
        store.prune();
    }
}

#[test]
fn saturation_and_rejection_lane_by_lane() {
    let builder = CounterStore::builder().capacity(1).at_capacity(AtCapacity::Reject);
    let store: LaneStore<u64, 3> = builder.build_lanes().unwrap();
    let [_, second, _] = store.lanes();
    store.add(&1, [1, MAX_COUNT - 1, 0]);
    assert_eq!(store.add(&1, [1, 5, u64::MAX]), [2, MAX_COUNT, MAX_COUNT]);
    assert_eq!(store.try_add(&2, [1, 2, u64::MAX]), Err(Rejected::Capacity));
    assert_eq!(store.add(&2, [1, 2, u64::MAX]), [1, 2, MAX_COUNT]);
    assert_eq!(second.try_add(&2, 10), Err(Rejected::Capacity));
    assert_eq!(second.add(&2, 10), 10);
    assert_eq!(store.totals().map(|t: Totals| t.rejected), [2, 24, 2 * MAX_COUNT]);
    assert_eq!(store.stats().rejections, 4);
    assert_eq!(recorded(&store), [4, MAX_COUNT + 24, 3 * MAX_COUNT]);
}

#[test]
fn a_handle_counts_all_lanes_and_is_never_orphaned() {
    let store: LaneStore<u64, 2> = CounterStore::builder().capacity(1).build_lanes().unwrap();
    let counter = store.counter(&1);
    assert_eq!((counter.key(), counter.get()), (&1, Some([0, 0])));
    assert_eq!(counter.add([1, 10]), [1, 10]);
    assert_eq!(store.add(&1, [1, 1]), [2, 11]);
    assert_eq!(counter.try_add([0, 4]), Ok([2, 15]));
    assert_eq!(store.remove(&1), Some([2, 15]));
    assert_eq!(counter.get(), None);
    assert_eq!(counter.add([3, 0]), [3, 0]);
    // Evicted by another key.
    store.add(&2, [1, 1]);
    assert_eq!(counter.get(), None);
    let clone = counter.clone();
    assert_eq!((clone.add([0, 7]), counter.get()), ([0, 7], Some([0, 7])));
    assert_eq!(recorded(&store), [6, 23]);
}

#[test]
fn a_use_of_any_lane_keeps_a_key_from_being_idle() {
    let (clock, mock) = Clock::mock();
    let ttl = Duration::from_secs(64);
    let builder = CounterStore::builder().capacity(8).idle_ttl(ttl).clock(clock);
    let (builder, ends) = listening(builder);
    let store: LaneStore<u64, 2> = builder.build_lanes().unwrap();
    let [first, second] = store.lanes();
    store.add(&1, [1, 1]);
    for _ in 0..4 {
        mock.increment(ttl);
        second.increment(&1);
    }
    assert_eq!(store.get(&1), Some([1, 5]));
    mock.increment(ttl + common::tick(ttl));
    assert_eq!((first.get(&1), second.get(&1)), (None, None));
    assert_eq!(*lock(&ends), [(1, vec![1, 5], Cause::Idle)]);
    // The next use begins all lanes at 0.
    assert_eq!(second.increment(&1), 1);
    assert_eq!(store.get(&1), Some([0, 1]));
    assert_eq!(store.totals().map(|t| t.expired), [1, 5]);
    mock.increment(ttl + common::tick(ttl));
    assert_eq!((store.prune(), store.len()), (1, 0));
}

#[test]
fn what_was_added_to_a_lane_between_two_snapshots() {
    let store: LaneStore<u64, 2> = CounterStore::builder().capacity(8).build_lanes().unwrap();
    store.add(&1, [1, 10]);
    store.add(&2, [2, 20]);
    let earlier = store.snapshot();
    store.add(&1, [0, 5]);
    store.add(&2, [3, 0]);
    store.remove(&2);
    store.add(&2, [1, 1]);
    let later = store.snapshot();
    let [first, second] = later.lanes();
    let sorted = |deltas: counterclock::Deltas<'_, u64>| {
        let mut deltas: Vec<_> = deltas.into_iter().map(|(key, n)| (*key, n)).collect();
        deltas.sort_unstable();
        deltas
    };
    assert_eq!(sorted(first.since(&earlier.lanes()[0]).unwrap()), [(2, 4)]);
    assert_eq!(sorted(second.since(&earlier.lanes()[1]).unwrap()), [(1, 5), (2, 1)]);
    assert_eq!(second.since(&earlier.lanes()[1]).unwrap().unattributed(), 0);
    assert!(second.since(&earlier.lanes()[0]).is_err(), "another lane");
}

/// A listener that panics leaves no half of an add behind.
#[test]
fn a_panicking_listener() {
    let panics = Arc::new(AtomicBool::new(false));
    let does = Arc::clone(&panics);
    let store: LaneStore<u64, 2> = CounterStore::builder()
        .capacity(1)
        .shards(1)
        .on_removal(move |_| assert!(!does.load(Ordering::SeqCst), "listener"))
        .build_lanes()
        .unwrap();
    let handle = store.counter(&1);
    let [_, lane] = store.lanes();
    let adds: [(u64, &dyn Fn()); 3] = [
        (1, &|| _ = handle.add([10, 20])),
        (2, &|| _ = store.add(&2, [10, 20])),
        (3, &|| _ = lane.add(&3, 20)),
    ];
    let mut units = [0, 0];
    for (key, add) in adds {
        store.add(&9, [1, 1]);
        panics.store(true, Ordering::SeqCst);
        assert!(catch_unwind(AssertUnwindSafe(add)).is_err(), "{key}");
        panics.store(false, Ordering::SeqCst);
        let added = if key == 3 { [0, 20] } else { [10, 20] };
        assert_eq!(store.get(&key), Some(added), "{key}");
        units = [units[0] + added[0] + 1, units[1] + added[1] + 1];
        assert_eq!(recorded(&store), units, "{key}");
    }
}

/// Every life that ends has in each lane what some call added.
#[test]
fn no_life_ends_half_begun() {
    let half = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&half);
    let store: LaneStore<u64, 3> = CounterStore::builder()
        .capacity(1)
        .shards(1)
        .on_removal(move |end| {
            if end.lanes.contains(&0) {
                lock(&told).push(end.lanes.to_vec());
            }
        })
        .build_lanes()
        .unwrap();
    thread::scope(|scope| {
        for first in [0, 20_000, 40_000] {
            let store = &store;
            scope
                .spawn(move || (first..first + 20_000).for_each(|key| _ = store.add(&key, [1; 3])));
        }
    });
    assert!(lock(&half).is_empty(), "{:?}", lock(&half));
    assert_eq!(recorded(&store), [60_000; 3]);
}

/// The store's handles are kept apart from their strong ones.
#[test]
fn weak_handles() {
    let store: LaneStore<u64, 2> = CounterStore::builder().capacity(2).build_lanes().unwrap();
    let weak = store.downgrade();
    weak.clone().upgrade().expect("it lives").add(&1, [1, 2]);
    assert_eq!(store.get(&1), Some([1, 2]));
    let lane = store.lanes()[1].clone();
    drop(store);
    assert_eq!(weak.upgrade().expect("a lane keeps it alive").len(), 1);
    drop(lane);
    assert!(weak.upgrade().is_none());
}

#[test]
fn what_may_go_to_other_threads() {
    fn is_send<T: Send>(_: &T) {}
    fn is_sync<T: Sync>(_: &T) {}
    let store: LaneStore<String, 2> = CounterStore::builder().capacity(2).build_lanes().unwrap();
    is_send(&store.counter("a"));
    let snapshot = store.snapshot();
    is_send(&snapshot);
    is_send(&snapshot.iter());
    is_send(&snapshot.lanes()[0].lives());
    is_sync(&(&store, &store.lanes(), &snapshot, &store.downgrade()));
}

#[test]
fn what_debug_shows() {
    let store: LaneStore<u64, 2> = CounterStore::builder().capacity(2).build_lanes().unwrap();
    store.add(&1, [3, 4]);
    assert!(format!("{store:?}").starts_with("LaneStore { lanes: 2, store: CounterStore"));
    assert!(format!("{:?}", store.lanes()[1]).starts_with("Lane { lane: 1"));
    assert_eq!(format!("{:?}", store.snapshot()), "{1: [3, 4]}");
    assert!(format!("{:?}", store.counter(&1)).starts_with("LaneCounter { counter: Counter"));
    assert!(format!("{:?}", store.downgrade()).starts_with("WeakLaneStore(Some(LaneStore"));
}

/// Threads use lanes at random while others evict, expire, remove and read: in each lane every unit
/// is where the threads' own tallies say, and sums never fall from one snapshot to the next.
#[test]
fn threads_balance_in_every_lane() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 20_000;
    let _turn = serially();
    for (capacity, with_ttl) in [(1, false), (7, true), (200, false), (200, true)] {
        let (clock, mock) = Clock::mock();
        let ttl = Duration::from_secs(64);
        let mut builder = CounterStore::builder().capacity(capacity).slack(common::AMPLE);
        if with_ttl {
            builder = builder.idle_ttl(ttl).clock(clock);
        }
        let (builder, ends) = listening(builder);
        let store: LaneStore<u64, 3> = builder.build_lanes().unwrap();
        let tallies: Vec<[u64; 3]> = thread::scope(|scope| {
            let workers = (0..THREADS).map(|seed| {
                let (store, mock) = (&store, &mock);
                scope.spawn(move || {
                    let mut rng = Rng::new(seed + 1);
                    let mut tally = [0; 3];
                    let mut sums = [0; 3];
                    let lanes = store.lanes();
                    let handle = store.counter(&seed);
                    for _ in 0..ROUNDS {
                        let key = rng.below(2 * capacity as u64 + 1);
                        let lane = rng.below(3) as usize;
                        let n = rng.below(100);
                        let mut amounts = [0; 3];
                        match rng.below(100) {
                            0..30 => {
                                amounts = [1, n, rng.below(2)];
                                store.add(&key, amounts);
                            }
                            30..60 => {
                                amounts[lane] = n;
                                lanes[lane].add(&key, n);
                            }
                            60..75 => {
                                amounts = [n, 0, 1];
                                handle.add(amounts);
                            }
                            75..90 => _ = store.remove(&key),
                            90..95 => _ = store.get(&key),
                            95..98 => mock.increment(Duration::from_secs(1)),
                            _ => {
                                let now = store.snapshot().totals().map(|t| t.recorded);
                                let fell = (0..3).any(|lane| now[lane] < sums[lane]);
                                assert!(!fell, "{sums:?}, then {now:?}");
                                sums = now;
                            }
                        }
                        (0..3).for_each(|lane| tally[lane] += amounts[lane]);
                    }
                    tally
                })
            });
            let workers: Vec<_> = workers.collect();
            workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
        });
        let added = [0, 1, 2].map(|lane| tallies.iter().map(|tally| tally[lane]).sum::<u64>());
        let totals = store.totals();
        assert_eq!(totals.map(|t| t.recorded), added);
        assert!(store.len() <= capacity);
        // A capacity of 1 may be with admissions under way.
        let rejected = store.stats().rejections;
        assert!(capacity == 1 || rejected == 0, "{rejected} rejected");
        let told = lock(&ends);
        for (lane, totals) in totals.iter().enumerate() {
            let of = |cause| {
                told.iter().filter(|end| end.2 == cause).map(|end| end.1[lane]).sum::<u64>()
            };
            assert_eq!(totals.evicted, of(Cause::Capacity), "lane {lane}");
            assert_eq!(totals.expired, of(Cause::Idle), "lane {lane}");
            assert_eq!(totals.removed, of(Cause::Removed), "lane {lane}");
        }
        let lives = store.stats();
        assert_eq!(lives.admitted, told.len() as u64 + store.len() as u64);
    }
}

/// Within one life, while all count by `increment`, a lane returns 1, 2, 3, ...
#[test]
fn a_lane_counts_without_gap_or_repeat() {
    let store: LaneStore<u64, 2> = CounterStore::builder().capacity(4).build_lanes().unwrap();
    let [_, lane] = store.lanes();
    let mut seen: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..5000).map(|_| lane.increment(&1)).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    seen.sort_unstable();
    assert!(seen.into_iter().eq(1..=20_000));
}

#[derive(Clone, Debug)]
enum Op {
    Add(u64, [u64; 3]),
    AddToOne(u64, usize, u64),
    AddByHandle([u64; 3]),
    Remove(u64),
    Get(u64),
    Wait(u64),
    Prune,
    Clear,
    Snapshot,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let amount = || prop_oneof![4 => 0..4_u64, 1 => Just(MAX_COUNT - 1), 1 => any::<u64>()];
    let amounts = move || [amount(), amount(), amount()];
    let op = prop_oneof![
        4 => (0..5_u64, amounts()).prop_map(|(key, amounts)| Op::Add(key, amounts)),
        4 => (0..5_u64, 0..3_usize, amount()).prop_map(|(key, lane, n)| Op::AddToOne(key, lane, n)),
        2 => amounts().prop_map(Op::AddByHandle),
        2 => (0..5_u64).prop_map(Op::Remove),
        1 => (0..5_u64).prop_map(Op::Get),
        2 => (0..80_u64).prop_map(Op::Wait),
        1 => Just(Op::Prune),
        1 => Just(Op::Clear),
        1 => Just(Op::Snapshot),
    ];
    proptest::collection::vec(op, 0..60)
}

proptest! {
    /// One thread: every answer and every end is what a plain map of arrays says.
    #[test]
    fn what_a_plain_map_says(capacity in 1..4_usize, rejects: bool, ops in ops()) {
        let (clock, mock) = Clock::mock();
        let ttl = Duration::from_secs(64);
        let at_capacity = if rejects { AtCapacity::Reject } else { AtCapacity::Evict };
        let builder = CounterStore::builder().capacity(capacity).shards(1).at_capacity(at_capacity);
        let (builder, ends) = listening(builder.idle_ttl(ttl).clock(clock));
        let store: LaneStore<u64, 3> = builder.build_lanes().unwrap();
        let lanes = store.lanes();
        let handle = store.counter(&9);
        let mut live = HashMap::from([(9, [0; 3])]);
        let mut sums = [[0_u64; 3]; 5];
        let mut heard = 0;
        // What the listener was told is taken out of the map, and what it was told last comes first
        // where an admission has evicted.
        let mut hear = |live: &mut HashMap<u64, [u64; 3]>, sums: &mut [[u64; 3]; 5]| {
            for (key, counts, cause) in &lock(&ends)[heard..] {
                let known = live.remove(key).expect("it was live");
                assert_eq!(known.to_vec(), *counts, "{cause:?}");
                let at = [Cause::Capacity, Cause::Idle, Cause::Removed];
                let at = at.iter().position(|known| known == cause).expect("known");
                (0..3).for_each(|lane| sums[at][lane] += counts[lane]);
            }
            heard = lock(&ends).len();
        };
        for op in ops {
            let mut count = |live: &mut HashMap<u64, [u64; 3]>,
                             sums: &mut [[u64; 3]; 5],
                             key: u64,
                             amounts: [u64; 3],
                             answer: Result<[u64; 3], Rejected>| {
                hear(live, sums);
                let fits = amounts.map(|n| n.min(MAX_COUNT));
                let Ok(answer) = answer else {
                    assert!(rejects && live.len() == capacity && !live.contains_key(&key));
                    (0..3).for_each(|lane| sums[3][lane] += fits[lane]);
                    return;
                };
                let counts = live.entry(key).or_default();
                for lane in 0..3 {
                    counts[lane] = (counts[lane] + fits[lane]).min(MAX_COUNT);
                    assert!(answer[lane] == counts[lane], "{key}: {answer:?}, not {counts:?}");
                }
            };
            match op {
                Op::Add(key, amounts) => {
                    let answer = store.try_add(&key, amounts);
                    count(&mut live, &mut sums, key, amounts, answer);
                }
                Op::AddToOne(key, lane, n) => {
                    let answer = lanes[lane].try_add(&key, n);
                    let mut amounts = [0; 3];
                    amounts[lane] = n;
                    let all = answer.map(|count| {
                        let counts = store.get(&key).expect("just counted");
                        assert_eq!(counts[lane], count);
                        counts
                    });
                    count(&mut live, &mut sums, key, amounts, all);
                }
                Op::AddByHandle(amounts) => {
                    let answer = handle.try_add(amounts);
                    count(&mut live, &mut sums, 9, amounts, answer);
                }
                Op::Remove(key) => {
                    let before = live.get(&key).copied();
                    let removed = store.remove(&key);
                    hear(&mut live, &mut sums);
                    prop_assert!(!live.contains_key(&key));
                    prop_assert!(removed.is_none() || removed == before);
                }
                Op::Get(key) => {
                    let counts = store.get(&key);
                    hear(&mut live, &mut sums);
                    prop_assert_eq!(counts, live.get(&key).copied());
                }
                Op::Wait(seconds) => mock.increment(Duration::from_secs(seconds)),
                Op::Prune => {
                    let before = live.len();
                    let ended = store.prune();
                    hear(&mut live, &mut sums);
                    prop_assert_eq!(before - live.len(), ended);
                }
                Op::Clear => {
                    store.clear();
                    hear(&mut live, &mut sums);
                    prop_assert!(live.is_empty());
                }
                Op::Snapshot => {
                    let shown: HashMap<_, _> =
                        store.snapshot().iter().map(|(key, counts)| (*key, counts)).collect();
                    hear(&mut live, &mut sums);
                    prop_assert_eq!(&shown, &live);
                }
            }
            prop_assert!(store.len() <= capacity);
        }
        store.clear();
        hear(&mut live, &mut sums);
        for (lane, totals) in store.totals().into_iter().enumerate() {
            let [evicted, expired, removed, rejected, _] = sums.map(|sums| sums[lane]);
            prop_assert_eq!(
                [totals.evicted, totals.expired, totals.removed, totals.rejected, totals.live],
                [evicted, expired, removed, rejected, 0]
            );
        }
    }
}
