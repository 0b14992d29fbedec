//! A key, its cell and its links; who holds it; its two cache lines.
//!
//! The first line is read by everybody who searches a chain: link, hash, key. The second is
//! written: count, tick, holds, the links of the CLOCK list. Readers of a key do not pay for
//! writers of a count.
//!
//! # Who holds an entry
//!
//! One word has a bit for each part of the store that can reach the entry and a count of handles
//! above them. The bits are set before the entry is published, each is cleared once, and who clears
//! the last frees the entry after a grace period (see [`limbo`](crate::limbo)):
//!
//! | bit | cleared by |
//! |---|---|
//! | [`SHARD`] | the owner of the shard, for chain and lists together, or the free on its behalf |
//! | [`REPORT`] | the pending removal report, once delivered; not set where there is no listener |
//!
//! # Orderings
//!
//! `holds` is cleared AcqRel: what each holder did happens before the free by the last. The other
//! fields are documented where they are used: `next` in `index`, `link` in `clock_list` and
//! `limbo`, `tick` in `engine`.

use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::cell::{Amount, Cause, Cell, Seen, State, USES_RANGE};
use crate::hash::KeyHash;
use crate::reclaim::Life;
use crate::stripes::{self, Stripes};
use crate::sync::{AtomicPtr, AtomicU64, Ordering, UnsafeCell, prefetch};
use crate::tick::Now;

pub(crate) const SHARD: u64 = 1;
pub(crate) const REPORT: u64 = 1 << 1;
/// All bits that stand for a part of the store.
pub(crate) const CORE: u64 = SHARD | REPORT;
/// Only in limbo: the entry's share of the budget has been given back already.
pub(crate) const UNCOUNTED: u64 = 1 << 2;
/// One handle.
pub(crate) const HANDLE: u64 = 1 << 8;

/// Where an entry is on its way through its shard's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Published, and not yet drained from the arrivals.
    Arriving,
    /// Drained, and in neither list.
    None,
    Probation,
    Main,
}

/// An entry's place in the CLOCK list; belongs to whoever owns the shard, and before publication to
/// whoever has the entry.
pub(crate) struct Seat<K> {
    /// The older neighbour is in the entry's `link`.
    pub(crate) newer: *mut Entry<K>,
    /// Uses at the last visit of the hand.
    pub(crate) snap: u16,
    pub(crate) credit: u8,
    pub(crate) place: Place,
    /// Units that the life began with, up to 2^16 - 1.
    pub(crate) first: u16,
    /// Whether the ghost knew the key, once it has been asked.
    pub(crate) known: Option<bool>,
    /// It has been buried while it was arriving.
    pub(crate) departed: bool,
}

#[repr(align(64))]
struct Written<K> {
    cell: Cell,
    tick: AtomicU64,
    holds: AtomicU64,
    /// The arrivals stack, then the lists, later limbo.
    link: AtomicPtr<Entry<K>>,
    stripes: stripes::Slot,
    seat: UnsafeCell<Seat<K>>,
}

/// What a call adds, with which a new life begins: in the first lane, and in the others.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) first: Amount,
    pub(crate) others: &'a [u64],
}

impl From<Amount> for Load<'_> {
    #[inline]
    fn from(first: Amount) -> Self {
        Self { first, others: &[] }
    }
}

/// What an entry has besides, in stores with lanes or times.
pub(crate) struct Extra {
    /// The lanes after the first, whose cell is the entry's own.
    lanes: Box<[Cell]>,
    /// When the life began; set before publication.
    began: Option<Now>,
}

impl Extra {
    pub(crate) fn new(lanes: usize) -> Self {
        Self { lanes: (0..lanes).map(|_| Cell::unused()).collect(), began: None }
    }
}

pub(crate) struct Entry<K> {
    /// The next older entry of the chain.
    next: AtomicPtr<Entry<K>>,
    hash: KeyHash,
    key: K,
    extra: Option<Box<Extra>>,
    written: Written<K>,
    life: Life,
}

