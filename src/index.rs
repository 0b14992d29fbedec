//! Chains of entries, one per bucket: whoever has a new entry puts it in at the head, lock-free;
//! only the owner of the bucket's shard takes entries out. Readers wait for neither.
//!
//! The cap fixes the number of buckets, so nothing is ever resized. Michael's list (*High
//! Performance Dynamic Lock-Free Hash Tables and List-Based Sets*, SPAA 2002, after Harris, DISC
//! 2001) marks an entry before it is unlinked, since others may be changing its neighbours. Here
//! there is one such thread at a time, the holder of the shard's [`Pen`], and no mark:
//!
//! - A chain runs from the newest to the oldest; the first entry that matches a key decides. If it
//!   has ended, no live one lies deeper, since a new life goes in only when no live entry was
//!   found.
//! - Uniqueness is one compare-exchange on the head of the chain that was searched: if the head is
//!   the same pointer, no entry came in between. It is not a pointer that was freed and used again,
//!   since the inserter is pinned from the search to the exchange.
//! - An entry is unlinked by one store to its predecessor, or, at the head, by a compare-exchange
//!   that only an insertion can make fail.
//! - A reader may walk on over entries that are being unlinked: an unlinked entry's own link stays
//!   as it is and leads to older entries, and whatever is live among those stays reachable. It
//!   never restarts.
//!
//! # What a link says of what lies behind it
//!
//! Entries are aligned to their cache lines, which leaves six bits of a link free. Each key sets two
//! of them, and a link has those of all entries that can be reached by it ([`Mark`]; a Bloom filter,
//! *Space/Time Trade-offs in Hash Coding with Allowable Errors*, CACM 1970). A search stops at a
//! link that lacks one of its key's: most searches in vain, as before each admission, touch no
//! entry, and so miss no cache line but the bucket's.
//!
//! A newcomer's link keeps the marks of the chain that it goes in front of, and the new head adds
//! its own. Unlinking restores what the link behind the unlinked entry says; links before it go on
//! saying too much, until they go themselves.
//!
//! # Orderings
//!
//! - The insertion is Release and pairs with the Acquire loads of every walk: the entry is seen
//!   whole.
//! - Unlinking is Release: it publishes a link to an older entry, which the owner has seen whole,
//!   and the ledger that has the unlinked one (see `ledger`).
//! - `next` is loaded Acquire by walks; Relaxed by the owner, since only owners change it once the
//!   entry is published.

use std::hash::Hash;
use std::ptr::{self, NonNull};

use equivalent::Equivalent;

use crate::clock_list::Pen;
use crate::entry::{Entry, Ref};
use crate::hash::KeyHash;
use crate::reclaim::Guard;
use crate::sync::{AtomicPtr, Ordering, null_pointers, prefetch};

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
        let mut walk = Walk { link: head, mark: Mark::of(hash), guard };
        let first = walk.find(|e| e.hash() == hash && key.equivalent(e.key()));
        Found { first, head: Head(head) }
    }

    /// Asks for the head of a chain.
    #[inline]
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        prefetch(self.bucket(hash));
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
        let mark = Mark::of(entry.hash());
        let raw = Box::into_raw(entry);
        let link = mark.link_to(raw, head.0);
        match bucket.compare_exchange(head.0, link, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Ok(deref(raw, guard).expect("a box is not null")),
            // SAFETY: not published: the box is still ours.
            Err(_) => Err(unsafe { Box::from_raw(raw) }),
        }
    }

    /// Takes an entry out of its chain, which still has it. The pen is that of the bucket's shard.
    ///
    /// Lock-free: it starts again only when an entry was inserted. Both outcomes of that race, where
    /// the entry is the head:
    /// - the insertion comes first: the exchange fails, and the new entry is the predecessor;
    /// - the unlinking comes first: the inserter's exchange fails, and it searches again.
    pub(crate) fn unlink(&self, entry: Ref<'_, K>, _pen: &mut Pen, guard: &Guard) {
        let bucket = self.bucket(entry.hash());
        let next = entry.next().load(Ordering::Relaxed);
        let mut head = bucket.load(Ordering::Acquire);
        while entry_of(head) == entry.as_ptr() {
            match bucket.compare_exchange(head, next, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
        let mut preds = Walk::from(head, guard);
        let pred = preds.find(|p| entry_of(p.next().load(Ordering::Relaxed)) == entry.as_ptr());
        debug_assert!(pred.is_some(), "unlinked twice");
        if let Some(pred) = pred {
            pred.next().store(next, Ordering::Release);
        }
    }
}

/// The bits of a link that are not address.
const MARKS: usize = 63;

/// Two of six bits, by which a link tells that an entry of this hash may lie behind it.
#[derive(Clone, Copy)]
struct Mark(usize);

impl Mark {
    /// In every link.
    const NONE: Self = Self(0);

    #[inline]
    fn of(hash: KeyHash) -> Self {
        const PAIRS: [u8; 15] = {
            let mut pairs = [0; 15];
            let (mut n, mut low) = (0, 0);
            while low < 6 {
                let mut high = low + 1;
                while high < 6 {
                    pairs[n] = 1 << low | 1 << high;
                    n += 1;
                    high += 1;
                }
                low += 1;
            }
            pairs
        };
        // Not by bits that chose the bucket.
        Self(PAIRS[hash.below(PAIRS.len())].into())
    }

    #[inline]
    fn is_in<K>(self, link: *mut Entry<K>) -> bool {
        link.addr() & self.0 == self.0
    }

    /// A link to an entry of this mark that goes in front of a chain.
    #[inline]
    fn link_to<K>(self, entry: *mut Entry<K>, chain: *mut Entry<K>) -> *mut Entry<K> {
        const { assert!(align_of::<Entry<K>>() > MARKS, "an entry's address has its low bits free") };
        entry.map_addr(|addr| addr | self.0 | chain.addr() & MARKS)
    }
}

#[inline]
fn entry_of<K>(link: *mut Entry<K>) -> *mut Entry<K> {
    link.map_addr(|addr| addr & !MARKS)
}

#[inline]
fn deref<K>(link: *mut Entry<K>, _guard: &Guard) -> Option<Ref<'_, K>> {
    // SAFETY: links lead to published entries, and an entry is freed only after a grace period from
    // when the last structure let go of it: not while this guard, which was there when the link was
    // read, lives.
    unsafe { Ref::new(entry_of(link)) }
}

