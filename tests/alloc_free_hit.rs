//! A hit allocates nothing, in whatever form the key comes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use counterclock::CounterStore;

/// Counts this thread's allocations: the test harness has threads of its own.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // Gone while the thread ends.
    _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: by this function's own contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: by this function's own contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: by this function's own contract.
        unsafe { System.realloc(old, layout, size) }
    }

    // Not counted: a pin now and then frees what others have left.
    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: by this function's own contract.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls(f: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    f();
    CALLS.get() - before
}

fn hits(store: &CounterStore<String>) -> u64 {
    let handle = store.counter("key");
    calls(|| {
        for _ in 0..1_000 {
            store.increment("key");
            store.add("key", 3);
            _ = store.try_increment("key");
            _ = store.get("key");
            _ = store.contains("key");
            _ = store.get("missing");
            _ = store.remove("missing");
            handle.increment();
            _ = handle.get();
            let pinned = store.pin();
            pinned.increment("key");
            _ = pinned.get("key");
            _ = (store.len(), store.stats(), store.waiting());
        }
    })
}

#[test]
fn a_hit_allocates_nothing() {
    let store = CounterStore::<String>::new(64);
    store.increment("key");
    assert_eq!(hits(&store), 0);
    // With a TTL and a listener, and a tick in each turn of the clock.
    let (clock, mock) = counterclock::quanta::Clock::mock();
    let store = CounterStore::<String>::builder()
        .capacity(64)
        .clock(clock)
        .idle_ttl(Duration::from_millis(64))
        .on_removal(|removal| unreachable!("{removal:?}"))
        .build()
        .expect("a store");
    (0..60).for_each(|i| _ = store.increment(&format!("key-{i}")));
    for _ in 0..20 {
        mock.increment(Duration::from_millis(2));
        assert_eq!(hits(&store), 0);
    }
    assert_eq!(store.len(), 61);
}

#[test]
fn the_other_forms_allocate_nothing_either() {
    let shared = CounterStore::<Arc<str>>::new(4);
    let bytes = CounterStore::<Vec<u8>>::new(4);
    shared.increment("a");
    bytes.increment(&b"a"[..]);
    let owned = calls(|| {
        for _ in 0..100 {
            shared.increment("a");
            bytes.increment(&b"a"[..]);
        }
    });
    assert_eq!(owned, 0);
}

/// The count itself works.
#[test]
fn a_new_key_does_allocate() {
    let store = CounterStore::<String>::new(4);
    assert!(calls(|| _ = store.increment("a")) >= 2, "an entry and a key");
    let key = String::from("b");
    let (borrowed, owned) =
        (calls(|| _ = store.increment("c")), calls(|| _ = store.increment_owned(key)));
    assert!(owned < borrowed, "no clone: {owned} {borrowed}");
}
