//! Admission: room for a new key, from a free permit, an idle life or an eviction.
//!
//! Mostly in one go, as the owner of the key's shard: memory, room, publication, a place in the
//! lists, and the end of the victim. Where the shard is taken, or something is missing, step by
//! step: a slot, memory, room, publication; the entry comes to the lists by way of the arrivals.
//! What was taken and is not used goes back by being dropped, also when the user's `Eq` panics in
//! between.

use std::hash::Hash;

use crate::budget::Permit;
use crate::cell::{Amount, Cause, MAX_COUNT, State};
use crate::clock_list::Lists;
use crate::engine::{AtCapacity, Engine, Missed, Touch};
use crate::entry::{CORE, Entry, Load, Place, Ref, SHARD, Sealed};
use crate::error::Rejected;
use crate::hash::KeyHash;
use crate::index::{Found, Head};
use crate::limbo::Slot;
use crate::reclaim::{Guard, pin};
use crate::removal::Removals;
use crate::shard::{Shard, Tally};
use crate::spare::{Batch, OldKey};
use crate::sweep::{Time, is_idle};
use crate::sync::Ordering;

/// Shards whose lists an eviction tries to take before it samples the index.
const SHARDS_TRIED: usize = 4;
/// A shard that has less than its share by this part of it takes room from larger ones.
const TOLERANCE: usize = 16;
/// Shards among which it looks for a larger one.
const LOOKED_AT: usize = 8;
/// Live entries among which a sample picks the one with the lowest count.
const SAMPLE: usize = 5;
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

/// What an admission has so far; has a key or an entry.
struct Kit<'a, K> {
    key: Option<K>,
    slot: Option<Slot<'a, K>>,
    fresh: Option<Fresh<'a, K>>,
    room: Option<Room<'a>>,
    /// What the ghost knows of the key, once it was asked.
    known: Option<bool>,
    /// Of the entry whose memory is used again; dropped when all is done.
    old_key: Option<OldKey<K>>,
}

