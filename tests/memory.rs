//! Bounded memory, counted by an allocator and by keys that know how many of them are alive.
//!
//! The counts are smaller in debug builds. The tests run one at a time, since they share the
//! allocator and the process's collector.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hash::Hash;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use counterclock::{CounterStore, Equivalent, Rejected, ToKey};

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
/// Bytes that were asked for as zeros, ever.
static ZEROS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Relaxed);
        // SAFETY: by this function's own contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Relaxed);
        ZEROS.fetch_add(layout.size(), Relaxed);
        // SAFETY: by this function's own contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: by this function's own contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Keys alive, wherever they are.
static ALIVE: AtomicUsize = AtomicUsize::new(0);
/// Whether every hundredth key panics when it is dropped.
static BOMBS: AtomicBool = AtomicBool::new(false);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key(u64);

impl Clone for Key {
    fn clone(&self) -> Self {
        Number(self.0).to_key()
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Relaxed);
        if BOMBS.load(Relaxed) && self.0.is_multiple_of(100) {
            panic!("a key that panics when it is dropped");
        }
    }
}

/// The form that calls are made with: only the store makes keys.
#[derive(Hash)]
struct Number(u64);

impl Equivalent<Key> for Number {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.0
    }
}

impl ToKey<Key> for Number {
    fn to_key(&self) -> Key {
        ALIVE.fetch_add(1, Relaxed);
        Key(self.0)
    }
}

type Store = CounterStore<Key>;

const CAPACITY: usize = 2048;
const DEFAULT_SLACK: usize = 65_536;
/// What one thread by itself may have waiting: batches, and a few grace periods of them.
const GRACE: usize = 2048;
/// By how much a plateau may still move.
const JITTER: usize = 64 << 10;

fn scaled(release: u64, debug: u64) -> u64 {
    if cfg!(debug_assertions) { debug } else { release }
}

/// Frees what the process has ended, by traffic on a store that did not.
fn collect() {
    let other = CounterStore::<u64>::new(1);
    for _ in 0..100 {
        other.prune();
        thread::yield_now();
    }
}

/// One test at a time, from nothing alive.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // The thread of an earlier test may still be ending, pinned. Those that have ended left the
    // collector work, which comes before that of this test.
    thread::sleep(Duration::from_millis(10));
    collect();
    assert_eq!(ALIVE.load(Relaxed), 0, "an earlier store left keys");
    turn
}

/// The largest of what was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    keys: usize,
    bytes: usize,
}

impl Peak {
    fn sample(&mut self) {
        self.keys = self.keys.max(ALIVE.load(Relaxed));
        self.bytes = self.bytes.max(BYTES.load(Relaxed));
    }
}

/// Runs `operation` on 0, 1, 2, ... and checks that memory has found its level in the first tenth.
fn stays_flat(name: &str, n: u64, most_keys: usize, mut operation: impl FnMut(u64)) {
    let (mut early, mut late) = (Peak::default(), Peak::default());
    for i in 0..n {
        operation(i);
        if i < n / 10 { &mut early } else { &mut late }.sample();
    }
    println!("{name}: {n} operations, peaks: {early:?}, then {late:?}");
    assert!(late.keys <= most_keys, "{} keys alive", late.keys);
    assert!(late.bytes <= early.bytes + JITTER, "{early:?}, then {late:?}");
}

/// Other traffic and prunes, until everything that has ended is freed.
fn all_is_freed(store: &Store) {
    for _ in 0..100 {
        store.prune();
        // What handles held is not waiting for the store.
        if store.waiting() == 0 && ALIVE.load(Relaxed) == store.len() {
            break;
        }
        thread::yield_now();
    }
    assert_eq!(store.waiting(), 0);
    assert_eq!(ALIVE.load(Relaxed), store.len());
}

/// Dropping a store drops all its keys.
fn ends(store: Store) {
    drop(store);
    assert_eq!(ALIVE.load(Relaxed), 0, "keys outlived their store");
}