// SAFETY: the raw pointers are links between entries of one store, which are sent and shared as a
// whole; what they point to is accessed under the rules of their module. A key is dropped by
// whichever thread frees the entry (Send) and read by all that search (Sync).
unsafe impl<K: Send + Sync> Send for Entry<K> {}
// SAFETY: as above; `seat` is accessed only by its owner, see `Seat`.
unsafe impl<K: Send + Sync> Sync for Entry<K> {}

impl<K> Entry<K> {
    #[inline(always)]
    pub(crate) fn new(hash: KeyHash, key: K, extra: Option<Box<Extra>>, holds: u64) -> Self {
        Self {
            next: AtomicPtr::default(),
            hash,
            key,
            extra,
            written: Written {
                cell: Cell::new(0),
                tick: AtomicU64::new(0),
                holds: AtomicU64::new(holds),
                link: AtomicPtr::default(),
                stripes: stripes::Slot::default(),
                seat: UnsafeCell::new(Seat {
                    newer: std::ptr::null_mut(),
                    snap: 1,
                    credit: 0,
                    place: Place::Arriving,
                    first: 0,
                    known: None,
                    departed: false,
                }),
            },
            life: Life::new(),
        }
    }

    /// Asks for both cache lines of an entry.
    #[inline]
    pub(crate) fn prefetch(entry: *const Self) {
        for offset in [offset_of!(Self, next), offset_of!(Self, written)] {
            prefetch(entry.cast::<u8>().wrapping_add(offset));
        }
    }

    /// Sets what the life begins with, before publication.
    #[inline]
    pub(crate) fn prepare(&mut self, amount: Amount, tick: u64, known: Option<bool>) {
        self.written.cell.restart(amount);
        self.written.tick = AtomicU64::new(tick);
        // SAFETY: `&mut self`: nobody else can access the seat.
        let seat = |seat: *mut Seat<K>| unsafe {
            (*seat).known = known;
            // The first use is what it came with; of several, each is taken for one unit.
            (*seat).snap = amount.uses.min(1);
            let more = u64::from(amount.uses.saturating_sub(1));
            (*seat).first = amount.units.saturating_sub(more).min(u16::MAX.into()) as u16;
        };
        self.written.seat.with_mut(seat);
    }

    /// Sets what the lanes after the first begin with and, where that is kept, when; before
    /// publication.
    pub(crate) fn begin(&mut self, others: &[u64], now: Option<Now>) {
        if let Some(extra) = &mut self.extra {
            extra.began = now;
            for (lane, &units) in extra.lanes.iter_mut().zip(others) {
                lane.restart(Amount { units, uses: 0 });
            }
        }
    }

    pub(crate) fn began(&self) -> Option<Now> {
        self.life.check();
        self.extra.as_ref()?.began
    }

    #[inline]
    pub(crate) fn next(&self) -> &AtomicPtr<Entry<K>> {
        self.life.check();
        &self.next
    }

    #[inline]
    pub(crate) fn hash(&self) -> KeyHash {
        self.life.check();
        self.hash
    }

    #[inline]
    pub(crate) fn key(&self) -> &K {
        self.life.check();
        &self.key
    }

    #[inline]
    pub(crate) fn cell(&self) -> &Cell {
        self.life.check();
        &self.written.cell
    }

    /// The cells of the lanes after the first.
    pub(crate) fn lanes(&self) -> &[Cell] {
        self.life.check();
        self.extra.as_ref().map_or(&[], |extra| &extra.lanes)
    }

    /// What a lane after the first holds: what it ended with, if its life has ended.
    pub(crate) fn lane_units(&self, lane: usize) -> u64 {
        match self.lanes()[lane - 1].read() {
            State::Live(units) | State::Ended(_, units) => units,
        }
    }

    /// With nothing in flight.
    #[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
    pub(crate) fn validate(&self) {
        self.cell().validate();
        for lane in self.lanes() {
            lane.validate();
            let ended = [self.cell(), lane].map(|cell| cell.look().is_ended());
            assert_eq!(ended[0], ended[1], "a lane that lives on, or has ended before its life");
        }
    }

    #[inline]
    pub(crate) fn stripes(&self) -> Option<&Stripes> {
        self.life.check();
        self.written.stripes.get()
    }