/// Down a chain, over ended entries too, as long as there may be entries of a mark.
pub(crate) struct Walk<'g, K> {
    link: *mut Entry<K>,
    mark: Mark,
    guard: &'g Guard,
}

impl<'g, K> Walk<'g, K> {
    /// All entries.
    fn from(link: *mut Entry<K>, guard: &'g Guard) -> Self {
        Self { link, mark: Mark::NONE, guard }
    }
}

impl<'g, K: 'g> Iterator for Walk<'g, K> {
    type Item = Ref<'g, K>;

    #[inline]
    fn next(&mut self) -> Option<Ref<'g, K>> {
        if !self.mark.is_in(self.link) {
            return None;
        }
        let entry = deref(self.link, self.guard)?;
        self.link = entry.next().load(Ordering::Acquire);
        Some(entry)
    }
}

impl<K> Index<K> {
    /// Empties a bucket when the store is dropped and hands out what was in it.
    pub(crate) fn take_at_drop(&mut self, bucket: usize, mut f: impl FnMut(NonNull<Entry<K>>)) {
        let mut link = self.buckets[bucket].swap(ptr::null_mut(), Ordering::Acquire);
        while let Some(entry) = NonNull::new(entry_of(link)) {
            // SAFETY: the chain holds its entries, and `&mut self` says that nobody else is here.
            link = unsafe { entry.as_ref() }.next().load(Ordering::Relaxed);
            f(entry);
        }
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl<K: Eq> Index<K> {
    /// With nothing in flight: chains end, and each entry is in the bucket of its hash and, unless it
    /// has ended and a note of it waits for an owner, the newest of its key. Returns the entries.
    pub(crate) fn validate<'g>(&self, guard: &'g Guard) -> Vec<Ref<'g, K>> {
        let mut all = Vec::new();
        for bucket in 0..self.len() {
            let first = all.len();
            // What every link so far has said lies behind it.
            let mut said = self.buckets[bucket].load(Ordering::Relaxed).addr() & MARKS;
            for entry in self.walk(bucket, guard) {
                let chain = &all[first..];
                let mark = Mark::of(entry.hash());
                assert_eq!(
                    said & mark.0,
                    mark.0,
                    "a link that does not tell of an entry behind it"
                );
                said &= entry.next().load(Ordering::Relaxed).addr();
                assert!(!chain.contains(&entry), "the chain of bucket {bucket} is a ring");
                assert_eq!(self.bucket_of(entry.hash()), bucket, "an entry in another's bucket");
                let newer = chain.iter().any(|other: &Ref<'_, K>| other.key() == entry.key());
                assert!(!newer || entry.cell().look().is_ended(), "a live entry that is not found");
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

    #[test]
    fn marks_are_pairs_of_bits_and_all_as_frequent() {
        let mut times = [0; MARKS + 1];
        (0..15_000).for_each(|n| times[Mark::of(KeyHash::mixed(n)).0] += 1);
        for (mark, times) in times.into_iter().enumerate() {
            let expected = if mark.count_ones() == 2 { 800..1200 } else { 0..1 };
            assert!(expected.contains(&times), "{mark:06b}: {times}");
        }
    }
}
