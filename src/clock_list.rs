//! A shard's two intrusive lists, who owns the shard, and how entries come and go.
//!
//! The links are in the entries. A thread *takes* a shard by one exchange on `taken`; inside,
//! everything is sequential: the lists and their policy, the way out of the chains and into the
//! ledger (see [`Pen`]), and the memory of what was freed. A thread that finds the shard taken does
//! not wait: it goes to another, samples the index, or leaves the work for the next owner. While a
//! shard is owned no code of the user runs: what leaves is gathered in [`Gone`] and let go of
//! afterwards.
//!
//! A new entry is put in by the owner who publishes it, or comes in on `arrivals`, a lock-free
//! stack that the next owner drains. An entry that has ended is *buried* by its sealer as the owner
//! of the shard or, where that is taken, by the next owner, who finds a note on `departures`. An
//! owner that meets a dead entry before only takes it out of the list. One that is buried while it
//! is still arriving is let go of when it is drained.
//!
//! # Orderings
//!
//! - `taken` is exchanged Acquire and stored Release: each owner sees what the last one did.
//! - Arrivals and departures are pushed Release and taken Acquire: the seat as it was before
//!   publication, and the seal, are the owner's to see.

use std::ptr::{self, NonNull};

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
use crate::entry::SHARD;
use crate::entry::{Entry, HANDLE, Place, Ref};
use crate::policy::Policy;
use crate::reclaim::Guard;
use crate::spare::Batch;
use crate::sync::{AtomicBool, AtomicPtr, Ordering, UnsafeCell};

/// Arrivals that one owner puts into the lists.
pub(crate) const DRAIN: usize = if cfg!(crossbeam_loom) { 2 } else { 64 };
/// Departures that one owner buries.
pub(crate) const HEED: usize = if cfg!(crossbeam_loom) { 2 } else { 64 };

/// In this order: an owner writes to as few cache lines as can be, which others have to fetch.
#[repr(C)]
pub(crate) struct Roster<K> {
    taken: AtomicBool,
    arrivals: AtomicPtr<Entry<K>>,
    departures: AtomicPtr<Departure<K>>,
    lists: UnsafeCell<Lists<K>>,
}

/// A note that an entry has ended while the shard was taken. Rare, so it is allocated.
struct Departure<K> {
    entry: *mut Entry<K>,
    next: *mut Departure<K>,
}

/// The right to take entries out of a shard's chains and to credit them in its ledger groups: who
/// can borrow it mutably owns the shard.
pub(crate) struct Pen(());

impl Pen {
    /// One for each shard, and for models of a single layer.
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

// SAFETY: `lists` is accessed only by whoever has set `taken`, and what is in it is sent with it.
unsafe impl<K: Send + Sync> Send for Roster<K> {}
// SAFETY: as above.
unsafe impl<K: Send + Sync> Sync for Roster<K> {}

/// What an owner leaves to be done when the shard is free again.
#[must_use]
pub(crate) struct Gone<K> {
    /// Each still has its `SHARD` hold, and handles beside it.
    held: *mut Entry<K>,
    notes: *mut Departure<K>,
    /// To be freed after a grace period.
    pub(crate) batch: Batch<K>,
}

impl<K> Gone<K> {
    #[inline]
    pub(crate) fn is_nothing(&self) -> bool {
        self.held.is_null() && self.notes.is_null() && self.batch.len() == 0
    }

    pub(crate) fn free_notes(&mut self, guard: &Guard) {
        free_notes(std::mem::replace(&mut self.notes, ptr::null_mut()), guard);
    }

    /// The next entry that the caller is to let go of. Its link has been read.
    pub(crate) fn next_held<'g>(&mut self, _guard: &'g Guard) -> Option<Ref<'g, K>> {
        // SAFETY: the hold keeps the entry alive, and from then on the guard does.
        let entry = unsafe { Ref::new(self.held) }?;
        // Relaxed: written by this thread, as owner of the shard.
        self.held = entry.link().load(Ordering::Relaxed);
        Some(entry)
    }
}

impl<K> Drop for Gone<K> {
    fn drop(&mut self) {
        debug_assert!(self.is_nothing(), "entries were left without being let go of");
    }
}

