//! The operations, on hashes and entries: index, ledger, lists, budgets and clock put together.
//!
//! Nothing here hashes or converts a key. What ends is gathered in [`Removals`] and delivered by
//! the caller.
//!
//! # Orderings
//!
//! The tick of last use is Relaxed throughout. It is written by max *before* the Release add to the
//! count, and who judges it loads the count (Acquire) first: see [`is_idle`].

use std::hash::Hash;
use std::marker::PhantomData;

use equivalent::Equivalent;

use crate::budget::{Permit, Permits};
use crate::cell::{Cause, State};
use crate::clock_list::{Gone, Lists};
#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
use crate::entry::CORE;
use crate::entry::{Entry, INDEX, LEDGER, REPORT, ROSTER, Ref, Sealed, Units};
use crate::expiry::IDLE_BUCKETS;
use crate::hash::KeyHash;
use crate::index::Index;
use crate::ledger::Ledger;
use crate::limbo::Limbo;
use crate::reclaim::{Guard, pin};
use crate::removal::{Listener, Removals};
use crate::shard::{Shard, Stats, Tally};
use crate::sweep::{Time, is_idle};
use crate::sync::{Arc, CachePadded, Ordering};
use crate::tick::Timer;

/// What to do with a new key when the store is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AtCapacity {
    /// Evict another key; its exact final count is reported and stays in the totals.
    #[default]
    Evict,
    /// Reject the increment; its units stay in the totals as `rejected`.
    Reject,
}

/// What an attempt to count on an entry came to.
pub(crate) enum Touch {
    Counted(u64),
    Idle,
    Ended,
}

pub(crate) struct Engine<K> {
    pub(crate) index: Index<K>,
    pub(crate) ledger: Ledger<K>,
    pub(crate) shards: Box<[CachePadded<Shard<K>>]>,
    pub(crate) shard_bits: u32,
    pub(crate) live: Permits,
    pub(crate) limbo: Arc<Limbo<K>>,
    pub(crate) timer: Option<Timer>,
    pub(crate) at_capacity: AtCapacity,
    pub(crate) listener: Option<Listener<K>>,
    /// The links are raw, so the compiler is told what they lead to.
    owns: PhantomData<Entry<K>>,
}

/// What the builder has checked.
pub(crate) struct Plan<K> {
    pub(crate) capacity: usize,
    pub(crate) slack: usize,
    pub(crate) shard_bits: u32,
    pub(crate) index: Index<K>,
    pub(crate) timer: Option<Timer>,
    pub(crate) at_capacity: AtCapacity,
    pub(crate) listener: Option<Listener<K>>,
}

impl<K> Engine<K> {
    pub(crate) fn new(plan: Plan<K>) -> Self {
        let Plan { capacity, slack, shard_bits, index, timer, at_capacity, listener } = plan;
        let share = capacity.div_ceil(1 << shard_bits);
        Self {
            ledger: Ledger::new(index.len()),
            shards: (0..1 << shard_bits).map(|_| CachePadded::new(Shard::new(share))).collect(),
            shard_bits,
            live: Permits::new(capacity),
            limbo: Arc::new(Limbo::new(capacity + slack, slack, shard_bits)),
            index,
            timer,
            at_capacity,
            listener,
            owns: PhantomData,
        }
    }

    pub(crate) fn listener(&self) -> Option<&Listener<K>> {
        self.listener.as_ref()
    }

    pub(crate) fn limbo(&self) -> &Arc<Limbo<K>> {
        &self.limbo
    }

    pub(crate) fn len(&self) -> usize {
        self.live.used()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.live.cap()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.limbo.exist().saturating_sub(self.live.used())
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn tick_length(&self) -> Option<std::time::Duration> {
        self.timer.as_ref().map(Timer::tick_length)
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.shards.iter().for_each(|shard| shard.tally.add_to(&mut stats));
        stats
    }

    pub(crate) fn rejected_units(&self) -> u64 {
        let units = self.shards.iter().map(|shard| shard.tally.rejected.load(Ordering::Relaxed));
        units.fold(0, u64::wrapping_add)
    }

    #[inline]
    pub(crate) fn time(&self) -> Time<'_> {
        self.timer.as_ref().map(|timer| (timer, timer.now()))
    }

