//! Ended entries whose grace period is over, kept for the next admissions of a shard: each drops one
//! key and uses its memory. So keys are dropped one at a time, and an allocator is asked, and asked
//! across threads, only where a shard's share of spares is used up.
//!
//! A [`Batch`] is plain. The owner of the shard has one of its own, so an admission by the owner
//! takes memory without any exchange. [`Spares`] are where batches come after their grace period,
//! by any thread and unlooked at, since their entries are in no cache any more; the owner fetches
//! all of them when its own are used up. Spares are owned like the CLOCK lists: one exchange on
//! `taken`, sequential inside, and nobody waits; a thread that finds them taken allocates or frees
//! instead. Each has its slot and its `SHARD` hold, which who takes it lets go of
//! (see [`limbo`](crate::limbo)).
//!
//! A key's `Drop` is the user's code: it runs while the thread owns nothing. What it counts takes no
//! spares and frees none, or keys that count when they are dropped would do so without end.
//!
//! # Orderings
//!
//! `taken` is exchanged Acquire and stored Release. `len`, which the owner of the spares writes, and
//! `max` are Relaxed: hints to others.

use std::cell::Cell;
use std::mem::{ManuallyDrop, MaybeUninit, needs_drop, replace};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

use crate::entry::Entry;
#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
use crate::entry::{HANDLE, SHARD};
use crate::sync::{AtomicBool, AtomicUsize, Ordering, UnsafeCell};

/// The memory of one entry, without the entry.
pub(crate) type Blank<K> = Box<MaybeUninit<Entry<K>>>;

/// An ended entry that nobody else can reach, with its key. Dropping it frees it.
#[must_use]
pub(crate) struct Spare<K>(NonNull<Entry<K>>);

impl<K> Spare<K> {
    /// # Safety
    ///
    /// The entry came from `Box::into_raw`, and nobody else accesses it any more.
    pub(crate) unsafe fn new(entry: NonNull<Entry<K>>) -> Self {
        Self(entry)
    }

    /// The entry is the caller's again.
    pub(crate) fn into_inner(self) -> NonNull<Entry<K>> {
        ManuallyDrop::new(self).0
    }

    /// The memory for another entry, and the key that was in it.
    #[inline]
    pub(crate) fn reuse(self) -> (Blank<K>, OldKey<K>) {
        let entry = self.into_inner();
        // SAFETY: by the contract of `new`, and `self` is used up: the entry is moved out of the box
        // that it came from, and only then is there a box again.
        unsafe {
            let key = OldKey::new(Entry::into_key(entry));
            (Box::from_raw(entry.as_ptr().cast()), key)
        }
    }
}

impl<K> Drop for Spare<K> {
    fn drop(&mut self) {
        #[cfg(not(crossbeam_loom))]
        drop(Self(self.0).reuse());
        #[cfg(crossbeam_loom)]
        // SAFETY: by the contract of `new`. The memory is kept, and nothing dropped, so that a use
        // after this is seen, not undefined.
        unsafe {
            Entry::end(self.0);
        }
    }
}

thread_local! {
    /// Whether this thread is in the `Drop` of a key.
    static DROPPING: Cell<bool> = const { Cell::new(false) };
}

/// A key whose entry is gone. A panic of its `Drop` has been reported by the panic hook, and goes no
/// further: whoever drops it here has nothing to do with the key.
pub(crate) struct OldKey<K>(ManuallyDrop<K>);

impl<K> OldKey<K> {
    fn new(key: K) -> Self {
        Self(ManuallyDrop::new(key))
    }

    /// Whether an old key may be dropped: not by the `Drop` of another.
    #[inline]
    pub(crate) fn may_be_dropped() -> bool {
        // A thread that is at its end has no such variable any more.
        !needs_drop::<K>() || DROPPING.try_with(|dropping| !dropping.get()).unwrap_or(false)
    }
}

