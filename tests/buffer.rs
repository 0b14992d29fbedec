//! Buffers: what is gathered is handed over exactly, once, with its uses.

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use counterclock::{AtCapacity, Buffer, CounterStore, MAX_COUNT};

#[test]
fn units_are_added_when_they_are_flushed() {
    let store = CounterStore::<String>::new(8);
    let buffer = store.buffer();
    buffer.increment("a");
    buffer.add("b", 2);
    buffer.add("a", 3);
    buffer.add("c", 0);
    assert_eq!((buffer.held(), store.len(), store.totals().recorded), (6, 0, 0));
    buffer.flush();
    assert_eq!(["a", "b", "c"].map(|key| store.get(key)), [Some(4), Some(2), Some(0)]);
    buffer.flush();
    assert_eq!((buffer.held(), store.totals().recorded), (0, 6));
    buffer.increment("a");
    drop(buffer);
    assert_eq!((store.get("a"), store.stats().rejections), (Some(5), 0));
}

#[test]
fn holds_at_most_64_keys_and_1024_units() {
    let store = CounterStore::<u64>::new(1000);
    let buffer = store.buffer();
    for key in 0..64 {
        buffer.increment(&key);
    }
    assert_eq!((buffer.held(), store.len()), (64, 0));
    buffer.increment(&64);
    assert_eq!((buffer.held(), store.len()), (1, 64));
    let mut sum = 65;
    for n in 0..5000 {
        let units = n % 700;
        buffer.add(&(n % 50), units);
        sum += units;
        assert!(buffer.held() <= 1024);
        assert_eq!(buffer.held() + store.totals().recorded, sum);
    }
    buffer.flush();
    (0..1024).for_each(|n| buffer.increment(&(n % 2)));
    assert_eq!((buffer.held(), store.totals().recorded), (1024, sum));
    sum += 1024;
    buffer.add(&1, 1024);
    assert_eq!((buffer.held(), store.totals().recorded), (1024, sum));
    // What is more than that goes past it.
    buffer.add(&2000, 1025);
    assert_eq!((store.get(&2000), buffer.held()), (Some(1025), 1024));
    buffer.add(&2001, u64::MAX);
    assert_eq!(store.get(&2001), Some(MAX_COUNT));
    // A use without a unit, more often than a word counts.
    (0..5000).for_each(|_| buffer.add(&3, 0));
    drop(buffer);
    assert_eq!(store.totals().recorded, sum + 1024 + 1025 + MAX_COUNT);
    assert_eq!(store.stats().rejections, 0);
}

#[test]
fn threads_with_buffers_lose_nothing() {
    let store = CounterStore::<u64>::new(16);
    thread::scope(|scope| {
        for thread in 0..3 {
            let buffer = store.buffer();
            scope.spawn(move || {
                for n in 0..100_000_u64 {
                    buffer.increment(&(n * (thread + 3) % 200 / (n % 7 + 1)));
                }
            });
        }
    });
    let totals = store.totals();
    assert_eq!((totals.recorded, totals.rejected), (300_000, 0));
    assert!(store.stats().evicted > 1000);
}

/// A key that is used often stays, as without a buffer; one that came once does not.
#[test]
fn what_is_flushed_counts_with_all_its_uses() {
    for uses in [3, 1] {
        let store = CounterStore::<u64>::builder().capacity(64).shards(1).build().expect("valid");
        let buffer = store.buffer();
        for round in 0..2000 {
            (0..uses).for_each(|_| buffer.increment(&0));
            buffer.flush();
            // From the second visit on it must have been used twice since the last.
            (0..4).for_each(|n| _ = store.increment(&(1000 + 4 * round + n)));
            if uses == 1 && round == 0 {
                (0..200).for_each(|n| _ = store.increment(&(100_000 + n)));
                assert_eq!(store.get(&0), None);
                break;
            }
        }
        if uses == 3 {
            assert_eq!((store.get(&0), store.stats().rejections), (Some(6000), 0));
        }
    }
}

#[test]
fn what_is_rejected_is_counted() {
    let builder = CounterStore::<u64>::builder().capacity(1).at_capacity(AtCapacity::Reject);
    let store = builder.build().expect("valid");
    store.increment(&1);
    let buffer = store.buffer();
    buffer.add(&1, 5);
    buffer.add(&2, 7);
    buffer.flush();
    let totals = store.totals();
    assert_eq!((store.get(&1), totals.rejected, totals.recorded), (Some(6), 7, 13));
    assert_eq!(store.stats().rejections, 1);
}

