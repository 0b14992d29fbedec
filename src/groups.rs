//! What goes through the whole store, a ledger's group at a time, each under a pin of its own.

use crate::cell::State;
use crate::clock_list::HEED;
use crate::engine::Engine;
use crate::entry::Ref;
use crate::ledger::Units;
use crate::reclaim::{Guard, pin};
use crate::removal::Removals;
use crate::sweep::Time;

/// One reading of a group.
struct Picture<'g, K> {
    live: u64,
    ended: Units,
    entries: Vec<(Ref<'g, K>, u64)>,
}

impl<K: Send + Sync + 'static> Engine<K> {
    pub(crate) fn groups(&self) -> usize {
        self.ledger.groups()
    }

    /// Ends all lives of a group.
    pub(crate) fn clear_group(&self, group: usize, out: &mut Removals<'_, K>) {
        let (guard, time) = (pin(), self.time());
        for bucket in self.ledger.buckets_of(group) {
            for entry in self.index.walk(bucket, &guard) {
                if let Some(sealed) = self.seal_anyway(entry, time) {
                    self.end(sealed, &guard, out);
                }
            }
        }
    }

    /// Ends the idle lives of a group; how many.
    pub(crate) fn prune_group(
        &self,
        group: usize,
        time: Time<'_>,
        guard: &Guard,
        out: &mut Removals<'_, K>,
    ) -> usize {
        if time.is_none() {
            return 0;
        }
        let mut ended = 0;
        for bucket in self.ledger.buckets_of(group) {
            for entry in self.index.walk(bucket, guard) {
                if let Some(sealed) = self.seal_if_idle(entry, time) {
                    self.end(sealed, guard, out);
                    ended += 1;
                }
            }
        }
        ended
    }

    /// Puts arrivals in, clears dead entries away, and frees what can be freed.
    pub(crate) fn tidy(&self) {
        let guard = pin();
        for shard in &self.shards {
            // Again while there is work, unless another thread has the lists and does it; and not
            // for ever where others make more of it.
            for _ in 0..=self.limbo.exist() / HEED {
                let more = self.own_lists(shard, &guard, |lists| {
                    lists.hand_over();
                    lists.has_work()
                });
                let Some(more) = more else { break };
                if !more && !shard.roster.has_work() {
                    break;
                }
            }
        }
        drop(guard);
        self.limbo.flush();
        self.limbo.flush_all(self.waiting());
    }

    /// One exact reading of a group: units that are live, and that have ended by cause; each live
    /// entry goes to `keep`, which says whether it could be kept.
    ///
    /// Lock-free: it starts again, under a new pin, only when an entry of the group was credited
    /// meanwhile.
    pub(crate) fn read_group(
        &self,
        group: usize,
        out: &mut Removals<'_, K>,
        mut keep: impl FnMut(&[(Ref<'_, K>, u64)]) -> bool,
    ) -> (u64, Units) {
        loop {
            let (guard, time) = (pin(), self.time());
            self.prune_group(group, time, &guard, out);
            if let Some(picture) = self.try_read_group(group, &guard)
                && keep(&picture.entries)
            {
                return (picture.live, picture.ended);
            }
        }
    }

    fn try_read_group<'g>(&self, group: usize, guard: &'g Guard) -> Option<Picture<'g, K>> {
        let reading = self.ledger.read(group, guard);
        let mut picture = Picture { live: 0, ended: reading.units, entries: Vec::new() };
        for bucket in self.ledger.buckets_of(group) {
            for entry in self.index.walk(bucket, guard) {
                match entry.read() {
                    State::Live(count) => {
                        picture.live = picture.live.wrapping_add(count);
                        picture.entries.push((entry, count));
                    }
                    State::Ended(cause, count) if !reading.has(entry) => {
                        let ended = &mut picture.ended[cause.index()];
                        *ended = ended.wrapping_add(count);
                    }
                    State::Ended(..) => {}
                }
            }
        }
        self.ledger.unchanged(group, &reading).then_some(picture)
    }
}
