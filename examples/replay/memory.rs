//! Two measures of memory: what the counting code asked of the allocator, and what the system
//! gave to the process.
//!
//! The first is exact and free of noise, and what the curves show. Only what happens inside
//! [`metered`] is counted, so the buffers of the reader are not taken for the store's. A thread
//! that is not metered pays one read of a thread-local flag an allocation. Not counted: what the
//! allocator adds for its own housekeeping, which the second measure includes.
//!
//! Metering is always on: a hit allocates nothing, and where 98 % of the requests missed, it cost
//! less than the noise between two runs (5 %).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// The system's allocator, with the bytes asked for under [`metered`] added up.
pub struct Counting;

/// Signed: what was allocated outside may be freed inside.
static BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// Needs neither set-up nor a destructor, so that the allocator may read it at any time.
    static METERED: Cell<bool> = const { Cell::new(false) };
}

fn count(bytes: i64) {
    if METERED.get() {
        // Relaxed: a sum, read for a curve; nothing is published through it.
        BYTES.fetch_add(bytes, Relaxed);
    }
}

/// No allocation reaches `isize::MAX`, so that no size is cut here.
fn signed(size: usize) -> i64 {
    size as i64
}

// SAFETY: each call goes to `System` unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(signed(size) - signed(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `work`, counting what this thread allocates and frees meanwhile.
pub fn metered<R>(work: impl FnOnce() -> R) -> R {
    /// Resets the flag also when `work` panics.
    struct Meter;
    impl Drop for Meter {
        fn drop(&mut self) {
            METERED.set(false);
        }
    }
    METERED.set(true);
    let _meter = Meter;
    work()
}

/// Bytes allocated and not yet freed under [`metered`], so far.
pub fn metered_bytes() -> i64 {
    BYTES.load(Relaxed)
}

/// Resident memory of the process in bytes, where the system tells it.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    pub now: Option<u64>,
    pub peak: Option<u64>,
}

impl Resident {
    pub fn now() -> Self {
        // Linux; elsewhere there is no such file.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self { now: field(&status, "VmRSS:"), peak: field(&status, "VmHWM:") }
    }
}

/// A line such as `VmRSS:      2048 kB`, in bytes.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
