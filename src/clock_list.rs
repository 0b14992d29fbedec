//! A shard's two intrusive lists, who owns them, and how entries come and go.
//!
//! The links are in the entries. A thread *takes* the lists by one exchange on `taken`; inside,
//! everything is sequential. A thread that finds them taken does not wait: it goes to another
//! shard, samples the index, or leaves the work for the next owner. While the lists are owned no
//! code of the user runs: entries that leave are gathered in `gone` and let go of afterwards.
//!
//! New entries come in on `arrivals`, a lock-free stack, after they were published in the index;
//! the next owner drains it. An entry that is sealed leaves when its *sealer* comes by: with the
//! lists, or, where they are taken, by a note on `departures`, which the next owner heeds. An owner
//! that meets a dead entry only takes it out of the list. So an entry's `ROSTER` hold is let go of
//! once: when it has been drained and its sealer has come by, by whichever comes second. (An entry
//! that the owner itself seals is out of the lists already.)
//!
//! # Orderings
//!
//! - `taken` is exchanged Acquire and stored Release: each owner sees what the last one did.
//! - Arrivals and departures are pushed Release and taken Acquire: the seat as it was before
//!   publication, and the seal, are the owner's to see.

use std::mem::ManuallyDrop;
use std::ptr;

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
use crate::entry::ROSTER;
use crate::entry::{Entry, Place, Ref};
use crate::policy::Policy;
use crate::reclaim::Guard;
use crate::sync::{AtomicBool, AtomicPtr, Ordering, UnsafeCell};

/// Arrivals that one owner puts into the lists.
pub(crate) const DRAIN: usize = if cfg!(crossbeam_loom) { 2 } else { 64 };
/// Departures that one owner heeds.
pub(crate) const HEED: usize = if cfg!(crossbeam_loom) { 2 } else { 16 };

pub(crate) struct Roster<K> {
    taken: AtomicBool,
    arrivals: AtomicPtr<Entry<K>>,
    departures: AtomicPtr<Departure<K>>,
    lists: UnsafeCell<Lists<K>>,
}

/// A note that a sealer has come by and found the lists taken. Rare, so it is allocated.
struct Departure<K> {
    entry: *mut Entry<K>,
    next: *mut Departure<K>,
}

// SAFETY: `lists` is accessed only by whoever has set `taken`, and what is in it is sent with it.
unsafe impl<K: Send + Sync> Send for Roster<K> {}
// SAFETY: as above.
unsafe impl<K: Send + Sync> Sync for Roster<K> {}

/// Entries that have left the lists and still have their `ROSTER` hold, linked by `link`; and notes
/// that were heeded.
#[must_use]
pub(crate) struct Gone<K> {
    entries: *mut Entry<K>,
    notes: *mut Departure<K>,
}

impl<K> Gone<K> {
    fn none() -> Self {
        Self { entries: ptr::null_mut(), notes: ptr::null_mut() }
    }

    /// The caller lets go of each. The iterator reads an entry's link before it hands it out.
    pub(crate) fn drain<'g>(self, guard: &'g Guard) -> impl Iterator<Item = Ref<'g, K>>
    where
        K: 'g,
    {
        let gone = ManuallyDrop::new(self);
        free_notes(gone.notes, guard);
        let mut next = gone.entries;
        std::iter::from_fn(move || {
            // SAFETY: the hold keeps the entry alive, and from then on the guard does.
            let entry = unsafe { Ref::new(next) }?;
            // Relaxed: written by this thread, as owner of the lists.
            next = entry.link().load(Ordering::Relaxed);
            Some(entry)
        })
    }
}

impl<K> Drop for Gone<K> {
    fn drop(&mut self) {
        let nothing = self.entries.is_null() && self.notes.is_null();
        debug_assert!(nothing, "entries were left without being let go of");
    }
}

impl<K> Roster<K> {
    pub(crate) fn new(share: usize) -> Self {
        Self {
            taken: AtomicBool::new(false),
            arrivals: AtomicPtr::default(),
            departures: AtomicPtr::default(),
            lists: UnsafeCell::new(Lists::new(share)),
        }
    }

