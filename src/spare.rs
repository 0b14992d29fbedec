//! Memory of freed entries, kept for the next admissions of a shard: an allocator is asked, and
//! asked across threads, only where a shard's share of spares is used up.
//!
//! Owned like the CLOCK lists: one exchange on `taken`, sequential inside, and nobody waits. A
//! thread that finds the spares taken allocates or frees instead. A spare is memory without an
//! entry in it; its slot stays taken.
//!
//! # Orderings
//!
//! `taken` is exchanged Acquire and stored Release. `len` is written by the owner only, Relaxed:
//! others read it as a hint.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crate::entry::Entry;
use crate::sync::{AtomicBool, AtomicUsize, Ordering, UnsafeCell};

/// The memory of one entry, without the entry.
pub(crate) type Blank<K> = Box<MaybeUninit<Entry<K>>>;

/// A blank in the list, as it is written into its own memory.
struct Link<K> {
    next: Option<NonNull<MaybeUninit<Entry<K>>>>,
}

pub(crate) struct Spares<K> {
    taken: AtomicBool,
    len: AtomicUsize,
    max: usize,
    first: UnsafeCell<Option<NonNull<MaybeUninit<Entry<K>>>>>,
}

// SAFETY: what is in the list is memory without a key, owned by the list and accessed under
// `taken`.
unsafe impl<K> Send for Spares<K> {}
// SAFETY: as above.
unsafe impl<K> Sync for Spares<K> {}

impl<K> Spares<K> {
    const FITS: () = assert!(size_of::<Link<K>>() <= size_of::<Entry<K>>());

    /// Keeps at most `max`.
    pub(crate) fn new(max: usize) -> Self {
        let () = Self::FITS;
        Self {
            taken: AtomicBool::new(false),
            len: AtomicUsize::new(0),
            // loom follows each entry from its birth to its end, so under loom no memory is used
            // twice.
            max: if cfg!(crossbeam_loom) { 0 } else { max },
            first: UnsafeCell::new(None),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Wait-free; `None` where there is none or the spares are taken.
    #[inline]
    pub(crate) fn pop(&self) -> Option<Blank<K>> {
        if self.len() == 0
            || self
                .taken
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return None;
        }
        let blank = self.first.with_mut(|first| {
            // SAFETY: the exchange made us the owner.
            let blank = unsafe { *first }?;
            // SAFETY: a listed blank has its link in it.
            unsafe { *first = blank.cast::<Link<K>>().read().next };
            self.len.store(self.len() - 1, Ordering::Relaxed);
            // SAFETY: it came out of a box, and it is in the list no more.
            Some(unsafe { Box::from_raw(blank.as_ptr()) })
        });
        self.taken.store(false, Ordering::Release);
        blank
    }

    /// Keeps as many as fit; returns how many. The rest goes back to the allocator.
    pub(crate) fn keep(&self, blanks: impl Iterator<Item = Blank<K>>) -> usize {
        if self.max == 0
            || self
                .taken
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            blanks.for_each(drop);
            return 0;
        }
        let kept = self.first.with_mut(|first| {
            let mut kept = 0;
            for blank in blanks {
                if self.len() + kept >= self.max {
                    continue;
                }
                let blank = NonNull::from(Box::leak(blank));
                // SAFETY: the exchange made us the owner, and the memory is large enough for a
                // link.
                unsafe {
                    blank.cast::<Link<K>>().write(Link { next: *first });
                    *first = Some(blank);
                }
                kept += 1;
            }
            self.len.store(self.len() + kept, Ordering::Relaxed);
            kept
        });
        self.taken.store(false, Ordering::Release);
        kept
    }
}

impl<K> Drop for Spares<K> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl<K> Spares<K> {
    /// The list is as long as it says, and within its share. Returns the length.
    pub(crate) fn validate(&self) -> usize {
        // A deferred free of this store may run on any thread, and keeps them for a moment.
        while self.taken.swap(true, Ordering::AcqRel) {
            crate::sync::yield_now();
        }
        let len = self.first.with_mut(|first| {
            // SAFETY: the exchange made us the owner.
            let mut at = unsafe { *first };
            let mut len = 0;
            while let Some(blank) = at {
                // SAFETY: a listed blank has its link in it.
                at = unsafe { blank.cast::<Link<K>>().read().next };
                len += 1;
                assert!(len <= self.max, "more spares than {}, or a ring", self.max);
            }
            assert_eq!(len, self.len(), "spares");
            len
        });
        self.taken.store(false, Ordering::SeqCst);
        len
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;

    #[test]
    fn keeps_up_to_its_share_and_hands_it_out_again() {
        let spares = Spares::<String>::new(2);
        assert_eq!(spares.keep((0..3).map(|_| Box::new_uninit())), 2);
        assert_eq!(spares.len(), 2);
        assert!(spares.pop().is_some() && spares.pop().is_some() && spares.pop().is_none());
        assert_eq!(spares.keep(std::iter::once(Box::new_uninit())), 1);
    }

    #[test]
    fn nobody_waits_for_taken_spares() {
        let spares = Spares::<u64>::new(2);
        spares.keep(std::iter::once(Box::new_uninit()));
        spares.taken.store(true, Ordering::Relaxed);
        assert!(spares.pop().is_none());
        assert_eq!(spares.keep(std::iter::once(Box::new_uninit())), 0);
        spares.taken.store(false, Ordering::Relaxed);
        assert_eq!(spares.len(), 1);
    }
}