    /// `n` stripes if it has none yet.
    pub(crate) fn stripes_or_make(&self, n: usize) -> &Stripes {
        self.life.check();
        self.written.stripes.get_or_make(n)
    }

    /// The count together with the stripes, of which `own` is the cell's.
    #[inline]
    pub(crate) fn with_stripes(&self, own: u64) -> u64 {
        match self.stripes() {
            None => own,
            Some(stripes) => stripes.units(own),
        }
    }

    /// Units while the life lasts, of which the cell was seen.
    pub(crate) fn units(&self, seen: Seen) -> u64 {
        self.with_stripes(seen.units())
    }

    /// Uses, modulo [`USES_RANGE`](crate::cell::USES_RANGE).
    pub(crate) fn uses(&self, seen: Seen) -> u16 {
        self.stripes().map_or(seen.uses(), |stripes| stripes.uses(seen.uses())) % USES_RANGE
    }

    /// What the first lane holds. Where the life has ended, seals the other lanes and the stripes
    /// that its sealer has not come to yet.
    pub(crate) fn read(&self) -> State {
        match self.cell().read() {
            State::Live(units) => State::Live(self.with_stripes(units)),
            State::Ended(cause, units) => State::Ended(cause, self.seal_rest(units, cause)),
        }
    }

    /// Lanes and stripes; the exact final count of the first lane, of which `own` is the cell's.
    fn seal_rest(&self, own: u64, cause: Cause) -> u64 {
        for lane in self.lanes() {
            lane.seal(cause);
        }
        self.stripes().map_or(own, |stripes| stripes.seal(own, cause))
    }

    /// As [`Cell::seal_if`], with lanes and stripes.
    pub(crate) fn seal_if(&self, seen: Seen, cause: Cause) -> Result<u64, Seen> {
        self.cell().seal_if(seen, cause).map(|units| self.seal_rest(units, cause))
    }

    /// As [`Cell::seal`], with lanes and stripes.
    pub(crate) fn seal(&self, cause: Cause) -> Option<u64> {
        self.cell().seal(cause).map(|units| self.seal_rest(units, cause))
    }

    #[inline]
    pub(crate) fn tick(&self) -> &AtomicU64 {
        self.life.check();
        &self.written.tick
    }

    /// The tick of last use, for who only wants to know.
    pub(crate) fn last_tick(&self) -> u64 {
        self.tick().load(Ordering::Relaxed)
    }

    pub(crate) fn link(&self) -> &AtomicPtr<Entry<K>> {
        self.life.check();
        &self.written.link
    }

    pub(crate) fn holds(&self) -> &AtomicU64 {
        self.life.check();
        &self.written.holds
    }

    /// # Safety
    ///
    /// The caller owns the seat (see [`Seat`]) and does not call this again inside `f`.
    #[inline]
    pub(crate) unsafe fn seat<R>(&self, f: impl FnOnce(&mut Seat<K>) -> R) -> R {
        self.life.check();
        // SAFETY: by this function's own contract nobody else accesses the seat meanwhile.
        self.written.seat.with_mut(|seat| f(unsafe { &mut *seat }))
    }

    /// Takes one more hold for a handle, unless only handles hold the entry, or nobody.
    ///
    /// Lock-free. Relaxed: the caller is pinned or holds the entry, and publishes nothing.
    pub(crate) fn hold(&self) -> bool {
        let mut holds = self.holds().load(Ordering::Relaxed);
        while holds & CORE != 0 {
            match self.holds().compare_exchange_weak(
                holds,
                holds + HANDLE,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => holds = now,
            }
        }
        false
    }

    /// Moves the key out of an entry that nobody can reach, drops the rest, and leaves the memory.
    ///
    /// # Safety
    ///
    /// Nobody accesses the entry any more.
    #[inline]
    pub(crate) unsafe fn into_key(entry: NonNull<Self>) -> K {
        // SAFETY: by this function's own contract: it is moved out.
        unsafe { entry.read() }.key
    }

    /// loom's marker is told that the entry was freed.
    ///
    /// # Safety
    ///
    /// The memory is still there.
    #[cfg(crossbeam_loom)]
    pub(crate) unsafe fn end(entry: NonNull<Self>) {
        // SAFETY: by this function's own contract.
        unsafe { entry.as_ref() }.life.end();
    }
}

