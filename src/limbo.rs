//! Where ended entries wait to be freed, and the bound on how many entries exist.
//!
//! # The bound
//!
//! A slot stands for one entry that exists: allocated and not yet freed. It is taken before
//! anything is evicted and given back by the free itself, so entries that exist never exceed
//! `capacity + slack`, whatever the epochs do. An entry that only handles hold gives its slot back
//! at once: from then on it is its holders' memory.
//!
//! # Limbo
//!
//! The epoch crate keeps deferred frees in bags per thread, and a thread that goes idle keeps its
//! bag. So an entry that has ended goes to its shard's own batch instead (see `clock_list`), with
//! its `SHARD` hold. Who fills the batch takes it whole, defers *one* closure for it and flushes at
//! once. What the last of several holders lets go of goes to a lock-free stack beside, whose head
//! counts its entries in the low bits that their alignment leaves free.
//!
//! After the grace period the batch goes to the shard's spares (`spare`) as it is, slots with it;
//! where there are enough, its entries are freed. Nobody can find an entry any more, so its holds
//! are what they are: who takes it from the spares, or frees it, has it if only `SHARD` is left,
//! without another exchange, and else lets go of that hold.
//!
//! A flush hands over a whole bag, 2 KiB, for the one closure that is in it. With a small slack a batch
//! is small, down to a single entry, and where the collector is held up, by a pin or by much garbage,
//! bags would pile up. So while it has [`PILE`] closures of a shard, smaller batches go to the stack and
//! wait there: until they are worth a bag, or until the pile is lower. Who lowers it hands the stack over.
//!
//! Inside the `Drop` of a key nothing is freed: that could run another key's `Drop`, and so on, one
//! batch deeper each time. What would be freed there is put on the shard's stack again; where the
//! store is gone and this was the last of its limbo, all of it is deferred once more.
//!
//! # Orderings
//!
//! - A stack is pushed on Release and taken Acquire: who takes it sees all that was done to its
//!   entries.
//! - The deferral is made under a guard after the take. Each entry was unlinked before it was let
//!   go of, so only guards older than that can still reach it, and the collector waits for those.
//! - `exist` is taken Acquire and released Release, like a permit.
//! - Who pushes what is to wait, and then finds the pile high, has a SeqCst fence between; so has who
//!   lowers the pile and then finds the stack empty. One of them sees the other, and hands it over.
//! - `dry` is Relaxed: a hint, both outcomes of any race are sound.

use std::ptr::{self, NonNull};

use crate::clock_list::Gone;
use crate::entry::{CORE, Entry, HANDLE, Ref, SHARD, UNCOUNTED};
use crate::hash::KeyHash;
use crate::reclaim::{Guard, pin};
use crate::spare::{Batch, Blank, OldKey, Spare, Spares};
use crate::sync::{Arc, AtomicPtr, AtomicUsize, CachePadded, Ordering, fence, yield_now};

/// How often an admission that finds no slot flushes and yields before it gives up.
const ROUNDS: usize = 4;
/// After this many admissions in a row that gave up, only one in [`RETRY`] of them tries so hard.
const PATIENCE: usize = 4096;
const RETRY: usize = 16;
/// Ended entries beyond full batches that are not yet many.
const MANY: usize = 2048;
/// Of so many admissions one gives way, where many wait.
const GIVE_WAY: usize = 32;
/// Flushes that let what was deferred grow old enough. None under loom, whose models flush where
/// they need it.
const EPOCHS: usize = if cfg!(crossbeam_loom) { 0 } else { 4 };
/// Entries a batch, unless the slack is small; as many are worth a bag of the collector.
const BATCH: usize = if cfg!(crossbeam_loom) { 1 } else { 32 };
/// Closures of a shard that the collector may have before smaller batches wait.
const PILE: usize = 4;
/// The bits of a stack's head that count.
const COUNT: usize = 63;
/// Spares a shard, and as many again that its owner has fetched.
const SPARES: usize = 4 * BATCH;

/// What a shard has in limbo.
struct Stack<K> {
    head: AtomicPtr<Entry<K>>,
    /// Closures that the collector has.
    pile: AtomicUsize,
    spares: Spares<K>,
}

fn count_of<K>(head: *mut Entry<K>) -> usize {
    head.addr() & COUNT
}

fn without_count<K>(head: *mut Entry<K>) -> *mut Entry<K> {
    head.map_addr(|addr| addr & !COUNT)
}