impl<K> Roster<K> {
    /// `share`: entries that the shard will have if keys are spread evenly; `batch`: ended entries
    /// that are freed at a time.
    pub(crate) fn new(share: usize, batch: usize) -> Self {
        Self {
            taken: AtomicBool::new(false),
            arrivals: AtomicPtr::default(),
            departures: AtomicPtr::default(),
            lists: UnsafeCell::new(Lists::new(share, batch)),
        }
    }

    /// Takes the shard for the time of `f`, if nobody has it. `f` runs no code of the user.
    #[inline]
    pub(crate) fn own<R>(&self, f: impl FnOnce(&mut Lists<K>) -> R) -> Option<(R, Gone<K>)> {
        if self.taken.load(Ordering::Relaxed)
            || self
                .taken
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return None;
        }
        let result = self.lists.with_mut(|lists| {
            // SAFETY: the exchange said that nobody had the shard, and nobody takes it before the
            // store below.
            let lists = unsafe { &mut *lists };
            lists.drain(&self.arrivals);
            let result = f(lists);
            (result, lists.take_gone())
        });
        self.taken.store(false, Ordering::Release);
        Some(result)
    }

    /// Hands a published entry to the next owner of the shard. It may have ended already.
    pub(crate) fn arrive(&self, entry: Ref<'_, K>) {
        push(&self.arrivals, entry.as_ptr(), |head| entry.link().store(head, Ordering::Relaxed));
    }

    /// The sealer of an entry found the shard taken: the next owner buries it.
    pub(crate) fn depart(&self, entry: Ref<'_, K>) {
        let note = Box::new(Departure { entry: entry.as_ptr(), next: ptr::null_mut() });
        let note = Box::into_raw(note);
        // SAFETY: the note is ours until it is published.
        push(&self.departures, note, |head| unsafe { (*note).next = head });
    }

    /// Whether an owner would find something to put in or to take out.
    pub(crate) fn has_work(&self) -> bool {
        !self.arrivals.load(Ordering::Relaxed).is_null()
            || !self.departures.load(Ordering::Relaxed).is_null()
    }

    /// When the store is dropped: what is in no chain any more goes to `f`, the notes are freed, and
    /// the spares are the caller's.
    pub(crate) fn take_at_drop(&mut self, mut f: impl FnMut(NonNull<Entry<K>>)) -> Batch<K> {
        self.lists.with_mut(|lists| {
            // SAFETY: `&mut self`: nobody else is here.
            let lists = unsafe { &mut *lists };
            for mut at in [self.arrivals.load(Ordering::Acquire), lists.backlog] {
                while let Some(entry) = listed(at) {
                    at = entry.link().load(Ordering::Relaxed);
                    // SAFETY: see `listed`.
                    if unsafe { entry.seat(|seat| seat.departed) } {
                        f(entry.as_non_null());
                    }
                }
            }
            std::iter::from_fn(|| lists.limbo.pop()).for_each(&mut f);
            for mut note in [self.departures.load(Ordering::Acquire), lists.departing] {
                while !note.is_null() {
                    // SAFETY: made by `Box`, and nobody else is here.
                    note = unsafe { Box::from_raw(note) }.next;
                }
            }
            lists.take_spares()
        })
    }
}

/// Pushes on a lock-free stack; `link` stores what comes below.
fn push<T>(stack: &AtomicPtr<T>, new: *mut T, link: impl Fn(*mut T)) {
    let mut head = stack.load(Ordering::Relaxed);
    loop {
        link(head);
        match stack.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => head = now,
        }
    }
}

/// Frees notes after a grace period: a sealer that is about to push another may still compare with
/// one of them.
fn free_notes<K>(mut notes: *mut Departure<K>, guard: &Guard) {
    if notes.is_null() {
        return;
    }
    let free = move || {
        while !notes.is_null() {
            // SAFETY: made by `Box`, heeded, and out of everybody's sight since the grace period.
            let note = unsafe { Box::from_raw(notes) };
            notes = note.next;
        }
    };
    #[cfg(not(crossbeam_loom))]
    {
        // Not flushed: what may stay with a thread that goes idle, 64 such closures, costs less than a
        // bag for each.
        // SAFETY: the closure owns the notes, and they hold nothing of the user's.
        unsafe { guard.defer(free) };
    }
    // Models of single layers have no collector, and notes have no marker that loom would watch.
    #[cfg(crossbeam_loom)]
    {
        let (mut free, _) = (free, guard);
        free();
    }
}

