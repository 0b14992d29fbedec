//! What goes through the whole store, a ledger's group at a time, each under a pin of its own.

use crate::cell::State;
use crate::clock_list::HEED;
use crate::engine::Engine;
use crate::entry::Ref;
use crate::ledger::Units;
use crate::reclaim::{Guard, pin};
use crate::removal::Removals;
use crate::sweep::Time;

/// How often a prune looks whether all is freed, and flushes in between. None under loom, whose models
/// flush where they need it.
const LATE: usize = if cfg!(crossbeam_loom) { 0 } else { 8 };

/// Units of one lane: live, and ended by cause.
pub(crate) type Sums = (u64, Units);

/// One reading of a group, in some lanes.
struct Picture<'g, K, const L: usize> {
    sums: [Sums; L],
    entries: Vec<(Ref<'g, K>, [u64; L])>,
}

/// `first`: what was read in the first lane.
fn in_lane<K>(entry: Ref<'_, K>, lane: usize, first: u64) -> u64 {
    if lane == 0 { first } else { entry.lane_units(lane) }
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
        for shard in &self.shards {
            // Again while there is work, unless another thread has the lists and does it; and not
            // for ever where others make more of it.
            for _ in 0..=self.limbo.exist() / HEED {
                let owned = self.own_lists(shard, &pin(), |lists| {
                    lists.hand_over();
                    (lists.has_work(), lists.take_spares())
                });
                let Some((more, spares)) = owned else { break };
                self.limbo.free_spares(spares);
                if !more && !shard.roster.has_work() {
                    break;
                }
            }
        }
        self.limbo.flush();
        self.limbo.free_all_spares();
        self.limbo.flush_all(self.waiting());
        self.limbo.free_all_spares();
        // What came to the collector last is behind its own garbage of all these flushes.
        for _ in 0..LATE {
            if self.waiting() == 0 {
                break;
            }
            (0..LATE).for_each(|_| pin().flush());
            self.limbo.free_all_spares();
        }
    }

    /// One exact reading of a group, in the given lanes; each live entry goes to `keep`, which says
    /// whether it could be kept.
    ///
    /// Lock-free: it starts again, under a new pin, only when an entry of the group was credited
    /// meanwhile.
    pub(crate) fn read_group<const L: usize>(
        &self,
        group: usize,
        lanes: [usize; L],
        out: &mut Removals<'_, K>,
        mut keep: impl FnMut(&[(Ref<'_, K>, [u64; L])]) -> bool,
    ) -> [Sums; L] {
        loop {
            let (guard, time) = (pin(), self.time());
            self.prune_group(group, time, &guard, out);
            if let Some(picture) = self.try_read_group(group, lanes, &guard)
                && keep(&picture.entries)
            {
                return picture.sums;
            }
        }
    }

    fn try_read_group<'g, const L: usize>(
        &self,
        group: usize,
        lanes: [usize; L],
        guard: &'g Guard,
    ) -> Option<Picture<'g, K, L>> {
        let reading = self.ledger.read(group, guard);
        let sums = lanes.map(|lane| (0, self.ledger.lane(group, lane, &reading)));
        let mut picture = Picture { sums, entries: Vec::new() };
        for bucket in self.ledger.buckets_of(group) {
            for entry in self.index.walk(bucket, guard) {
                // A life that ends after its first lane was read shows final counts in the others. If
                // it is credited too before the reading is over, the reading starts again.
                let state = entry.read();
                let units = |first| lanes.map(|lane| in_lane(entry, lane, first));
                match state {
                    State::Live(first) => {
                        let counts = units(first);
                        for ((live, _), count) in picture.sums.iter_mut().zip(counts) {
                            *live = live.wrapping_add(count);
                        }
                        picture.entries.push((entry, counts));
                    }
                    State::Ended(cause, first) if !reading.has(entry) => {
                        for ((_, ended), count) in picture.sums.iter_mut().zip(units(first)) {
                            let ended = &mut ended[cause.index()];
                            *ended = ended.wrapping_add(count);
                        }
                    }
                    State::Ended(..) => {}
                }
            }
        }
        self.ledger.unchanged(group, &reading).then_some(picture)
    }
}
