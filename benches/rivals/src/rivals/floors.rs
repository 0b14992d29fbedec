//! What no store can be faster than.

use std::hash::{BuildHasher, Hash};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use counterclock::RandomState;

use super::Store;
use crate::key::Form;

/// Hash, and `fetch_add` on an array of as many words as the capacity: no key is compared.
pub struct Array {
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Array {
    pub fn new(capacity: usize) -> Self {
        let slots = (0..capacity.next_power_of_two()).map(|_| AtomicU64::new(0)).collect();
        Self { slots, hasher: RandomState::new() }
    }

    #[inline]
    fn slot<F: Hash + ?Sized>(&self, key: &F) -> &AtomicU64 {
        &self.slots[self.hasher.hash_one(key) as usize & (self.slots.len() - 1)]
    }
}

impl<F: Form + ?Sized> Store<F> for Array {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        self.slot(key).fetch_add(n, Ordering::Relaxed) + n
    }

    fn remove(&self, key: &F) {
        self.slot(key).store(0, Ordering::Relaxed);
    }

    fn len(&self) -> Option<usize> {
        None
    }
}

/// The same under `crossbeam_epoch::pin()`.
pub struct ArrayPinned(Array);

impl ArrayPinned {
    pub fn new(capacity: usize) -> Self {
        Self(Array::new(capacity))
    }
}

impl<F: Form + ?Sized> Store<F> for ArrayPinned {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        let _guard = crossbeam_epoch::pin();
        self.0.add(key, n)
    }

    fn remove(&self, key: &F) {
        self.0.remove(key);
    }

    fn len(&self) -> Option<usize> {
        None
    }
}

/// A boxed chain entry: the line that is read, then the one that is written.
#[repr(C, align(64))]
struct Node<K> {
    next: *const Node<K>,
    hash: u64,
    key: K,
    count: Line,
}

#[repr(align(64))]
struct Line(AtomicU64);

/// A fixed array of as many buckets as the capacity, each a chain of boxed entries with a key
/// compare and the count on a cache line of its own, under `crossbeam_epoch::pin()`. To be filled
/// by one thread (two that add a key at once would both), and only counted in after that. It is
/// what memory alone makes a hit cost as the table grows; the keys are of the type that the stores
/// keep.
pub struct Chain<F: Form + ?Sized> {
    buckets: Box<[AtomicPtr<Node<F::Owned>>]>,
    hasher: RandomState,
}

// SAFETY: a node is written before it is published and not changed after that, but for its atomic
// count; it is freed only by `drop`, which nobody shares. Keys are `Send + Sync`.
unsafe impl<F: Form + ?Sized> Send for Chain<F> {}
// SAFETY: as above.
unsafe impl<F: Form + ?Sized> Sync for Chain<F> {}

impl<F: Form + ?Sized> Chain<F> {
    pub fn new(capacity: usize) -> Self {
        let buckets = capacity.next_power_of_two();
        let buckets = (0..buckets).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        Self { buckets, hasher: RandomState::new() }
    }

    #[cold]
    fn insert(&self, bucket: &AtomicPtr<Node<F::Owned>>, hash: u64, key: &F, n: u64) {
        let next = bucket.load(Ordering::Relaxed);
        let count = Line(AtomicU64::new(n));
        let node = Box::into_raw(Box::new(Node { next, hash, key: key.to_owned(), count }));
        // Release: pairs with the Acquire load in `add`.
        bucket.store(node, Ordering::Release);
    }
}

impl<F: Form + ?Sized> Store<F> for Chain<F> {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        let _guard = crossbeam_epoch::pin();
        let hash = self.hasher.hash_one(key);
        let bucket = &self.buckets[hash as usize & (self.buckets.len() - 1)];
        // Acquire: pairs with the Release store in `insert`.
        let mut next: *const Node<F::Owned> = bucket.load(Ordering::Acquire);
        // SAFETY: nodes live as long as the chain.
        while let Some(node) = unsafe { next.as_ref() } {
            if node.hash == hash && key.equivalent(&node.key) {
                return node.count.0.fetch_add(n, Ordering::Relaxed) + n;
            }
            next = node.next;
        }
        self.insert(bucket, hash, key, n);
        n
    }

    /// Nothing: it only grows.
    fn remove(&self, _: &F) {}

    fn len(&self) -> Option<usize> {
        None
    }
}

impl<F: Form + ?Sized> Drop for Chain<F> {
    fn drop(&mut self) {
        for bucket in &mut self.buckets {
            let mut node = *bucket.get_mut();
            while !node.is_null() {
                // SAFETY: from `Box::into_raw`, and in one chain only.
                let owned = unsafe { Box::from_raw(node) };
                node = owned.next.cast_mut();
            }
        }
    }
}
