//! The one place that names atomics: `std`'s, or loom's under `--cfg crossbeam_loom`.

#[cfg(not(crossbeam_loom))]
pub(crate) use self::std_impl::*;

#[cfg(crossbeam_loom)]
pub(crate) use self::loom_impl::*;

pub(crate) use crossbeam_utils::CachePadded;
pub(crate) use std::sync::atomic::Ordering;

#[cfg(not(crossbeam_loom))]
mod std_impl {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};
    pub(crate) use std::sync::{Arc, Weak};
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
            f(self.0.get())
        }
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
    pub(crate) use self::arc::{Arc, Weak};
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};
    pub(crate) use loom::thread::yield_now;

    pub(crate) fn null_pointers<T>(n: usize) -> Option<Box<[AtomicPtr<T>]>> {
        Some(
            (0..n)
                .map(|_| AtomicPtr::new(core::ptr::null_mut()))
                .collect(),
        )
    }

    /// `std`'s `Arc` with an edge that loom sees: loom's own has no `Weak`, and does not know that
    /// the last drop of `std`'s happens after all others.
    mod arc {
        use loom::sync::atomic::{AtomicUsize, Ordering::AcqRel};
        use std::ops::Deref;
        use std::sync;

        struct Shared<T> {
            edge: AtomicUsize,
            value: T,
        }

        pub(crate) struct Arc<T>(sync::Arc<Shared<T>>);

        pub(crate) struct Weak<T>(sync::Weak<Shared<T>>);

        impl<T> Arc<T> {
            pub(crate) fn new(value: T) -> Self {
                Self(sync::Arc::new(Shared {
                    edge: AtomicUsize::new(0),
                    value,
                }))
            }

            pub(crate) fn downgrade(this: &Self) -> Weak<T> {
                Weak(sync::Arc::downgrade(&this.0))
            }

            pub(crate) fn ptr_eq(this: &Self, other: &Self) -> bool {
                sync::Arc::ptr_eq(&this.0, &other.0)
            }
        }

        impl<T> Weak<T> {
            pub(crate) fn upgrade(&self) -> Option<Arc<T>> {
                self.0.upgrade().map(Arc)
            }
        }

        impl<T> Deref for Arc<T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.0.value
            }
        }

        impl<T> Clone for Arc<T> {
            fn clone(&self) -> Self {
                Self(self.0.clone())
            }
        }

        impl<T> Drop for Arc<T> {
            fn drop(&mut self) {
                if !std::thread::panicking() {
                    self.0.edge.fetch_add(1, AcqRel);
                }
            }
        }

        impl<T> Clone for Weak<T> {
            fn clone(&self) -> Self {
                Self(self.0.clone())
            }
        }
    }
}
