//! The one place that names atomics: `std`'s, or loom's under `--cfg crossbeam_loom`; in unit tests
//! `std`'s with places to stop at, see `stop`.

#[cfg(not(crossbeam_loom))]
pub(crate) use self::std_impl::*;

#[cfg(crossbeam_loom)]
pub(crate) use self::loom_impl::*;

pub(crate) use crossbeam_utils::CachePadded;
pub(crate) use std::sync::atomic::Ordering;

/// A number for an event, greater than all that were given out before in this process; what was
/// done before an earlier number was given is seen after a later one.
///
/// `std`'s under loom, too: no model depends on it.
pub(crate) fn moment() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    // AcqRel: each pairs with all that come after it.
    NEXT.fetch_add(1, Ordering::AcqRel)
}

#[cfg(not(crossbeam_loom))]
mod std_impl {
    #[cfg(test)]
    pub(crate) use crate::stop::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence, yield_now};
    #[cfg(not(test))]
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};
    pub(crate) use std::sync::{Arc, Weak};
    #[cfg(not(test))]
    pub(crate) use std::thread::yield_now;

    /// `core::cell::UnsafeCell` with the part of loom's interface that is used here.
    #[derive(Debug)]
    #[repr(transparent)]
    pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            #[cfg(test)]
            crate::stop::step();
            f(self.0.get())
        }
    }

    /// Asks for the cache line of an address, which may be any. For speed alone; nothing where the
    /// processor or the checker has no such request.
    #[inline(always)]
    pub(crate) fn prefetch<T>(at: *const T) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: a prefetch accesses nothing, and does nothing where an address is not mapped.
        unsafe {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(at.cast());
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = at;
    }

    /// An array of null pointers, fresh from the allocator: pages that nobody touched cost nothing.
    pub(crate) fn null_pointers<T>(n: usize) -> Option<Box<[AtomicPtr<T>]>> {
        let layout = std::alloc::Layout::array::<AtomicPtr<T>>(n).ok()?;
        if n == 0 {
            return Some(Box::default());
        }
        // SAFETY: the layout is not of size zero.
        let start = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<AtomicPtr<T>>();
        let slice = core::ptr::slice_from_raw_parts_mut(start, n);
        // SAFETY: the memory is ours, has the layout of `[AtomicPtr<T>; n]`, and all zero bits are
        // a null pointer.
        (!start.is_null()).then(|| unsafe { Box::from_raw(slice) })
    }
}

#[cfg(crossbeam_loom)]
mod loom_impl {
    // `std`'s: loom's own has no `Weak`. loom does not see that the last drop comes after all
    // others; the models join their threads before it.
    pub(crate) use std::sync::{Arc, Weak};

    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};
    pub(crate) use loom::thread::yield_now;

    pub(crate) fn prefetch<T>(_at: *const T) {}

    pub(crate) fn null_pointers<T>(n: usize) -> Option<Box<[AtomicPtr<T>]>> {
        Some((0..n).map(|_| AtomicPtr::new(core::ptr::null_mut())).collect())
    }
}
