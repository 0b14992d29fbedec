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
use std::time::SystemTime;

use equivalent::Equivalent;

use crate::budget::{Permit, Permits};
use crate::cell::{Amount, Cause, State};
use crate::clock_list::{HEED, Lists};
use crate::entry::{CORE, Entry, Extra, Ref, SHARD, Sealed};
use crate::hash::KeyHash;
use crate::index::{Found, Head, Index};
use crate::ledger::Ledger;
use crate::limbo::Limbo;
use crate::reclaim::{Guard, pin};
use crate::removal::{Listener, Removals};
use crate::shard::{Shard, Stats, Tally};
use crate::sweep::{Time, is_idle};
use crate::sync::{Arc, CachePadded, Ordering, prefetch};
use crate::tick::{Calendar, Timer};

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

/// A use was counted.
pub(crate) struct Hit<R> {
    pub(crate) count: u64,
    /// It has moved its entry's tick, and is to [`pay`](Engine::pay) for expiry.
    pub(crate) owes: bool,
    pub(crate) bound: R,
}

/// There was no live entry of the key: the head of its chain, unless an idle life has to be ended
/// first. Of use as long as the caller stays pinned.
pub(crate) struct Missed<K>(pub(crate) Option<Head<K>>);

pub(crate) struct Engine<K> {
    pub(crate) index: Index<K>,
    pub(crate) ledger: Ledger<K>,
    pub(crate) shards: Box<[CachePadded<Shard<K>>]>,
    pub(crate) shard_bits: u32,
    /// Entries that a shard has if keys are spread evenly.
    pub(crate) share: usize,
    pub(crate) live: Permits,
    pub(crate) limbo: Arc<Limbo<K>>,
    pub(crate) timer: Option<Timer>,
    pub(crate) at_capacity: AtCapacity,
    pub(crate) listener: Option<Listener<K>>,
    /// Whether entries have something besides: lanes after the first, or times.
    pub(crate) has_extra: bool,
    /// Those after the first.
    pub(crate) lanes: usize,
    /// When the store was built, where it keeps when lives begin.
    pub(crate) built: Option<SystemTime>,
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
    pub(crate) lanes: usize,
    pub(crate) built: Option<SystemTime>,
}

