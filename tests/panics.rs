//! A panic of the user's code leaves the store whole: balanced, of the right length, without leaks.

mod common;

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use common::{Config, TTL, TestState, lock, matrix, serially, tick, until_freed};
use counterclock::quanta::Mock;
use counterclock::{
    AtCapacity, Cause, CounterStore, Equivalent, LaneCounter, LaneStore, ToKey, quanta,
};

/// The user's code that can be made to panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Hash,
    Eq,
    Clone,
    ToKey,
    Drop,
    Listener,
}

const CALLS: [Call; 6] =
    [Call::Hash, Call::Eq, Call::Clone, Call::ToKey, Call::Drop, Call::Listener];

thread_local! {
    /// The call that panics, and how many go well before it.
    static BOMB: Cell<Option<(Call, u64)>> = const { Cell::new(None) };
    static TOLD: RefCell<Vec<(u64, u64, Cause)>> = const { RefCell::new(Vec::new()) };
}

fn arm(bomb: Option<(Call, u64)>) -> Option<(Call, u64)> {
    BOMB.replace(bomb)
}

/// Panics where it is this call's turn; only once.
fn step(call: Call) {
    match BOMB.get() {
        Some((bomb, 0)) if bomb == call => {
            BOMB.set(None);
            // Not a message: the hook stays silent about these, see `quietly`.
            std::panic::panic_any(call);
        }
        Some((bomb, left)) if bomb == call => BOMB.set(Some((bomb, left - 1))),
        _ => {}
    }
}

/// Counts how many of its kind are alive.
#[derive(Debug)]
struct Key {
    number: u64,
    alive: Arc<AtomicUsize>,
}

impl Key {
    fn new(number: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Relaxed);
        Self { number, alive: Arc::clone(alive) }
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        step(Call::Clone);
        Self::new(self.number, &self.alive)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Relaxed);
        if !std::thread::panicking() {
            step(Call::Drop);
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        step(Call::Eq);
        self.number == other.number
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        step(Call::Hash);
        self.number.hash(state);
    }
}

/// The borrowed form.
struct Borrowed<'a>(u64, &'a Arc<AtomicUsize>);

impl Hash for Borrowed<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        step(Call::Hash);
        self.0.hash(state);
    }
}

impl Equivalent<Key> for Borrowed<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        step(Call::Eq);
        self.0 == key.number
    }
}

impl ToKey<Key> for Borrowed<'_> {
    fn to_key(&self) -> Key {
        step(Call::ToKey);
        Key::new(self.0, self.1)
    }
}

/// The hook is the process's: it says nothing of the panics that are meant.
fn quietly() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<Call>().is_none() {
                hook(info);
            }
        }));
    });
}

/// Its name, and what it does.
type Operation = (&'static str, Box<dyn Fn(&Bed)>);

struct Bed {
    store: CounterStore<Key, TestState>,
    mock: Option<Arc<Mock>>,
    alive: Arc<AtomicUsize>,
}

fn bed(config: Config) -> Bed {
    quietly();
    TOLD.take();
    let mut builder = CounterStore::builder()
        .capacity(config.capacity)
        .shards(config.shards)
        .at_capacity(config.at_capacity)
        .on_removal(|removal: &counterclock::Removal<'_, Key>| {
            // In the books before it panics: it was told.
            let told = (removal.key.number, removal.count, removal.cause);
            TOLD.with_borrow_mut(|all| all.push(told));
            step(Call::Listener);
        });
    let mut mock = None;
    if let Some(ttl) = config.ttl {
        let (clock, of_clock) = counterclock::quanta::Clock::mock();
        builder = builder.idle_ttl(ttl).clock(clock);
        mock = Some(of_clock);
    }
    let store = builder.hasher(config.state()).build();
    Bed { store: store.expect("a store"), mock, alive: Arc::default() }
}

