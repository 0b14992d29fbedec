//! A shard's two intrusive lists, who owns them, and how entries come and go.
//!
//! The links are in the entries. A thread *takes* the lists by one exchange on `taken`; inside, everything is
//! sequential. A thread that finds them taken does not wait: it goes to another shard, samples the index, or leaves the
//! work for the next owner. While the lists are owned no code of the user runs: entries that leave
//! are gathered in `gone` and let go of afterwards.
//!
//! New entries come in on `arrivals`, a lock-free stack, after they were published in the index. An
//! entry that was removed while nobody could take the lists stays as a dead one; the thread that could not take it out
//! adds to `debt`, and who owns the lists next pays by walking them, a few entries at a time.
//!
//! # Orderings
//!
//! - `taken` is swapped Acquire and stored Release: each owner sees what the last one did.
//! - An arrival is pushed Release and taken Acquire: its seat, written before publication, is the owner's.
//! - `debt` is Relaxed: a debt seen late is paid late.

use std::ptr;

use crate::entry::{Entry, Place};
use crate::policy::Policy;
use crate::reclaim::Guard;
use crate::sync::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, UnsafeCell};

/// Arrivals that one owner puts into the lists.
pub(crate) const DRAIN: usize = 64;
/// Entries that one owner looks at to pay the debt.
pub(crate) const TIDY: usize = 8;

pub(crate) struct Roster<K> {
    taken: AtomicBool,
    arrivals: AtomicPtr<Entry<K>>,
    debt: AtomicUsize,
    lists: UnsafeCell<Lists<K>>,
}

// SAFETY: `lists` is accessed only by whoever has set `taken`, and what is in it is sent with it.
unsafe impl<K: Send + Sync> Send for Roster<K> {}
// SAFETY: as above.
unsafe impl<K: Send + Sync> Sync for Roster<K> {}

/// Entries that have left the lists and still have their `ROSTER` hold, linked by `older`.
#[must_use]
pub(crate) struct Gone<K>(*mut Entry<K>);

impl<K> Gone<K> {
    /// The caller lets go of each. The iterator reads an entry's link before it hands it out.
    pub(crate) fn drain<'g>(self, _guard: &'g Guard) -> impl Iterator<Item = &'g Entry<K>>
    where
        K: 'g,
    {
        let mut next = self.0;
        std::iter::from_fn(move || {
            // SAFETY: the hold keeps the entry alive, and from then on the guard does.
            let entry = unsafe { next.as_ref() }?;
            // SAFETY: out of the lists, with its hold: the seat is ours.
            next = unsafe { entry.seat(|seat| seat.older) };
            Some(entry)
        })
    }
}

impl<K> Roster<K> {
    pub(crate) fn new(share: usize) -> Self {
        Self {
            taken: AtomicBool::new(false),
            arrivals: AtomicPtr::default(),
            debt: AtomicUsize::new(0),
            lists: UnsafeCell::new(Lists::new(share)),
        }
    }

    /// Takes the lists for the time of `f`, if nobody has them. `f` runs no code of the user.
    pub(crate) fn own<R>(&self, f: impl FnOnce(&mut Lists<K>) -> R) -> Option<(R, Gone<K>)> {
        if self.taken.load(Ordering::Relaxed) || self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        let result = self.lists.with_mut(|lists| {
            // SAFETY: the swap said that nobody had the lists, and nobody takes them before the store below.
            let lists = unsafe { &mut *lists };
            lists.drain(&self.arrivals);
            lists.tidy(&self.debt);
            let result = f(lists);
            (result, Gone(std::mem::replace(&mut lists.gone, ptr::null_mut())))
        });
        self.taken.store(false, Ordering::Release);
        Some(result)
    }

