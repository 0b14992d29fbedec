//! What a counter costs in memory: bytes requested from the allocator by a full store, divided by its capacity.
//!
//! `cargo run --release --example bytes_per_entry`

use std::alloc::{GlobalAlloc, Layout, System};
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};

use counterclock::CounterStore;

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn measure<K>(name: &str, capacity: usize, key: impl Fn(usize) -> K)
where
    K: Hash + Eq + Send + Sync + 'static,
{
    let before = BYTES.load(Ordering::Relaxed);
    let store = CounterStore::<K>::new(capacity);
    let empty = BYTES.load(Ordering::Relaxed) - before;
    (0..capacity).for_each(|n| {
        store.increment_owned(key(n));
    });
    let full = BYTES.load(Ordering::Relaxed) - before;
    // Beyond the capacity: ended entries and spares are part of the picture.
    (capacity..capacity * 3).for_each(|n| {
        store.increment_owned(key(n));
    });
    let churned = BYTES.load(Ordering::Relaxed) - before;
    let each = |bytes: usize| bytes as f64 / capacity as f64;
    println!(
        "{name:>16} {capacity:>10} {:>10.1} {:>10.1} {:>10.1} {:>10}",
        each(empty),
        each(full),
        each(churned),
        store.stats().rejections
    );
}

fn main() {
    println!("bytes requested from the allocator, divided by the capacity");
    println!(
        "{:>16} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "key", "capacity", "empty", "full", "churned", "rejections"
    );
    // What the process has once is no store's: the collector, this thread's handle.
    CounterStore::new(1).increment(&0_u64);
    for capacity in [2048, 65_536, 100_000, 1_048_576] {
        measure("u64", capacity, |n| n as u64);
        measure("36-byte String", capacity, |n| String::from(format!("{n:036}").into_boxed_str()));
    }
}