impl Bed {
    fn key(&self, number: u64) -> Borrowed<'_> {
        Borrowed(number, &self.alive)
    }

    fn advance(&self, time: Duration) {
        if let Some(mock) = &self.mock {
            mock.increment(time);
        }
    }

    fn add(&self, number: u64) {
        for _ in 0..=number % 3 {
            _ = self.store.try_increment(&self.key(number));
        }
    }

    /// All operations, each of which may panic.
    fn operations(capacity: u64) -> Vec<Operation> {
        let new = capacity + 3;
        vec![
            ("hit", Box::new(|bed| bed.add(0))),
            ("admit", Box::new(move |bed| bed.add(new))),
            ("admit another", Box::new(move |bed| bed.add(new + 1))),
            (
                "owned",
                Box::new(move |bed| _ = bed.store.increment_owned(Key::new(new + 2, &bed.alive))),
            ),
            ("get", Box::new(|bed| _ = bed.store.get(&bed.key(0)))),
            (
                "pinned",
                Box::new(move |bed| {
                    let pinned = bed.store.pin();
                    pinned.increment(&bed.key(new + 4));
                    pinned.increment(&bed.key(0));
                    _ = pinned.get(&bed.key(1));
                }),
            ),
            (
                "counter",
                Box::new(move |bed| {
                    let counter = bed.store.counter(&bed.key(new + 5));
                    counter.increment();
                    bed.store.remove(&bed.key(new + 5));
                    counter.clone().increment();
                }),
            ),
            ("remove", Box::new(|bed| _ = bed.store.remove(&bed.key(1)))),
            (
                "snapshot",
                Box::new(|bed| {
                    _ = bed.store.snapshot().get(&bed.key(2));
                }),
            ),
            ("top", Box::new(|bed| _ = bed.store.top(4))),
            ("prune", Box::new(|bed| _ = bed.store.prune())),
            ("clear", Box::new(|bed| bed.store.clear())),
        ]
    }

    /// Whole, and goes on.
    fn check(&self, capacity: usize, what: &dyn std::fmt::Debug) {
        assert_eq!(arm(None), None);
        let (totals, stats) = (self.store.totals(), self.store.stats());
        let told = TOLD.with_borrow(Vec::clone);
        for (cause, lives, units) in [
            (Cause::Capacity, stats.evicted, totals.evicted),
            (Cause::Idle, stats.expired, totals.expired),
            (Cause::Removed, stats.removed, totals.removed),
        ] {
            let of_cause = told.iter().filter(|told| told.2 == cause);
            let sums = of_cause.fold((0, 0), |(n, sum), told| (n + 1, sum + told.1));
            assert_eq!((lives, units), sums, "{cause:?} {what:?}");
        }
        let snapshot = self.store.snapshot();
        assert_eq!(snapshot.totals(), totals, "{what:?}");
        assert_eq!(snapshot.len(), self.store.len(), "{what:?}");
        let ended = stats.evicted + stats.expired + stats.removed;
        assert_eq!(stats.admitted, ended + self.store.len() as u64, "{what:?}");
        drop(snapshot);

        self.store.clear();
        assert_eq!(self.store.len(), 0, "{what:?}");
        // All of the room is there.
        for number in 100..100 + capacity as u64 {
            assert_eq!(self.store.try_increment(&self.key(number)), Ok(1), "{what:?}");
        }
        assert_eq!(self.store.len(), capacity, "{what:?}");
    }
}

/// The operation with a bomb at its n-th call; `false` once there is no n-th call.
fn explode(config: Config, op: usize, call: Call, nth: u64, ttl_over: bool) -> bool {
    let bed = bed(config);
    let capacity = config.capacity as u64;
    (0..capacity).for_each(|number| bed.add(number));
    if ttl_over {
        bed.advance(TTL + tick(TTL));
    }
    let operations = Bed::operations(capacity);
    let (name, operation) = &operations[op];
    let what = (*name, call, nth, config);
    arm(Some((call, nth)));
    let result = catch_unwind(AssertUnwindSafe(|| operation(&bed)));
    let exploded = arm(None).is_none();
    if let Err(panic) = &result {
        assert_eq!(panic.downcast_ref::<Call>(), Some(&call), "{what:?}");
        assert!(exploded);
    }
    // What a key throws when the store frees it goes no further; all else reaches the caller.
    assert!(result.is_err() || !exploded || call == Call::Drop, "{what:?}");
    bed.check(config.capacity, &what);
    let Bed { store, alive, .. } = bed;
    drop(store);
    until_freed(1000, &CounterStore::<u64>::new(1), || alive.load(Relaxed), what);
    exploded
}

fn explode_everywhere(config: Config, ttl_over: bool) {
    let _turn = serially();
    let operations = Bed::operations(config.capacity as u64).len();
    let mut exploded = [0; CALLS.len()];
    for op in 0..operations {
        for (i, &call) in CALLS.iter().enumerate() {
            let mut nth = 0;
            while explode(config, op, call, nth, ttl_over) {
                nth += 1;
                exploded[i] += 1;
                assert!(nth < 5_000, "no end of calls");
            }
        }
    }
    // A test that explodes nothing shows nothing. (With room for one, and rejection, few are
    // compared.)
    assert!(exploded.iter().all(|&n| n > 0), "{exploded:?} {config:?}");
}

