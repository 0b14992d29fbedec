//! mini-moka.

use std::borrow::Borrow;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use counterclock::RandomState;
use mini_moka::sync::{Cache, ConcurrentCacheExt};
use ref_cast::RefCast;

use super::Store;
use crate::key::Form;

/// A key as mini-moka keeps it.
#[derive(PartialEq, Eq, Hash)]
struct Kept<F: Form + ?Sized>(F::Owned);

/// And as it is asked for: mini-moka looks keys up in a form that `Arc<K>` can be borrowed as,
/// which for `K = String` is `String` only. These two make it `str`, so that a hit allocates
/// nothing.
#[derive(PartialEq, Eq, Hash, RefCast)]
#[repr(transparent)]
struct Asked<F: ?Sized>(F);

impl<F: Form + ?Sized> Borrow<Asked<F>> for Arc<Kept<F>> {
    fn borrow(&self) -> &Asked<F> {
        Asked::ref_cast(self.0.borrow())
    }
}

/// Its default policy (TinyLFU), its table allocated at once, no expiry. It has no call that finds
/// or inserts in one step: of two threads that count a new key at once, one's count is lost. Values
/// are cloned, hence the `Arc`.
pub struct MiniMoka<F: Form + ?Sized>(Cache<Kept<F>, Arc<AtomicU64>, RandomState>);

impl<F: Form + ?Sized> MiniMoka<F> {
    pub fn new(capacity: usize) -> Self {
        let builder = Cache::builder().max_capacity(capacity as u64).initial_capacity(capacity);
        Self(builder.build_with_hasher(RandomState::new()))
    }
}

impl<F: Form + ?Sized> Store<F> for MiniMoka<F> {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        if let Some(count) = self.0.get(Asked::ref_cast(key)) {
            return count.fetch_add(n, Ordering::Relaxed) + n;
        }
        self.0.insert(Kept(key.to_owned()), Arc::new(AtomicU64::new(n)));
        n
    }

    fn remove(&self, key: &F) {
        self.0.invalidate(black_box(Asked::ref_cast(key)));
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.entry_count() as usize)
    }

    fn settle(&self) {
        self.0.sync();
    }
}
