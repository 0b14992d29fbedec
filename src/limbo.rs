//! Where ended entries wait to be freed, and the bound on how many entries exist.
//!
//! # The bound
//!
//! A slot stands for one entry that exists: allocated and not yet freed. It is taken before anything
//! is evicted and given back by the free itself, so entries that exist never exceed
//! `capacity + slack`, whatever the epochs do. An entry that only handles hold gives its slot back at
//! once: from then on it is its holders' memory.
//!
//! # Limbo
//!
//! The epoch crate keeps deferred frees in bags per thread, and a thread that goes idle keeps its bag.
//! So an entry that nobody holds goes to its shard's stack instead. Who pushes the one that fills a
//! batch takes the whole stack, defers *one* closure for it and flushes at once.
//!
//! # Orderings
//!
//! - `push` is Release, `take` Acquire: who takes a batch sees all that was done to its entries.
//! - The deferral is made under a guard after the take. Each entry was unlinked before it was let go by
//!   its last holder, so only guards older than that can still reach it, and the collector waits for those.
//! - `exist` is taken Acquire and released Release, like a permit.
//! - `len` and `dry` are Relaxed: hints, both outcomes of any race are sound.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::entry::{CORE, Entry, HANDLE, UNCOUNTED};
use crate::reclaim::{Guard, pin};
use crate::sync::{Arc, AtomicPtr, AtomicUsize, CachePadded, Ordering, yield_now};

/// How often an admission that finds no slot flushes and yields before it gives up.
const ROUNDS: usize = 4;
/// After this many admissions in a row that gave up, only one in [`RETRY`] of them tries so hard.
const PATIENCE: usize = 4096;
const RETRY: usize = 16;
/// Entries a batch.
const BATCH: usize = if cfg!(crossbeam_loom) { 1 } else { 32 };

struct Stack<K> {
    head: AtomicPtr<Entry<K>>,
    len: AtomicUsize,
}

pub(crate) struct Limbo<K> {
    exist: CachePadded<AtomicUsize>,
    max: usize,
    batch: usize,
    shard_bits: u32,
    stacks: Box<[CachePadded<Stack<K>>]>,
    /// Admissions in a row that found no slot.
    dry: CachePadded<AtomicUsize>,
}

/// The right to one entry that exists. Dropping it gives it back.
#[must_use]
pub(crate) struct Slot<'a, K>(&'a Limbo<K>);

impl<K> Slot<'_, K> {
    /// The slot now belongs to an entry; the free will give it back.
    pub(crate) fn attach(self) {
        std::mem::forget(self);
    }
}

impl<K> Drop for Slot<'_, K> {
    fn drop(&mut self) {
        self.0.release(1);
    }
}

impl<K> Limbo<K> {
    pub(crate) fn new(max: usize, slack: usize, shard_bits: u32) -> Self {
        let shards = 1 << shard_bits;
        let stack = || {
            CachePadded::new(Stack {
                head: AtomicPtr::default(),
                len: AtomicUsize::new(0),
            })
        };
        Self {
            exist: CachePadded::new(AtomicUsize::new(0)),
            max,
            // All stacks together hold less than a quarter of the slack.
            batch: BATCH.min(slack / 4 / shards).max(1),
            shard_bits,
            stacks: (0..shards).map(|_| stack()).collect(),
            dry: CachePadded::new(AtomicUsize::new(0)),
        }
    }

    /// Entries that exist.
    pub(crate) fn exist(&self) -> usize {
        self.exist.load(Ordering::Acquire)
    }

    fn try_slot(&self) -> Option<Slot<'_, K>> {
        let mut exist = self.exist.load(Ordering::Relaxed);
        while exist < self.max {
            match self.exist.compare_exchange_weak(
                exist,
                exist + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Slot(self)),
                Err(now) => exist = now,
            }
        }
        None
    }

    fn release(&self, n: usize) {
        if n > 0 {
            let before = self.exist.fetch_sub(n, Ordering::Release);
            debug_assert!(before >= n, "more slots were given back than taken");
            if self.dry.load(Ordering::Relaxed) != 0 {
                self.dry.store(0, Ordering::Relaxed);
            }
        }
    }
}