    /// Hands a published entry to the next owner of the lists. It may have ended already.
    pub(crate) fn arrive(&self, entry: &Entry<K>) {
        let new = ptr::from_ref(entry).cast_mut();
        let mut head = self.arrivals.load(Ordering::Relaxed);
        loop {
            entry.link().store(head, Ordering::Relaxed);
            match self.arrivals.compare_exchange_weak(
                head,
                new,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// A dead entry stays in the lists, since they were taken.
    pub(crate) fn owe(&self) {
        self.debt.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything that is in the lists or on its way, when the store is dropped.
    pub(crate) fn take_at_drop(&mut self) -> Gone<K> {
        self.own(|lists| {
            while !lists.backlog.is_null() {
                lists.take_backlog();
            }
            for place in [Place::Probation, Place::Main] {
                while let Some(entry) = lists.pop_oldest(place) {
                    lists.leave(entry);
                }
            }
        })
        .map_or(Gone(ptr::null_mut()), |((), gone)| gone)
    }
}

/// A FIFO list of entries, linked both ways so that a removal is O(1).
struct Queue<K> {
    newest: *mut Entry<K>,
    oldest: *mut Entry<K>,
    len: usize,
}

impl<K> Queue<K> {
    const fn new() -> Self {
        Self { newest: ptr::null_mut(), oldest: ptr::null_mut(), len: 0 }
    }
}

/// What the owner has.
pub(crate) struct Lists<K> {
    probation: Queue<K>,
    main: Queue<K>,
    /// Arrivals that were taken and did not fit into one drain, linked by `link`.
    backlog: *mut Entry<K>,
    gone: *mut Entry<K>,
    /// The walk that pays the debt: where it is, and in which list.
    cursor: *mut Entry<K>,
    tidying: Place,
    pub(crate) policy: Policy,
    /// Entries that were looked at, ever; what amortised pruning is held to.
    pub(crate) steps: u64,
}

/// An entry of the lists, on loan to their owner.
///
/// # Safety of its uses
///
/// The `ROSTER` hold keeps the entry alive while it is in the lists, and the seat belongs to their owner,
/// which `&mut Lists` is the proof of.
fn listed<'a, K>(entry: *mut Entry<K>) -> Option<&'a Entry<K>> {
    // SAFETY: see above; null is no entry.
    unsafe { entry.as_ref() }
}

impl<K> Lists<K> {
    fn new(share: usize) -> Self {
        Self {
            probation: Queue::new(),
            main: Queue::new(),
            backlog: ptr::null_mut(),
            gone: ptr::null_mut(),
            cursor: ptr::null_mut(),
            tidying: Place::None,
            policy: Policy::new(share),
            steps: 0,
        }
    }

    pub(crate) fn probation_len(&self) -> usize {
        self.probation.len
    }

    pub(crate) fn main_len(&self) -> usize {
        self.main.len
    }

    fn queue(&mut self, place: Place) -> &mut Queue<K> {
        match place {
            Place::Main => &mut self.main,
            Place::Probation | Place::None => &mut self.probation,
        }
    }

    pub(crate) fn push_newest(&mut self, entry: *mut Entry<K>, place: Place) {
        let queue = self.queue(place);
        let second = std::mem::replace(&mut queue.newest, entry);
        queue.len += 1;
        if second.is_null() {
            queue.oldest = entry;
        }
        if let Some(second) = listed(second) {
            // SAFETY: see `listed`.
            unsafe { second.seat(|seat| seat.newer = entry) };
        }
        if let Some(entry) = listed(entry) {
            // SAFETY: see `listed`.
            unsafe {
                entry.seat(|seat| {
                    seat.newer = ptr::null_mut();
                    seat.older = second;
                    seat.place = place;
                });
            }
        }
    }

    pub(crate) fn pop_oldest(&mut self, place: Place) -> Option<*mut Entry<K>> {
        let oldest = self.queue(place).oldest;
        listed(oldest).map(|entry| {
            self.detach(entry);
            oldest
        })
    }

    /// Takes an entry out of the list that it is in. `false` if it is in none.
    pub(crate) fn detach(&mut self, entry: &Entry<K>) -> bool {
        // SAFETY: see `listed`.
        let (newer, older, place) = unsafe {
            entry.seat(|seat| {
                (seat.newer, seat.older, std::mem::replace(&mut seat.place, Place::None))
            })
        };
        if place == Place::None {
            return false;
        }
        if ptr::eq(self.cursor, entry) {
            self.cursor = newer;
        }
        let queue = self.queue(place);
        queue.len -= 1;
        match listed(newer) {
            // SAFETY: see `listed`.
            Some(newer) => unsafe { newer.seat(|seat| seat.older = older) },
            None => queue.newest = older,
        }
        match listed(older) {
            // SAFETY: see `listed`.
            Some(older) => unsafe { older.seat(|seat| seat.newer = newer) },
            None => queue.oldest = newer,
        }
        true
    }

    /// A dead entry that is in no list any more: its hold goes when the lists are free again.
    pub(crate) fn leave(&mut self, entry: *mut Entry<K>) {
        let next = std::mem::replace(&mut self.gone, entry);
        if let Some(entry) = listed(entry) {
            // SAFETY: see `listed`.
            unsafe { entry.seat(|seat| seat.older = next) };
        }
    }

    /// Puts arrivals into the lists, the oldest first, at most [`DRAIN`] of them.
    fn drain(&mut self, arrivals: &AtomicPtr<Entry<K>>) {
        if self.backlog.is_null() && !arrivals.load(Ordering::Relaxed).is_null() {
            self.backlog = arrivals.swap(ptr::null_mut(), Ordering::Acquire);
        }
        if !self.backlog.is_null() {
            self.take_backlog();
        }
    }

    fn take_backlog(&mut self) {
        let mut in_order = ptr::null_mut();
        for _ in 0..DRAIN {
            let Some(entry) = listed(self.backlog) else {
                break;
            };
            // Relaxed: the links are ours since the swap.
            let rest = entry.link().load(Ordering::Relaxed);
            entry.link().store(in_order, Ordering::Relaxed);
            in_order = self.backlog;
            self.backlog = rest;
        }
        while let Some(entry) = listed(in_order) {
            let next = entry.link().load(Ordering::Relaxed);
            self.steps += 1;
            self.admit(in_order, entry);
            in_order = next;
        }
    }

    fn admit(&mut self, raw: *mut Entry<K>, entry: &Entry<K>) {
        // SAFETY: see `listed`.
        let known = unsafe { entry.seat(|seat| seat.known) };
        let known = known.unwrap_or_else(|| self.policy.recall(entry.hash(), None));
        if entry.cell().look().is_ended() {
            self.leave(raw);
        } else {
            self.push_newest(raw, if known { Place::Main } else { Place::Probation });
        }
    }

    /// Looks for dead entries, at most [`TIDY`] at a time, once through both lists for each debt.
    fn tidy(&mut self, debt: &AtomicUsize) {
        if self.tidying == Place::None {
            if debt.load(Ordering::Relaxed) == 0 {
                return;
            }
            debt.store(0, Ordering::Relaxed);
            self.tidying = Place::Probation;
            self.cursor = self.probation.oldest;
        }
        for _ in 0..TIDY {
            let at = self.cursor;
            let Some(entry) = listed(at) else {
                match self.tidying {
                    Place::Probation => {
                        self.tidying = Place::Main;
                        self.cursor = self.main.oldest;
                        continue;
                    }
                    Place::Main | Place::None => {
                        self.tidying = Place::None;
                        return;
                    }
                }
            };
            self.steps += 1;
            // SAFETY: see `listed`.
            self.cursor = unsafe { entry.seat(|seat| seat.newer) };
            if entry.cell().look().is_ended() {
                self.detach(entry);
                self.leave(at);
            }
        }
    }

    /// The lists are linked both ways, of the right length, and know their entries' places.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn validate(&self) {
        self.policy.validate();
        for (queue, place) in [(&self.probation, Place::Probation), (&self.main, Place::Main)] {
            let (mut at, mut newer, mut len) = (queue.newest, ptr::null_mut(), 0);
            while let Some(entry) = listed(at) {
                // SAFETY: see `listed`.
                let seat = unsafe { entry.seat(|seat| (seat.newer, seat.older, seat.place)) };
                assert_eq!((seat.0, seat.2), (newer, place));
                newer = std::mem::replace(&mut at, seat.1);
                len += 1;
            }
            assert_eq!((queue.oldest, queue.len), (newer, len));
        }
    }
}