impl<K> Drop for OldKey<K> {
    #[inline]
    fn drop(&mut self) {
        if !needs_drop::<K>() {
            return;
        }
        let outer = DROPPING.try_with(|dropping| dropping.replace(true));
        // SAFETY: dropped here, and only here.
        let drop_key = || unsafe { ManuallyDrop::drop(&mut self.0) };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(drop_key)) {
            // The payload's own `Drop` could panic again.
            std::mem::forget(panic);
        }
        if let Ok(outer) = outer {
            let _ = DROPPING.try_with(|dropping| dropping.set(outer));
        }
    }
}

/// Ended entries that nobody can find any more, linked by `link`: a stack, which can be put on
/// another. Each has its `SHARD` hold. Not freed with the batch.
#[must_use]
pub(crate) struct Batch<K> {
    first: *mut Entry<K>,
    /// Null if the batch is empty.
    last: *mut Entry<K>,
    len: usize,
}

// SAFETY: the entries are the batch's, but for what handles may do; their keys are dropped by who
// takes them out (Send), and read by handles (Sync).
unsafe impl<K: Send + Sync> Send for Batch<K> {}

impl<K> Batch<K> {
    pub(crate) const fn new() -> Self {
        Self { first: ptr::null_mut(), last: ptr::null_mut(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All of it; nothing is left.
    pub(crate) fn take(&mut self) -> Self {
        replace(self, Self::new())
    }

    /// `entry` can no longer be found, and its `SHARD` hold comes with it.
    pub(crate) fn push(&mut self, entry: NonNull<Entry<K>>) {
        self.put_on(Self { first: entry.as_ptr(), last: entry.as_ptr(), len: 1 });
    }

    pub(crate) fn put_on(&mut self, newer: Self) {
        let Some(last) = NonNull::new(newer.last) else { return };
        // SAFETY: the hold keeps the entry alive. Relaxed: nobody else sees the link.
        unsafe { last.as_ref() }.link().store(self.first, Ordering::Relaxed);
        if self.len == 0 {
            self.last = newer.last;
        }
        self.first = newer.first;
        self.len += newer.len;
    }

    /// With its `SHARD` hold.
    pub(crate) fn pop(&mut self) -> Option<NonNull<Entry<K>>> {
        let entry = NonNull::new(self.first)?;
        // SAFETY: as in `put_on`.
        self.first = unsafe { entry.as_ref() }.link().load(Ordering::Relaxed);
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
        }
        Some(entry)
    }

    /// Asks for the entry that is next to be taken.
    #[inline]
    pub(crate) fn prefetch(&self) {
        Entry::prefetch(self.first);
    }
}

pub(crate) struct Spares<K> {
    taken: AtomicBool,
    len: AtomicUsize,
    max: AtomicUsize,
    batch: UnsafeCell<Batch<K>>,
}

// SAFETY: the batch is accessed under `taken`, and is sent with it.
unsafe impl<K: Send + Sync> Sync for Spares<K> {}

impl<K> Spares<K> {
    /// Keeps at most `max`.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            taken: AtomicBool::new(false),
            len: AtomicUsize::new(0),
            // loom follows each entry from its birth to its end, so under loom no memory is used
            // twice.
            max: AtomicUsize::new(if cfg!(crossbeam_loom) { 0 } else { max }),
            batch: UnsafeCell::new(Batch::new()),
        }
    }

    /// Takes the spares for the time of `f`, if nobody has them.
    fn own<R>(&self, f: impl FnOnce(&mut Batch<K>) -> R) -> Option<R> {
        self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let result = self.batch.with_mut(|batch| {
            // SAFETY: the exchange made us the owner.
            let batch = unsafe { &mut *batch };
            let result = f(batch);
            self.len.store(batch.len(), Ordering::Relaxed);
            result
        });
        self.taken.store(false, Ordering::Release);
        Some(result)
    }

    fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// No admission will come. A free that has looked already may still keep some.
    pub(crate) fn close(&self) {
        self.max.store(0, Ordering::Relaxed);
    }

    /// Wait-free; `None` where there is none or the spares are taken.
    pub(crate) fn pop(&self) -> Option<NonNull<Entry<K>>> {
        if self.is_empty() || !OldKey::<K>::may_be_dropped() {
            return None;
        }
        self.own(Batch::pop).flatten()
    }