pub(crate) struct Limbo<K> {
    exist: CachePadded<AtomicUsize>,
    max: usize,
    /// More than this and many wait.
    crowded: usize,
    batch: usize,
    shard_bits: u32,
    stacks: Box<[CachePadded<Stack<K>>]>,
    /// Admissions in a row that found no slot.
    dry: CachePadded<AtomicUsize>,
}

/// The right to one entry that exists, and a spare if there was one. Dropping it gives both back: a
/// key may be dropped.
#[must_use]
pub(crate) struct Slot<'a, K> {
    limbo: &'a Limbo<K>,
    spare: Option<Spare<K>>,
}

impl<K> Slot<'_, K> {
    /// The memory for its entry, and the key that was in it.
    #[inline]
    pub(crate) fn memory(&mut self) -> (Blank<K>, Option<OldKey<K>>) {
        match self.spare.take().map(Spare::reuse) {
            Some((blank, key)) => (blank, Some(key)),
            None => (Box::new_uninit(), None),
        }
    }

    /// The slot now belongs to an entry; the free will give it back.
    pub(crate) fn attach(self) {
        std::mem::forget(self);
    }
}

impl<K> Drop for Slot<'_, K> {
    fn drop(&mut self) {
        // Before the slot.
        drop(self.spare.take());
        self.limbo.release(1);
    }
}

impl<K> Limbo<K> {
    pub(crate) fn new(max: usize, slack: usize, shard_bits: u32) -> Self {
        let shards = 1 << shard_bits;
        // All batches together hold less than an eighth of the slack, so do all stacks, unless the
        // collector is held up, and so do the spares and those that owners have fetched.
        let share = slack / 8 / shards;
        let batch = BATCH.min(share).max(1);
        let stack = || Stack {
            head: AtomicPtr::default(),
            pile: AtomicUsize::new(0),
            spares: Spares::new(SPARES.min(share)),
        };
        Self {
            exist: CachePadded::new(AtomicUsize::new(0)),
            max,
            // With what does not pile up: partial batches, spares, and what owners have of them.
            crowded: (max - slack).saturating_add(MANY + shards * (batch + 2 * SPARES.min(share))),
            batch,
            shard_bits,
            stacks: (0..shards).map(|_| CachePadded::new(stack())).collect(),
            dry: CachePadded::new(AtomicUsize::new(0)),
        }
    }

    /// Entries that exist, spares among them.
    pub(crate) fn exist(&self) -> usize {
        self.exist.load(Ordering::Acquire)
    }

    /// The store is being dropped.
    pub(crate) fn close(&self) {
        self.stacks.iter().for_each(|stack| stack.spares.close());
    }

    /// How many flushes so many entries take: the epoch crate takes up to eight batches at a time,
    /// and two epochs have to pass.
    pub(crate) fn flushes(&self, entries: usize) -> usize {
        EPOCHS + entries / (8 * self.batch)
    }

    /// Where thousands of ended entries wait, some thread that is pinned has lost its processor: one
    /// admission in some gives its own away. The caller is not pinned.
    ///
    /// Without it threads that share processors run through the slack, and all of it is cold memory.
    #[inline]
    pub(crate) fn give_way(&self, hash: KeyHash) {
        if self.exist.load(Ordering::Relaxed) > self.crowded && hash.below(GIVE_WAY) == 0 {
            yield_now();
        }
    }