/// A shared reference to a published entry that remembers the pointer it came from: the entry is
/// freed through that pointer in the end, which a pointer made from a reference would not allow.
pub(crate) struct Ref<'g, K> {
    entry: NonNull<Entry<K>>,
    borrowed: PhantomData<&'g Entry<K>>,
}

impl<'g, K> Ref<'g, K> {
    /// `None` for null.
    ///
    /// # Safety
    ///
    /// `entry` came from `Box::into_raw`, and the entry lives for `'g`.
    #[inline]
    pub(crate) unsafe fn new(entry: *mut Entry<K>) -> Option<Self> {
        NonNull::new(entry).map(|entry| Self { entry, borrowed: PhantomData })
    }

    #[inline]
    pub(crate) fn as_ptr(self) -> *mut Entry<K> {
        self.entry.as_ptr()
    }

    pub(crate) fn as_non_null(self) -> NonNull<Entry<K>> {
        self.entry
    }

    /// The entry for as long as the guard lives, not only as long as this reference.
    #[inline]
    pub(crate) fn get(self) -> &'g Entry<K> {
        // SAFETY: by the contract of `new`.
        unsafe { self.entry.as_ref() }
    }
}

impl<K> Clone for Ref<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Ref<'_, K> {}

impl<K> PartialEq for Ref<'_, K> {
    fn eq(&self, other: &Self) -> bool {
        self.entry == other.entry
    }
}

impl<K> Deref for Ref<'_, K> {
    type Target = Entry<K>;

    #[inline]
    fn deref(&self) -> &Entry<K> {
        self.get()
    }
}

/// An entry whose life this thread has just ended: proof that the seal was ours, with the exact
/// count.
///
/// It must be buried: credited, unlinked, let go.
#[must_use]
pub(crate) struct Sealed<'g, K> {
    pub(crate) entry: Ref<'g, K>,
    /// Units above [`CAUSE_BITS`] of cause. One word, so that all of it is passed in registers: a
    /// byte that was just written is slow to load as part of a word.
    end: u64,
}

const CAUSE_BITS: u32 = 2;

impl<'g, K> Sealed<'g, K> {
    #[inline]
    pub(crate) fn new(entry: Ref<'g, K>, units: u64, cause: Cause) -> Self {
        Self { entry, end: units << CAUSE_BITS | cause.index() as u64 }
    }

    #[inline]
    pub(crate) fn units(&self) -> u64 {
        self.end >> CAUSE_BITS
    }

    #[inline]
    pub(crate) fn cause(&self) -> Cause {
        Cause::of_index((self.end & ((1 << CAUSE_BITS) - 1)) as usize)
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;
    use crate::cell::MAX_COUNT;

    #[test]
    fn a_sealed_entry_keeps_units_and_cause_apart() {
        let mut entry = Entry::new(KeyHash::mixed(1), 1_u64, None, SHARD);
        // SAFETY: the entry outlives its uses here.
        let entry = unsafe { Ref::new(&raw mut entry) }.expect("not null");
        for cause in [Cause::Capacity, Cause::Idle, Cause::Removed] {
            for units in [0, 1, MAX_COUNT] {
                let sealed = Sealed::new(entry, units, cause);
                assert_eq!((sealed.units(), sealed.cause()), (units, cause));
            }
        }
    }

    #[test]
    fn a_handle_gets_a_hold_only_while_the_store_has_one() {
        for (holds, gets_one) in [
            (SHARD, true),
            (REPORT, true),
            (CORE, true),
            (SHARD + 3 * HANDLE, true),
            (0, false),
            (HANDLE, false),
            (5 * HANDLE, false),
            (UNCOUNTED, false),
        ] {
            let entry = Entry::new(KeyHash::mixed(1), 1_u64, None, holds);
            assert_eq!(entry.hold(), gets_one, "{holds:#x}");
            let after = entry.holds().load(Ordering::Relaxed);
            assert_eq!(after, holds + u64::from(gets_one) * HANDLE);
        }
    }
}