/// A key whose `Eq` panics on demand.
#[derive(Clone)]
struct Fuse(u64);

static LIT: AtomicBool = AtomicBool::new(false);

impl Hash for Fuse {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Fuse {
    fn eq(&self, other: &Self) -> bool {
        assert!(!LIT.load(SeqCst), "lit");
        self.0 == other.0
    }
}

impl Eq for Fuse {}

#[test]
fn a_panic_loses_no_unit() {
    let store = CounterStore::<Fuse>::new(8);
    for key in 0..4 {
        store.increment(&Fuse(key));
    }
    let buffer = store.buffer();
    for key in 0..6 {
        buffer.add(&Fuse(key), 10);
    }
    LIT.store(true, SeqCst);
    let mut panics = 0;
    while catch_unwind(AssertUnwindSafe(|| buffer.flush())).is_err() {
        panics += 1;
    }
    LIT.store(false, SeqCst);
    assert!(panics >= 4, "{panics} panics");
    let totals = store.totals();
    assert_eq!((totals.recorded, buffer.held()), (64, 0));
    assert_eq!(totals.rejected, 10 * panics);
    assert_eq!(store.get(&Fuse(5)), Some(10));
}

/// A listener that panics takes no unit with it when a buffer is dropped, and does not abort where
/// another panic is on its way.
#[test]
fn a_dropped_buffer_hands_over_all() {
    for unwinding in [false, true] {
        let store = CounterStore::<u64>::builder()
            .capacity(1)
            .on_removal(|_| panic!("listener"))
            .build()
            .expect("valid");
        store.increment(&1000);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let buffer = store.buffer();
            (0..10).for_each(|key| buffer.increment(&key));
            assert!(!unwinding, "the user's own");
        }));
        let panic = result.expect_err("there is a panic");
        assert_eq!(
            panic.downcast_ref(),
            Some(&if unwinding { "the user's own" } else { "listener" })
        );
        assert_eq!((store.totals().recorded, store.totals().rejected), (11, 0));
    }
}

thread_local! {
    static BUFFER: RefCell<Option<Rc<Buffer<Returning>>>> = const { RefCell::new(None) };
    static RETURNS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Its `Hash` comes back once, with so many units.
#[derive(Clone, PartialEq, Eq)]
struct Returning(u64);

impl Hash for Returning {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(units) = RETURNS.take() {
            let buffer = BUFFER.with_borrow(Clone::clone).expect("a buffer");
            buffer.add(&Self(77), units);
        }
        self.0.hash(state);
    }
}

/// What was gathered while the key was hashed counts for the bound.
#[test]
fn a_hash_that_comes_back_does_not_overfill_it() {
    let store = CounterStore::<Returning>::new(100);
    let buffer = Rc::new(store.buffer());
    BUFFER.set(Some(Rc::clone(&buffer)));
    RETURNS.set(Some(1024));
    buffer.add(&Returning(1), 1024);
    assert_eq!((buffer.held(), store.totals().recorded), (1024, 1024));
    buffer.add(&Returning(1), 3);
    assert_eq!(buffer.held(), 3);
    // The same with a key that the buffer has, and that is not the last.
    buffer.add(&Returning(2), 0);
    RETURNS.set(Some(1000));
    buffer.add(&Returning(1), 25);
    assert_eq!((buffer.held(), store.totals().recorded), (25, 2048 + 1003));
    BUFFER.set(None);
    drop(buffer);
    assert_eq!((store.get(&Returning(1)), store.get(&Returning(77))), (Some(1052), Some(2024)));
}

/// All keys have one hash.
#[derive(Clone, Default)]
struct Colliding;

impl std::hash::BuildHasher for Colliding {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self
    }
}

impl Hasher for Colliding {
    fn finish(&self) -> u64 {
        7
    }

    fn write(&mut self, _: &[u8]) {}
}

#[test]
fn keys_that_collide_are_told_apart() {
    let builder = CounterStore::<u64>::builder().capacity(100).hasher(Colliding);
    let store = builder.build().expect("a store");
    let buffer = store.buffer();
    for round in 1..=3 {
        (0..64).for_each(|key| buffer.add(&key, u64::from(round == 1) * key));
    }
    buffer.flush();
    assert!((0..64).all(|key| store.get(&key) == Some(key)));
}