    /// Ended entries that are freed at a time.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// A slot for one more entry of a shard that the caller owns, from its spares or the budget.
    #[inline]
    pub(crate) fn slot_of_owner(&self, shard: usize, own: &mut Batch<K>) -> Option<Slot<'_, K>> {
        let spares = &self.stacks[shard].spares;
        self.slot_of_spare(|| spares.pop_into(own)).or_else(|| self.try_slot())
    }

    /// A slot for one more entry, from the shard's spares or the budget, if there is one now.
    pub(crate) fn slot_now(&self, shard: usize) -> Option<Slot<'_, K>> {
        let spares = &self.stacks[shard].spares;
        self.slot_of_spare(|| spares.pop()).or_else(|| self.try_slot())
    }

    /// From the budget, or from any shard's spares.
    fn try_any_slot(&self) -> Option<Slot<'_, K>> {
        let of_spares = |stack: &Stack<K>| self.slot_of_spare(|| stack.spares.pop());
        self.try_slot().or_else(|| self.stacks.iter().find_map(|stack| of_spares(stack)))
    }

    /// Of the first spare that nobody else holds.
    #[inline]
    fn slot_of_spare(
        &self,
        mut pop: impl FnMut() -> Option<NonNull<Entry<K>>>,
    ) -> Option<Slot<'_, K>> {
        loop {
            // SAFETY: spares are past their grace period, and have their `SHARD` hold.
            if let Some(spare) = unsafe { self.let_go_after_grace(pop()?) } {
                return Some(Slot { limbo: self, spare: Some(spare) });
            }
        }
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
                Ok(_) => {
                    return Some(Slot { limbo: self, spare: None });
                }
                Err(now) => exist = now,
            }
        }
        None
    }

    fn release(&self, n: usize) {
        if n > 0 {
            let before = self.exist.fetch_sub(n, Ordering::Release);
            debug_assert!(before >= n, "more slots were given back than taken");
        }
        if self.dry.load(Ordering::Relaxed) != 0 {
            self.dry.store(0, Ordering::Relaxed);
        }
    }

    /// Lets go of an entry on behalf of its shard; the entry, with its slot, if nobody else holds it.
    /// One that only handles hold gives its slot back.
    ///
    /// # Safety
    ///
    /// The hold is the caller's, and the entry's grace period is over: it can be reached only by a
    /// handle or a report that has a hold.
    #[inline]
    unsafe fn let_go_after_grace(&self, raw: NonNull<Entry<K>>) -> Option<Spare<K>> {
        // SAFETY: the hold keeps the entry alive.
        let entry = unsafe { raw.as_ref() };
        // Acquire: pairs with those who let go before. If nobody else has a hold, nobody can take
        // one.
        let mut holds = entry.holds().load(Ordering::Acquire);
        if holds != SHARD {
            holds = entry.holds().fetch_sub(SHARD, Ordering::AcqRel);
            if holds != SHARD {
                if (holds - SHARD) & CORE == 0 {
                    self.release(1);
                }
                // Or its report is still pending, and whoever lets go last retires it.
                return None;
            }
        }
        // SAFETY: by this function's own contract; not used after this.
        Some(unsafe { Spare::new(raw) })
    }

    /// Frees those that nobody else holds. The caller owns nothing: keys are dropped.
    ///
    /// # Safety
    ///
    /// As [`let_go_after_grace`](Self::let_go_after_grace), of each.
    unsafe fn free(&self, mut batch: Batch<K>) {
        let mut freed = 0;
        while let Some(entry) = batch.pop() {
            // SAFETY: by this function's own contract.
            let Some(spare) = (unsafe { self.let_go_after_grace(entry) }) else { continue };
            if OldKey::<K>::may_be_dropped() {
                drop(spare);
                freed += 1;
            } else {
                let entry = spare.into_inner();
                // SAFETY: it is ours alone. Relaxed: published by `push`.
                unsafe {
                    entry.as_ref().holds().store(0, Ordering::Relaxed);
                    self.push(entry);
                }
            }
        }
        self.release(freed);
    }

    /// Frees what waited in a stack: entries without holds.
    ///
    /// # Safety
    ///
    /// They are the caller's, and their grace period is over.
    unsafe fn free_stack(&self, first: *mut Entry<K>, may_be_dropped: bool) {
        let (mut freed, mut next) = (0, first);
        while let Some(raw) = NonNull::new(next) {
            // SAFETY: by this function's own contract.
            let entry = unsafe { raw.as_ref() };
            next = entry.link().load(Ordering::Relaxed);
            if may_be_dropped {
                // Acquire: pairs with those who let go before.
                freed += usize::from(entry.holds().load(Ordering::Acquire) & UNCOUNTED == 0);
                // SAFETY: as above; not used after this.
                drop(unsafe { Spare::new(raw) });
            } else {
                // SAFETY: it was taken with its stack, by the caller.
                unsafe { self.push(raw) };
            }
        }
        self.release(freed);
    }

    /// Pushes an entry that nobody holds on its shard's stack; the shard, and how many there are.
    ///
    /// # Safety
    ///
    /// Nobody else frees the entry before it is pushed, and it is in no stack yet.
    unsafe fn push(&self, raw: NonNull<Entry<K>>) -> (usize, usize) {
        // SAFETY: by this function's own contract.
        let entry = unsafe { raw.as_ref() };
        let shard = entry.hash().top(self.shard_bits);
        let top = &self.stacks[shard].head;
        let mut head = top.load(Ordering::Relaxed);
        loop {
            let count = (count_of(head) + 1).min(COUNT);
            entry.link().store(without_count(head), Ordering::Relaxed);
            let new = raw.as_ptr().map_addr(|addr| addr | count);
            match top.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return (shard, count),
                Err(now) => head = now,
            }
        }
    }

    /// Frees spares. The caller owns nothing: keys are dropped.
    pub(crate) fn free_spares(&self, spares: Batch<K>) {
        // SAFETY: spares are past their grace period, and have their `SHARD` hold.
        unsafe { self.free(spares) };
    }

    /// Frees the spares that no owner has.
    pub(crate) fn free_all_spares(&self) {
        for stack in &self.stacks {
            self.free_spares(stack.spares.take());
        }
    }
}