/// A FIFO list of entries, linked both ways so that a removal is O(1).
#[repr(C)]
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
#[repr(C)]
pub(crate) struct Lists<K> {
    probation: Queue<K>,
    /// Entries that were looked at, ever; what amortised pruning is held to.
    pub(crate) steps: u64,
    /// Entries a batch.
    full: u32,
    /// The batch goes with this owner, whether it is full or not.
    due: bool,
    pub(crate) pen: Pen,
    main: Queue<K>,
    pub(crate) policy: Policy,
    /// Ended entries that are not a full batch yet.
    limbo: Batch<K>,
    /// For the next entries.
    pub(crate) spares: Batch<K>,
    /// For [`Gone`].
    held: *mut Entry<K>,
    notes: *mut Departure<K>,
    /// Arrivals that were taken and did not fit into one drain, linked by `link`.
    backlog: *mut Entry<K>,
    /// Departures that were taken and not heeded yet.
    departing: *mut Departure<K>,
}

/// An entry on loan to the owner of the shard, which `&mut Lists` is the proof of.
///
/// The `SHARD` hold keeps it alive while it is arriving, in the lists or departing, and its seat
/// belongs to the owner. Null is no entry.
fn listed<'a, K>(entry: *mut Entry<K>) -> Option<Ref<'a, K>> {
    // SAFETY: see above.
    unsafe { Ref::new(entry) }
}

impl<K> Lists<K> {
    fn new(share: usize, full: usize) -> Self {
        Self {
            probation: Queue::new(),
            main: Queue::new(),
            backlog: ptr::null_mut(),
            departing: ptr::null_mut(),
            held: ptr::null_mut(),
            notes: ptr::null_mut(),
            limbo: Batch::new(),
            full: full as u32,
            due: false,
            spares: Batch::new(),
            pen: Pen::new(),
            policy: Policy::new(share),
            steps: 0,
        }
    }

    /// They and their slots are the caller's.
    pub(crate) fn take_spares(&mut self) -> Batch<K> {
        self.spares.take()
    }

    pub(crate) fn probation_len(&self) -> usize {
        self.probation.len
    }

    pub(crate) fn main_len(&self) -> usize {
        self.main.len
    }

    pub(crate) fn len(&self) -> usize {
        self.probation.len + self.main.len
    }

    fn queue(&mut self, place: Place) -> &mut Queue<K> {
        match place {
            Place::Main => &mut self.main,
            Place::Probation | Place::None | Place::Arriving => &mut self.probation,
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
            // Relaxed: `link` is the owner's between the arrivals and limbo.
            entry.link().store(second, Ordering::Relaxed);
            // SAFETY: see `listed`.
            unsafe {
                entry.seat(|seat| {
                    seat.newer = ptr::null_mut();
                    seat.place = place;
                });
            }
        }
    }

    pub(crate) fn pop_oldest(&mut self, place: Place) -> Option<*mut Entry<K>> {
        let oldest = self.queue(place).oldest;
        listed(oldest).map(|entry| {
            self.detach(&entry);
            oldest
        })
    }

