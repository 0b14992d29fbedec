//! For tests: stops a thread before its n-th operation on shared memory.
//!
//! Under `cfg(test)` the facade's atomics are these, which call [`step`] before each operation;
//! so do pins and flushes, and each access to what an exchange made the thread's own. What has no
//! step is inside the epoch crate and `Arc`, whose operations make their own claims.

use std::cell::Cell;
use std::panic::panic_any;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, LocalKey};

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
    /// Those that were taken for others: frees that fell due in a pin or a flush.
    static FOREIGN: Cell<u64> = const { Cell::new(0) };
    static AT: Cell<At> = const { Cell::new(At::Nothing) };
    static BRAKE: Cell<Option<Brake>> = const { Cell::new(None) };
}

/// What happens when the count of steps gets there.
#[derive(Clone, Copy)]
enum At {
    Nothing,
    Stop(u64),
    Panic(u64),
}

/// How a thread says that it has stopped, and hears how far it may go on.
struct Brake {
    stopped: Sender<Event>,
    go_on: Receiver<At>,
}

enum Event {
    Stopped,
    Finished,
}

/// One operation on shared memory is about to happen.
#[inline]
pub(crate) fn step() {
    // Not while thread-locals are being destroyed: pins are dropped then, too.
    let Ok(steps) = STEPS.try_with(|steps| steps.replace(steps.get() + 1)) else { return };
    match AT.get() {
        At::Stop(at) if at <= steps => stop(),
        At::Panic(at) if at == steps => {
            AT.set(At::Nothing);
            panic_any(format!("{at} steps, and not done: it waits for somebody"));
        }
        _ => {}
    }
}

#[cold]
fn stop() {
    AT.set(At::Nothing);
    let brake = BRAKE.take().expect("set with the place to stop at");
    brake.stopped.send(Event::Stopped).expect("somebody waits for it");
    let next = brake.go_on.recv().expect("it is told to go on before it is dropped");
    BRAKE.set(Some(brake));
    AT.set(next);
}

/// Runs `f` and says how many steps it took by itself; panics after `limit`, since a thread that
/// waits for another takes steps for ever.
pub(crate) fn bounded<R>(limit: u64, f: impl FnOnce() -> R) -> (R, u64) {
    STEPS.set(0);
    FOREIGN.set(0);
    AT.set(At::Panic(limit));
    let result = f();
    AT.set(At::Nothing);
    (result, STEPS.get() - FOREIGN.get())
}

/// Held while a thread stands, and by tests that wait for frees: the collector belongs to the
/// process, and a thread may stand while it is pinned.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pin or a flush: one step of the thread's own, and frees of what others have retired.
pub(crate) fn collecting<R>(f: impl FnOnce() -> R) -> R {
    step();
    let read = |count: &'static LocalKey<Cell<u64>>| count.try_with(Cell::get).unwrap_or(0);
    let (steps, foreign) = (read(&STEPS), read(&FOREIGN));
    let result = f();
    // What nested pins have counted is in this.
    let _ = FOREIGN.try_with(|count| count.set(foreign + read(&STEPS) - steps));
    result
}

/// A thread that has stopped in the middle of something.
#[must_use]
pub(crate) struct Stopped<R> {
    thread: JoinHandle<R>,
    events: Receiver<Event>,
    go_on: Sender<At>,
}

impl<R> Stopped<R> {
    /// To the end.
    pub(crate) fn go_on(self) -> R {
        self.go_on.send(At::Nothing).expect("it waits for this");
        self.thread.join().expect("it goes on without a panic")
    }

    /// To before its `n`-th step, as in [`run_to`].
    pub(crate) fn go_on_to(self, n: u64) -> Result<Self, R> {
        self.go_on.send(At::Stop(n)).expect("it waits for this");
        self.stops()
    }

    fn stops(self) -> Result<Self, R> {
        match self.events.recv() {
            Ok(Event::Stopped) => Ok(self),
            Ok(Event::Finished) | Err(_) => {
                Err(self.thread.join().expect("it finished without a panic"))
            }
        }
    }
}

/// Runs `f` on a thread of its own and stops it before its `n`-th step, from 0; or, if it has fewer,
/// says what it came to.
pub(crate) fn run_to<R: Send + 'static>(
    n: u64,
    f: impl FnOnce() -> R + Send + 'static,
) -> Result<Stopped<R>, R> {
    let (stopped, events) = channel();
    let (go_on, may_go_on) = channel();
    let thread = std::thread::spawn(move || {
        let finished = stopped.clone();
        BRAKE.set(Some(Brake { stopped, go_on: may_go_on }));
        AT.set(At::Stop(n));
        let result = f();
        AT.set(At::Nothing);
        // Nobody listens where it was told to go on to its end.
        let _ = finished.send(Event::Finished);
        result
    });
    Stopped { thread, events, go_on }.stops()
}

macro_rules! exchange {
    ($name:ident, $value:ty) => {
        #[inline]
        pub(crate) fn $name(
            &self,
            old: $value,
            new: $value,
            success: Ordering,
            failure: Ordering,
        ) -> Result<$value, $value> {
            step();
            self.0.$name(old, new, success, failure)
        }
    };
}

macro_rules! atomic {
    ($name:ident $(<$t:ident>)?, $inner:ty, $value:ty $(, $method:ident)*) => {
        #[derive(Debug)]
        #[repr(transparent)]
        pub(crate) struct $name $(<$t>)? ($inner);

        #[allow(dead_code, reason = "the same for all, whatever each is used for")]
        impl $(<$t>)? $name $(<$t>)? {
            pub(crate) const fn new(value: $value) -> Self {
                Self(<$inner>::new(value))
            }

            #[inline]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                step();
                self.0.load(order)
            }

            #[inline]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                step();
                self.0.store(value, order);
            }

            $(
                #[inline]
                pub(crate) fn $method(&self, value: $value, order: Ordering) -> $value {
                    step();
                    self.0.$method(value, order)
                }
            )*

            exchange!(compare_exchange, $value);
            exchange!(compare_exchange_weak, $value);
        }
    };
}

mod std_atomic {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
}

atomic!(AtomicBool, std_atomic::AtomicBool, bool, swap);
atomic!(AtomicU64, std_atomic::AtomicU64, u64, swap, fetch_add, fetch_sub, fetch_max, fetch_min);
atomic!(AtomicUsize, std_atomic::AtomicUsize, usize, swap, fetch_add, fetch_sub);
atomic!(AtomicPtr<T>, std_atomic::AtomicPtr<T>, *mut T, swap);

impl Default for AtomicU64 {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T> Default for AtomicPtr<T> {
    fn default() -> Self {
        Self::new(std::ptr::null_mut())
    }
}

pub(crate) fn fence(order: Ordering) {
    step();
    std::sync::atomic::fence(order);
}

pub(crate) fn yield_now() {
    step();
    std::thread::yield_now();
}