impl<K: Send + Sync + 'static> Limbo<K> {
    /// Whether an admission that found no slot is to try hard: not each where many in a row did so
    /// in vain.
    #[cold]
    pub(crate) fn is_worth_trying(&self) -> bool {
        let dry = self.dry.fetch_add(1, Ordering::Relaxed);
        dry < PATIENCE || dry.is_multiple_of(RETRY)
    }

    /// A slot for one more entry; where there is none it flushes and yields at most four times.
    #[cold]
    pub(crate) fn slot_slowly(self: &Arc<Self>) -> Option<Slot<'_, K>> {
        for _ in 0..ROUNDS {
            self.flush();
            self.free_all_spares();
            if let Some(slot) = self.try_any_slot() {
                return Some(slot);
            }
            yield_now();
        }
        self.try_any_slot()
    }

    /// Hands all stacks to the collector that are worth it, and runs what is due.
    pub(crate) fn flush(self: &Arc<Self>) {
        let guard = pin();
        let (last, others) = (self.stacks.len() - 1, 0..self.stacks.len() - 1);
        for shard in others {
            // Each in a bag of its own: who frees takes some bags at a time.
            if self.defer_stack(shard, &guard) {
                guard.flush();
            }
        }
        self.defer_stack(last, &guard);
        guard.flush();
    }

    /// What the owner of a shard has left.
    #[cold]
    pub(crate) fn let_go_of(self: &Arc<Self>, shard: usize, mut gone: Gone<K>, guard: &Guard) {
        gone.free_notes(guard);
        while let Some(entry) = gone.next_held(guard) {
            // SAFETY: it has left the shard, and the hold came with it.
            unsafe { self.let_go(entry, SHARD, guard) };
        }
        let mut batch = gone.batch.take();
        if batch.len() > 0 {
            if batch.len() >= BATCH || !self.is_piled_up(shard) {
                let keep = move |limbo: &Self| {
                    let batch = limbo.stacks[shard].spares.keep(batch);
                    // SAFETY: the grace period is over, and the holds came with the batch.
                    unsafe { limbo.free(batch) };
                };
                // SAFETY: the owner took it out of everybody's reach, and handed it over. The closure
                // owns it. `K: Send`, so any thread may drop the keys.
                unsafe { self.defer(shard, guard, keep) };
            } else {
                // SAFETY: the hold keeps it alive up to here, and from then on the guard does.
                let next = |raw: NonNull<_>| unsafe { Ref::new(raw.as_ptr()) };
                while let Some(entry) = batch.pop().and_then(next) {
                    // SAFETY: the owner took it out of everybody's reach, and the hold came with it.
                    if unsafe { self.is_let_go(entry, SHARD) } {
                        // SAFETY: that was the last hold.
                        let (_, count) = unsafe { self.push(entry.as_non_null()) };
                        if count >= BATCH {
                            self.defer_stack(shard, guard);
                        }
                    }
                }
                self.defer_stack(shard, guard);
            }
            // What was put aside inside the `Drop` of a key.
            let aside = count_of(self.stacks[shard].head.load(Ordering::Relaxed));
            if aside >= self.batch && OldKey::<K>::may_be_dropped() {
                self.defer_stack(shard, guard);
            }
            guard.flush();
        }
    }

    /// Flushes until what was retired has been freed, as long as nobody is pinned; for those who
    /// drop many entries at once. Bounded: each round runs a few batches.
    pub(crate) fn flush_all(self: &Arc<Self>, entries: usize) {
        let rounds = if entries > 0 { self.flushes(entries) } else { 0 };
        if rounds > 0 {
            self.flush();
        }
        // What waits in stacks is handed over by the closures that lower a shard's pile.
        (1..rounds).for_each(|_| pin().flush());
    }

    /// Lets go of an entry on behalf of the parts of the store in `bits`; the last holder retires
    /// it.
    ///
    /// # Safety
    ///
    /// As [`is_let_go`](Self::is_let_go), and the caller's guard is older than that.
    pub(crate) unsafe fn let_go(self: &Arc<Self>, entry: Ref<'_, K>, bits: u64, guard: &Guard) {
        // SAFETY: by this function's own contract.
        if unsafe { self.is_let_go(entry, bits) } {
            self.retire(entry, guard);
        }
    }

    /// Lets go of an entry on behalf of the parts of the store in `bits`; whether that was the last
    /// hold, and the entry is the caller's to retire.
    ///
    /// # Safety
    ///
    /// The caller has these holds. The entry can no longer be reached through them.
    unsafe fn is_let_go(&self, entry: Ref<'_, K>, bits: u64) -> bool {
        let before = entry.holds().fetch_sub(bits, Ordering::AcqRel);
        debug_assert_eq!(before & bits, bits, "let go of a hold twice");
        let after = before - bits;
        if after != 0 && after & CORE == 0 {
            // Only handles are left. The bits of the store never come back, so this happens once.
            self.release(1);
        }
        after == 0
    }

    /// Lets go of an entry on behalf of one handle; whether that was the last hold.
    ///
    /// # Safety
    ///
    /// The caller has a handle's hold, and does not use the entry after this.
    pub(crate) unsafe fn let_go_handle(self: &Arc<Self>, entry: NonNull<Entry<K>>) -> bool {
        // Before the hold goes, so that the entry is not freed between that and its retirement.
        let guard = pin();
        // SAFETY: the hold keeps the entry alive up to here, and from then on the guard does.
        let Some(held) = (unsafe { Ref::new(entry.as_ptr()) }) else { return false };
        let was_last = held.holds().fetch_sub(HANDLE, Ordering::AcqRel) == HANDLE;
        if was_last {
            // The store let go of it earlier and gave the slot back then.
            held.holds().store(UNCOUNTED, Ordering::Relaxed);
            self.retire(held, &guard);
        }
        was_last
    }

    /// Nobody holds the entry: it waits for its grace period.
    fn retire(self: &Arc<Self>, entry: Ref<'_, K>, guard: &Guard) {
        // SAFETY: nobody has a hold, and this thread is the one that let go last.
        let (shard, count) = unsafe { self.push(entry.as_non_null()) };
        if count >= self.batch {
            self.defer_stack(shard, guard);
            guard.flush();
        }
    }

    fn is_piled_up(&self, shard: usize) -> bool {
        self.stacks[shard].pile.load(Ordering::Relaxed) >= PILE
    }

    /// `false` if there was none, or what there is has to wait. The caller flushes.
    fn defer_stack(self: &Arc<Self>, shard: usize, guard: &Guard) -> bool {
        let top = &self.stacks[shard].head;
        let count = count_of(top.load(Ordering::Relaxed));
        if count < BATCH && self.is_piled_up(shard) {
            // Pairs with the one in `defer`.
            fence(Ordering::SeqCst);
            if self.is_piled_up(shard) {
                return false;
            }
        }
        if count == 0 {
            return false;
        }
        let first = without_count(top.swap(ptr::null_mut(), Ordering::Acquire));
        if first.is_null() {
            return false;
        }
        // SAFETY: they are the closure's, and it runs when the grace period is over.
        let free = move |limbo: &Self| unsafe {
            limbo.free_stack(first, OldKey::<K>::may_be_dropped());
        };
        // SAFETY: nobody else can take these entries, which can no longer be found. The closure owns
        // them. `K: Send`, so any thread may drop the keys.
        unsafe { self.defer(shard, guard, free) };
        true
    }

    /// The caller flushes.
    ///
    /// # Safety
    ///
    /// `f` owns what it captures, out of reach of any later guard, and may run on any thread.
    unsafe fn defer(self: &Arc<Self>, shard: usize, guard: &Guard, f: impl FnOnce(&Self)) {
        self.stacks[shard].pile.fetch_add(1, Ordering::Relaxed);
        // Never a pointer to the store.
        let limbo = Arc::clone(self);
        let due = move || {
            let stack = &limbo.stacks[shard];
            if stack.pile.fetch_sub(1, Ordering::Relaxed) == PILE {
                // Pairs with the one in `defer_stack`.
                fence(Ordering::SeqCst);
                if !stack.head.load(Ordering::Relaxed).is_null() {
                    limbo.defer_rest(shard);
                }
            }
            f(&limbo);
        };
        // SAFETY: by this function's own contract, and the limbo is shared.
        unsafe { guard.defer(due) };
    }

    /// What had to wait for the collector. Runs inside a collection.
    #[cold]
    fn defer_rest(self: &Arc<Self>, shard: usize) {
        let guard = pin();
        if self.defer_stack(shard, &guard) {
            guard.spill();
        }
    }
}