impl<K: Send + Sync + 'static> Engine<K> {
    /// Counts `n` under a key that was not found, and calls `bind` with its entry and whether that is
    /// new: else only the first lane was counted.
    ///
    /// The caller is not pinned, so the key is dropped outside pins where it is not needed.
    pub(crate) fn admit<R>(
        &self,
        hash: KeyHash,
        key: K,
        n: Load<'_>,
        out: &mut Removals<'_, K>,
        bind: impl FnOnce(Ref<'_, K>, bool) -> R,
    ) -> Result<(u64, R), Rejected>
    where
        K: Hash + Eq,
    {
        let guard = pin();
        let Found { first, head } = self.index.find(hash, &key, &guard);
        let is_room = first.is_none_or(|entry| matches!(entry.read(), State::Ended(..)));
        let missed = Missed(is_room.then_some(head));
        self.admit_missed(hash, key, n, (missed, guard), out, bind)
    }

    /// As [`admit`](Self::admit), where the search was made under the guard that is handed over.
    pub(crate) fn admit_missed<R>(
        &self,
        hash: KeyHash,
        key: K,
        n: Load<'_>,
        (missed, guard): (Missed<K>, Guard),
        out: &mut Removals<'_, K>,
        bind: impl FnOnce(Ref<'_, K>, bool) -> R,
    ) -> Result<(u64, R), Rejected>
    where
        K: Hash + Eq,
    {
        let key = Some(key);
        let mut kit = Kit { key, slot: None, fresh: None, room: None, known: None, old_key: None };
        if let Missed(Some(head)) = missed
            && let Some(entry) = self.admit_owned(hash, n, head, &mut kit, &guard, out)
        {
            let bound = bind(entry, true);
            drop(guard);
            self.limbo.give_way(hash);
            return Ok((n.first.units.min(MAX_COUNT), bound));
        }
        drop(guard);
        let admitted = self.admit_stepwise(hash, n, kit, out, bind);
        self.limbo.give_way(hash);
        admitted
    }

    /// All in one go, as the owner of the shard; `None` where that cannot be, and then the kit has
    /// what was taken.
    fn admit_owned<'a, 'g>(
        &'a self,
        hash: KeyHash,
        n: Load<'_>,
        head: Head<K>,
        kit: &mut Kit<'a, K>,
        guard: &'g Guard,
        out: &mut Removals<'_, K>,
    ) -> Option<Ref<'g, K>> {
        let time = self.time();
        let idle = match time {
            Some(_) => self.expire_some(hash, time, guard, out),
            None => None,
        };
        kit.room = idle.or_else(|| self.live.acquire()).map(|permit| Room { permit, known: None });
        let shard = self.shard(hash);
        if kit.room.is_none() {
            if self.at_capacity == AtCapacity::Reject {
                return None;
            }
            self.room_from_larger(shard, kit, time, guard, out);
        }
        let admitted = self.own_lists(shard, guard, |lists| {
            // Asked in `make_room`.
            lists.policy.prefetch(hash);
            let of_owner = || self.limbo.slot_of_owner(shard.number, &mut lists.spares);
            // In the kit: where there is no victim it may be dropped, and a key with it.
            kit.slot = kit.slot.take().or_else(of_owner);
            kit.slot.as_ref()?;
            let victim = match kit.room {
                Some(_) => None,
                None => Some(self.make_room(hash, lists, kit, time, guard)?),
            };
            let slot = kit.slot.take()?;
            Tally::count_owned(&shard.owned.begun);
            let entry = self.publish(hash, n, head, slot, kit, guard);
            if let Some(entry) = entry {
                Tally::count_owned(&shard.owned.admitted);
                lists.settle(entry);
            }
            if let Some(victim) = victim {
                self.bury_victim(shard, victim, lists, guard, out);
                self.prefetch_next(lists);
            }
            entry
        });
        admitted.flatten()
    }

    /// Asks for the memory that the shard's next eviction will want: it is not in use, so it is in
    /// nobody's cache.
    fn prefetch_next(&self, lists: &Lists<K>) {
        for place in [Place::Probation, Place::Main] {
            if let Some(next) = lists.next_oldest(place) {
                let hash = next.hash();
                self.index.prefetch(hash);
                self.ledger.prefetch(self.index.bucket_of(hash));
                lists.policy.prefetch(hash);
            }
        }
        lists.spares.prefetch();
    }

    /// A victim from a shard that has more than its share, if this one has less. Shares drift where
    /// owners are preempted: others then evict elsewhere, and admit here.
    fn room_from_larger<'a>(
        &'a self,
        shard: &Shard<K>,
        kit: &mut Kit<'a, K>,
        time: Time<'_>,
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) {
        let population = |shard: &Shard<K>| shard.population.load(Ordering::Relaxed);
        let share = self.share;
        if population(shard) + share / TOLERANCE >= share {
            return;
        }
        let shards = self.shards.iter().cycle().skip(shard.number + 1);
        let shards = shards.take(LOOKED_AT.min(self.shards.len() - 1));
        let larger = shards.map(|shard| &**shard).find(|shard| population(shard) > share);
        let Some(larger) = larger else { return };
        // Before anybody is evicted for it.
        kit.slot = self.limbo.slot_now(shard.number);
        if kit.slot.is_none() {
            return;
        }
        self.own_lists(larger, guard, |lists| {
            if let Some(victim) = lists.make_room(time, guard) {
                kit.room = Some(Room { permit: self.live.of_sealed(), known: None });
                self.bury_victim(larger, victim, lists, guard, out);
            }
        });
    }

    /// A victim from the lists; its permit goes to the kit.
    fn make_room<'a, 'g>(
        &'a self,
        hash: KeyHash,
        lists: &mut Lists<K>,
        kit: &mut Kit<'a, K>,
        time: Time<'_>,
        guard: &'g Guard,
    ) -> Option<Sealed<'g, K>> {
        let population = lists.probation_len() + lists.main_len();
        let known = lists.policy.recall(hash, Some(population));
        kit.known = Some(known);
        let victim = lists.make_room(time, guard)?;
        kit.room = Some(Room { permit: self.live.of_sealed(), known: Some(known) });
        Some(victim)
    }

    /// Makes an entry of the kit's key and publishes it, if nothing came into its chain since
    /// `head`; else the kit has the entry.
    fn publish<'a, 'g>(
        &'a self,
        hash: KeyHash,
        n: Load<'_>,
        head: Head<K>,
        mut slot: Slot<'a, K>,
        kit: &mut Kit<'a, K>,
        guard: &'g Guard,
    ) -> Option<Ref<'g, K>> {
        let (key, room) = (kit.key.take()?, kit.room.take()?);
        let extra = self.extra();
        let (blank, old_key) = slot.memory();
        kit.old_key = old_key;
        let mut entry = Box::write(blank, Entry::new(hash, key, extra, self.holds()));
        self.begin(&mut entry, n, room.known);
        match self.index.insert(entry, head, guard) {
            Ok(entry) => {
                slot.attach();
                room.permit.attach();
                Some(entry)
            }
            Err(entry) => {
                kit.fresh = Some(Fresh { entry, slot });
                kit.room = Some(room);
                None
            }
        }
    }

    /// What the life begins with.
    #[inline]
    fn begin(&self, entry: &mut Entry<K>, n: Load<'_>, known: Option<bool>) {
        // The clock again: making room may have taken long.
        let time = self.time();
        entry.prepare(n.first, Self::tick(time), known);
        if self.has_extra {
            entry.begin(n.others, self.built.and(time).map(|(_, now)| now));
        }
    }

    /// Whoever may find a new entry: see `entry`.
    fn holds(&self) -> u64 {
        if self.listener.is_some() { CORE } else { SHARD }
    }

    fn bury_victim<'g>(
        &self,
        shard: &Shard<K>,
        victim: Sealed<'g, K>,
        lists: &mut Lists<K>,
        guard: &'g Guard,
        out: &mut Removals<'_, K>,
    ) {
        let (entry, units, cause) = (victim.entry, victim.units(), victim.cause());
        if self.listener.is_some() {
            // SAFETY: only the sealer has the report's hold.
            unsafe { out.push(entry, units, cause) };
        }
        Tally::count_owned(&shard.owned.ended[cause.index()]);
        self.bury_owned(lists, entry, units, cause, guard);
    }

    /// Step by step: others may own the shard all the while.
    #[cold]
    fn admit_stepwise<R>(
        &self,
        hash: KeyHash,
        n: Load<'_>,
        kit: Kit<'_, K>,
        out: &mut Removals<'_, K>,
        bind: impl FnOnce(Ref<'_, K>, bool) -> R,
    ) -> Result<(u64, R), Rejected>
    where
        K: Hash + Eq,
    {
        // The first of all locals: dropped when nothing else is held.
        let mut old_key = kit.old_key;
        let Kit { key, slot, fresh, mut room, mut known, .. } = kit;
        if self.at_capacity == AtCapacity::Reject
            && room.is_none()
            && let Some(new) = &key
        {
            // Before anything is made for it: a full store is to reject at little cost.
            let guard = pin();
            match self.room(hash, &mut known, self.time(), &guard, out) {
                Ok(taken) => room = Some(taken),
                Err(why) if !self.is_visible(hash, new, &guard) => {
                    drop(guard);
                    drop(key);
                    return Err(self.reject(hash, n.first, why));
                }
                Err(_) => {}
            }
        }
        let fresh = fresh.or_else(|| {
            let key = key?;
            let mut slot = slot.or_else(|| {
                // A listener may run, and may want the permit.
                drop(room.take());
                self.slot(hash, &key, out)
            })?;
            let extra = self.extra();
            let (blank, old) = slot.memory();
            old_key = old;
            let entry = Box::write(blank, Entry::new(hash, key, extra, self.holds()));
            Some(Fresh { entry, slot })
        });
        let Some(mut fresh) = fresh else {
            return Err(self.reject(hash, n.first, Rejected::Memory));
        };
        loop {
            let guard = pin();
            let time = self.time();
            let Found { first, head } = self.index.find(hash, fresh.entry.key(), &guard);
            if let Some(entry) = first {
                match self.touch(&entry, n.first, time).0 {
                    Touch::Counted(count) => {
                        let bound = bind(entry, false);
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
                    // Its stripes are sealed before the next life begins.
                    Touch::Ended => _ = entry.read(),
                }
            }
            let taken = match room.take() {
                Some(room) => room,
                None => match self.room(hash, &mut known, time, &guard, out) {
                    Ok(room) => room,
                    // It may be this key that has taken the last place.
                    Err(_) if self.is_visible(hash, fresh.entry.key(), &guard) => continue,
                    Err(why) => {
                        // The key goes first: its `Drop` may panic, and then nothing was counted.
                        drop(guard);
                        drop(fresh);
                        return Err(self.reject(hash, n.first, why));
                    }
                },
            };
            self.begin(&mut fresh.entry, n, taken.known);
            Tally::count(&self.shard(hash).tally.begun);
            match self.index.insert(fresh.entry, head, &guard) {
                Ok(entry) => {
                    fresh.slot.attach();
                    taken.permit.attach();
                    let bound = bind(entry, true);
                    self.settle(entry, &guard);
                    return Ok((n.first.units.min(MAX_COUNT), bound));
                }
                Err(entry) => {
                    fresh.entry = entry;
                    room = Some(taken);
                }
            }
        }
    }

    /// Whether a life of the key has begun and not ended.
    fn is_visible(&self, hash: KeyHash, key: &K, guard: &Guard) -> bool
    where
        K: Hash + Eq,
    {
        let first = self.index.find(hash, key, guard).first;
        first.is_some_and(|entry| !entry.cell().look().is_ended())
    }

    /// A slot for a new entry. Where there is none, what keeps slots is let go of first: idle lives
    /// (the key's own, and a few others), dead entries that wait for an owner of their shard or for
    /// a full batch, and pending reports.
    fn slot(&self, hash: KeyHash, key: &K, out: &mut Removals<'_, K>) -> Option<Slot<'_, K>>
    where
        K: Hash + Eq,
    {
        if let Some(slot) = self.limbo.slot_now(hash.top(self.shard_bits)) {
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
            drop(self.expire_some(hash, time, &guard, out));
        }
        let mut spares = Batch::new();
        for shard in &self.shards {
            self.own_lists(shard, &guard, |lists| {
                lists.hand_over();
                spares.put_on(lists.take_spares());
            });
        }
        drop(guard);
        self.limbo.free_spares(spares);
        out.deliver_so_far();
        self.limbo.slot_slowly()
    }

    #[cold]
    pub(crate) fn reject(&self, hash: KeyHash, n: Amount, why: Rejected) -> Rejected {
        let shard = self.shard(hash);
        shard.count_rejection(why);
        shard.rejected(0).fetch_add(n.units.min(MAX_COUNT), Ordering::Relaxed);
        why
    }

    /// Units of a rejected call that were for another lane than the first.
    pub(crate) fn reject_units(&self, hash: KeyHash, lane: usize, units: u64) {
        self.shard(hash).rejected(lane).fetch_add(units.min(MAX_COUNT), Ordering::Relaxed);
    }

    /// A published entry goes to its shard's lists, by way of the arrivals.
    fn settle(&self, entry: Ref<'_, K>, guard: &Guard) {
        let shard = self.shard(entry.hash());
        shard.roster.arrive(entry);
        Tally::count(&shard.tally.admitted);
        self.own_lists(shard, guard, |_| ());
    }

    /// `known` becomes what the ghost knows of the newcomer, which it is asked once.
    fn room(
        &self,
        hash: KeyHash,
        known: &mut Option<bool>,
        time: Time<'_>,
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) -> Result<Room<'_>, Rejected> {
        let idle = match time {
            Some(_) => self.expire_some(hash, time, guard, out),
            None => None,
        };
        if let Some(permit) = idle.or_else(|| self.live.acquire()) {
            return Ok(Room { permit, known: *known });
        }
        if self.at_capacity == AtCapacity::Reject {
            return Err(Rejected::Capacity);
        }
        let mut earlier = None;
        loop {
            let begun = self.turnover();
            let permit = self.evict(hash, known, time, guard, out);
            if let Some(permit) = permit.or_else(|| self.live.acquire()) {
                return Ok(Room { permit, known: *known });
            }
            // Others may have evicted ahead of this pass and admitted behind it. So again, until
            // nothing of that kind was counted during two passes: then each visible entry is one
            // whose admission is still under way. Lock-free.
            if earlier == Some(self.turnover()) {
                return Err(Rejected::Capacity);
            }
            earlier = Some(begun);
        }
    }

    /// Changes with each admission and with each life that ends.
    fn turnover(&self) -> u64 {
        let shards = self.shards.iter().map(|shard| shard.turnover());
        shards.fold(0, u64::wrapping_add)
    }

    /// Evicts from the newcomer's own shard, else from the next ones, else from a sample of the
    /// index.
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
                (!seen.is_ended()).then_some((entry, seen, entry.units(seen)))
            });
            let mut batch: Vec<_> = live.take(SAMPLE).collect();
            batch.sort_by_key(|&(_, _, units)| units);
            for &(entry, seen, _) in &batch {
                let cause = if is_idle(&entry, time) { Cause::Idle } else { Cause::Capacity };
                if let Ok(units) = entry.seal_if(seen, cause) {
                    return Some(Sealed::new(entry, units, cause));
                }
            }
            // All are in use right now: then use does not save them.
            for (entry, ..) in batch {
                if let Some(units) = entry.seal(Cause::Capacity) {
                    return Some(Sealed::new(entry, units, Cause::Capacity));
                }
            }
        }
        None
    }
}