    /// Takes the lists for the time of `f`, if nobody has them. `f` runs no code of the user.
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
            // SAFETY: the exchange said that nobody had the lists, and nobody takes them before the
            // store below.
            let lists = unsafe { &mut *lists };
            lists.drain(&self.arrivals);
            lists.heed(&self.departures);
            let result = f(lists);
            (result, std::mem::replace(&mut lists.gone, Gone::none()))
        });
        self.taken.store(false, Ordering::Release);
        Some(result)
    }

    /// Hands a published entry to the next owner of the lists. It may have ended already.
    pub(crate) fn arrive(&self, entry: Ref<'_, K>) {
        push(&self.arrivals, entry.as_ptr(), |head| entry.link().store(head, Ordering::Relaxed));
    }

    /// The sealer of an entry found the lists taken: the next owner takes it out and lets go of it.
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

    /// Everything that is in the lists or on its way, when the store is dropped.
    pub(crate) fn take_at_drop(&mut self) -> Gone<K> {
        let all = self.own(|lists| {
            while lists.has_work() || self.has_work() {
                lists.drain(&self.arrivals);
                lists.heed(&self.departures);
            }
            for place in [Place::Probation, Place::Main] {
                while let Some(entry) = lists.pop_oldest(place) {
                    lists.leave(entry);
                }
            }
        });
        all.map_or_else(Gone::none, |((), gone)| gone)
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
    let free = move || {
        while !notes.is_null() {
            // SAFETY: made by `Box`, heeded, and out of everybody's sight since the grace period.
            let note = unsafe { Box::from_raw(notes) };
            notes = note.next;
        }
    };
    if notes.is_null() {
        return;
    }
    #[cfg(not(crossbeam_loom))]
    {
        // SAFETY: the closure owns the notes, and they hold nothing of the user's.
        unsafe { guard.defer(free) };
        // So that nothing stays with a thread that goes idle.
        guard.flush();
    }
    // Models of single layers have no collector, and notes have no marker that loom would watch.
    #[cfg(crossbeam_loom)]
    {
        let (mut free, _) = (free, guard);
        free();
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
    /// Departures that were taken and not heeded yet.
    departing: *mut Departure<K>,
    gone: Gone<K>,
    pub(crate) policy: Policy,
    /// Entries that were looked at, ever; what amortised pruning is held to.
    pub(crate) steps: u64,
}

/// An entry on loan to the owner of the lists, which `&mut Lists` is the proof of.
///
/// The `ROSTER` hold keeps it alive while it is arriving, in the lists or departing, and its seat
/// belongs to the owner. Null is no entry.
fn listed<'a, K>(entry: *mut Entry<K>) -> Option<Ref<'a, K>> {
    // SAFETY: see above.
    unsafe { Ref::new(entry) }
}

impl<K> Lists<K> {
    fn new(share: usize) -> Self {
        Self {
            probation: Queue::new(),
            main: Queue::new(),
            backlog: ptr::null_mut(),
            departing: ptr::null_mut(),
            gone: Gone::none(),
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
            self.detach(&entry);
            oldest
        })
    }

    /// Takes an entry out of the list that it is in.
    fn detach(&mut self, entry: &Entry<K>) {
        // SAFETY: see `listed`.
        let (newer, older, place) = unsafe {
            entry.seat(|seat| {
                (seat.newer, seat.older, std::mem::replace(&mut seat.place, Place::None))
            })
        };
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
    }

    /// The sealer of an entry comes by. `true` if its `ROSTER` hold is to be let go of now;
    /// otherwise it is still arriving, and goes when it is drained.
    pub(crate) fn depart(&mut self, entry: &Entry<K>) -> bool {
        // SAFETY: see `listed`.
        let place = unsafe {
            entry.seat(|seat| {
                seat.departed = true;
                seat.place
            })
        };
        match place {
            Place::Arriving => return false,
            Place::None => {}
            Place::Probation | Place::Main => self.detach(entry),
        }
        true
    }

    /// An entry that is in no list any more: its hold goes when the lists are free again.
    fn leave(&mut self, entry: *mut Entry<K>) {
        let next = std::mem::replace(&mut self.gone.entries, entry);
        if let Some(entry) = listed(entry) {
            // Relaxed: `link` is the owner's between the arrivals and limbo.
            entry.link().store(next, Ordering::Relaxed);
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
            self.admit(in_order, &entry);
            in_order = next;
        }
    }

    fn admit(&mut self, raw: *mut Entry<K>, entry: &Entry<K>) {
        // SAFETY: see `listed`.
        let (known, departed) = unsafe {
            entry.seat(|seat| {
                seat.place = Place::None;
                (seat.known, seat.departed)
            })
        };
        let known = known.unwrap_or_else(|| self.policy.recall(entry.hash(), None));
        if departed {
            self.leave(raw);
        } else if !entry.cell().look().is_ended() {
            self.push_newest(raw, if known { Place::Main } else { Place::Probation });
        }
    }

    /// Takes out what sealers have left behind, at most [`HEED`] at a time.
    fn heed(&mut self, departures: &AtomicPtr<Departure<K>>) {
        if self.departing.is_null() && !departures.load(Ordering::Relaxed).is_null() {
            self.departing = departures.swap(ptr::null_mut(), Ordering::Acquire);
        }
        for _ in 0..HEED {
            if self.departing.is_null() {
                return;
            }
            let note = self.departing;
            // SAFETY: the notes are ours since the swap. One that was heeded goes over to `gone`.
            let raw = unsafe {
                self.departing = std::mem::replace(&mut (*note).next, self.gone.notes);
                (*note).entry
            };
            self.gone.notes = note;
            self.steps += 1;
            if let Some(entry) = listed(raw)
                && self.depart(&entry)
            {
                self.leave(raw);
            }
        }
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
                let seat = unsafe { entry.seat(|seat| (seat.newer, seat.older, seat.place)) };
                assert_eq!((seat.0, seat.2), (newer, place), "an entry's link and place");
                visit(entry);
                newer = std::mem::replace(&mut at, seat.1);
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
        assert!(self.gone.entries.is_null() && self.gone.notes.is_null(), "not let go of");
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl<K> Roster<K> {
    /// With nothing in flight: whatever has its `ROSTER` hold is in one place of this roster, and
    /// is live or about to leave. Leaves all as it is; each entry goes to `visit` once.
    pub(crate) fn validate(&self, mut visit: impl FnMut(Ref<'_, K>)) {
        assert!(!self.taken.swap(true, Ordering::AcqRel), "something is in flight");
        self.lists.with_mut(|lists| {
            // SAFETY: the exchange said that nobody had the lists.
            let lists = unsafe { &*lists };
            let noted = self.noted(lists);
            let mut seen = Vec::new();
            lists.validate(self.arrivals.load(Ordering::Acquire), &mut |entry| {
                assert_ne!(entry.holds().load(Ordering::Acquire) & ROSTER, 0, "freed and listed");
                // SAFETY: see `listed`.
                let departed = unsafe { entry.seat(|seat| seat.departed) };
                let leaves = departed || noted.contains(&entry.as_ptr());
                assert_eq!(entry.cell().look().is_ended(), leaves, "dead, and nobody takes it out");
                seen.push(entry.as_ptr());
                visit(entry);
            });
            for entry in noted.iter().filter_map(|&noted| listed(noted)) {
                // Others were drained after their end.
                if !seen.contains(&entry.as_ptr()) {
                    // SAFETY: see `listed`.
                    assert_eq!(unsafe { entry.seat(|seat| seat.place) }, Place::None);
                    visit(entry);
                }
            }
        });
        self.taken.store(false, Ordering::SeqCst);
    }

    /// Entries whose sealers found the lists taken.
    fn noted(&self, lists: &Lists<K>) -> Vec<*mut Entry<K>> {
        let mut noted = Vec::new();
        for mut note in [self.departures.load(Ordering::Acquire), lists.departing] {
            while !note.is_null() {
                // SAFETY: notes are freed by owners of the lists only, and that is the caller.
                note = unsafe {
                    noted.push((*note).entry);
                    (*note).next
                };
            }
        }
        noted
    }
}