impl<K> Limbo<K> {
    /// Lets go of an entry when the store is dropped and nobody is in an operation of it; frees it
    /// at once if that was the last hold.
    ///
    /// # Safety
    ///
    /// As [`let_go`](Self::let_go), and no thread is inside an operation on this store.
    pub(crate) unsafe fn let_go_at_drop(&self, entry: NonNull<Entry<K>>, bits: u64) {
        // SAFETY: the caller's holds keep the entry alive.
        let before = unsafe { entry.as_ref() }.holds().fetch_sub(bits, Ordering::AcqRel);
        if before == bits {
            // SAFETY: that was the last hold and nobody is searching.
            drop(unsafe { Spare::new(entry) });
            self.release(1);
        } else if (before - bits) & CORE == 0 {
            self.release(1);
        }
    }

    /// Frees what waits in the stacks, and the spares.
    ///
    /// # Safety
    ///
    /// No thread is inside an operation on this store.
    pub(crate) unsafe fn free_stacks(&self) {
        // First: inside the `Drop` of a key they are put on the stacks.
        self.free_all_spares();
        for stack in &self.stacks {
            let first = without_count(stack.head.swap(ptr::null_mut(), Ordering::Acquire));
            // SAFETY: they are ours by the swap, and nobody is in an operation.
            unsafe { self.free_stack(first, true) };
        }
    }
}

