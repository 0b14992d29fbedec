//! Admission: room for a new key, from a free permit, an idle life or an eviction.
//!
//! In this order: a slot, memory, room, publication. What was taken and is not used goes back by
//! being dropped, also when the user's `Eq` panics in between.

use std::hash::Hash;

use crate::budget::Permit;
use crate::cell::{Cause, MAX_COUNT};
use crate::engine::{AtCapacity, Engine, Touch, sealed};
use crate::entry::{CORE, Entry, REPORT, Ref, Sealed};
use crate::error::Rejected;
use crate::expiry::IDLE_BUCKETS;
use crate::hash::KeyHash;
use crate::index::Found;
use crate::limbo::Slot;
use crate::reclaim::{Guard, pin};
use crate::removal::Removals;
use crate::shard::Tally;
use crate::sweep::{Time, is_idle};

/// Shards whose lists an eviction tries to take before it samples the index.
const SHARDS_TRIED: usize = 4;
/// Live entries among which a sample picks the one with the lowest count.
const SAMPLE: usize = 5;
/// An admission that evicts nobody takes its shard's lists every so many times, to put arrivals in.
const SETTLE_EVERY: u64 = if cfg!(crossbeam_loom) { 1 } else { 8 };

/// An entry that was not published yet, and its slot. Dropping it frees the entry first.
struct Fresh<'a, K> {
    entry: Box<Entry<K>>,
    slot: Slot<'a, K>,
}

/// Room for a newcomer, and whether the ghost knew it, if it was asked.
struct Room<'a> {
    permit: Permit<'a>,
    known: Option<bool>,
}