    pub(crate) fn shard(&self, hash: KeyHash) -> &Shard<K> {
        &self.shards[hash.top(self.shard_bits)]
    }

    pub(crate) fn tick(time: Time<'_>) -> u64 {
        time.map_or(0, |(timer, now)| timer.tick(now))
    }
}

impl<K: Send + Sync + 'static> Engine<K> {
    // ---- counting on an entry -------------------------------------------------------------------

    /// Counts one use of `n` units, unless the life has ended or is over.
    ///
    /// `true` beside it if the tick of last use has changed: who moves the tick pays for expiry.
    #[inline]
    pub(crate) fn touch(&self, entry: &Entry<K>, n: u64, time: Time<'_>) -> (Touch, bool) {
        let mut moved = false;
        if let Some((timer, now)) = time {
            let tick = entry.tick().load(Ordering::Relaxed);
            if timer.expired(tick, now) {
                let ended = entry.cell().look().is_ended();
                return (if ended { Touch::Ended } else { Touch::Idle }, false);
            }
            let this_tick = timer.tick(now);
            if tick < this_tick {
                // By max, and before the add: a slow thread does not move the tick back.
                entry.tick().fetch_max(this_tick, Ordering::Relaxed);
                moved = true;
            }
        }
        match entry.cell().add(n) {
            Ok(count) => (Touch::Counted(count), moved),
            Err(_) => (Touch::Ended, false),
        }
    }

    /// Counts on the live entry of the key, if there is one.
    #[inline]
    pub(crate) fn hit<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        n: u64,
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) -> Option<u64>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.hit_with(hash, key, n, guard, out, |_| ()).map(|(count, ())| count)
    }

    /// As [`hit`](Self::hit), and calls `bind` with the entry.
    #[inline]
    pub(crate) fn hit_with<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        n: u64,
        guard: &Guard,
        out: &mut Removals<'_, K>,
        bind: impl FnOnce(Ref<'_, K>) -> R,
    ) -> Option<(u64, R)>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let entry = self.index.find(hash, key, guard).first?;
        let time = self.time();
        let (Touch::Counted(count), moved) = self.touch(&entry, n, time) else {
            return None;
        };
        let bound = bind(entry);
        if moved {
            self.expire_some(hash, IDLE_BUCKETS, time, guard, out);
        }
        Some((count, bound))
    }

    // ---- ending a life --------------------------------------------------------------------------

    pub(crate) fn seal_if_idle<'g>(
        &self,
        entry: Ref<'g, K>,
        time: Time<'_>,
    ) -> Option<Sealed<'g, K>> {
        loop {
            let seen = entry.cell().look();
            if seen.is_ended() || !is_idle(&entry, time) {
                return None;
            }
            // Again: a seal fails also where another sealer came half way.
            if let Ok(units) = entry.cell().seal_if(seen, Cause::Idle) {
                return Some(sealed(entry, units, Cause::Idle));
            }
        }
    }

    /// Ends the life in any case: as idle if it is, else as removed. `None` if it had ended.
    pub(crate) fn seal_anyway<'g>(
        &self,
        entry: Ref<'g, K>,
        time: Time<'_>,
    ) -> Option<Sealed<'g, K>> {
        self.seal_if_idle(entry, time).or_else(|| {
            let units = entry.cell().seal(Cause::Removed)?;
            Some(sealed(entry, units, Cause::Removed))
        })
    }

    /// Ends a sealed life for good; its permit goes back at once.
    pub(crate) fn end<'g>(
        &self,
        sealed: Sealed<'g, K>,
        guard: &'g Guard,
        out: &mut Removals<'_, K>,
    ) {
        drop(self.live.of_sealed());
        self.bury(sealed, guard, out);
    }

    /// Ends a sealed life for good; its permit is the caller's.
    pub(crate) fn succeed<'g>(
        &self,
        sealed: Sealed<'g, K>,
        guard: &'g Guard,
        out: &mut Removals<'_, K>,
    ) -> Permit<'_> {
        let permit = self.live.of_sealed();
        self.bury(sealed, guard, out);
        permit
    }

    /// Credits a sealed entry, takes it out of all structures and lets it go.
    fn bury<'g>(&self, sealed: Sealed<'g, K>, guard: &'g Guard, out: &mut Removals<'_, K>) {
        let Sealed { entry, units, cause, off_roster } = sealed;
        let hash = entry.hash();
        let shard = self.shard(hash);
        Tally::count(&shard.tally.ended[cause.index()], 1);

        let mut done = if off_roster { ROSTER } else { 0 };
        let mut credit = Units::default();
        credit[cause.index()] = units;
        let bucket = self.index.bucket_of(hash);
        let settled = self.ledger.credit(bucket, entry, credit, guard, |replaced| {
            // SAFETY: it was replaced at the head by this thread, under this guard.
            unsafe { self.limbo.let_go(replaced, LEDGER, guard) }
        });
        if settled {
            done |= LEDGER;
        }
        self.index.unlink_marked(hash, guard, |unlinked| {
            if unlinked == entry {
                done |= INDEX;
            } else {
                // SAFETY: it was unlinked by this thread, under this guard.
                unsafe { self.limbo.let_go(unlinked, INDEX, guard) }
            }
        });
        if !off_roster {
            done |= self.take_off_roster(shard, entry, guard);
        }
        if self.listener.is_some() {
            // SAFETY: only the sealer has the report's hold.
            unsafe { out.push(entry, units, cause) };
        }
        // SAFETY: each bit says that this thread took the entry out of that structure, under this
        // guard.
        unsafe { self.limbo.let_go(entry, done, guard) };
    }

    /// The hold that the caller now has: that of the lists, if they were free and the entry was
    /// drained.
    fn take_off_roster(&self, shard: &Shard<K>, entry: Ref<'_, K>, guard: &Guard) -> u64 {
        match self.own_lists(shard, guard, |lists| lists.depart(&entry)) {
            Some(true) => ROSTER,
            Some(false) => 0,
            None => {
                shard.roster.depart(entry);
                0
            }
        }
    }

    /// Runs `f` as the owner of a shard's lists, if they are free, then lets go of what has left
    /// them.
    pub(crate) fn own_lists<R>(
        &self,
        shard: &Shard<K>,
        guard: &Guard,
        f: impl FnOnce(&mut Lists<K>) -> R,
    ) -> Option<R> {
        let (result, gone) = shard.roster.own(f)?;
        self.let_go_of(gone, guard);
        Some(result)
    }

    pub(crate) fn let_go_of(&self, gone: Gone<K>, guard: &Guard) {
        for entry in gone.drain(guard) {
            // SAFETY: it has left the lists, and the hold came with it.
            unsafe { self.limbo.let_go(entry, ROSTER, guard) };
        }
    }

    /// The count of a live key. Ends its life if it has been idle for too long.
    pub(crate) fn get<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) -> Option<u64>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let time = self.time();
        self.pay_for_expiry(hash, time, guard, out);
        let entry = self.index.find(hash, key, guard).first?;
        self.peek(entry, time, guard, out)
    }

    /// The count of an entry, if its life lasts.
    pub(crate) fn peek(
        &self,
        entry: Ref<'_, K>,
        time: Time<'_>,
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) -> Option<u64> {
        loop {
            let State::Live(units) = entry.cell().read() else {
                return None;
            };
            if !is_idle(&entry, time) {
                return Some(units);
            }
            // Not sealed: it was used or ended meanwhile, so look again.
            if let Some(sealed) = self.seal_if_idle(entry, time) {
                self.end(sealed, guard, out);
                return None;
            }
        }
    }

    pub(crate) fn remove<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) -> Option<u64>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let time = self.time();
        self.pay_for_expiry(hash, time, guard, out);
        let entry = self.index.find(hash, key, guard).first?;
        let sealed = self.seal_anyway(entry, time)?;
        let (units, cause) = (sealed.units, sealed.cause);
        self.end(sealed, guard, out);
        (cause == Cause::Removed).then_some(units)
    }
}

