//! The hard cap, as permits: no entry is visible without one.
//!
//! A permit is taken before an entry becomes visible and goes to a newcomer, or back, when a life
//! has been sealed. It is never tied to the unlinking or the freeing of the entry.
//!
//! # Orderings
//!
//! `acquire` is Acquire on success and pairs with the Release of `drop`: who takes a permit sees
//! the seal that set it free. Only compare-exchange raises the count, so no observer sees more than
//! the cap.

use crate::sync::{AtomicUsize, CachePadded, Ordering};

#[derive(Debug)]
pub(crate) struct Permits {
    used: CachePadded<AtomicUsize>,
    cap: usize,
}

/// The right to one visible entry. Dropping it gives it back.
#[must_use]
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a Permits);

impl Permits {
    pub(crate) fn new(cap: usize) -> Self {
        Self { used: CachePadded::new(AtomicUsize::new(0)), cap }
    }

    pub(crate) fn cap(&self) -> usize {
        self.cap
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Lock-free: a failed exchange is somebody else's success.
    pub(crate) fn acquire(&self) -> Option<Permit<'_>> {
        let mut used = self.used.load(Ordering::Relaxed);
        while used < self.cap {
            match self.used.compare_exchange_weak(
                used,
                used + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Permit(self)),
                Err(now) => used = now,
            }
        }
        None
    }

    /// The permit of an entry that the caller has just sealed.
    pub(crate) fn of_sealed(&self) -> Permit<'_> {
        Permit(self)
    }
}

impl Permit<'_> {
    /// The permit now belongs to an entry that is visible.
    pub(crate) fn attach(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let before = self.0.used.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "a permit was given back twice");
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl Permits {
    pub(crate) fn validate(&self) {
        assert!(self.used() <= self.cap, "{} permits of {}", self.used(), self.cap);
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;

    #[test]
    fn permits_end_at_the_cap_and_come_back() {
        let permits = Permits::new(2);
        let first = permits.acquire().unwrap();
        permits.acquire().unwrap().attach();
        assert!(permits.acquire().is_none());
        drop(first);
        assert_eq!(permits.used(), 1);
        drop(permits.of_sealed());
        assert_eq!(permits.used(), 0);
    }
}
