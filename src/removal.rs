//! Removals: what a listener is told, and how it is delivered.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::time::SystemTime;

use crate::cell::Cause;
use crate::engine::Engine;
use crate::entry::{Entry, REPORT, Ref};
use crate::lanes::MAX_LANES;
use crate::reclaim::pin;

/// The end of one life of a key: what a listener is told, once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removal<'a, K> {
    /// The key.
    pub key: &'a K,
    /// The exact final count. An increment that raced with the end is either in it or in the next
    /// life.
    pub count: u64,
    /// Why the life ended.
    pub cause: Cause,
    /// The exact final counts of all lanes, of which `count` is the first. See
    /// [`LaneStore`](crate::LaneStore).
    pub lanes: &'a [u64],
    /// When the life began, in a store with [`times`](crate::Builder::times).
    pub created: Option<SystemTime>,
    /// When the key was last used, rounded down to a tick. A use that raced with the end may show,
    /// though it belongs to the next life.
    pub last_used: Option<SystemTime>,
}

/// Called with each removal.
pub(crate) type Listener<K> = Box<dyn Fn(&Removal<'_, K>) + Send + Sync>;

/// A removal that was not yet delivered; has its entry's `REPORT` hold.
struct Pending<K> {
    entry: NonNull<Entry<K>>,
    count: u64,
    cause: Cause,
}

/// The removals of one operation, delivered after its critical section: by
/// [`deliver`](Self::deliver), or on the way out of a panic.
pub(crate) struct Removals<'s, K: Send + Sync + 'static> {
    engine: &'s Engine<K>,
    pending: Vec<Pending<K>>,
    panics: Panics,
}

impl<'s, K: Send + Sync + 'static> Removals<'s, K> {
    pub(crate) fn new(engine: &'s Engine<K>) -> Self {
        Self { engine, pending: Vec::new(), panics: Panics(None) }
    }

    /// # Safety
    ///
    /// The caller gives up the entry's `REPORT` hold.
    pub(crate) unsafe fn push(&mut self, entry: Ref<'_, K>, count: u64, cause: Cause) {
        self.pending.push(Pending { entry: entry.as_non_null(), count, cause });
    }

    /// Calls the listener for each. If it panics, the rest is still delivered, and the first panic
    /// goes on.
    #[inline]
    pub(crate) fn deliver(mut self) {
        self.deliver_so_far();
        std::mem::take(&mut self.panics).resume();
    }

    /// The same for one of several batches: the first panic goes on when the last of them has been
    /// delivered.
    #[inline]
    pub(crate) fn deliver_into(mut self, panics: &mut Panics) {
        self.deliver_so_far();
        panics.keep(std::mem::take(&mut self.panics));
    }

    /// In the middle of an operation, outside its pins and while it has neither permit nor slot. A
    /// panic waits for the end.
    #[inline]
    pub(crate) fn deliver_so_far(&mut self) {
        if !self.pending.is_empty() {
            self.deliver_all();
        }
    }

    #[cold]
    fn deliver_all(&mut self) {
        for Pending { entry, count, cause } in std::mem::take(&mut self.pending) {
            // SAFETY: the report's hold keeps the entry alive.
            let Some(held) = (unsafe { Ref::new(entry.as_ptr()) }) else { continue };
            if let Some(listener) = self.engine.listener() {
                let mut lanes = [count; MAX_LANES];
                let others = held.lanes().len();
                (1..=others).for_each(|lane| lanes[lane] = held.lane_units(lane));
                let calendar = self.engine.calendar();
                let times = calendar.and_then(|c| c.times(held.began(), held.last_tick()));
                let removal = Removal {
                    key: held.key(),
                    count,
                    cause,
                    lanes: &lanes[..=others],
                    created: times.map(|(created, _)| created),
                    last_used: times.map(|(_, last_used)| last_used),
                };
                let result = catch_unwind(AssertUnwindSafe(|| listener(&removal)));
                if let Err(panic) = result {
                    self.panics.keep(Panics(Some(panic)));
                }
            }
            let guard = pin();
            // SAFETY: the hold came with the report, and the guard is older than letting go.
            unsafe { self.engine.limbo().let_go(held, REPORT, &guard) };
        }
    }
}

impl<K: Send + Sync + 'static> Drop for Removals<'_, K> {
    /// On the way out of a panic: a second one would abort, so what the listener throws now is
    /// dropped.
    fn drop(&mut self) {
        self.deliver_so_far();
        std::mem::forget(std::mem::take(&mut self.panics));
    }
}

/// The first panic of a listener.
#[derive(Default)]
pub(crate) struct Panics(Option<Box<dyn Any + Send>>);

impl Panics {
    fn keep(&mut self, other: Self) {
        if self.0.is_none() {
            self.0 = other.0;
        } else {
            // The payload's own `Drop` could panic.
            std::mem::forget(other);
        }
    }

    #[inline]
    pub(crate) fn resume(self) {
        if let Some(panic) = self.0 {
            resume_unwind(panic);
        }
    }
}
