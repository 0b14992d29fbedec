//! Who pays for expiry: every kind of traffic, in bounded steps.
//!
//! Each shard has an *idle hand* that goes round the buckets of the whole store, beginning with its
//! own: traffic on a single key finds idle lives everywhere, and shards do not share a cache line
//! for it. It needs no list: sealing needs no ownership, and the policy's order is not disturbed.
//! It is moved by every admission, by a hit that refreshes its entry's tick, and by the first
//! reader of each tick and shard; a step is a few buckets.
//!
//! A hand remembers the oldest tick of last use that it met on its last round. As long as a life of
//! that age would not be idle, none is, and the hand rests; but at most for an eighth of the TTL,
//! since steps at once may overlook a tick between them. (Reads and increments look at the entry
//! itself.)

use crate::budget::Permit;
use crate::engine::Engine;
use crate::hash::KeyHash;
use crate::reclaim::{Guard, pin};
use crate::removal::Removals;
use crate::sweep::Time;
use crate::sync::Ordering;
use crate::tick::{Now, Timer};

/// Buckets a step, of which an admission and a hit that moved its tick make one; a power of two.
const IDLE_BUCKETS: usize = 8;
/// Steps of the first reader of a tick and shard.
const READER_STEPS: usize = 4;

impl<K: Send + Sync + 'static> Engine<K> {
    /// Looks into a few buckets for idle entries and ends them, unless there can be none; a permit if
    /// it ended one.
    #[inline]
    pub(crate) fn expire_some(
        &self,
        hash: KeyHash,
        time: Time<'_>,
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) -> Option<Permit<'_>> {
        let time = time.filter(|&time| self.is_due(hash, time))?;
        self.move_idle_hand(hash, time, guard, out)
    }

    /// Whether there may be idle lives, as far as the shard's hand knows.
    #[inline]
    fn is_due(&self, hash: KeyHash, (timer, now): (&Timer, Now)) -> bool {
        let oldest = self.shard(hash).oldest.load(Ordering::Relaxed);
        // A clock that was set back makes entries that are older than what the hand has met.
        timer.expired(oldest, now) || timer.tick(now) < oldest
    }

    #[cold]
    fn move_idle_hand(
        &self,
        hash: KeyHash,
        (timer, now): (&Timer, Now),
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) -> Option<Permit<'_>> {
        let number = hash.top(self.shard_bits);
        let shard = &self.shards[number];
        let all = self.index.len();
        let buckets = IDLE_BUCKETS.min(all);
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
        // Of both: this step may be later than the end of its round.
        shard.oldest_met.fetch_min(oldest, Ordering::Relaxed);
        shard.oldest.fetch_min(oldest, Ordering::Relaxed);
        // All steps have one size, and it divides the round.
        if hand % all + buckets == all {
            // What comes in from now on has this tick or a later one.
            let met = shard.oldest_met.swap(timer.tick(now), Ordering::Relaxed);
            // What steps at once overlook is found an eighth of a TTL later.
            shard.oldest.store(met.min(timer.long_ago(now)), Ordering::Relaxed);
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
            for _ in 0..READER_STEPS {
                self.expire_some(hash, time, guard, out);
            }
        }
    }

    /// A hit that moved its entry's tick pays for expiry. Best called while not pinned:
    /// it delivers.
    #[cold]
    pub(crate) fn pay(&self, hash: KeyHash) {
        // Mostly nothing is: then this takes no pin.
        let Some(time) = self.time().filter(|&time| self.is_due(hash, time)) else { return };
        let mut out = Removals::new(self);
        self.move_idle_hand(hash, time, &pin(), &mut out);
        out.deliver();
    }
}
