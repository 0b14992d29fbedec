//! Lock-free chains of entries, one per bucket. New entries go in at the head only.
//!
//! The cap fixes the number of buckets, so nothing is ever resized. Michael's list (*High
//! Performance Dynamic Lock-Free Hash Tables and List-Based Sets*, SPAA 2002, after Harris, DISC
//! 2001), made simpler by inserting at the head alone:
//!
//! - A chain runs from the newest to the oldest; the first entry that matches a key decides. If it
//!   has ended, no live one lies deeper, since a new life goes in only when no live entry was
//!   found.
//! - Uniqueness is one compare-exchange on the head of the chain that was searched: if the head is
//!   the same pointer, no entry came in between. It is not a pointer that was freed and used again,
//!   since the inserter is pinned from the search to the exchange.
//! - A reader may walk on over entries that are being unlinked: their links lead to older entries,
//!   and whatever is live among those stays reachable. It never restarts.
//!
//! An entry is unlinked in two steps: it is *marked* (bit 0 of its own `next`, which freezes it),
//! then a compare-exchange on its predecessor skips it, together with any run of marked entries
//! behind it. Whoever's exchange that is lets go of each entry of the run. If the predecessor was
//! marked meanwhile, its `next` has changed, the exchange fails and the walk starts again.
//!
//! # Orderings
//!
//! - The insertion is Release and pairs with the Acquire loads of every walk: the entry is seen
//!   whole.
//! - Marks are Release and come after the entry was credited; `next` is loaded Acquire: who sees
//!   the mark sees the ledger that has the entry (see `ledger`).
//! - The unlinking exchange is AcqRel: it republishes a link that it has read, and what is missing
//!   for a later walker was credited before.

use std::hash::Hash;
use std::ptr;

use equivalent::Equivalent;

use crate::entry::{Entry, Ref};
use crate::hash::KeyHash;
use crate::reclaim::Guard;
use crate::sync::{AtomicPtr, Ordering, null_pointers};

const MARK: usize = 1;

fn is_marked<K>(link: *mut Entry<K>) -> bool {
    link.addr() & MARK != 0
}

fn unmarked<K>(link: *mut Entry<K>) -> *mut Entry<K> {
    link.map_addr(|addr| addr & !MARK)
}

pub(crate) struct Index<K> {
    buckets: Box<[AtomicPtr<Entry<K>>]>,
    bits: u32,
}

/// What a search saw: the first match, whatever its state, and the head that uniqueness hangs on.
pub(crate) struct Found<'g, K> {
    pub(crate) first: Option<Ref<'g, K>>,
    pub(crate) head: Head<K>,
}

/// The head of the chain as it was before the search.
#[derive(Clone, Copy)]
pub(crate) struct Head<K>(*mut Entry<K>);

impl<K> Index<K> {
    /// `2^bits` buckets; `None` if their memory cannot be had.
    pub(crate) fn new(bits: u32) -> Option<Self> {
        Some(Self { buckets: null_pointers(1_usize.checked_shl(bits)?)?, bits })
    }

    pub(crate) fn len(&self) -> usize {
        self.buckets.len()
    }

    #[inline]
    pub(crate) fn bucket_of(&self, hash: KeyHash) -> usize {
        hash.top(self.bits)
    }

    fn bucket(&self, hash: KeyHash) -> &AtomicPtr<Entry<K>> {
        &self.buckets[self.bucket_of(hash)]
    }

    /// The first entry of this key, live or ended. Wait-free: one walk down the chain.
    #[inline]
    pub(crate) fn find<'g, Q>(&self, hash: KeyHash, key: &Q, guard: &'g Guard) -> Found<'g, K>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let head = self.bucket(hash).load(Ordering::Acquire);
        let first = Walk::from(head, guard).find(|e| e.hash() == hash && key.equivalent(e.key()));
        Found { first, head: Head(head) }
    }

    /// All entries of a bucket, newest first, live or ended.
    pub(crate) fn walk<'g>(&self, bucket: usize, guard: &'g Guard) -> Walk<'g, K> {
        Walk::from(self.buckets[bucket].load(Ordering::Acquire), guard)
    }

    /// Publishes an entry if nothing came into its chain since `head`.
    ///
    /// Both outcomes of a race between two inserters of one key:
    /// - the other's exchange comes first: the head has changed, and the caller searches again;
    /// - ours comes first: the other's fails, and it finds our entry.
    pub(crate) fn insert<'g>(
        &self,
        entry: Box<Entry<K>>,
        head: Head<K>,
        guard: &'g Guard,
    ) -> Result<Ref<'g, K>, Box<Entry<K>>> {
        let bucket = self.bucket(entry.hash());
        entry.next().store(head.0, Ordering::Relaxed);
        let raw = Box::into_raw(entry);
        match bucket.compare_exchange(head.0, raw, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Ok(deref(raw, guard).expect("a box is not null")),
            // SAFETY: not published: the box is still ours.
            Err(_) => Err(unsafe { Box::from_raw(raw) }),
        }
    }

    /// Unlinks every marked entry of the chain and hands each to `let_go`.
    ///
    /// Lock-free: it starts again only when somebody else changed the chain. When it returns, an
    /// entry that was marked before the call is unlinked, by this thread or another.
    pub(crate) fn unlink_marked<'g>(
        &self,
        hash: KeyHash,
        guard: &'g Guard,
        mut let_go: impl FnMut(Ref<'g, K>),
    ) where
        K: 'g,
    {
        let bucket = self.bucket(hash);
        'restart: loop {
            let mut pred = bucket;
            let mut current = pred.load(Ordering::Acquire);
            loop {
                let Some(entry) = deref(current, guard) else {
                    return;
                };
                let next = entry.next().load(Ordering::Acquire);
                if !is_marked(next) {
                    pred = entry.get().next();
                    current = next;
                    continue;
                }
                let end = end_of_run(next, guard);
                // Expects an unmarked link: fails if the predecessor was marked meanwhile.
                if pred.compare_exchange(current, end, Ordering::AcqRel, Ordering::Relaxed).is_err()
                {
                    continue 'restart;
                }
                Walk::from(current, guard).take_while(|e| e.as_ptr() != end).for_each(&mut let_go);
                current = end;
            }
        }
    }
}

