//! Who pays for expiry: every kind of traffic, in bounded steps.
//!
//! Each shard has an *idle hand* that goes round the buckets of the whole store, beginning with its
//! own: traffic on a single key finds idle lives everywhere, and shards do not share a cache line
//! for it. It needs no list: sealing needs no ownership, and the policy's order is not disturbed.
//! It is moved by every admission, by a hit that refreshes its entry's tick, and by the first
//! reader of each tick and shard; a step is a few buckets.

use crate::budget::Permit;
use crate::engine::Engine;
use crate::hash::KeyHash;
use crate::reclaim::{Guard, pin};
use crate::removal::Removals;
use crate::sweep::Time;
use crate::sync::Ordering;

/// Buckets that an admission, or a hit that moved its tick, looks into for idle entries.
pub(crate) const IDLE_BUCKETS: usize = 8;
/// The same for the first reader of a tick and shard.
const READER_BUCKETS: usize = 32;

impl<K: Send + Sync + 'static> Engine<K> {
    /// Looks into a few buckets for idle entries and ends them; a permit if it ended one.
    #[cold]
    pub(crate) fn expire_some(
        &self,
        hash: KeyHash,
        buckets: usize,
        time: Time<'_>,
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) -> Option<Permit<'_>> {
        let shard = hash.top(self.shard_bits);
        let all = self.index.len();
        let first = shard * (all >> self.shard_bits);
        let hand = self.shards[shard].idle_hand.fetch_add(buckets, Ordering::Relaxed);
        let mut permit = None;
        for step in 0..buckets.min(all) {
            let bucket = first.wrapping_add(hand).wrapping_add(step) % all;
            for entry in self.index.walk(bucket, guard) {
                if let Some(sealed) = self.seal_if_idle(entry, time) {
                    permit = Some(self.succeed(sealed, guard, out));
                }
            }
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

    /// A handle's hit that moved the tick pays for expiry as any other.
    #[cold]
    pub(crate) fn pay_for_handle(&self, hash: KeyHash, time: Time<'_>, out: &mut Removals<'_, K>) {
        let guard = pin();
        self.expire_some(hash, IDLE_BUCKETS, time, &guard, out);
    }
}