impl<K> Drop for Limbo<K> {
    /// A snapshot may outlive its store and let go of entries after it.
    fn drop(&mut self) {
        if OldKey::<K>::may_be_dropped() {
            // SAFETY: this was the last reference: no store, no snapshot, no closure is left.
            unsafe { self.free_stacks() }
        } else {
            self.pass_on();
        }
    }
}

impl<K> Limbo<K> {
    /// Inside the `Drop` of a key: what is left is freed by a later collection.
    #[cold]
    fn pass_on(&mut self) {
        // To the stacks.
        self.free_all_spares();
        if self.stacks.iter().all(|stack| stack.head.load(Ordering::Relaxed).is_null()) {
            return;
        }
        let rest = Self {
            exist: CachePadded::new(AtomicUsize::new(self.exist())),
            stacks: std::mem::take(&mut self.stacks),
            dry: CachePadded::new(AtomicUsize::new(0)),
            ..*self
        };
        let guard = pin();
        // SAFETY: the closure owns them, and nobody else has a reference. Stores that have keys are made
        // of `K: Send + 'static` only, so any thread may drop those, at any time.
        unsafe { guard.defer(move || drop(rest)) };
        guard.spill();
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl<K> Limbo<K> {
    /// With nothing in flight: entries that shards have (`held`), in the stacks and spares have
    /// their slots. What is left over was deferred; the collector says no number.
    pub(crate) fn validate(&self, held: usize, _guard: &Guard) {
        let mut found = held;
        for (shard, stack) in self.stacks.iter().enumerate() {
            found += stack.spares.validate();
            let head = stack.head.load(Ordering::Acquire);
            let (mut at, mut len) = (without_count(head), 0);
            // SAFETY: the guard is older than the load, and entries of a stack were not freed.
            while let Some(entry) = unsafe { Ref::new(at) } {
                let holds = entry.holds().load(Ordering::Acquire);
                assert_eq!(holds & !UNCOUNTED, 0, "an entry in limbo is held");
                assert_eq!(entry.hash().top(self.shard_bits), shard, "another shard's limbo");
                assert!(entry.cell().look().is_ended(), "a live entry in limbo");
                entry.cell().validate();
                found += usize::from(holds == 0);
                len += 1;
                at = entry.link().load(Ordering::Relaxed);
            }
            assert_eq!(count_of(head), len.min(COUNT), "the count of a stack");
        }
        // Last: a deferred free on another thread only makes it smaller, by what was not found.
        let exist = self.exist.load(Ordering::Acquire);
        assert!(exist >= found, "{found} entries and spares with {exist} slots");
        assert!(exist <= self.max, "{exist} slots of {}", self.max);
    }
}