/// The first entry behind a marked one that is not marked itself.
fn end_of_run<K>(next: *mut Entry<K>, guard: &Guard) -> *mut Entry<K> {
    let mut end = unmarked(next);
    while let Some(entry) = deref(end, guard) {
        let next = entry.next().load(Ordering::Acquire);
        if !is_marked(next) {
            break;
        }
        end = unmarked(next);
    }
    end
}

#[inline]
fn deref<K>(link: *mut Entry<K>, _guard: &Guard) -> Option<Ref<'_, K>> {
    // SAFETY: links lead to published entries, and an entry is freed only after a grace period from
    // when the last structure let go of it: not while this guard, which was there when the link was
    // read, lives.
    unsafe { Ref::new(link) }
}

/// Down a chain, over marked entries too.
pub(crate) struct Walk<'g, K> {
    current: *mut Entry<K>,
    guard: &'g Guard,
}

impl<'g, K> Walk<'g, K> {
    #[inline]
    fn from(link: *mut Entry<K>, guard: &'g Guard) -> Self {
        Self { current: link, guard }
    }
}

impl<'g, K: 'g> Iterator for Walk<'g, K> {
    type Item = Ref<'g, K>;

    #[inline]
    fn next(&mut self) -> Option<Ref<'g, K>> {
        let entry = deref(self.current, self.guard)?;
        self.current = unmarked(entry.next().load(Ordering::Acquire));
        Some(entry)
    }
}

/// Marks an entry as unlinked in logic; anybody may. Lock-free: the exchange fails only when a
/// neighbour was unlinked.
pub(crate) fn mark<K>(entry: &Entry<K>) {
    let mut next = entry.next().load(Ordering::Relaxed);
    while !is_marked(next) {
        let marked = next.map_addr(|addr| addr | MARK);
        match entry.next().compare_exchange_weak(next, marked, Ordering::Release, Ordering::Relaxed)
        {
            Ok(_) => return,
            Err(now) => next = now,
        }
    }
}

pub(crate) fn has_mark<K>(entry: &Entry<K>) -> bool {
    is_marked(entry.next().load(Ordering::Acquire))
}

impl<K> Index<K> {
    /// Empties a bucket when the store is dropped and hands out what was in it.
    pub(crate) fn take_at_drop(&mut self, bucket: usize, mut f: impl FnMut(*mut Entry<K>)) {
        let mut current = self.buckets[bucket].swap(ptr::null_mut(), Ordering::Acquire);
        while !current.is_null() {
            // SAFETY: the chain holds its entries, and `&mut self` says that nobody else is here.
            let next = unsafe { (*current).next().load(Ordering::Relaxed) };
            f(current);
            current = unmarked(next);
        }
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl<K: Eq> Index<K> {
    /// With nothing in flight: chains end, and each entry is live, without a mark, in the bucket of
    /// its hash, and the only one of its key. Returns the entries.
    pub(crate) fn validate<'g>(&self, guard: &'g Guard) -> Vec<Ref<'g, K>> {
        let mut all = Vec::new();
        for bucket in 0..self.len() {
            let first = all.len();
            for entry in self.walk(bucket, guard) {
                let chain = &all[first..];
                assert!(!chain.contains(&entry), "the chain of bucket {bucket} is a ring");
                assert_eq!(self.bucket_of(entry.hash()), bucket, "an entry in another's bucket");
                assert!(!has_mark(&entry), "a marked entry is still linked");
                assert!(!entry.cell().look().is_ended(), "an ended entry is still linked");
                let twice = chain.iter().any(|other: &Ref<'_, K>| other.key() == entry.key());
                assert!(!twice, "two live entries of one key");
                all.push(entry);
            }
        }
        all
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_top_bits_choose_the_bucket() {
        let index = Index::<u64>::new(4).expect("memory");
        assert_eq!(index.len(), 16);
        for hash in (0..1000).map(KeyHash::mixed) {
            assert_eq!(index.bucket_of(hash), hash.top(4));
        }
    }
}
