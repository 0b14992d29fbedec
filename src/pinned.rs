//! Many operations under one pin.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use crate::cell::{Amount, MAX_COUNT};
use crate::engine::Hit;
use crate::error::Rejected;
use crate::hash::{KeyHash, RandomState};
use crate::key::ToKey;
use crate::reclaim::{Guard, pin};
use crate::removal::Removals;
use crate::store::CounterStore;

/// A store under an epoch pin: each hit saves the cost of its own. See [`CounterStore::pin`].
///
/// For a batch, not for keeping: while it lives, nothing that has ended is freed in any store of
/// this process, and each store rejects new keys once its own [`slack`](crate::Builder::slack) is
/// used up. An operation that admits a key gives the pin up for as long as that takes, so that a
/// long batch of new keys does not hold on to its own garbage. It stays on its thread: do not keep
/// it across an `await`.
///
/// ```compile_fail
/// fn must_be_send<T: Send>(_: T) {}
/// let store = counterclock::CounterStore::<u64>::new(8);
/// must_be_send(store.pin());
/// ```
///
/// ```
/// fn must_be_send<T: Send>(_: T) {}
/// let store = counterclock::CounterStore::<u64>::new(8);
/// must_be_send(store.counter(&1));
/// ```
pub struct Pinned<'a, K, S = RandomState> {
    store: &'a CounterStore<K, S>,
    guard: Cell<Option<Guard>>,
}

impl<'a, K, S> Pinned<'a, K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    pub(crate) fn new(store: &'a CounterStore<K, S>) -> Self {
        Self { store, guard: Cell::new(Some(pin())) }
    }

    /// As [`CounterStore::increment`].
    #[inline]
    pub fn increment<Q>(&self, key: &Q) -> u64
    where
        Q: ToKey<K> + ?Sized,
    {
        self.add(key, 1)
    }

    /// As [`CounterStore::add`].
    #[inline]
    pub fn add<Q>(&self, key: &Q, n: u64) -> u64
    where
        Q: ToKey<K> + ?Sized,
    {
        self.try_add(key, n).unwrap_or(n.min(MAX_COUNT))
    }

    /// As [`CounterStore::try_increment`].
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn try_increment<Q>(&self, key: &Q) -> Result<u64, Rejected>
    where
        Q: ToKey<K> + ?Sized,
    {
        self.try_add(key, 1)
    }

    /// As [`CounterStore::try_add`].
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn try_add<Q>(&self, key: &Q, n: u64) -> Result<u64, Rejected>
    where
        Q: ToKey<K> + ?Sized,
    {
        let hash = self.store.hash(key);
        let hit =
            self.with(|guard| self.store.engine().hit(hash, key, Amount::once(n), guard, |_| ()));
        match hit {
            Ok(Hit { count, owes, .. }) => {
                if owes {
                    self.store.engine().pay(hash);
                }
                Ok(count)
            }
            Err(_) => self.admit(hash, key, n),
        }
    }

    /// Without the pin.
    #[cold]
    fn admit<Q>(&self, hash: KeyHash, key: &Q, n: u64) -> Result<u64, Rejected>
    where
        Q: ToKey<K> + ?Sized,
    {
        drop(self.guard.take());
        let engine = self.store.engine();
        let mut out = Removals::new(engine);
        let load = Amount::once(n).into();
        let admitted = engine.admit(hash, key.to_key(), load, &mut out, |_, _| ());
        out.deliver();
        admitted.map(|(count, ())| count)
    }

    /// As [`CounterStore::get`].
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<u64>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.store.hash(key);
        let engine = self.store.engine();
        let mut out = Removals::new(engine);
        let count = self.with(|guard| Some(engine.get(hash, key, guard, &mut out)?.1));
        out.deliver();
        count
    }

    /// Pins again if an admission or a panic has given the pin up.
    #[inline]
    fn with<R>(&self, f: impl FnOnce(&Guard) -> R) -> R {
        let guard = self.guard.take().unwrap_or_else(pin);
        let result = f(&guard);
        self.guard.set(Some(guard));
        result
    }
}

impl<K, S> fmt::Debug for Pinned<'_, K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("store", self.store).finish_non_exhaustive()
    }
}
