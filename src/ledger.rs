//! What has ended, by cause: exact at every instant, without any global agreement.
//!
//! Buckets are gathered in groups of [`GROUP`]. A group's *head* says where its totals are:
//!
//! - `Settled(version)`: in the group itself;
//! - an ended entry: in that entry's record, which includes the entry's own units.
//!
//! Crediting an entry is one compare-exchange that makes it the head. At that instant its units
//! move from the chain to the totals. Before a head is replaced it is marked, so "marked, or the
//! head" means "credited".
//!
//! Who moved the head from `Settled` to an entry *owns the group's own totals* until the head is
//! settled again: it copies the head's record there and puts back `Settled` with the next version.
//! Meanwhile others credit on, from head to head. If the owner is stopped, one ended entry stays in
//! memory as the head; nobody waits.
//!
//! Only the sealer of an entry credits it. If it is stopped before, the entry stays in its chain,
//! sealed, and readers count it from there.
//!
//! # Reading a group exactly
//!
//! Take the head and its totals; walk the chains, counting live entries, and ended ones that are
//! not credited; take the head again. If it is the same, no credit went through in between, so each
//! unit was counted once. A head never comes back: a `Settled` has a version of its own, and an
//! entry's memory is not used again while the reader is pinned.
//!
//! # Orderings
//!
//! - The crediting exchange is AcqRel. Release publishes the record, and the seal of the entry, to
//!   the Acquire load of the head. Acquire: the new record rests on the old one.
//! - The group's own totals are stored Release, after the exchange that took the head from
//!   `Settled`. A reader loads them Relaxed and then has an Acquire fence before it loads the head
//!   again: had it seen one of the new values, it would see the head changed. (A sequence lock,
//!   with the head as the sequence.)
//! - A crediter that read them torn fails its exchange: the head is not the one it expects.
//! - The mark comes before the head is replaced (program order, then the Release of the exchange).

use std::ptr;

use crate::entry::{Entry, Record, Ref, Units};
use crate::index;
use crate::reclaim::Guard;
use crate::sync::{AtomicPtr, Ordering, fence};

/// Buckets a group.
pub(crate) const GROUP: usize = 32;

struct Group<K> {
    head: AtomicPtr<Entry<K>>,
    settled: Record,
}

/// A group's head, taken apart. Entries are aligned, so bit 0 tells a version from a pointer.
enum Head<'g, K> {
    Settled,
    Entry(Ref<'g, K>),
}

pub(crate) struct Ledger<K> {
    groups: Box<[Group<K>]>,
}

/// A group's totals, and the head they came from.
pub(crate) struct Reading<'g, K> {
    head: *mut Entry<K>,
    pub(crate) units: Units,
    guard: &'g Guard,
}

fn settled<K>(version: usize) -> *mut Entry<K> {
    ptr::without_provenance_mut(version << 1 | 1)
}

fn version<K>(head: *mut Entry<K>) -> usize {
    head.addr() >> 1
}

fn take_apart<K>(head: *mut Entry<K>, _guard: &Guard) -> Head<'_, K> {
    // SAFETY: the ledger's hold keeps the head from being retired before it is replaced, and the
    // guard, older than the load of `head`, keeps it from being freed after that.
    let entry = || unsafe { Ref::new(head) };
    if head.addr() & 1 == 1 { Head::Settled } else { entry().map_or(Head::Settled, Head::Entry) }
}