/// The index and the ghost come as zeros, which cost nothing until they are touched; what a new
/// store writes is its ledger.
#[test]
fn a_large_store_is_built_without_touching_its_memory() {
    let _turn = turn();
    let capacity = 1 << 22;
    // Zeros that earlier tests have given back are in the second and not in the first.
    let written = || BYTES.load(Relaxed) as isize - ZEROS.load(Relaxed) as isize;
    let before = (written(), ZEROS.load(Relaxed));
    let store = CounterStore::<u64>::builder().capacity(capacity).shards(8).build().expect("valid");
    let (written, zeros) = (written() - before.0, ZEROS.load(Relaxed) - before.1);
    assert!(
        written < 9 * capacity as isize / 4,
        "{written} bytes are written, and {zeros} are not"
    );
    assert!(zeros >= 10 * capacity, "{zeros}");
    drop(store);
}

/// An admission drops the key whose memory it uses, and no other.
#[test]
fn a_new_key_drops_one_old_key_at_most() {
    let _turn = turn();
    let store = Store::new(CAPACITY);
    let n = scaled(1_000_000, 100_000);
    let mut dropped = 0;
    for i in 0..n {
        let before = ALIVE.load(Relaxed);
        store.increment(&Number(i));
        let now = before + 1 - ALIVE.load(Relaxed);
        assert!(now <= 1, "{now} keys were dropped at once");
        dropped += now;
    }
    let kept = n as usize - dropped;
    assert!(kept <= CAPACITY + GRACE, "{kept} keys are alive");
    assert_eq!(store.stats().rejections, 0);
    all_is_freed(&store);
    ends(store);
}

#[test]
fn new_keys_for_ever() {
    let _turn = turn();
    let store = Store::new(CAPACITY);
    let n = scaled(5_000_000, 300_000);
    stays_flat("new keys", n, CAPACITY + GRACE, |i| {
        store.increment(&Number(i));
    });
    let stats = store.stats();
    assert_eq!((stats.admitted, stats.rejections, store.len()), (n, 0, CAPACITY));
    all_is_freed(&store);
    ends(store);
}

/// The store never fills, so no eviction ever clears anything away.
#[test]
fn increments_and_removes_for_ever() {
    let _turn = turn();
    let store = Store::new(1 << 16);
    let n = scaled(2_000_000, 200_000);
    stays_flat("pairs", n, GRACE, |i| {
        assert_eq!(store.increment(&Number(i)), 1);
        assert_eq!(store.remove(&Number(i)), Some(1));
    });
    assert_eq!((store.len(), store.stats().rejections), (0, 0));
    all_is_freed(&store);
    ends(store);
}

/// Churns with new keys of its own; how many calls were rejected, all for want of memory.
fn churn(store: &Store, thread: u64, n: u64, most_keys: usize) -> u64 {
    let mut rejected = 0;
    for i in 0..n {
        match store.try_increment(&Number(thread << 32 | i)) {
            Ok(count) => assert_eq!(count, 1),
            Err(Rejected::Memory) => rejected += 1,
            Err(why) => panic!("{why}"),
        }
        let alive = ALIVE.load(Relaxed);
        assert!(alive <= most_keys, "{alive} keys alive");
    }
    rejected
}

fn a_pin_for_good(n: u64) {
    let _turn = turn();
    const SLACK: usize = 4096;
    let store = Store::builder().capacity(CAPACITY).slack(SLACK).build().unwrap();
    let (pinned, unpin) = (Barrier::new(3), Barrier::new(2));
    // Each thread may have made a key that gets no slot.
    let most_keys = CAPACITY + SLACK + 2;
    let rejected: u64 = thread::scope(|scope| {
        scope.spawn(|| {
            let pin = store.pin();
            pinned.wait();
            unpin.wait();
            drop(pin);
        });
        let churners = [1, 2].map(|thread| {
            let (store, pinned) = (&store, &pinned);
            scope.spawn(move || {
                pinned.wait();
                churn(store, thread, n, most_keys)
            })
        });
        let rejected = churners.map(|churner| churner.join());
        // Before any panic goes on, which would leave the other thread waiting.
        unpin.wait();
        rejected.map(Result::unwrap).iter().sum()
    });
    let stats = store.stats();
    println!("a pin for good: {n} keys each, {rejected} rejected, {} admitted", stats.admitted);
    // Nothing can be freed, so just so many lives can begin.
    assert_eq!(stats.admitted, (CAPACITY + SLACK) as u64);
    assert_eq!((rejected, stats.rejections), (2 * n - stats.admitted, rejected));
    assert_eq!((stats.rejections_memory, stats.rejections_capacity), (rejected, 0));

    all_is_freed(&store);
    assert_eq!(churn(&store, 3, 10_000, most_keys), 0, "admission resumes");
    ends(store);
}

