//! What has ended, by cause: exact at every instant, without any global agreement.
//!
//! Buckets are gathered in groups, each within one shard. A group has two copies of its totals, and
//! a *head* that says which one holds:
//!
//! - `Settled(version)`: the copy of the version's parity;
//! - an entry that is *being credited*: the other copy, which includes the entry's own units.
//!
//! Only the owner of the shard credits. It writes the copy that is out of use, and makes the entry
//! the head: at that instant its units move from the chain to the totals. Then it unlinks the entry
//! and settles the head with the next version. If it is stopped in between, readers know from the
//! head which of the sealed entries in the chain is counted already; nobody waits.
//!
//! An entry whose sealer, or the owner after it, is stopped before the credit stays in its chain,
//! sealed, and readers count it from there.
//!
//! # Reading a group exactly
//!
//! Take the head and its totals; walk the chains, counting live entries, and ended ones that are
//! not the head; take the head again. If it is the same, no credit went through in between, so each
//! unit was counted once. A head never comes back: a `Settled` has a version of its own, and an
//! entry's memory is not used again while the reader is pinned.
//!
//! # Orderings
//!
//! A sequence lock with the head as the sequence, and one writer at a time: owners of a shard are
//! ordered by its exchange, so the owner's own loads are Relaxed.
//!
//! - The entry becomes the head Release, and pairs with the Acquire load of readers: they see the
//!   copy that it stands for, and the seal.
//! - The head is settled Release after the entry was unlinked: who sees it settled does not meet
//!   the entry in its chain any more.
//! - A copy is stored Release after the head that took it out of use. A reader loads it Relaxed and
//!   then has an Acquire fence before it loads the head again: had it seen one of the new values,
//!   it would see the head changed. So with the unlinked chain: its links are stored Release.

use std::ptr;

use crate::cell::Cause;
use crate::clock_list::Pen;
use crate::entry::{Entry, Ref};
use crate::reclaim::Guard;
use crate::sync::{AtomicPtr, AtomicU64, Ordering, fence, prefetch};

/// Buckets a group, at most.
const GROUP: usize = 64;

/// Units that have ended, by cause.
pub(crate) type Units = [u64; 3];

type Copies = [[AtomicU64; 3]; 2];

/// One cache line.
#[repr(align(64))]
struct Group<K> {
    head: AtomicPtr<Entry<K>>,
    copies: Copies,
}

pub(crate) struct Ledger<K> {
    groups: Box<[Group<K>]>,
    /// Of the lanes after the first, group by group.
    lanes: Box<[Copies]>,
    /// Buckets a group.
    size: usize,
}

/// A group's totals, and the head they came from.
pub(crate) struct Reading<K> {
    head: *mut Entry<K>,
    pub(crate) units: Units,
}

/// Entries are aligned, so bit 0 tells a version from a pointer.
fn settled<K>(version: usize) -> *mut Entry<K> {
    ptr::without_provenance_mut(version << 1 | 1)
}

/// Bit 1 beside a pointer says which copy holds, as the lowest bit of a version does.
fn crediting<K>(entry: *mut Entry<K>, copy: usize) -> *mut Entry<K> {
    entry.map_addr(|addr| addr | copy << 1)
}

fn version<K>(head: *mut Entry<K>) -> usize {
    head.addr() >> 1
}

fn copy_of<K>(head: *mut Entry<K>) -> usize {
    head.addr() >> 1 & 1
}

/// Writes the copy that is out of use.
#[inline(always)]
fn write(copies: &Copies, (old, new): (usize, usize), cause: Cause, units: u64) {
    let mut credit = Units::default();
    credit[cause.index()] = units;
    for ((new, old), units) in copies[new].iter().zip(&copies[old]).zip(credit) {
        new.store(old.load(Ordering::Relaxed).wrapping_add(units), Ordering::Release);
    }
}

fn load(copy: &[AtomicU64; 3]) -> Units {
    // Relaxed: `unchanged` says whether this was torn.
    [0, 1, 2].map(|i| copy[i].load(Ordering::Relaxed))
}

impl<K> Ledger<K> {
    /// For `buckets` of which each shard has `share`; both are powers of two. `lanes`: those after
    /// the first.
    pub(crate) fn new(buckets: usize, share: usize, lanes: usize) -> Self {
        let size = share.clamp(1, GROUP);
        let groups = buckets.div_ceil(size);
        let group = || Group { head: AtomicPtr::new(settled(0)), copies: Default::default() };
        Self {
            groups: (0..groups).map(|_| group()).collect(),
            lanes: (0..groups * lanes).map(|_| Copies::default()).collect(),
            size,
        }
    }