    /// For the owner of the shard: from its own spares, which are filled up from here.
    #[inline]
    pub(crate) fn pop_into(&self, own: &mut Batch<K>) -> Option<NonNull<Entry<K>>> {
        if !OldKey::<K>::may_be_dropped() {
            return None;
        }
        if own.len() == 0 && !self.is_empty() {
            self.own(|batch| std::mem::swap(batch, own));
        }
        own.pop()
    }

    /// Keeps a batch whose grace period is over; gives it back where there are enough spares, or
    /// somebody has them.
    pub(crate) fn keep(&self, mut batch: Batch<K>) -> Batch<K> {
        self.own(|own| {
            if own.len() + batch.len() <= self.max() {
                own.put_on(batch.take());
            }
        });
        batch
    }

    /// All of them, unless they are taken.
    pub(crate) fn take(&self) -> Batch<K> {
        let all = if self.is_empty() { None } else { self.own(Batch::take) };
        all.unwrap_or(Batch::new())
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl<K> Batch<K> {
    /// As long as it says, and each entry has ended and has its hold.
    pub(crate) fn validate(&self) {
        let (mut at, mut last, mut len) = (NonNull::new(self.first), ptr::null_mut(), 0);
        while let Some(entry) = at {
            last = entry.as_ptr();
            // SAFETY: the hold keeps the entry alive.
            let entry = unsafe { entry.as_ref() };
            let holds = entry.holds().load(Ordering::Acquire);
            assert_eq!(holds % HANDLE, SHARD, "who holds a dead one");
            assert!(entry.cell().look().is_ended(), "a live entry in a batch");
            entry.cell().validate();
            len += 1;
            assert!(len <= self.len, "more entries than {}, or a ring", self.len);
            at = if len < self.len {
                NonNull::new(entry.link().load(Ordering::Relaxed))
            } else {
                None
            };
        }
        assert_eq!((len, last), (self.len, self.last), "the length of a batch, and its end");
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl<K> Spares<K> {
    /// The stack is whole, and within its share. Returns how many there are, without the owner's.
    pub(crate) fn validate(&self) -> usize {
        loop {
            // A deferred free of this store may run on any thread, and keeps them for a moment.
            let len = self.own(|batch| {
                batch.validate();
                batch.len()
            });
            if let Some(len) = len {
                assert!(len <= self.max(), "{len} spares of {}", self.max());
                return len;
            }
            crate::sync::yield_now();
        }
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;
    use crate::cell::Cause;
    use crate::hash::KeyHash;
    use crate::sync::Arc;

    fn entry<K>(key: K) -> NonNull<Entry<K>> {
        let entry = Entry::new(KeyHash::mixed(0), key, None, SHARD);
        entry.seal(Cause::Removed);
        NonNull::from(Box::leak(Box::new(entry)))
    }

    fn batch<K>(keys: impl IntoIterator<Item = K>) -> Batch<K> {
        let mut batch = Batch::new();
        keys.into_iter().map(entry).for_each(|entry| batch.push(entry));
        batch.validate();
        batch
    }

    /// Frees what was taken; its key.
    fn key<K: Copy>(entry: Option<NonNull<Entry<K>>>) -> Option<K> {
        // SAFETY: made by a box, and nobody else has it.
        let (_, key) = unsafe { Spare::new(entry?) }.reuse();
        Some(*key.0)
    }

    fn keys<K: Copy>(mut batch: Batch<K>) -> Vec<K> {
        std::iter::from_fn(|| key(batch.pop())).collect()
    }

    #[test]
    fn a_batch_is_a_stack_that_can_be_put_on_another() {
        let mut low = batch([1, 2]);
        low.put_on(Batch::new());
        low.put_on(batch([3, 4, 5]));
        low.validate();
        assert_eq!(low.len(), 5);
        let mut all = Batch::new();
        all.put_on(low);
        all.validate();
        assert_eq!(key(all.pop()), Some(5));
        all.push(entry(6));
        all.validate();
        let taken = all.take();
        assert_eq!((all.len(), keys(taken)), (0, vec![6, 4, 3, 2, 1]));
        all.validate();
    }

    #[test]
    fn keeps_up_to_its_share_and_hands_it_out_again() {
        let spares = Spares::new(3);
        assert_eq!(spares.keep(batch([1, 2])).len(), 0);
        assert_eq!(keys(spares.keep(batch([3, 4]))), [4, 3]);
        assert_eq!(spares.keep(batch([5])).len(), 0);
        assert_eq!(spares.validate(), 3);
        assert_eq!(key(spares.pop()), Some(5));
        assert_eq!(keys(spares.take()), [2, 1]);
        assert!(spares.pop().is_none());
        assert_eq!(spares.take().len(), 0);
        spares.close();
        assert_eq!(keys(spares.keep(batch([6]))), [6]);
    }

    #[test]
    fn the_owner_of_the_shard_fetches_all() {
        let (spares, mut own) = (Spares::new(8), Batch::new());
        assert!(spares.pop_into(&mut own).is_none());
        assert_eq!(spares.keep(batch([1, 2, 3])).len(), 0);
        assert_eq!(key(spares.pop_into(&mut own)), Some(3));
        assert_eq!((own.len(), spares.validate()), (2, 0));
        assert!(spares.pop().is_none(), "the rest is the owner's");
        assert_eq!(spares.keep(batch([4])).len(), 0);
        for (next, left) in [(2, (1, 1)), (1, (0, 1)), (4, (0, 0))] {
            assert_eq!(key(spares.pop_into(&mut own)), Some(next));
            assert_eq!((own.len(), spares.validate()), left);
        }
        assert!(spares.pop_into(&mut own).is_none());
    }

    #[test]
    fn nobody_waits_for_taken_spares() {
        let (spares, mut own) = (Spares::new(2), Batch::new());
        assert_eq!(spares.keep(batch([1])).len(), 0);
        spares.taken.store(true, Ordering::Relaxed);
        assert!(spares.pop().is_none());
        assert!(spares.pop_into(&mut own).is_none());
        assert_eq!(keys(spares.keep(batch([2]))), [2]);
        assert_eq!(spares.take().len(), 0);
        spares.taken.store(false, Ordering::Relaxed);
        assert_eq!(keys(spares.take()), [1]);
    }

    #[test]
    fn a_spare_gives_its_key_back_or_drops_it() {
        let key = Arc::new(());
        let mut two = batch([Arc::clone(&key), Arc::clone(&key)]);
        // SAFETY: made by a box, and nobody else has it.
        let mut spare = || unsafe { Spare::new(two.pop().expect("one of two")) };
        let (blank, old) = spare().reuse();
        drop(blank);
        assert_eq!(Arc::strong_count(&key), 3);
        drop(old);
        assert_eq!(Arc::strong_count(&key), 2);
        drop(spare());
        assert_eq!(Arc::strong_count(&key), 1);
    }

    #[test]
    fn the_drop_of_a_key_finds_no_spares_and_its_panic_goes_no_further() {
        struct Key(Arc<Spares<Self>>, Arc<AtomicUsize>);
        impl Drop for Key {
            fn drop(&mut self) {
                let mut own = Batch::new();
                assert!(self.0.pop().is_none() && self.0.pop_into(&mut own).is_none());
                self.1.fetch_add(1, Ordering::Relaxed);
                panic!("a key whose drop panics");
            }
        }
        let (spares, dropped) = (Arc::new(Spares::new(2)), Arc::new(AtomicUsize::new(0)));
        let two = [(); 2].map(|()| Key(Arc::clone(&spares), Arc::clone(&dropped)));
        assert_eq!(spares.keep(batch(two)).len(), 0);
        for n in 1..=2 {
            // SAFETY: made by a box, and nobody else has it.
            drop(unsafe { Spare::new(spares.pop().expect("a spare")) });
            assert_eq!(dropped.load(Ordering::Relaxed), n);
        }
    }
}