impl<K> Engine<K> {
    pub(crate) fn new(plan: Plan<K>) -> Self {
        let Plan { capacity, slack, shard_bits, index, .. } = plan;
        let Plan { timer, at_capacity, listener, lanes, built, .. } = plan;
        let share = capacity.div_ceil(1 << shard_bits);
        let limbo = Limbo::new(capacity + slack, slack, shard_bits);
        let shard = |number| CachePadded::new(Shard::new(number, share, limbo.batch(), lanes));
        Self {
            ledger: Ledger::new(index.len(), index.len() >> shard_bits, lanes),
            shards: (0..1 << shard_bits).map(shard).collect(),
            shard_bits,
            share: (capacity >> shard_bits).max(1),
            live: Permits::new(capacity),
            limbo: Arc::new(limbo),
            index,
            timer,
            at_capacity,
            listener,
            has_extra: lanes > 0 || built.is_some(),
            lanes,
            built,
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

    pub(crate) fn idle_ttl(&self) -> Option<std::time::Duration> {
        self.timer.as_ref().and_then(Timer::ttl)
    }

    /// Where the store keeps when lives begin and were last used.
    pub(crate) fn calendar(&self) -> Option<Calendar> {
        Some(self.timer.as_ref()?.calendar(self.built?))
    }

    /// What a new entry has besides.
    #[inline]
    pub(crate) fn extra(&self) -> Option<Box<Extra>> {
        self.has_extra.then(|| Box::new(Extra::new(self.lanes)))
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.shards.iter().for_each(|shard| shard.add_to(&mut stats));
        stats
    }

    pub(crate) fn rejected_units(&self, lane: usize) -> u64 {
        let units = self.shards.iter().map(|shard| shard.rejected(lane).load(Ordering::Relaxed));
        units.fold(0, u64::wrapping_add)
    }

    #[inline]
    pub(crate) fn time(&self) -> Time<'_> {
        self.timer.as_ref().map(|timer| (timer, timer.now()))
    }

    /// As [`time`](Self::time), and asks for what a use of this entry writes: the clock takes as long.
    #[inline]
    pub(crate) fn time_of_use(&self, entry: &Entry<K>) -> Time<'_> {
        let timer = self.timer.as_ref()?;
        prefetch(entry.tick());
        Some((timer, timer.now()))
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

    /// Counts `n`, unless the life has ended or is over.
    ///
    /// `true` beside it if the tick of last use has changed: who moves the tick pays for expiry.
    #[inline]
    pub(crate) fn touch(&self, entry: &Entry<K>, n: Amount, time: Time<'_>) -> (Touch, bool) {
        let mut moved = false;
        if let Some((timer, now)) = time {
            let tick = entry.tick().load(Ordering::Relaxed);
            if timer.expired(tick, now) {
                let ended = entry.cell().look().is_ended();
                return (if ended { Touch::Ended } else { Touch::Idle }, false);
            }
            let this_tick = timer.tick(now);
            // What is not a use does not count for expiry.
            if tick < this_tick && n.uses > 0 {
                // By max, and before the add: a slow thread does not move the tick back.
                entry.tick().fetch_max(this_tick, Ordering::Relaxed);
                moved = true;
            }
        }
        match entry.cell().add_amount(n) {
            Ok(count) => (Touch::Counted(entry.with_stripes(count)), moved),
            Err(_) => (Touch::Ended, false),
        }
    }

    /// Counts on the live entry of the key, if there is one, and calls `bind` with it; else says
    /// where a new one goes.
    #[inline]
    pub(crate) fn hit<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        n: Amount,
        guard: &Guard,
        bind: impl FnOnce(Ref<'_, K>) -> R,
    ) -> Result<Hit<R>, Missed<K>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let Found { first, head } = self.index.find(hash, key, guard);
        let Some(entry) = first else {
            return Err(Missed(Some(head)));
        };
        match self.touch(&entry, n, self.time_of_use(&entry)) {
            (Touch::Counted(count), owes) => Ok(Hit { count, owes, bound: bind(entry) }),
            (Touch::Ended, _) => {
                // Its stripes are sealed before the next life begins.
                entry.read();
                Err(Missed(Some(head)))
            }
            (Touch::Idle, _) => Err(Missed(None)),
        }
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
            if let Ok(units) = entry.seal_if(seen, Cause::Idle) {
                return Some(Sealed::new(entry, units, Cause::Idle));
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
            let units = entry.seal(Cause::Removed)?;
            Some(Sealed::new(entry, units, Cause::Removed))
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

    /// Credits a sealed entry and takes it out of chain and lists, as the owner of its shard; where
    /// that is taken, leaves it to the next owner.
    fn bury<'g>(&self, sealed: Sealed<'g, K>, guard: &'g Guard, out: &mut Removals<'_, K>) {
        let (entry, units, cause) = (sealed.entry, sealed.units(), sealed.cause());
        let shard = self.shard(entry.hash());
        if self.listener.is_some() {
            // SAFETY: only the sealer has the report's hold.
            unsafe { out.push(entry, units, cause) };
        }
        let buried = self.own_lists(shard, guard, |lists| {
            Tally::count_owned(&shard.owned.ended[cause.index()]);
            self.bury_owned(lists, entry, units, cause, guard);
        });
        if buried.is_none() {
            Tally::count(&shard.tally.ended[cause.index()]);
            shard.roster.depart(entry);
        }
    }

    /// As the owner of the entry's shard.
    pub(crate) fn bury_owned(
        &self,
        lists: &mut Lists<K>,
        entry: Ref<'_, K>,
        units: u64,
        cause: Cause,
        guard: &Guard,
    ) {
        let bucket = self.index.bucket_of(entry.hash());
        self.ledger.credit(bucket, entry, (cause, units), &mut lists.pen, |pen| {
            self.index.unlink(entry, pen, guard);
        });
        lists.bury(entry);
    }

    /// Runs `f` as the owner of a shard, if it is free, after what others have left for its owner.
    #[inline]
    pub(crate) fn own_lists<R>(
        &self,
        shard: &Shard<K>,
        guard: &Guard,
        f: impl FnOnce(&mut Lists<K>) -> R,
    ) -> Option<R> {
        let (result, gone) = shard.roster.own(|lists| {
            if lists.has_departures(&shard.roster) {
                self.heed(lists, guard);
            }
            let result = f(lists);
            shard.population.store(lists.len(), Ordering::Relaxed);
            result
        })?;
        if !gone.is_nothing() {
            self.limbo.let_go_of(shard.number, gone, guard);
        }
        Some(result)
    }

    #[cold]
    fn heed(&self, lists: &mut Lists<K>, guard: &Guard) {
        for _ in 0..HEED {
            let Some(entry) = lists.next_departure(guard) else { return };
            // Its sealer has counted it.
            if let State::Ended(cause, units) = entry.read() {
                self.bury_owned(lists, entry, units, cause, guard);
            }
        }
    }

    /// The entry of a live key, and its count. Ends its life if it has been idle for too long.
    pub(crate) fn get<'g, Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        guard: &'g Guard,
        out: &mut Removals<'_, K>,
    ) -> Option<(Ref<'g, K>, u64)>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let time = self.time();
        self.pay_for_expiry(hash, time, guard, out);
        let entry = self.index.find(hash, key, guard).first?;
        let count = self.peek(entry, time, guard, out)?;
        Some((entry, count))
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
            let State::Live(units) = entry.read() else {
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

    /// The entry whose life this has ended as removed, and its final count.
    pub(crate) fn remove<'g, Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        guard: &'g Guard,
        out: &mut Removals<'_, K>,
    ) -> Option<(Ref<'g, K>, u64)>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let time = self.time();
        self.pay_for_expiry(hash, time, guard, out);
        let entry = self.index.find(hash, key, guard).first?;
        let sealed = self.seal_anyway(entry, time)?;
        let (units, cause) = (sealed.units(), sealed.cause());
        self.end(sealed, guard, out);
        (cause == Cause::Removed).then_some((entry, units))
    }
}

impl<K> Drop for Engine<K> {
    /// Nobody is in an operation any more. Delivers nothing.
    fn drop(&mut self) {
        let guard = pin();
        let limbo = &self.limbo;
        limbo.close();
        for shard in &mut self.shards {
            let spares = shard.roster.take_at_drop(|entry| {
                // SAFETY: it is in no chain any more, and nobody is in an operation. Its link has
                // been read already.
                unsafe { limbo.let_go_at_drop(entry, SHARD) };
            });
            limbo.free_spares(spares);
        }
        let live = if self.listener.is_some() { CORE } else { SHARD };
        for bucket in 0..self.index.len() {
            self.index.take_at_drop(bucket, |entry| {
                // SAFETY: the shard's hold keeps the entry alive.
                let ended = unsafe { entry.as_ref() }.cell().look().is_ended();
                // The sealer has taken over the report of an ended one.
                let bits = if ended { SHARD } else { live };
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
        self.ledger.validate();
        let linked = self.index.validate(&guard);
        let core = if self.listener.is_some() { CORE } else { SHARD };
        let (mut live, mut noted) = (0, 0);
        for entry in &linked {
            entry.validate();
            if entry.cell().look().is_ended() {
                noted += 1;
            } else {
                live += 1;
                assert_eq!(entry.holds().load(Ordering::Acquire) & CORE, core, "who holds it");
            }
        }
        assert_eq!(live, self.live.used(), "live entries and permits");
        let (mut listed, mut dead, mut arriving, mut own) = (0, 0, 0, 0);
        for shard in &self.shards {
            own += shard.roster.validate(|entry, buried| {
                assert_eq!(entry.hash().top(self.shard_bits), shard.number, "another's entry");
                match (entry.cell().look().is_ended(), buried) {
                    (false, _) => listed += 1,
                    (true, false) => dead += 1,
                    (true, true) => arriving += 1,
                }
            });
        }
        assert_eq!(listed, live, "live entries in lists and in chains");
        assert_eq!(dead, noted, "ended entries in chains, and notes of them");
        self.limbo.validate(linked.len() + arriving + own, &guard);
    }
}
