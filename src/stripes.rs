//! One counter in several cells, each on cache lines of its own, for a key that many threads count
//! at once.
//!
//! An entry gets stripes when the first striped handle is made for it, and keeps them for the rest
//! of its life. What is in them belongs to the same life:
//!
//! - The seal of the entry's own cell decides that the life has ended. The sealer then seals the
//!   stripes one by one, and whoever meets the entry before it has finished (a reader, or who puts
//!   in the next life of the key) helps. So each add is in the final count or is told that it is
//!   not, and the next life begins when the last stripe is sealed.
//! - A handle uses a stripe only after it has written to the entry's own cell, live, with the
//!   stripes in place: whoever seals that cell later sees them.
//! - The policy adds up the uses of all cells. A use does not keep the hand from sealing what it
//!   has judged: that compares the entry's own cell alone.
//! - With a TTL, a handle counts its first use in each tick on the entry's own cell, after the tick
//!   of last use was written: so an expirer that has read an older tick fails to seal.
//!
//! # Orderings
//!
//! The pointer to the stripes is set Release and loaded Acquire. A handle's write to the entry's own
//! cell is a Release read-modify-write after it has loaded them, and the sealing exchange is
//! Acquire: it sees the pointer.

use crate::cell::{Cause, Cell, MAX_COUNT, State};
use crate::sync::{AtomicPtr, AtomicUsize, CachePadded, Ordering};

pub(crate) struct Stripes {
    cells: Box<[CachePadded<Cell>]>,
    next: AtomicUsize,
}

impl Stripes {
    fn new(n: usize) -> Self {
        let cell = || CachePadded::new(Cell::unused());
        Self { cells: (0..n.max(1)).map(|_| cell()).collect(), next: AtomicUsize::new(0) }
    }

    /// A number for a new handle; handles share stripes only when there are more of them.
    pub(crate) fn number(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn cell(&self, number: usize) -> &Cell {
        &self.cells[number % self.cells.len()]
    }

    /// Together with `own`. Each cell only grows, so the sum is between what it was when this was
    /// called and what it is when it returns.
    ///
    /// By `read`, so that an add that came too late to a sealed cell does not show.
    #[cold]
    pub(crate) fn units(&self, own: u64) -> u64 {
        let units = self.cells.iter().map(|cell| match cell.read() {
            State::Live(units) | State::Ended(_, units) => units,
        });
        units.fold(own, u64::saturating_add).min(MAX_COUNT)
    }

    pub(crate) fn uses(&self, own: u16) -> u16 {
        self.cells.iter().map(|cell| cell.look().uses()).fold(own, u16::wrapping_add)
    }

    /// Seals what is not sealed yet; the exact final count together with `own`. Lock-free.
    pub(crate) fn seal(&self, own: u64, cause: Cause) -> u64 {
        for cell in &self.cells {
            cell.seal(cause);
        }
        self.units(own)
    }
}

/// An entry's stripes, if it has any.
#[derive(Default)]
pub(crate) struct Slot(AtomicPtr<Stripes>);

impl Slot {
    #[inline]
    pub(crate) fn get(&self) -> Option<&Stripes> {
        // SAFETY: set once, from a box, and freed with the slot.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// The stripes; `n` of them if they have to be made.
    pub(crate) fn get_or_make(&self, n: usize) -> &Stripes {
        if let Some(stripes) = self.get() {
            return stripes;
        }
        let new = Box::into_raw(Box::new(Stripes::new(n)));
        let null = std::ptr::null_mut();
        // SAFETY: as in `get`; what was not set is still ours.
        unsafe {
            match self.0.compare_exchange(null, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => &*new,
                Err(theirs) => {
                    drop(Box::from_raw(new));
                    &*theirs
                }
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let stripes = self.0.load(Ordering::Relaxed);
        if !stripes.is_null() {
            // SAFETY: set from a box; `&mut self`: nobody uses it any more.
            drop(unsafe { Box::from_raw(stripes) });
        }
    }
}