    /// The entry that the hand comes to next in a list. Asks for the one after it. (Shared, but by
    /// the owner alone: there is nobody to share it with.)
    pub(crate) fn next_oldest(&self, place: Place) -> Option<Ref<'_, K>> {
        let queue = if place == Place::Main { &self.main } else { &self.probation };
        let next = listed(queue.oldest)?;
        // SAFETY: see `listed`.
        Entry::prefetch(unsafe { next.seat(|seat| seat.newer) });
        Some(next)
    }

    /// Takes an entry out of the list that it is in.
    fn detach(&mut self, entry: &Entry<K>) {
        let older = entry.link().load(Ordering::Relaxed);
        // SAFETY: see `listed`.
        let (newer, place) = unsafe {
            entry.seat(|seat| (seat.newer, std::mem::replace(&mut seat.place, Place::None)))
        };
        let queue = self.queue(place);
        queue.len -= 1;
        match listed(newer) {
            Some(newer) => newer.link().store(older, Ordering::Relaxed),
            None => queue.newest = older,
        }
        match listed(older) {
            // SAFETY: see `listed`.
            Some(older) => unsafe { older.seat(|seat| seat.newer = newer) },
            None => queue.oldest = newer,
        }
    }

    /// An entry that was credited and unlinked leaves the lists too and is let go of; if it is still
    /// arriving, when it is drained.
    pub(crate) fn bury(&mut self, entry: Ref<'_, K>) {
        // SAFETY: see `listed`.
        let place = unsafe {
            entry.seat(|seat| {
                seat.departed = true;
                seat.place
            })
        };
        match place {
            Place::Arriving => return,
            Place::None => {}
            Place::Probation | Place::Main => self.detach(&entry),
        }
        self.let_go(entry);
    }

    /// Nobody finds the entry any more. Its `SHARD` hold stays with it in limbo, and the free lets
    /// go of it; but what handles hold is to give its slot back at once.
    fn let_go(&mut self, entry: Ref<'_, K>) {
        // Relaxed: a hint. The free looks again.
        if entry.holds().load(Ordering::Relaxed) < HANDLE {
            self.limbo.push(entry.as_non_null());
        } else {
            let next = std::mem::replace(&mut self.held, entry.as_ptr());
            entry.link().store(next, Ordering::Relaxed);
        }
    }

    /// Ended entries go with this owner even if they are not a full batch.
    pub(crate) fn hand_over(&mut self) {
        self.due = true;
    }

    fn take_gone(&mut self) -> Gone<K> {
        let due = self.due || self.limbo.len() >= self.full as usize;
        self.due = false;
        Gone {
            held: std::mem::replace(&mut self.held, ptr::null_mut()),
            notes: std::mem::replace(&mut self.notes, ptr::null_mut()),
            batch: if due { self.limbo.take() } else { Batch::new() },
        }
    }

    /// Puts arrivals into the lists, at most [`DRAIN`] of them, the oldest first. (Of a longer
    /// backlog, the newest [`DRAIN`] first: the stack cannot be turned over in bounded steps.)
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

    fn admit(&mut self, raw: *mut Entry<K>, entry: Ref<'_, K>) {
        // SAFETY: see `listed`.
        let (known, departed) = unsafe {
            entry.seat(|seat| {
                seat.place = Place::None;
                (seat.known, seat.departed)
            })
        };
        let known = known.unwrap_or_else(|| self.policy.recall(entry.hash(), None));
        if departed {
            self.let_go(entry);
        } else if !entry.cell().look().is_ended() {
            self.push_newest(raw, if known { Place::Main } else { Place::Probation });
        }
    }

    /// An entry that the owner has published itself.
    pub(crate) fn settle(&mut self, entry: Ref<'_, K>) {
        self.steps += 1;
        self.admit(entry.as_ptr(), entry);
    }

    /// Takes what sealers have left behind, for [`next_departure`](Self::next_departure).
    pub(crate) fn has_departures(&mut self, departures: &Roster<K>) -> bool {
        let departures = &departures.departures;
        if self.departing.is_null() && !departures.load(Ordering::Relaxed).is_null() {
            self.departing = departures.swap(ptr::null_mut(), Ordering::Acquire);
        }
        !self.departing.is_null()
    }

    /// An entry that the owner is to bury; at most [`HEED`] of them are asked for at a time.
    pub(crate) fn next_departure<'g>(&mut self, _guard: &'g Guard) -> Option<Ref<'g, K>> {
        let note = self.departing;
        if note.is_null() {
            return None;
        }
        // SAFETY: the notes are ours since the swap. One that was heeded goes over to `notes`.
        let raw = unsafe {
            self.departing = std::mem::replace(&mut (*note).next, self.notes);
            (*note).entry
        };
        self.notes = note;
        self.steps += 1;
        // SAFETY: its hold keeps the entry alive, and from then on the guard does.
        unsafe { Ref::new(raw) }
    }

    /// Whether an owner has left work behind for the next.
    pub(crate) fn has_work(&self) -> bool {
        !self.backlog.is_null() || !self.departing.is_null()
    }

    /// The lists are linked both ways, of the right length, and know their entries' places. Each
    /// entry that is listed or arriving goes to `visit`.
    #[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
    fn validate(&self, arrivals: *mut Entry<K>, visit: &mut impl FnMut(Ref<'_, K>)) {
        self.policy.validate();
        for (queue, place) in [(&self.probation, Place::Probation), (&self.main, Place::Main)] {
            let (mut at, mut newer, mut len) = (queue.newest, ptr::null_mut(), 0);
            while let Some(entry) = listed(at) {
                // SAFETY: see `listed`.
                let seat = unsafe { entry.seat(|seat| (seat.newer, seat.place)) };
                assert_eq!(seat, (newer, place), "an entry's link and place");
                visit(entry);
                newer = std::mem::replace(&mut at, entry.link().load(Ordering::Relaxed));
                len += 1;
            }
            assert_eq!((queue.oldest, queue.len), (newer, len), "the end of a list");
        }
        for mut at in [arrivals, self.backlog] {
            while let Some(entry) = listed(at) {
                // SAFETY: see `listed`.
                let (place, departed) = unsafe { entry.seat(|seat| (seat.place, seat.departed)) };
                assert_eq!(place, Place::Arriving, "the place of an arrival");
                assert!(!departed || entry.cell().look().is_ended(), "departed and alive");
                visit(entry);
                at = entry.link().load(Ordering::Relaxed);
            }
        }
        assert!(self.held.is_null() && self.notes.is_null() && !self.due, "not let go of");
        self.limbo.validate();
        self.spares.validate();
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl<K> Roster<K> {
    /// With nothing in flight: each entry that was not buried is in one place, and what has ended is
    /// noted. Leaves all as it is; each entry goes to `visit` once, with whether it was buried.
    /// Returns how many entries only the owner has.
    pub(crate) fn validate(&self, mut visit: impl FnMut(Ref<'_, K>, bool)) -> usize {
        assert!(!self.taken.swap(true, Ordering::AcqRel), "something is in flight");
        let own = self.lists.with_mut(|lists| {
            // SAFETY: the exchange said that nobody had the shard.
            let lists = unsafe { &*lists };
            let noted = self.noted(lists);
            let mut seen = Vec::new();
            lists.validate(self.arrivals.load(Ordering::Acquire), &mut |entry| {
                assert_ne!(entry.holds().load(Ordering::Acquire) & SHARD, 0, "freed and listed");
                // SAFETY: see `listed`.
                let buried = unsafe { entry.seat(|seat| seat.departed) };
                let ended = buried || noted.contains(&entry.as_ptr());
                assert_eq!(entry.cell().look().is_ended(), ended, "dead, and nobody buries it");
                seen.push(entry.as_ptr());
                visit(entry, buried);
            });
            for entry in noted.iter().filter_map(|&noted| listed(noted)) {
                // Others were drained, or met by the hand, after their end.
                if !seen.contains(&entry.as_ptr()) {
                    // SAFETY: see `listed`.
                    assert_eq!(unsafe { entry.seat(|seat| seat.place) }, Place::None);
                    visit(entry, false);
                }
            }
            lists.limbo.len() + lists.spares.len()
        });
        self.taken.store(false, Ordering::SeqCst);
        own
    }

    /// Entries whose sealers found the shard taken.
    fn noted(&self, lists: &Lists<K>) -> Vec<*mut Entry<K>> {
        let mut noted = Vec::new();
        for mut note in [self.departures.load(Ordering::Acquire), lists.departing] {
            while !note.is_null() {
                // SAFETY: notes are freed by owners of the shard only, and that is the caller.
                note = unsafe {
                    noted.push((*note).entry);
                    (*note).next
                };
            }
        }
        noted
    }
}