#[test]
fn a_pin_that_is_held_for_good() {
    a_pin_for_good(scaled(1_000_000, 150_000));
}

#[test]
#[ignore = "long: ten million keys"]
fn a_pin_that_is_held_for_ten_million_keys() {
    a_pin_for_good(5_000_000);
}

/// With a small slack each entry that ends is handed to the collector by itself, and the collector
/// keeps a bag of 2 KiB for that: not for each of those that end while somebody is pinned.
#[test]
fn what_ends_under_a_pin_costs_no_more_than_it_did() {
    let _turn = turn();
    const CAPACITY: usize = 16_384;
    type End = fn(&Store);
    let snapshots = |store: &Store| {
        let snapshot = store.snapshot();
        store.clear();
        drop(snapshot);
    };
    let removes = |store: &Store| {
        let all = 0..CAPACITY as u64;
        assert!(all.map(Number).all(|key| store.remove(&key) == Some(1)));
    };
    let rejected = |store: &Store| {
        for key in 0..CAPACITY as u64 {
            assert_eq!(store.remove(&Number(key)), Some(1));
            // Without slack each looks for a slot everywhere.
            _ = store.try_increment(&Number(1 << 40));
        }
    };
    let ways: [(&str, End); 4] = [
        ("clear", CounterStore::clear),
        ("snapshots", snapshots),
        ("removes", removes),
        ("removes and rejected admissions", rejected),
    ];
    let with_slack = |way| [0, DEFAULT_SLACK].map(|slack| (way, slack));
    for ((name, end), slack) in ways.into_iter().flat_map(with_slack) {
        let store = Store::builder().capacity(CAPACITY).shards(16).slack(slack).build().unwrap();
        for key in 0..CAPACITY as u64 {
            store.increment(&Number(key));
        }
        assert_eq!((store.len(), store.stats().rejections), (CAPACITY, 0));
        let full = BYTES.load(Relaxed);
        let pinned = store.pin();
        end(&store);
        let more = BYTES.load(Relaxed) as isize - full as isize;
        let more = more as f64 / CAPACITY as f64;
        println!("{name}, slack {slack}: {more:.1} bytes for each");
        assert!(store.len() <= 1 && ALIVE.load(Relaxed) >= CAPACITY, "nothing waits");
        // A 32nd of a bag, and with a small slack 4 bags for each shard beside that.
        let most = if slack == 0 { 64 + (16 * 4 * 2048) / CAPACITY } else { 64 };
        assert!(more < most as f64 + 8.0, "{name}, slack {slack}: {more:.1} bytes for each");
        drop(pinned);
        all_is_freed(&store);
        ends(store);
    }
}

/// A store whose entries have all ended under a pin that has gone since.
fn ended_under_a_pin(capacity: usize, shards: usize, slack: usize) -> Store {
    let store = Store::builder().capacity(capacity).shards(shards).slack(slack).build().unwrap();
    let pinned = store.pin();
    for key in 0..capacity as u64 {
        assert_eq!(store.try_increment(&Number(key)), Ok(1));
    }
    for key in 0..capacity as u64 {
        assert_eq!(store.remove(&Number(key)), Some(1));
    }
    drop(pinned);
    assert!(ALIVE.load(Relaxed) >= capacity, "nothing waits");
    store
}