fn configs() -> impl Iterator<Item = Config> {
    let small = |config: &Config| config.capacity == 2 || config.capacity == 7;
    matrix(64).into_iter().filter(small)
}

#[test]
fn a_panic_at_each_call_of_each_operation() {
    for config in configs() {
        explode_everywhere(config, false);
    }
}

#[test]
fn a_panic_at_each_call_where_lives_are_over() {
    for config in configs().filter(|config| config.ttl.is_some()) {
        explode_everywhere(config, true);
    }
}

/// Every call of the listener panics: all are told, and the first panic is what the caller gets.
#[test]
fn the_rest_of_the_batch_is_delivered_and_the_first_panic_goes_on() {
    let _turn = serially();
    for shards in [1, 16] {
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let books = Arc::clone(&told);
        let (clock, mock) = counterclock::quanta::Clock::mock();
        quietly_numbers();
        let store = CounterStore::<u64>::builder()
            .capacity(32)
            .shards(shards)
            .clock(clock)
            .idle_ttl(TTL)
            .on_removal(move |removal| {
                let mut told = lock(&books);
                told.push(*removal.key);
                std::panic::panic_any(Meant(*removal.key));
            })
            .build()
            .expect("a store");
        for _ in 0..2 {
            (0..32).for_each(|key| assert_eq!(store.try_increment(&key), Ok(1)));
            mock.increment(TTL + tick(TTL));
            lock(&told).clear();
            let panic = catch_unwind(|| store.prune()).expect_err("it panics");
            let told = lock(&told).clone();
            assert_eq!(panic.downcast_ref::<Meant>(), Some(&Meant(told[0])));
            let mut keys = told;
            keys.sort_unstable();
            assert_eq!(keys, (0..32).collect::<Vec<_>>());
            assert_eq!((store.len(), store.totals().live), (0, 0));
        }
        assert_eq!(store.stats().expired, 64);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Meant(u64);

fn quietly_numbers() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<Meant>().is_none() {
                hook(info);
            }
        }));
    });
}

/// Nothing leaks in ordinary use, either: handles, snapshots, ends and the drop of the store.
#[test]
fn no_key_leaks() {
    let _turn = serially();
    for config in matrix(64) {
        let bed = bed(config);
        let mut held = Vec::new();
        for number in 0..2 * config.capacity as u64 {
            bed.add(number);
            if number % 5 == 0 {
                held.push(bed.store.counter(&bed.key(number)));
            }
            if number % 3 == 0 {
                bed.store.remove(&bed.key(number));
            }
        }
        let snapshot = bed.store.snapshot();
        bed.advance(TTL * 2);
        bed.add(1);
        bed.store.clear();
        bed.add(2);
        drop(held);
        let Bed { store, alive, .. } = bed;
        drop(store);
        assert!(alive.load(Relaxed) >= snapshot.len());
        drop(snapshot);
        until_freed(1000, &CounterStore::<u64>::new(1), || alive.load(Relaxed), config);
        if config.at_capacity == AtCapacity::Reject {
            continue;
        }
        assert_eq!(alive.load(Relaxed), 0);
    }
}

/// `clear` goes on through the whole store, over several batches, and then the first panic goes on.
#[test]
fn clear_ends_every_life_though_the_listener_panics() {
    use counterclock::CounterStore;
    use std::panic::catch_unwind;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    let _turn = serially();
    let told = Arc::new(AtomicU64::new(0));
    let tally = told.clone();
    let store = CounterStore::<u64>::builder()
        .capacity(1000)
        .on_removal(move |_| {
            let nth = tally.fetch_add(1, Ordering::Relaxed);
            std::panic::panic_any(nth);
        })
        .build()
        .expect("valid parameters");
    for key in 0..1000 {
        store.increment(&key);
    }
    let panic = catch_unwind(|| store.clear()).expect_err("the listener panics");
    assert_eq!(panic.downcast_ref::<u64>(), Some(&0));
    assert_eq!((store.len(), told.load(Ordering::Relaxed)), (0, 1000));
    assert_eq!(store.totals().removed, 1000);
}

