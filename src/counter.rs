//! A handle to one counter.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;

use crate::cell::{Amount, MAX_COUNT};
use crate::engine::{Engine, Hit, Touch};
use crate::entry::{Entry, Load, Ref};
use crate::error::Rejected;
use crate::hash::{KeyHash, RandomState};
use crate::reclaim::pin;
use crate::removal::Removals;
use crate::store::CounterStore;

/// A handle to the counter of one key. See [`CounterStore::counter`].
///
/// Holding it makes a hit little more than a `fetch_add`. It is never orphaned: when its entry has
/// ended (evicted, idle, removed, cleared), the next use admits the key again and counts there. It
/// does not protect its key from eviction. It keeps its store alive, and the memory of its entry.
///
/// `Send` and not `Sync`: each holder takes a clone, which is what makes a hit free of pin and
/// search. Shared state holds the [`CounterStore`].
///
/// ```compile_fail
/// fn must_be_sync<T: Sync>(_: T) {}
/// let store = counterclock::CounterStore::<u64>::new(8);
/// must_be_sync(store.counter(&1));
/// ```
pub struct Counter<K: Send + Sync + 'static, S = RandomState> {
    store: CounterStore<K, S>,
    hash: KeyHash,
    key: K,
    /// Has one handle's hold on the entry.
    entry: Cell<Option<NonNull<Entry<K>>>>,
}

// SAFETY: the pointer is a hold on an entry, which any thread may use and let go of (`Entry` is
// `Send + Sync` for such keys); the `Cell` goes along with its only owner.
unsafe impl<K: Send + Sync + 'static, S: Send + Sync> Send for Counter<K, S> {}

// A panic of the user's code leaves it bound to an entry or to none: that is a promise, and tested.
impl<K: Send + Sync + 'static, S> UnwindSafe for Counter<K, S> {}
impl<K: Send + Sync + 'static, S> RefUnwindSafe for Counter<K, S> {}

impl<K, S> Counter<K, S>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    pub(crate) fn new(store: CounterStore<K, S>, key: K) -> Self {
        let counter = Self { hash: store.hash(&key), store, key, entry: Cell::new(None) };
        // A key that this admits is used for the first time when the handle is.
        _ = counter.bind(Amount::once(0), Amount::NOTHING.into(), |_, _| ());
        counter
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Counts one; returns the count after it. When rejected, 1.
    #[inline]
    pub fn increment(&self) -> u64 {
        self.add(1)
    }

    /// Counts `n` units; returns the count after it. When rejected, `n`, and at most
    /// [`MAX_COUNT`].
    ///
    /// On a live entry, wait-free without a TTL and for `n` up to 2^32; otherwise lock-free.
    #[inline]
    pub fn add(&self, n: u64) -> u64 {
        self.try_add(n).unwrap_or(n.min(MAX_COUNT))
    }

    /// As [`increment`](Self::increment), and says when it was rejected.
    ///
    /// # Errors
    ///
    /// As [`CounterStore::try_add`].
    #[inline]
    pub fn try_increment(&self) -> Result<u64, Rejected> {
        self.try_add(1)
    }

    /// As [`add`](Self::add), and says when it was rejected. The next use tries again.
    ///
    /// # Errors
    ///
    /// As [`CounterStore::try_add`].
    #[inline]
    pub fn try_add(&self, n: u64) -> Result<u64, Rejected> {
        if let Some((_, count, owes)) = self.touch(Amount::once(n)) {
            if owes {
                self.store.engine().pay(self.hash);
            }
            return Ok(count);
        }
        self.bind_alone(Amount::once(n))
    }

    /// As [`CounterStore::try_add_with`].
    pub(crate) fn try_add_with<R>(
        &self,
        n: Load<'_>,
        bind: impl Copy + FnOnce(&Entry<K>, bool) -> R,
    ) -> Result<(u64, R), Rejected> {
        if let Some((entry, count, owes)) = self.touch(n.first) {
            let bound = bind(entry, false);
            if owes {
                self.store.engine().pay(self.hash);
            }
            return Ok((count, bound));
        }
        self.bind(n.first, n, bind)
    }

    /// Counts on the entry that it holds, if that lives: as [`Engine::touch`].
    #[inline(always)]
    fn touch(&self, n: Amount) -> Option<(&Entry<K>, u64, bool)> {
        let engine = self.store.engine();
        // SAFETY: our hold keeps the entry alive, and is not let go of while the caller has the
        // reference.
        let entry = unsafe { self.entry.get()?.as_ref() };
        match engine.touch(entry, n, engine.time_of_use(entry)) {
            (Touch::Counted(count), owes) => Some((entry, count, owes)),
            _ => None,
        }
    }