/// Hits in some other store, until nothing is left to be freed.
#[track_caller]
fn hits_free(left: impl Fn() -> usize) {
    let other = CounterStore::<u64>::new(1);
    other.increment(&0);
    for n in 0..1_000_000 {
        if left() == 0 {
            return;
        }
        // A thread of an earlier test may be ending.
        if n % 1024 == 0 {
            thread::yield_now();
        }
        assert_ne!(other.increment(&0), 1);
    }
    panic!("{} are left", left());
}

/// What had to wait until the collector moved is freed once it does, by whatever is done then.
#[test]
fn hits_free_what_ended_under_a_pin() {
    let _turn = turn();
    let other = CounterStore::<u64>::new(1);
    for (capacity, shards, slack) in
        [(1024, 16, 0), (4096, 16, 0), (16_384, 16, 128), (64, 1, 0), (4096, 64, 1000)]
    {
        let store = ended_under_a_pin(capacity, shards, slack);
        // But for spares.
        hits_free(|| store.waiting().saturating_sub(slack / 8));
        assert_eq!(ALIVE.load(Relaxed), store.waiting());
        // So that the slack is there for what ends now, whoever is pinned.
        let pinned = other.pin();
        for key in 0..capacity as u64 {
            assert_eq!(store.try_increment(&Number(key)), Ok(1), "{capacity}, {shards}, {slack}");
        }
        drop(pinned);
        ends(store);
    }
}

/// One prune frees all that waited for another thread's pin, what the collector has last too.
#[test]
fn one_prune_frees_all_that_waited() {
    let _turn = turn();
    for (capacity, shards) in [(64, 1), (64, 2), (64, 8), (64, 64), (2048, 16)] {
        let builder = Store::builder().capacity(capacity).shards(shards);
        let store = builder.build().expect("a store");
        let other = CounterStore::<u64>::new(1);
        let (pinned, go_on) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|scope| {
            scope.spawn(|| {
                let pin = other.pin();
                pinned.wait();
                go_on.wait();
                drop(pin);
            });
            pinned.wait();
            (0..60_000).for_each(|key| assert_eq!(store.try_increment(&Number(key)), Ok(1)));
            assert_eq!(store.waiting(), 60_000 - capacity);
            go_on.wait();
        });
        // That thread may still be ending, pinned.
        thread::sleep(Duration::from_millis(10));
        store.prune();
        assert_eq!((store.waiting(), ALIVE.load(Relaxed)), (0, capacity), "{shards} shards");
        ends(store);
    }
}

/// However much waits: a call runs eight bags of at most 32 entries, or as many again where it
/// flushes.
#[test]
fn one_call_drops_no_more_than_a_few_batches() {
    let _turn = turn();
    const CAPACITY: usize = 1 << 15;
    for slack in [0, 128, 1024, 2048, 3968, DEFAULT_SLACK] {
        let store = ended_under_a_pin(CAPACITY, 16, slack);
        let (mut most, mut key) = (0, 1 << 40);
        while ALIVE.load(Relaxed) > 0 {
            let before = ALIVE.load(Relaxed);
            store.increment(&Number(key));
            store.remove(&Number(key));
            most = most.max((before + 1).saturating_sub(ALIVE.load(Relaxed)));
            key += 1;
            if key.is_multiple_of(10_000) {
                store.prune();
            }
            assert!(key < (1 << 40) + 1_000_000, "{} keys are left", ALIVE.load(Relaxed));
        }
        println!("slack {slack}: at most {most} keys");
        assert!(most <= 3 * 8 * 32, "slack {slack}: {most} keys were dropped at once");
        ends(store);
    }
}

