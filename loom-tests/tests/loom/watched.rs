//! loom's atomics, with loads that loom cannot overlook.
//!
//! loom 0.7.2 keeps, for each atomic, the last access only when it looks for orders to explore. So
//! a thread that loads an atomic and then exchanges it hides what another thread had loaded before
//! from its exchange, and executions are left out (its issues 166 and 392): a model of a credit
//! against a reader had one execution. Here each load first touches a second atomic by a
//! read-modify-write, which loom takes as a conflict with every other load's. It is Relaxed and
//! orders nothing.

use loom::sync::atomic::Ordering;

macro_rules! watched {
    ($name:ident $(<$t:ident>)?, $value:ty $(, $method:ident)*) => {
        #[derive(Debug)]
        pub(crate) struct $name $(<$t>)? {
            atomic: loom::sync::atomic::$name $(<$t>)?,
            touched: loom::sync::atomic::AtomicUsize,
        }

        #[allow(dead_code)]
        impl $(<$t>)? $name $(<$t>)? {
            #[track_caller]
            pub(crate) fn new(value: $value) -> Self {
                Self {
                    atomic: loom::sync::atomic::$name::new(value),
                    touched: loom::sync::atomic::AtomicUsize::new(0),
                }
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.touched.fetch_add(0, Ordering::Relaxed);
                self.atomic.load(order)
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.atomic.store(value, order);
            }

            $(
                #[track_caller]
                pub(crate) fn $method(&self, value: $value, order: Ordering) -> $value {
                    self.atomic.$method(value, order)
                }
            )*

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.atomic.compare_exchange(old, new, success, failure)
            }

            #[track_caller]
            pub(crate) fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.atomic.compare_exchange_weak(old, new, success, failure)
            }
        }
    };
}

watched!(AtomicBool, bool, swap);
watched!(AtomicU64, u64, swap, fetch_add, fetch_sub, fetch_max, fetch_min);
watched!(AtomicUsize, usize, swap, fetch_add, fetch_sub);
watched!(AtomicPtr<T>, *mut T, swap);

impl Default for AtomicU64 {
    #[track_caller]
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T> Default for AtomicPtr<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new(std::ptr::null_mut())
    }
}
