//! Who pays for expiry: every kind of traffic, in bounded steps.
//!
//! Each shard has an *idle hand* that goes round the buckets of the whole store, beginning with its
//! own: traffic on a single key finds idle lives everywhere, and shards do not share a cache line
//! for it. It needs no list: sealing needs no ownership, and the policy's order is not disturbed.
//! It is moved by every admission, by a hit that refreshes its entry's tick, and by the first
//! reader of each tick and shard; a step is a few buckets.
//!
//! A hand remembers the oldest tick of last use that it met on its last round. As long as a life of
//! that age would not be idle, none is, and the hand rests. (Two steps at once may overlook a tick
//! between them. Then the lives of a few buckets are found one round later, unless somebody asks
//! for them: reads and increments look at the entry itself.)

use crate::budget::Permit;
use crate::engine::Engine;
use crate::hash::KeyHash;
use crate::reclaim::{Guard, pin};
use crate::removal::Removals;
use crate::sweep::Time;
use crate::sync::Ordering;
use crate::tick::{Now, Timer};

/// Buckets that an admission, or a hit that moved its tick, looks into for idle entries.
pub(crate) const IDLE_BUCKETS: usize = 8;
/// The same for the first reader of a tick and shard.
const READER_BUCKETS: usize = 32;

impl<K: Send + Sync + 'static> Engine<K> {
    /// Looks into a few buckets for idle entries and ends them, unless there can be none; a permit if
    /// it ended one.
    #[inline]
    pub(crate) fn expire_some(
        &self,
        hash: KeyHash,
        buckets: usize,
        time: Time<'_>,
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) -> Option<Permit<'_>> {
        let (timer, now) = time?;
        let oldest = self.shard(hash).oldest.load(Ordering::Relaxed);
        if timer.expired(oldest, now) {
            self.move_idle_hand(hash, buckets, (timer, now), guard, out)
        } else {
            None
        }
    }

    #[cold]
    fn move_idle_hand(
        &self,
        hash: KeyHash,
        buckets: usize,
        (timer, now): (&Timer, Now),
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) -> Option<Permit<'_>> {
        let number = hash.top(self.shard_bits);
        let shard = &self.shards[number];
        let all = self.index.len();
        let buckets = buckets.min(all);
        let first = number * (all >> self.shard_bits);
        let hand = shard.idle_hand.fetch_add(buckets, Ordering::Relaxed);
        let mut permit = None;
        let mut oldest = u64::MAX;
        for step in 0..buckets {
            let bucket = first.wrapping_add(hand).wrapping_add(step) % all;
            for entry in self.index.walk(bucket, guard) {
                match self.seal_if_idle(entry, Some((timer, now))) {
                    Some(sealed) => permit = Some(self.succeed(sealed, guard, out)),
                    None => oldest = oldest.min(entry.tick().load(Ordering::Relaxed)),
                }
            }
        }
        shard.oldest_met.fetch_min(oldest, Ordering::Relaxed);
        if hand % all + buckets >= all {
            // What comes in from now on has this tick or a later one.
            let met = shard.oldest_met.swap(timer.tick(now), Ordering::Relaxed);
            shard.oldest.store(met, Ordering::Relaxed);
        }
        permit
    }

    /// Readers pay for expiry too: the first of each tick and shard.
    #[inline]
    pub(crate) fn pay_for_expiry(
        &self,
        hash: KeyHash,
        time: Time<'_>,
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) {
        let Some((timer, now)) = time else { return };
        let paid = &self.shard(hash).paid_tick;
        let tick = timer.tick(now);
        if paid.load(Ordering::Relaxed) != tick {
            paid.store(tick, Ordering::Relaxed);
            self.expire_some(hash, READER_BUCKETS, time, guard, out);
        }
    }

    /// A hit that moved its entry's tick pays for expiry. The caller is not pinned.
    #[cold]
    pub(crate) fn pay(&self, hash: KeyHash) {
        let mut out = Removals::new(self);
        {
            let guard = pin();
            self.expire_some(hash, IDLE_BUCKETS, self.time(), &guard, &mut out);
        }
        out.deliver();
    }
}
