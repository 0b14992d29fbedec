//! Two measures of memory: what is allocated, and what the system gave to the process.
//!
//! The second also has what the allocator keeps: freed memory stays resident where a single entry
//! of the lasting store lies above it. So a leak shows in the first, and the second has plateaus.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's allocator, with the bytes that are in use added up.
pub struct Counting;

/// Relaxed, so that no thread is ordered after another by it: it would hide races.
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: each call goes to `System` unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

pub fn allocated() -> u64 {
    BYTES.load(Relaxed) as u64
}

/// In bytes, where the system tells it: Linux; elsewhere there is no such file.
pub fn resident() -> Option<u64> {
    // Not `statm`, which counts in pages and does not say how large a page is.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
