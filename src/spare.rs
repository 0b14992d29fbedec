//! Memory of freed entries, kept for the next admissions of a shard: an allocator is asked, and
//! asked across threads, only where a shard's share of spares is used up.
//!
//! [`Blanks`] are a plain stack. The owner of the shard has one of its own, so an admission by the
//! owner takes memory without any exchange. [`Spares`] are where frees, which come from any thread,
//! put blanks; the owner fetches all of them when its own are used up. Spares are owned like the
//! CLOCK lists: one exchange on `taken`, sequential inside, and nobody waits; a thread that finds
//! them taken allocates or frees instead. A blank is memory without an entry in it; its slot stays
//! taken.
//!
//! # Orderings
//!
//! `taken` is exchanged Acquire and stored Release. `len` and `fetched` are written by their owner
//! only, Relaxed: others read them as a hint.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crate::entry::Entry;
use crate::sync::{AtomicBool, AtomicUsize, Ordering, UnsafeCell};

/// The memory of one entry, without the entry.
pub(crate) type Blank<K> = Box<MaybeUninit<Entry<K>>>;

/// A blank in a stack, as it is written into its own memory.
struct Link<K> {
    next: Option<NonNull<MaybeUninit<Entry<K>>>>,
}

/// A stack of blanks, linked through their own memory.
pub(crate) struct Blanks<K> {
    first: Option<NonNull<MaybeUninit<Entry<K>>>>,
    len: usize,
}

// SAFETY: what is in the stack is memory without a key, owned by the stack.
unsafe impl<K> Send for Blanks<K> {}

impl<K> Blanks<K> {
    const FITS: () = assert!(size_of::<Link<K>>() <= size_of::<Entry<K>>());

    pub(crate) const fn new() -> Self {
        let () = Self::FITS;
        Self { first: None, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, blank: Blank<K>) {
        let blank = NonNull::from(Box::leak(blank));
        // SAFETY: the memory is ours, and large enough for a link.
        unsafe { blank.cast::<Link<K>>().write(Link { next: self.first }) };
        self.first = Some(blank);
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<Blank<K>> {
        let blank = self.first?;
        // SAFETY: a blank in the stack has its link in it.
        self.first = unsafe { blank.cast::<Link<K>>().read().next };
        self.len -= 1;
        // SAFETY: it came out of a box, and it is in the stack no more.
        Some(unsafe { Box::from_raw(blank.as_ptr()) })
    }
}

impl<K> Drop for Blanks<K> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

pub(crate) struct Spares<K> {
    taken: AtomicBool,
    len: AtomicUsize,
    max: usize,
    blanks: UnsafeCell<Blanks<K>>,
    /// Blanks that the owner of the shard has.
    fetched: AtomicUsize,
}

// SAFETY: the blanks are accessed under `taken`.
unsafe impl<K> Sync for Spares<K> {}

impl<K> Spares<K> {
    /// Keeps at most `max`.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            taken: AtomicBool::new(false),
            len: AtomicUsize::new(0),
            // loom follows each entry from its birth to its end, so under loom no memory is used
            // twice.
            max: if cfg!(crossbeam_loom) { 0 } else { max },
            blanks: UnsafeCell::new(Blanks::new()),
            fetched: AtomicUsize::new(0),
        }
    }

    /// With those that the owner of the shard has.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) + self.fetched.load(Ordering::Relaxed)
    }

    /// Takes the spares for the time of `f`, if nobody has them.
    fn own<R>(&self, f: impl FnOnce(&mut Blanks<K>) -> R) -> Option<R> {
        self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let result = self.blanks.with_mut(|blanks| {
            // SAFETY: the exchange made us the owner.
            let blanks = unsafe { &mut *blanks };
            let result = f(blanks);
            self.len.store(blanks.len(), Ordering::Relaxed);
            result
        });
        self.taken.store(false, Ordering::Release);
        Some(result)
    }

    fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Wait-free; `None` where there is none or the spares are taken.
    pub(crate) fn pop(&self) -> Option<Blank<K>> {
        if self.is_empty() { None } else { self.own(Blanks::pop).flatten() }
    }

    /// For the owner of the shard: from its own blanks, which are filled up from here.
    #[inline]
    pub(crate) fn pop_into(&self, own: &mut Blanks<K>) -> Option<Blank<K>> {
        if own.len() == 0 && !self.is_empty() {
            self.own(|blanks| std::mem::swap(blanks, own));
        }
        let blank = own.pop();
        self.fetched.store(own.len(), Ordering::Relaxed);
        blank
    }

    /// Keeps as many as fit; returns how many. The rest goes back to the allocator.
    pub(crate) fn keep(&self, mut blanks: Blanks<K>) -> usize {
        let kept = self.own(|own| {
            let before = own.len();
            while own.len() < self.max
                && let Some(blank) = blanks.pop()
            {
                own.push(blank);
            }
            own.len() - before
        });
        kept.unwrap_or(0)
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl<K> Blanks<K> {
    /// The stack is as long as it says.
    pub(crate) fn validate(&self) {
        let (mut at, mut len) = (self.first, 0);
        while let Some(blank) = at {
            // SAFETY: a blank in the stack has its link in it.
            at = unsafe { blank.cast::<Link<K>>().read().next };
            len += 1;
            assert!(len <= self.len, "more blanks than {}, or a ring", self.len);
        }
        assert_eq!(len, self.len, "blanks");
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl<K> Spares<K> {
    /// The stack is whole, and within its share. Returns how many there are, without the owner's.
    pub(crate) fn validate(&self) -> usize {
        loop {
            // A deferred free of this store may run on any thread, and keeps them for a moment.
            let len = self.own(|blanks| {
                blanks.validate();
                blanks.len()
            });
            if let Some(len) = len {
                assert!(len <= self.max, "{len} spares of {}", self.max);
                return len;
            }
            crate::sync::yield_now();
        }
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;

    fn blanks<K>(n: usize) -> Blanks<K> {
        let mut blanks = Blanks::new();
        (0..n).for_each(|_| blanks.push(Box::new_uninit()));
        blanks
    }

    #[test]
    fn keeps_up_to_its_share_and_hands_it_out_again() {
        let spares = Spares::<String>::new(2);
        assert_eq!(spares.keep(blanks(3)), 2);
        assert_eq!(spares.len(), 2);
        assert!(spares.pop().is_some() && spares.pop().is_some() && spares.pop().is_none());
        assert_eq!(spares.keep(blanks(1)), 1);
    }

    #[test]
    fn the_owner_of_the_shard_fetches_all() {
        let (spares, mut own) = (Spares::<u64>::new(8), Blanks::new());
        assert!(spares.pop_into(&mut own).is_none());
        spares.keep(blanks(3));
        assert!(spares.pop_into(&mut own).is_some());
        assert_eq!((own.len(), spares.len()), (2, 2));
        assert!(spares.pop().is_none(), "the rest is the owner's");
        spares.keep(blanks(1));
        for left in [2, 1, 0] {
            assert!(spares.pop_into(&mut own).is_some());
            assert_eq!(spares.len(), left);
        }
        assert!(spares.pop_into(&mut own).is_none());
    }

    #[test]
    fn nobody_waits_for_taken_spares() {
        let (spares, mut own) = (Spares::<u64>::new(2), Blanks::new());
        spares.keep(blanks(1));
        spares.taken.store(true, Ordering::Relaxed);
        assert!(spares.pop().is_none());
        assert!(spares.pop_into(&mut own).is_none());
        assert_eq!(spares.keep(blanks(1)), 0);
        spares.taken.store(false, Ordering::Relaxed);
        assert_eq!(spares.len(), 1);
    }
}
