//! The one place that names `crossbeam-epoch`: pinning, and deferring a free to after the grace
//! period.
//!
//! The collector is this crate's own, one for the process: another crate's long pin on the default
//! collector does not stop our frees, and our users' keys are not dropped inside other crates'
//! calls. (Under loom it is the default collector, which loom resets for each execution.)
//!
//! loom does not see a use after free of memory that an epoch scheme frees. So under loom each
//! entry carries a [`Life`]: freeing *writes* a cell that each access *reads*, and the memory is
//! kept.

use crossbeam_epoch as epoch;

/// Closures that a bag has room for.
const BAG: usize = 64;

/// Keeps what was reachable when it was made from being freed.
pub(crate) struct Guard(epoch::Guard);

impl Guard {
    /// Runs `f` when every guard that exists now is gone. Stays in this thread's bag until
    /// [`flush`](Self::flush).
    ///
    /// # Safety
    ///
    /// `f` may run on any thread and at any later time: what it captures must be `Send` in effect
    /// and live until then.
    pub(crate) unsafe fn defer(&self, f: impl FnOnce()) {
        #[cfg(all(test, not(crossbeam_loom)))]
        crate::stop::step();
        // SAFETY: by this function's own contract.
        unsafe { self.0.defer_unchecked(f) }
    }

    /// Hands this thread's bag to the collector and runs what is due.
    pub(crate) fn flush(&self) {
        collecting(|| {
            self.0.flush();
        });
    }

    /// Hands this thread's bag to the collector and runs nothing: for what runs in a collection, where
    /// flushes would nest. The epoch crate hands a bag over when it is full, so it is filled.
    pub(crate) fn spill(&self) {
        for _ in 0..BAG {
            // SAFETY: it does nothing.
            unsafe { self.0.defer_unchecked(|| ()) };
        }
    }
}

/// What falls due runs in here. (Unit tests count it apart.)
#[cfg(not(all(test, not(crossbeam_loom))))]
#[inline(always)]
fn collecting<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(all(test, not(crossbeam_loom)))]
use crate::stop::collecting;

#[cfg(not(crossbeam_loom))]
mod collector {
    use super::{Guard, collecting, epoch};
    use epoch::{Collector, LocalHandle};
    use std::cell::Cell;
    use std::ptr::NonNull;
    use std::sync::OnceLock;

    fn collector() -> &'static Collector {
        static COLLECTOR: OnceLock<Collector> = OnceLock::new();
        COLLECTOR.get_or_init(Collector::new)
    }

    thread_local! {
        static HANDLE: LocalHandle = collector().register();
        /// In place of `HANDLE` when that is gone, while its own first pin runs.
        static LATE: Cell<Option<NonNull<LocalHandle>>> = const { Cell::new(None) };
    }

    /// Makes the collector, so that no operation waits for the thread that does.
    pub(crate) fn prepare() {
        collector();
    }

    /// Pins this thread. Cheap when it is pinned already.
    #[inline]
    pub(crate) fn pin() -> Guard {
        Guard(collecting(|| HANDLE.try_with(LocalHandle::pin).unwrap_or_else(|_| pin_late())))
    }

    /// The thread's handle is gone while its thread-locals are being destroyed. A handle's first pin
    /// collects, and what runs then may pin: by the same handle, or each would run the next inside.
    #[cold]
    fn pin_late() -> epoch::Guard {
        struct Reset;

        impl Drop for Reset {
            fn drop(&mut self) {
                LATE.set(None);
            }
        }

        if let Some(handle) = LATE.get() {
            // SAFETY: further up this stack it is pinning, and is reset when it is done.
            return unsafe { handle.as_ref() }.pin();
        }
        let handle = collector().register();
        LATE.set(Some(NonNull::from(&handle)));
        let _reset = Reset;
        handle.pin()
    }
}

#[cfg(crossbeam_loom)]
mod collector {
    use super::{Guard, epoch};

    pub(crate) fn pin() -> Guard {
        Guard(epoch::pin())
    }

    pub(crate) fn prepare() {}
}

pub(crate) use collector::{pin, prepare};

/// Whether the memory that holds this is still alive. Nothing outside loom.
pub(crate) struct Life {
    #[cfg(crossbeam_loom)]
    dead: loom::cell::UnsafeCell<bool>,
    #[cfg(crossbeam_loom)]
    track: loom::cell::UnsafeCell<Option<loom::alloc::Track<()>>>,
}

#[cfg(not(crossbeam_loom))]
impl Life {
    pub(crate) fn new() -> Self {
        Self {}
    }

    #[inline(always)]
    pub(crate) fn check(&self) {}
}

#[cfg(crossbeam_loom)]
impl Life {
    #[track_caller]
    pub(crate) fn new() -> Self {
        Self {
            dead: loom::cell::UnsafeCell::new(false),
            track: loom::cell::UnsafeCell::new(Some(loom::alloc::Track::new(()))),
        }
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        if !std::thread::panicking() {
            // SAFETY: loom reports a race with `end` itself.
            self.dead.with(|dead| unsafe { assert!(!*dead, "used after it was freed") });
        }
    }

    #[track_caller]
    pub(crate) fn end(&self) {
        if !std::thread::panicking() {
            // SAFETY: loom reports a race with any other access itself.
            self.dead.with_mut(|dead| unsafe {
                assert!(!*dead, "freed twice");
                *dead = true;
            });
            // SAFETY: as above.
            self.track.with_mut(|track| unsafe { *track = None });
        }
    }
}