    #[cold]
    fn bind_alone(&self, n: Amount) -> Result<u64, Rejected> {
        self.bind(n, n.into(), |_, _| ()).map(|(count, ())| count)
    }

    /// The count, if the key is live, under this entry or a newer one. Does not count as use.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        self.get_with(|_, count| count)
    }

    pub(crate) fn get_with<R>(&self, read: impl Fn(Ref<'_, K>, u64) -> R) -> Option<R> {
        let engine = self.store.engine();
        let mut out = Removals::new(engine);
        // First: a pin may drop old keys, and what their `Drop` does may let go of our hold.
        let guard = pin();
        let found = self.entry.get().and_then(|entry| {
            // SAFETY: our hold keeps the entry alive up to here, and from here on the guard does.
            let entry = unsafe { Ref::new(entry.as_ptr()) }?;
            let count = engine.peek(entry, engine.time(), &guard, &mut out)?;
            Some(read(entry, count))
        });
        drop(guard);
        out.deliver();
        found.or_else(|| self.store.get_with(&self.key, read))
    }

    pub(crate) fn hash(&self) -> KeyHash {
        self.hash
    }

    /// Counts on the key's present entry or a new one, and holds that from now on.
    #[cold]
    fn bind<R>(
        &self,
        amount: Amount,
        if_new: Load<'_>,
        bind: impl Copy + FnOnce(&Entry<K>, bool) -> R,
    ) -> Result<(u64, R), Rejected> {
        self.release();
        let engine = self.store.engine();
        let mut out = Removals::new(engine);
        let hold = |entry: Ref<'_, K>, is_new| (Held::take(engine, entry), bind(&entry, is_new));
        let found = engine.hit(self.hash, &self.key, amount, &pin(), |entry| hold(entry, false));
        let result = match found {
            Ok(Hit { count, owes, bound }) => {
                if owes {
                    engine.pay(self.hash);
                }
                Ok((count, bound))
            }
            Err(_) => engine.admit(self.hash, self.key.clone(), if_new, &mut out, hold),
        };
        let counted = result.map(|(count, (held, bound))| {
            // What the user's code may have bound meanwhile goes.
            let held = held.map(Held::into_inner);
            self.let_go(self.entry.replace(held));
            (count, bound)
        });
        out.deliver();
        counted
    }
}

impl<K: Send + Sync + 'static, S> Counter<K, S> {
    pub(crate) fn store(&self) -> &CounterStore<K, S> {
        &self.store
    }

    /// The entry that this handle holds.
    pub(crate) fn entry(&self) -> Option<&Entry<K>> {
        // SAFETY: our hold keeps the entry alive, and `add`, which may let go of it, is not called
        // by whoever has the reference.
        self.entry.get().map(|entry| unsafe { entry.as_ref() })
    }

    fn release(&self) {
        self.let_go(self.entry.take());
    }

    fn let_go(&self, entry: Option<NonNull<Entry<K>>>) {
        if let Some(entry) = entry {
            // SAFETY: the hold was ours, and the pointer is gone with it.
            unsafe { self.store.inner.engine.limbo().let_go_handle(entry) };
        }
    }
}

/// One handle's hold, let go of when a panic of the user's code comes in between.
struct Held<'a, K: Send + Sync + 'static> {
    engine: &'a Engine<K>,
    entry: NonNull<Entry<K>>,
}

impl<'a, K: Send + Sync + 'static> Held<'a, K> {
    fn take(engine: &'a Engine<K>, entry: Ref<'_, K>) -> Option<Self> {
        entry.hold().then(|| Self { engine, entry: entry.as_non_null() })
    }

    fn into_inner(self) -> NonNull<Entry<K>> {
        std::mem::ManuallyDrop::new(self).entry
    }
}

impl<K: Send + Sync + 'static> Drop for Held<'_, K> {
    fn drop(&mut self) {
        // SAFETY: the hold is ours, and the pointer goes with it.
        unsafe { self.engine.limbo().let_go_handle(self.entry) };
    }
}

impl<K: Send + Sync + 'static, S> Drop for Counter<K, S> {
    fn drop(&mut self) {
        self.release();
    }
}

impl<K: Clone + Send + Sync + 'static, S> Clone for Counter<K, S> {
    /// A handle for another holder. Does not count as use.
    fn clone(&self) -> Self {
        let (store, key) = (self.store.clone(), self.key.clone());
        // The hold comes last: what is above may panic.
        let entry = self.entry.get().filter(|entry| {
            // SAFETY: our hold keeps the entry alive.
            unsafe { entry.as_ref() }.hold()
        });
        Self { store, hash: self.hash, key, entry: Cell::new(entry) }
    }
}

impl<K: fmt::Debug + Send + Sync + 'static, S> fmt::Debug for Counter<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").field("key", &self.key).finish_non_exhaustive()
    }
}