pub(crate) fn sealed<K>(entry: Ref<'_, K>, units: u64, cause: Cause) -> Sealed<'_, K> {
    Sealed { entry, units, cause, off_roster: false }
}

impl<K> Drop for Engine<K> {
    /// Nobody is in an operation any more. Delivers nothing.
    fn drop(&mut self) {
        let guard = pin();
        for shard in &mut self.shards {
            for entry in shard.roster.take_at_drop().drain(&guard) {
                // SAFETY: it has left the lists, and nobody is in an operation. The iterator has
                // read its link already.
                unsafe { self.limbo.let_go_at_drop(entry.as_ptr(), ROSTER) };
            }
        }
        for group in 0..self.ledger.groups() {
            if let Some(entry) = self.ledger.take_at_drop(group) {
                // SAFETY: as above; a head of the ledger has its hold.
                unsafe { self.limbo.let_go_at_drop(entry, LEDGER) };
            }
        }
        let of_sealer = LEDGER | if self.listener.is_some() { REPORT } else { 0 };
        let limbo = &self.limbo;
        for bucket in 0..self.index.len() {
            self.index.take_at_drop(bucket, |entry| {
                // SAFETY: the index's hold keeps the entry alive.
                let ended = unsafe { (*entry).cell().look().is_ended() };
                // A live entry still has what its sealer would have let go of.
                let bits = if ended { INDEX } else { INDEX | of_sealer };
                // SAFETY: as above.
                unsafe { limbo.let_go_at_drop(entry, bits) };
            });
        }
        // SAFETY: nobody is in an operation.
        unsafe { self.limbo.free_stacks() };
        drop(guard);
        // Batches that were deferred before: their keys should not outlive the store by much.
        for _ in 0..limbo.flushes(limbo.exist()).max(4) {
            if limbo.exist() == 0 {
                break;
            }
            pin().flush();
        }
    }
}

/// For tests that hold amortised pruning to its bound.
#[cfg(test)]
impl<K: Send + Sync + 'static> Engine<K> {
    pub(crate) fn steps(&self) -> u64 {
        let steps = |shard: &CachePadded<Shard<K>>| {
            self.own_lists(shard, &pin(), |lists| lists.steps).expect("nobody has them")
        };
        self.shards.iter().map(steps).sum()
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl<K: Eq + Send + Sync + 'static> Engine<K> {
    /// With nothing in flight: each layer is whole, and they agree. Changes nothing.
    pub(crate) fn validate(&self) {
        let guard = pin();
        self.live.validate();
        self.ledger.validate(&guard);
        let live = self.index.validate(&guard);
        assert_eq!(live.len(), self.live.used(), "live entries and permits");
        let core = if self.listener.is_some() { CORE } else { CORE & !REPORT };
        for entry in &live {
            entry.cell().validate();
            let holds = entry.holds().load(Ordering::Acquire);
            assert_eq!(holds & CORE, core, "who holds a live entry");
        }
        let (mut listed, mut dead) = (0, 0);
        for (i, shard) in self.shards.iter().enumerate() {
            shard.roster.validate(|entry| {
                assert_eq!(entry.hash().top(self.shard_bits), i, "an entry in another's lists");
                if entry.cell().look().is_ended() {
                    let holds = entry.holds().load(Ordering::Acquire);
                    assert_eq!(holds & CORE, ROSTER, "who holds a dead entry");
                    dead += 1;
                } else {
                    listed += 1;
                }
            });
        }
        assert_eq!(listed, live.len(), "live entries in lists and in chains");
        self.limbo.validate(live.len() + dead, &guard);
    }
}