/// A thread that ends may collect once more when it has no handle any more: what runs then pins, and
/// must not collect as well, one inside another.
#[test]
fn a_thread_that_ends_collects_no_deeper_than_once() {
    let _turn = turn();
    let other = &CounterStore::<u64>::new(1);
    other.increment(&0);
    /// Pins while the thread's own thread-locals are being destroyed.
    struct Late(CounterStore<u64>);
    impl Drop for Late {
        fn drop(&mut self) {
            (0..8).for_each(|_| _ = self.0.increment(&0));
        }
    }
    thread_local! {
        static LATE: Cell<Option<Late>> = const { Cell::new(None) };
    }
    let store = ended_under_a_pin(1 << 14, 512, 0);
    let (mut most, mut rounds) = (0, 0);
    while ALIVE.load(Relaxed) > 0 {
        assert!(rounds < 10_000, "{} keys are left", ALIVE.load(Relaxed));
        rounds += 1;
        for is_late in [false, true] {
            let before = ALIVE.load(Relaxed);
            thread::scope(|scope| {
                let end = move || {
                    if is_late {
                        LATE.set(Some(Late(other.clone())));
                    }
                    // One pin in 128 collects, and the one that ends the thread is the next.
                    (0..128).for_each(|_| _ = other.increment(&0));
                };
                let small = thread::Builder::new().stack_size(192 << 10);
                small.spawn_scoped(scope, end).expect("a thread");
            });
            most = most.max(before - ALIVE.load(Relaxed));
        }
    }
    println!("a thread that ends: at most {most} keys, {rounds} rounds");
    ends(store);
}

/// With a small slack, what only handles held is freed like anything else.
#[test]
fn hits_free_what_handles_held() {
    let _turn = turn();
    for shards in [1, 64] {
        let store = Store::builder().capacity(1024).shards(shards).slack(0).build().unwrap();
        let handles: Vec<_> = (0..1024).map(|key| store.counter(&Number(key))).collect();
        for (key, handle) in (0..).zip(&handles) {
            assert_eq!(handle.increment(), 1);
            assert_eq!(store.remove(&Number(key)), Some(1));
        }
        assert!(ALIVE.load(Relaxed) >= 1024 && store.waiting() == 0, "handles hold them");
        drop(handles);
        hits_free(|| ALIVE.load(Relaxed));
        ends(store);
    }
}

/// What idle threads have ended is freed by the others.
#[test]
fn idle_threads_keep_nothing() {
    let _turn = turn();
    const THREADS: u64 = 64;
    let store = Store::new(CAPACITY);
    let (idle, wake) = (Barrier::new(THREADS as usize + 1), Barrier::new(THREADS as usize + 1));
    thread::scope(|scope| {
        for thread in 1..=THREADS {
            let (store, idle, wake) = (&store, &idle, &wake);
            scope.spawn(move || {
                for i in 0..100 {
                    store.increment(&Number(thread << 32 | i));
                    // Of odd numbers of lives, so that no batch comes out even.
                    if i % 3 == 0 {
                        store.remove(&Number(thread << 32 | i));
                    }
                }
                idle.wait();
                wake.wait();
            });
        }
        idle.wait();
        for i in 0..100 {
            store.increment(&Number(i));
        }
        let freed = panic::catch_unwind(|| all_is_freed(&store));
        wake.wait();
        freed.unwrap();
    });
    assert_eq!(store.stats().rejections, 0);
    ends(store);
}

/// More busy threads than cores: each is stopped inside an operation now and then.
#[test]
fn four_busy_threads_are_hardly_ever_rejected() {
    let _turn = turn();
    let store = Store::new(CAPACITY);
    let n = scaled(1_000_000, 100_000);
    let rejected: u64 = thread::scope(|scope| {
        let churners = [1, 2, 3, 4].map(|thread| {
            let store = &store;
            scope.spawn(move || churn(store, thread, n, CAPACITY + DEFAULT_SLACK + 4))
        });
        churners.map(|churner| churner.join().unwrap()).iter().sum()
    });
    let share = 100.0 * rejected as f64 / (4 * n) as f64;
    println!("four busy threads: {rejected} of {} rejected: {share:.4} %", 4 * n);
    assert!(share <= 0.5, "{share} % were rejected");
    all_is_freed(&store);
    ends(store);
}