/// A handle's hold is not lost when the key that was not needed panics on its way out.
#[test]
fn a_handle_lets_go_though_a_key_panics() {
    use counterclock::CounterStore;
    use std::hash::{Hash, Hasher};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, OnceLock};

    static STORE: OnceLock<CounterStore<Key>> = OnceLock::new();
    static ARMED: AtomicBool = AtomicBool::new(false);

    struct Key(Arc<()>, bool);

    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            1.hash(state);
        }
    }

    impl PartialEq for Key {
        fn eq(&self, _: &Self) -> bool {
            true
        }
    }

    impl Eq for Key {}

    impl Clone for Key {
        /// Once, the key is admitted while it is being cloned, and the clone is a bomb.
        fn clone(&self) -> Self {
            let armed = ARMED.swap(false, Ordering::Relaxed);
            if armed {
                let store = STORE.get().expect("set first");
                store.increment_owned(Key(Arc::clone(&self.0), false));
            }
            Key(Arc::clone(&self.0), armed)
        }
    }

    impl Drop for Key {
        fn drop(&mut self) {
            if self.1 && !std::thread::panicking() {
                panic!("a key that panics when it is dropped");
            }
        }
    }

    let _turn = serially();
    let alive = Arc::new(());
    let store = STORE.get_or_init(|| CounterStore::new(64));
    let counter = store.counter(&Key(Arc::clone(&alive), false));
    store.remove(counter.key());
    ARMED.store(true, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(|| counter.increment())).is_err());
    assert_eq!(counter.get(), Some(2), "both were counted");
    drop(counter);
    store.clear();
    until_freed(1000, store, || Arc::strong_count(&alive) - 1, "keys");
}

/// A pin may drop old keys. What one of them does to the handle that is being read, through which
/// another life was to begin and did not, comes before the reading: it does not see an entry that
/// the handle has let go of.
#[test]
fn what_a_pin_drops_may_use_the_handle_that_is_read() {
    use std::cell::{Cell, OnceCell};

    thread_local! {
        static HANDLE: OnceCell<LaneCounter<Key, 2>> = const { OnceCell::new() };
        static CLOCK: OnceCell<Arc<quanta::Mock>> = const { OnceCell::new() };
        static ARMED: Cell<bool> = const { Cell::new(false) };
        static CLONES: Cell<bool> = const { Cell::new(true) };
    }

    #[derive(Debug, PartialEq, Eq, Hash)]
    struct Key;

    impl Clone for Key {
        fn clone(&self) -> Self {
            assert!(CLONES.get(), "a key that is not cloned");
            Self
        }
    }

    #[derive(PartialEq, Eq, Hash)]
    struct Old;

    impl Drop for Old {
        fn drop(&mut self) {
            if ARMED.replace(false) {
                CLOCK.with(|clock| clock.get().expect("set").increment(2 * TTL));
                CLONES.set(false);
                // The life is over, the handle lets go of it, and no other can begin.
                HANDLE.with(|handle| handle.get().expect("set").add([1, 1]));
            }
        }
    }

    let _turn = serially();
    let (clock, mock) = quanta::Clock::mock();
    let builder = CounterStore::builder().capacity(4).idle_ttl(TTL).clock(clock);
    let store: LaneStore<Key, 2> = builder.build_lanes().expect("a store");
    assert_eq!(store.add(&Key, [5, 7]), [5, 7]);
    HANDLE.with(|handle| handle.set(store.counter(&Key)).expect("unset"));
    CLOCK.with(|clock| clock.set(mock).expect("unset"));
    let get = || HANDLE.with(|handle| handle.get().expect("set").get());
    let pinned = CounterStore::<u64>::new(1);
    for attempt in 0.. {
        // Again where another thread has dropped the last one, by a pin of its own.
        assert!(attempt < 1000, "no old key is ever dropped here");
        let old = CounterStore::<Old>::new(1);
        let pin = pinned.pin();
        old.increment_owned(Old);
        old.clear();
        drop((old, pin));
        ARMED.set(true);
        for read in 0..1000 {
            let counts = get();
            assert_eq!(counts.is_some(), ARMED.get(), "{counts:?}, read {attempt} {read}");
        }
        if !ARMED.replace(false) {
            break;
        }
    }
    CLONES.set(true);
    assert_eq!(get(), None);
    assert_eq!(store.prune(), 0, "it was found over");
    assert_eq!(store.totals().map(|totals| totals.expired), [5, 7]);
}