impl<K: Send + Sync + 'static> Engine<K> {
    /// Counts `n` units under a key that was not found, and calls `bind` with its entry.
    ///
    /// Takes a slot, then allocates, then takes a permit or evicts; what is not used goes back. The
    /// caller is not pinned, so the key is dropped outside pins where it is not needed.
    pub(crate) fn admit<R>(
        &self,
        hash: KeyHash,
        key: K,
        n: u64,
        out: &mut Removals<'_, K>,
        bind: impl FnOnce(Ref<'_, K>) -> R,
    ) -> Result<(u64, R), Rejected>
    where
        K: Hash + Eq,
    {
        let Some(mut slot) = self.slot(hash, &key, out) else {
            return Err(self.reject(hash, n, Rejected::Memory));
        };
        let holds = if self.listener.is_some() { CORE } else { CORE & !REPORT };
        let entry = Box::write(slot.blank(), Entry::new(hash, key, holds));
        let mut fresh = Fresh { entry, slot };
        let mut room: Option<Room<'_>> = None;
        loop {
            let guard = pin();
            let time = self.time();
            let Found { first, head } = self.index.find(hash, fresh.entry.key(), &guard);
            if let Some(entry) = first {
                match self.touch(&entry, n, time).0 {
                    Touch::Counted(count) => {
                        let bound = bind(entry);
                        // Here, so that a key whose `Drop` panics does not lose what was bound.
                        drop((room, guard));
                        drop(fresh);
                        return Ok((count, bound));
                    }
                    Touch::Idle => {
                        // The key's own old life gives its permit to the new one.
                        if let Some(sealed) = self.seal_if_idle(entry, time) {
                            let permit = self.succeed(sealed, &guard, out);
                            room.get_or_insert(Room { permit, known: None });
                        }
                        continue;
                    }
                    Touch::Ended => {}
                }
            }
            let taken = match room.take() {
                Some(room) => room,
                None => match self.room(hash, time, &guard, out) {
                    Ok(room) => room,
                    Err(why) => return Err(self.reject(hash, n, why)),
                },
            };
            // The clock again: making room may have taken long.
            fresh.entry.prepare(n, Self::tick(self.time()), taken.known);
            match self.index.insert(fresh.entry, head, &guard) {
                Ok(entry) => {
                    fresh.slot.attach();
                    taken.permit.attach();
                    let bound = bind(entry);
                    self.settle(entry, &guard);
                    return Ok((n.min(MAX_COUNT), bound));
                }
                Err(entry) => {
                    fresh.entry = entry;
                    room = Some(taken);
                }
            }
        }
    }

    /// A slot for a new entry. Where there is none, what keeps slots is let go of first: idle lives
    /// (the key's own, and a few others), dead entries that wait for an owner of their lists,
    /// and pending reports.
    fn slot(&self, hash: KeyHash, key: &K, out: &mut Removals<'_, K>) -> Option<Slot<'_, K>>
    where
        K: Hash + Eq,
    {
        if let Some(slot) = self.limbo.slot(hash) {
            return Some(slot);
        }
        if !self.limbo.is_worth_trying() {
            return None;
        }
        let time = self.time();
        let guard = pin();
        if time.is_some() {
            let own = self.index.find(hash, key, &guard).first;
            if let Some(sealed) = own.and_then(|entry| self.seal_if_idle(entry, time)) {
                self.end(sealed, &guard, out);
            }
            drop(self.expire_some(hash, IDLE_BUCKETS, time, &guard, out));
        }
        for shard in &self.shards {
            self.own_lists(shard, &guard, |_| ());
        }
        drop(guard);
        out.deliver_so_far();
        self.limbo.slot_slowly()
    }

    #[cold]
    fn reject(&self, hash: KeyHash, n: u64, why: Rejected) -> Rejected {
        let tally = &self.shard(hash).tally;
        Tally::count(&tally.rejections, 1);
        Tally::count(&tally.rejected, n.min(MAX_COUNT));
        why
    }

    /// A published entry goes to its shard's lists, by way of the arrivals.
    fn settle(&self, entry: Ref<'_, K>, guard: &Guard) {
        let shard = self.shard(entry.hash());
        shard.roster.arrive(entry);
        let nth = Tally::count(&shard.tally.admitted, 1);
        if nth.is_multiple_of(SETTLE_EVERY) {
            self.own_lists(shard, guard, |_| ());
        }
    }

    fn room(
        &self,
        hash: KeyHash,
        time: Time<'_>,
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) -> Result<Room<'_>, Rejected> {
        let idle = match time {
            Some(_) => self.expire_some(hash, IDLE_BUCKETS, time, guard, out),
            None => None,
        };
        if let Some(permit) = idle.or_else(|| self.live.acquire()) {
            return Ok(Room { permit, known: None });
        }
        if self.at_capacity == AtCapacity::Reject {
            return Err(Rejected::Capacity);
        }
        let (mut known, mut earlier) = (None, None);
        loop {
            let begun = self.turnover();
            let permit = self.evict(hash, &mut known, time, guard, out);
            if let Some(permit) = permit.or_else(|| self.live.acquire()) {
                return Ok(Room { permit, known });
            }
            // Others may have evicted ahead of this pass and admitted behind it. So again, until
            // nobody did either during two passes: then no entry is visible. Lock-free.
            if earlier == Some(self.turnover()) {
                return Err(Rejected::Capacity);
            }
            earlier = Some(begun);
        }
    }

    /// Changes with each admission and with each life that ends.
    fn turnover(&self) -> u64 {
        let shards = self.shards.iter().map(|shard| shard.tally.turnover());
        shards.fold(0, u64::wrapping_add)
    }

    /// Evicts from the newcomer's own shard, else from the next ones, else from a sample of the
    /// index. `known` becomes what the ghost knows of the newcomer, which it is asked once.
    fn evict(
        &self,
        hash: KeyHash,
        known: &mut Option<bool>,
        time: Time<'_>,
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) -> Option<Permit<'_>> {
        let own = hash.top(self.shard_bits);
        for i in 0..SHARDS_TRIED.min(self.shards.len()) {
            let shard = &self.shards[(own + i) % self.shards.len()];
            let victim = self.own_lists(shard, guard, |lists| {
                let population = lists.probation_len() + lists.main_len();
                if i == 0 && known.is_none() {
                    *known = Some(lists.policy.recall(hash, Some(population)));
                }
                lists.make_room(time, guard)
            });
            if let Some(sealed) = victim.flatten() {
                return Some(self.succeed(sealed, guard, out));
            }
        }
        let sealed = self.sample(hash, time, guard)?;
        Some(self.succeed(sealed, guard, out))
    }

    /// A victim without anybody's lists: the lowest count of a few live entries, from the
    /// newcomer's bucket on.
    ///
    /// Goes round all buckets if it must, so that it finds a victim, unless it is overtaken all the
    /// way.
    #[cold]
    fn sample<'g>(&self, hash: KeyHash, time: Time<'_>, guard: &'g Guard) -> Option<Sealed<'g, K>> {
        let start = self.index.bucket_of(hash);
        let buckets = (0..self.index.len()).map(|i| (start + i) % self.index.len());
        let mut entries = buckets.flat_map(|bucket| self.index.walk(bucket, guard)).peekable();
        while entries.peek().is_some() {
            let live = entries.by_ref().filter_map(|entry| {
                let seen = entry.cell().look();
                (!seen.is_ended()).then_some((entry, seen))
            });
            let mut batch: Vec<_> = live.take(SAMPLE).collect();
            batch.sort_by_key(|(_, seen)| seen.units());
            for &(entry, seen) in &batch {
                let cause = if is_idle(&entry, time) { Cause::Idle } else { Cause::Capacity };
                if let Ok(units) = entry.cell().seal_if(seen, cause) {
                    return Some(sealed(entry, units, cause));
                }
            }
            // All are in use right now: then use does not save them.
            for (entry, _) in batch {
                if let Some(units) = entry.cell().seal(Cause::Capacity) {
                    return Some(sealed(entry, units, Cause::Capacity));
                }
            }
        }
        None
    }
}