impl<K> Ledger<K> {
    pub(crate) fn new(buckets: usize) -> Self {
        let group = || Group { head: AtomicPtr::new(settled(0)), settled: Record::default() };
        Self { groups: (0..buckets.div_ceil(GROUP)).map(|_| group()).collect() }
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Credits an ended entry to the group of its bucket and marks it. Lock-free: each failed
    /// exchange is another credit. Heads that were replaced go to `let_go`, to lose their
    /// [`LEDGER`](crate::entry::LEDGER) hold; `true` if the entry itself is to lose its hold
    /// too.
    pub(crate) fn credit<'g>(
        &self,
        bucket: usize,
        entry: Ref<'g, K>,
        units: Units,
        guard: &'g Guard,
        mut let_go: impl FnMut(Ref<'g, K>),
    ) -> bool {
        let group = &self.groups[bucket / GROUP];
        let before = group.push(entry, units, guard);
        let free = match take_apart(before, guard) {
            Head::Settled => group.settle(entry, version(before) + 1, guard, &mut let_go),
            Head::Entry(replaced) => {
                let_go(replaced);
                false
            }
        };
        index::mark(&entry);
        free
    }

    pub(crate) fn read<'g>(&self, group: usize, guard: &'g Guard) -> Reading<'g, K> {
        let group = &self.groups[group];
        let head = group.head.load(Ordering::Acquire);
        Reading { head, units: group.totals(head, guard), guard }
    }

    /// Whether no credit went through since the reading.
    pub(crate) fn unchanged(&self, group: usize, reading: &Reading<'_, K>) -> bool {
        // Acquire: pairs with the Release stores of the group's own totals.
        fence(Ordering::Acquire);
        self.groups[group].head.load(Ordering::Relaxed) == reading.head
    }
}

impl<K> Group<K> {
    fn totals(&self, head: *mut Entry<K>, guard: &Guard) -> Units {
        match take_apart(head, guard) {
            Head::Settled => self.settled.load(),
            Head::Entry(entry) => entry.record().load(),
        }
    }

    /// Makes `entry` the head; returns the head that it replaced.
    fn push(&self, entry: Ref<'_, K>, units: Units, guard: &Guard) -> *mut Entry<K> {
        let new = entry.as_ptr();
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let mut totals = self.totals(head, guard);
            for (total, units) in totals.iter_mut().zip(units) {
                *total = total.wrapping_add(units);
            }
            // Relaxed: published by the exchange.
            entry.record().store(totals, Ordering::Relaxed);
            if let Head::Entry(replaced) = take_apart(head, guard) {
                index::mark(&replaced);
            }
            match self.head.compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(before) => return before,
                Err(now) => head = now,
            }
        }
    }

    /// Copies the totals into the group and puts back a settled head. The caller took the head from
    /// `Settled`. `true` if the head was still `mine`.
    fn settle<'g>(
        &self,
        mine: Ref<'g, K>,
        version: usize,
        guard: &'g Guard,
        let_go: &mut impl FnMut(Ref<'g, K>),
    ) -> bool {
        let mut head = mine;
        loop {
            // Release: see the module's documentation.
            self.settled.store(head.record().load(), Ordering::Release);
            index::mark(&head);
            let expected = head.as_ptr();
            match self.head.compare_exchange(
                expected,
                settled(version),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) if head == mine => return true,
                Ok(_) => {
                    let_go(head);
                    return false;
                }
                Err(now) => match take_apart(now, guard) {
                    Head::Entry(newer) => head = newer,
                    Head::Settled => unreachable!("only the owner settles"),
                },
            }
        }
    }
}

impl<'g, K> Reading<'g, K> {
    /// Whether an ended entry of the group's chains is in these totals already.
    pub(crate) fn has(&self, entry: Ref<'_, K>) -> bool {
        let is_head = match take_apart(self.head, self.guard) {
            Head::Settled => false,
            Head::Entry(head) => head == entry,
        };
        is_head || index::has_mark(&entry)
    }
}

impl<K> Ledger<K> {
    /// What a group still holds when the store is dropped.
    pub(crate) fn take_at_drop(&mut self, group: usize) -> Option<*mut Entry<K>> {
        let head = self.groups[group].head.swap(settled(0), Ordering::Acquire);
        (head.addr() & 1 == 0).then_some(head)
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl<K> Ledger<K> {
    /// With nothing in flight: each head is settled, so no ended entry is kept.
    pub(crate) fn validate(&self, guard: &Guard) {
        for (i, group) in self.groups.iter().enumerate() {
            let head = take_apart(group.head.load(Ordering::Acquire), guard);
            assert!(matches!(head, Head::Settled), "the head of group {i} is not settled");
        }
    }
}