    /// The copies of the lanes after the first.
    fn lanes(&self, group: usize) -> &[Copies] {
        let lanes = self.lanes.len() / self.groups.len();
        &self.lanes[group * lanes..][..lanes]
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn buckets_of(&self, group: usize) -> std::ops::Range<usize> {
        group * self.size..(group + 1) * self.size
    }

    /// Credits an ended entry to the group of its bucket; `unlink` takes it out of its chain. The
    /// pen is that of the bucket's shard. `units`: of the first lane; those of the others are read
    /// from the entry.
    pub(crate) fn credit(
        &self,
        bucket: usize,
        entry: Ref<'_, K>,
        (cause, units): (Cause, u64),
        pen: &mut Pen,
        unlink: impl FnOnce(&mut Pen),
    ) {
        let group = bucket / self.size;
        let Group { head, copies } = &self.groups[group];
        // Relaxed: the pen's owners are ordered.
        let version = version(head.load(Ordering::Relaxed));
        let (old, new) = (version & 1, !version & 1);
        write(copies, (old, new), cause, units);
        if !self.lanes.is_empty() {
            self.write_lanes(group, (old, new), cause, entry);
        }
        head.store(crediting(entry.as_ptr(), new), Ordering::Release);
        unlink(pen);
        head.store(settled(version + 1), Ordering::Release);
    }

    #[cold]
    fn write_lanes(&self, group: usize, which: (usize, usize), cause: Cause, entry: Ref<'_, K>) {
        for (lane, copies) in (1..).zip(self.lanes(group)) {
            write(copies, which, cause, entry.lane_units(lane));
        }
    }

    /// Asks for the group of a bucket.
    #[inline]
    pub(crate) fn prefetch(&self, bucket: usize) {
        prefetch(&self.groups[bucket / self.size]);
    }

    /// The caller stays pinned until it has asked whether it is [`unchanged`](Self::unchanged).
    pub(crate) fn read(&self, group: usize, _guard: &Guard) -> Reading<K> {
        let group = &self.groups[group];
        let head = group.head.load(Ordering::Acquire);
        Reading { head, units: load(&group.copies[copy_of(head)]) }
    }

    /// What has ended in a lane, as of a reading of the group.
    pub(crate) fn lane(&self, group: usize, lane: usize, reading: &Reading<K>) -> Units {
        match lane {
            0 => reading.units,
            _ => load(&self.lanes(group)[lane - 1][copy_of(reading.head)]),
        }
    }

    /// Whether no credit went through since the reading.
    pub(crate) fn unchanged(&self, group: usize, reading: &Reading<K>) -> bool {
        // Acquire: pairs with the Release stores of the copies.
        fence(Ordering::Acquire);
        self.groups[group].head.load(Ordering::Relaxed) == reading.head
    }
}

impl<K> Reading<K> {
    /// Whether an ended entry that is still in its chain is in these totals already.
    pub(crate) fn has(&self, entry: Ref<'_, K>) -> bool {
        self.head == crediting(entry.as_ptr(), copy_of(self.head))
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl<K> Ledger<K> {
    /// With nothing in flight: each head is settled.
    pub(crate) fn validate(&self) {
        for (i, group) in self.groups.iter().enumerate() {
            let head = group.head.load(Ordering::Acquire);
            assert_eq!(head.addr() & 1, 1, "the head of group {i} is not settled");
        }
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;
    use crate::entry::SHARD;
    use crate::hash::KeyHash;
    use crate::reclaim::pin;

    /// In the middle of a credit, for either copy: the totals have the entry that is credited, and
    /// no other.
    #[test]
    fn a_reading_knows_whom_it_has() {
        let (ledger, guard) = (Ledger::<u64>::new(2, 1, 0), pin());
        let raw = [(); 2]
            .map(|()| Box::into_raw(Box::new(Entry::new(KeyHash::mixed(1), 1, None, SHARD))));
        // SAFETY: out of boxes, and freed at the end of the test.
        let [one, two] = raw.map(|entry| unsafe { Ref::new(entry) }.expect("not null"));
        let mut pen = Pen::new();
        let mut sum = 0;
        for (credited, other, units) in [(one, two, 5), (two, one, 7), (one, two, 11)] {
            let before = ledger.read(1, &guard);
            assert!(!before.has(credited) && !before.has(other));
            sum += units;
            ledger.credit(1, credited, (Cause::Idle, units), &mut pen, |_| {
                let reading = ledger.read(1, &guard);
                assert_eq!(reading.units, [0, sum, 0]);
                assert!(reading.has(credited) && !reading.has(other));
                assert!(ledger.unchanged(1, &reading) && !ledger.unchanged(1, &before));
            });
            let after = ledger.read(1, &guard);
            assert_eq!((after.units, ledger.read(0, &guard).units), ([0, sum, 0], [0; 3]));
            assert!(!after.has(credited) && !ledger.unchanged(1, &before));
        }
        ledger.validate();
        for entry in raw {
            // SAFETY: out of a box, and not used after this.
            drop(unsafe { Box::from_raw(entry) });
        }
    }
}