impl<K: Send + Sync + 'static> Limbo<K> {
    /// A slot for one more entry. Where there is none it flushes and yields at most four times.
    pub(crate) fn slot(self: &Arc<Self>) -> Option<Slot<'_, K>> {
        self.try_slot().or_else(|| self.slot_slowly())
    }

    #[cold]
    fn slot_slowly(self: &Arc<Self>) -> Option<Slot<'_, K>> {
        let dry = self.dry.fetch_add(1, Ordering::Relaxed);
        if dry >= PATIENCE && dry % RETRY != 0 {
            return None;
        }
        for _ in 0..ROUNDS {
            self.flush();
            if let Some(slot) = self.try_slot() {
                return Some(slot);
            }
            yield_now();
        }
        self.try_slot()
    }

    /// Hands all stacks to the collector and runs what is due.
    pub(crate) fn flush(self: &Arc<Self>) {
        let guard = pin();
        for stack in &self.stacks {
            self.defer_batch(stack, &guard);
        }
        guard.flush();
    }

    /// Lets go of an entry on behalf of the structures in `bits`; the last holder retires it.
    ///
    /// # Safety
    ///
    /// The caller has these holds. The entry can no longer be reached through these structures, and the
    /// caller's guard is older than that.
    pub(crate) unsafe fn let_go(self: &Arc<Self>, entry: &Entry<K>, bits: u64, guard: &Guard) {
        if bits == 0 {
            return;
        }
        let before = entry.holds().fetch_sub(bits, Ordering::AcqRel);
        debug_assert_eq!(before & bits, bits, "let go of a hold twice");
        let after = before - bits;
        if after == 0 {
            self.retire(entry, guard);
        } else if after & CORE == 0 {
            // Only handles are left. The bits of the store never come back, so this happens once.
            self.release(1);
        }
    }

    /// Lets go of an entry on behalf of one handle.
    ///
    /// # Safety
    ///
    /// The caller has a handle's hold, and does not use the entry after this.
    pub(crate) unsafe fn let_go_handle(self: &Arc<Self>, entry: *const Entry<K>) {
        // SAFETY: the hold keeps the entry alive up to here.
        let held = unsafe { &*entry };
        // Before the hold goes, so that the entry is not freed between that and its retirement.
        let guard = pin();
        let before = held.holds().fetch_sub(HANDLE, Ordering::AcqRel);
        if before == HANDLE {
            // The store let go of it earlier and gave the slot back then.
            held.holds().store(UNCOUNTED, Ordering::Relaxed);
            self.retire(held, &guard);
        }
    }

    /// Nobody holds the entry: it waits for its grace period.
    fn retire(self: &Arc<Self>, entry: &Entry<K>, guard: &Guard) {
        let stack = &self.stacks[entry.hash().top(self.shard_bits)];
        let mut head = stack.head.load(Ordering::Relaxed);
        loop {
            entry.link().store(head, Ordering::Relaxed);
            let new = ptr::from_ref(entry).cast_mut();
            match stack
                .head
                .compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        if stack.len.fetch_add(1, Ordering::Relaxed) + 1 >= self.batch {
            self.defer_batch(stack, guard);
            guard.flush();
        }
    }

    fn defer_batch(self: &Arc<Self>, stack: &Stack<K>, guard: &Guard) {
        if stack.head.load(Ordering::Relaxed).is_null() {
            return;
        }
        stack.len.store(0, Ordering::Relaxed);
        let first = stack.head.swap(ptr::null_mut(), Ordering::Acquire);
        let limbo = Arc::clone(self);
        // SAFETY: the closure owns the batch, which nobody else can take, and a share of the budget.
        // `K: Send`, so any thread may drop the keys.
        unsafe {
            guard.defer(move || {
                // The grace period is over; see the module's documentation.
                let counted = free_all(first);
                limbo.release(counted);
            });
        }
    }
}

/// Frees a batch; returns how many of its entries still had their slots.
///
/// A key whose `Drop` panics loses neither its slot nor the rest of the batch: the panic has been
/// reported by the panic hook, and it goes no further, since the caller has nothing to do with the key.
///
/// # Safety
///
/// The batch belongs to the caller and nobody can reach its entries.
unsafe fn free_all<K>(mut first: *mut Entry<K>) -> usize {
    let mut counted = 0;
    while !first.is_null() {
        // SAFETY: the entry is alive: this is the only place that frees it.
        let entry = unsafe { &*first };
        let next = entry.link().load(Ordering::Relaxed);
        counted += usize::from(entry.holds().load(Ordering::Relaxed) & UNCOUNTED == 0);
        // SAFETY: by this function's own contract; not used after this.
        unsafe { free_quietly(first) };
        first = next;
    }
    counted
}

/// # Safety
///
/// As [`Entry::free`].
unsafe fn free_quietly<K>(entry: *mut Entry<K>) {
    // SAFETY: by this function's own contract.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| unsafe { Entry::free(entry) })) {
        // The payload's own `Drop` could panic again.
        std::mem::forget(panic);
    }
}

impl<K> Limbo<K> {
    /// Lets go of an entry when the store is dropped and nobody is in an operation of it; frees it at
    /// once if that was the last hold.
    ///
    /// # Safety
    ///
    /// As [`let_go`](Self::let_go), and no thread is inside an operation on this store.
    pub(crate) unsafe fn let_go_at_drop(&self, entry: *mut Entry<K>, bits: u64) {
        // SAFETY: the caller's holds keep the entry alive.
        let before = unsafe { (*entry).holds().fetch_sub(bits, Ordering::AcqRel) };
        if before == bits {
            // SAFETY: that was the last hold and nobody is searching.
            unsafe { free_quietly(entry) };
            self.release(1);
        } else if (before - bits) & CORE == 0 {
            self.release(1);
        }
    }

    /// Frees what waits in the stacks.
    ///
    /// # Safety
    ///
    /// No thread is inside an operation on this store.
    pub(crate) unsafe fn free_stacks(&self) {
        for stack in &self.stacks {
            let first = stack.head.swap(ptr::null_mut(), Ordering::Acquire);
            // SAFETY: the batch is ours by the swap, and nobody is in an operation.
            let counted = unsafe { free_all(first) };
            self.release(counted);
        }
    }
}

impl<K> Drop for Limbo<K> {
    /// A snapshot may outlive its store and let go of entries after it.
    fn drop(&mut self) {
        // SAFETY: this was the last reference: no store, no snapshot, no closure is left.
        unsafe { self.free_stacks() }
    }
}