/// Where the process has nothing else to free, and nobody is pinned: what its admissions need is
/// freed by the time that they give up.
#[test]
fn a_slack_of_one_is_enough_for_one_thread() {
    let _turn = turn();
    for (capacity, shards) in [(1, 1), (64, 1), (64, 16), (2048, 16)] {
        let store = Store::builder().capacity(capacity).shards(shards).slack(1).build().unwrap();
        for key in 0..10_000 {
            assert_eq!(store.try_increment(&Number(key)), Ok(1), "{capacity}, {shards}");
        }
        assert_eq!(store.stats().evicted, 10_000 - capacity as u64);
        ends(store);
    }
}

/// Such a key loses neither its slot nor the rest of its batch.
#[test]
fn keys_that_panic_when_they_are_dropped() {
    let _turn = turn();
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    BOMBS.store(true, Relaxed);
    let store = Store::builder().capacity(64).slack(256).build().unwrap();
    for i in 0..100_000 {
        store.increment(&Number(i));
    }
    let (stats, waiting) = (store.stats(), store.waiting());
    for _ in 0..100 {
        store.prune();
    }
    let (left, alive) = (store.waiting(), ALIVE.load(Relaxed));
    drop(store);
    let outlived = ALIVE.load(Relaxed);
    BOMBS.store(false, Relaxed);
    panic::set_hook(hook);
    assert_eq!((stats.admitted, stats.rejections), (100_000, 0), "slots were lost");
    assert!(waiting <= 256);
    assert_eq!((left, alive, outlived), (0, 64, 0));
}

/// With handles and snapshots that outlive everything else.
#[test]
fn dropping_the_store_gives_everything_back() {
    let _turn = turn();
    // What the process allocates once: this thread's place in the collector.
    Store::new(1).increment(&Number(0));
    let before = BYTES.load(Relaxed);
    let store = Store::new(CAPACITY);
    for i in 0..50_000 {
        store.increment(&Number(i));
    }
    let snapshot = store.snapshot();
    let held = snapshot.len();
    store.clear();
    for i in 0..50_000 {
        store.increment(&Number(i));
    }
    drop(store);
    assert_eq!(ALIVE.load(Relaxed), held, "just those that the snapshot shows");
    assert!(snapshot.iter().all(|(_, count)| count == 1));
    drop(snapshot);
    // What a snapshot lets go of is freed by traffic on any store of the process.
    collect();
    assert_eq!(ALIVE.load(Relaxed), 0);
    let after = BYTES.load(Relaxed);
    println!("dropping: {before} bytes before, {after} after");
    assert!(after <= before + JITTER);
}

/// What had to wait for the collector when the store was dropped is not kept for admissions that
/// will not come.
#[test]
fn what_waited_when_the_store_was_dropped_is_freed() {
    let _turn = turn();
    let other = CounterStore::<u64>::new(1);
    let store = Store::new(CAPACITY);
    store.increment(&Number(0));
    let snapshot = store.snapshot();
    let pinned = other.pin();
    for key in 1..3 * CAPACITY as u64 {
        store.increment(&Number(key));
    }
    assert_eq!((store.len(), store.stats().rejections), (CAPACITY, 0));
    drop(store);
    assert!(ALIVE.load(Relaxed) >= CAPACITY, "nothing waits");
    drop(pinned);
    hits_free(|| ALIVE.load(Relaxed).abs_diff(1));
    assert_eq!(snapshot.len(), 1);
    drop(snapshot);
    hits_free(|| ALIVE.load(Relaxed));
}

/// Trap 14: what a counter costs, index included.
#[test]
fn a_full_store_costs_at_most_160_bytes_a_counter() {
    let _turn = turn();
    for capacity in [16_384, 65_536, 100_000] {
        let before = BYTES.load(Relaxed);
        let store = CounterStore::<u64>::new(capacity);
        for key in 0..capacity as u64 {
            store.increment(&key);
        }
        let each = (BYTES.load(Relaxed) - before) as f64 / capacity as f64;
        println!("capacity {capacity}: {each:.1} bytes a counter");
        assert_eq!((store.len(), store.stats().rejections), (capacity, 0));
        assert!(each <= 160.0, "{each:.1} bytes a counter");
    }
}
