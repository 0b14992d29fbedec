//! The public type: hashes, converts, routes, delivers.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use equivalent::Equivalent;

use crate::buffer::Buffer;
use crate::builder::Builder;
use crate::cell::{Amount, MAX_COUNT};
use crate::counter::Counter;
use crate::engine::{Engine, Hit, Missed};
use crate::entry::{Load, Ref};
use crate::error::Rejected;
use crate::hash::{KeyHash, RandomState};
use crate::key::ToKey;
use crate::pinned::Pinned;
use crate::reclaim::{Guard, pin, prepare};
use crate::removal::{Panics, Removals};
use crate::shard::Stats;
use crate::snapshot::{Snapshot, Totals};
use crate::striped::Striped;
use crate::sync::{Arc, Weak};

pub(crate) struct Inner<K, S> {
    pub(crate) engine: Engine<K>,
    pub(crate) hasher: S,
}

/// Counters per key under a hard cap. A clone is another handle to the same store.
///
/// See the [crate's documentation](crate) for the promises, and the methods for the progress that
/// each makes: *wait-free* is bounded by the length of a chain (about one entry), *lock-free*
/// starts again only when another thread got something done. No operation waits for another thread.
/// As with every scheme of grace periods, a pin now and then (one in 128) frees what others have
/// retired, some 256 entries and their keys, and that is lock-free.
pub struct CounterStore<K, S = RandomState> {
    pub(crate) inner: Arc<Inner<K, S>>,
}

impl<K> CounterStore<K>
where
    K: Hash + Eq + Send + Sync + 'static,
{
    /// A store of `capacity` counters that evicts, without a TTL.
    ///
    /// # Panics
    ///
    /// If the capacity is 0 or its memory cannot be had; [`builder`](Self::builder) returns an
    /// error instead.
    #[must_use]
    #[track_caller]
    pub fn new(capacity: usize) -> Self {
        match Self::builder().capacity(capacity).build() {
            Ok(store) => store,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sets everything else: TTL, listener, hasher, what happens at capacity.
    pub fn builder() -> Builder<K> {
        Builder::new()
    }
}

impl<K> Default for CounterStore<K>
where
    K: Hash + Eq + Send + Sync + 'static,
{
    /// 2048 counters that end after 30 minutes without use.
    fn default() -> Self {
        let builder = Self::builder().capacity(2048).idle_ttl(Duration::from_secs(30 * 60));
        builder.build().expect("the defaults are within all limits")
    }
}

impl<K, S> CounterStore<K, S> {
    pub(crate) fn from_parts(engine: Engine<K>, hasher: S) -> Self {
        prepare();
        Self { inner: Arc::new(Inner { engine, hasher }) }
    }

    /// Live counters, with those that are idle and not yet found; never more than
    /// [`capacity`](Self::capacity), at any instant. Wait-free.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.engine.len()
    }

    /// Whether [`len`](Self::len) is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most keys that are counted at once.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.inner.engine.capacity()
    }

    /// Ended entries that were not freed yet: those that wait for a grace period, and those that wait
    /// for an admission to drop their keys and use their memory again, which [`prune`](Self::prune)
    /// frees. Not those that only a [`Counter`] or a [`Snapshot`] still holds. Wait-free; while
    /// operations are in flight, an estimate.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.engine.waiting()
    }

    /// Lives that began and ended, by cause, and calls that were rejected. Wait-free, O(shards).
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.engine.stats()
    }

    /// A handle that does not keep the store alive, for listeners and background tasks.
    #[must_use]
    pub fn downgrade(&self) -> WeakStore<K, S> {
        WeakStore(Arc::downgrade(&self.inner))
    }
}

impl<K, S> CounterStore<K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    pub(crate) fn engine(&self) -> &Engine<K> {
        &self.inner.engine
    }

    #[inline]
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> KeyHash {
        KeyHash::of(&self.inner.hasher, key)
    }

    /// Counts one under the key; returns the count after it, 1 if the key is new. When rejected, 1.
    ///
    /// A hit is one hash, one pin, one short chain and one `fetch_add`, and it allocates nothing:
    /// wait-free without a TTL. With one, it also reads the clock, and the use that moves the
    /// key's tick does one bounded step of expiry: lock-free. So is a new key.
    #[inline]
    pub fn increment<Q>(&self, key: &Q) -> u64
    where
        Q: ToKey<K> + ?Sized,
    {
        self.add(key, 1)
    }

    /// Counts `n` units under the key; returns the count after it. When rejected, `n`, and at
    /// most [`MAX_COUNT`].
    ///
    /// Counts saturate at [`MAX_COUNT`]; what does not fit is not recorded. With 0 the key is
    /// admitted and counts as used. Above 2^32 it is lock-free, not wait-free.
    #[inline]
    pub fn add<Q>(&self, key: &Q, n: u64) -> u64
    where
        Q: ToKey<K> + ?Sized,
    {
        self.try_add(key, n).unwrap_or(n.min(MAX_COUNT))
    }

    /// As [`increment`](Self::increment), and says when it was rejected.
    ///
    /// # Errors
    ///
    /// [`Rejected`], with the reason. The unit is in [`Totals::rejected`].
    #[inline]
    pub fn try_increment<Q>(&self, key: &Q) -> Result<u64, Rejected>
    where
        Q: ToKey<K> + ?Sized,
    {
        self.try_add(key, 1)
    }

    /// As [`add`](Self::add), and says when it was rejected.
    ///
    /// # Errors
    ///
    /// [`Rejected`], with the reason. The units, clamped to [`MAX_COUNT`], are in
    /// [`Totals::rejected`].
    #[inline]
    pub fn try_add<Q>(&self, key: &Q, n: u64) -> Result<u64, Rejected>
    where
        Q: ToKey<K> + ?Sized,
    {
        self.try_add_with(self.hash(key), key, Amount::once(n).into(), |_, _| ())
            .map(|(count, ())| count)
    }

    /// Counts in the first lane and, where a life begins, in the others; calls `bind` with the entry
    /// and whether it is new. Returns the count of the first.
    #[inline(always)]
    pub(crate) fn try_add_with<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        n: Load<'_>,
        bind: impl Copy + FnOnce(Ref<'_, K>, bool) -> R,
    ) -> Result<(u64, R), Rejected>
    where
        Q: ToKey<K> + ?Sized,
    {
        let guard = pin();
        match self.engine().hit(hash, key, n.first, &guard, |entry| bind(entry, false)) {
            Ok(Hit { count, owes, bound }) => {
                drop(guard);
                if owes {
                    self.engine().pay(hash);
                }
                Ok((count, bound))
            }
            Err(missed) => self.admit_form(hash, key, n, missed, guard, bind),
        }
    }

    /// As [`increment`](Self::increment), without a clone when the key is new.
    pub fn increment_owned(&self, key: K) -> u64 {
        let hash = self.hash(&key);
        let mut out = Removals::new(self.engine());
        let result = self.add_owned(hash, key, Amount::once(1), &mut out, |_| ());
        out.deliver();
        result.unwrap_or(1)
    }

    /// Calls `bind` when it has counted. The caller delivers.
    fn add_owned(
        &self,
        hash: KeyHash,
        key: K,
        n: Amount,
        out: &mut Removals<'_, K>,
        bind: impl Copy + FnOnce(Ref<'_, K>),
    ) -> Result<u64, Rejected> {
        let engine = self.engine();
        let guard = pin();
        match engine.hit(hash, &key, n, &guard, bind) {
            Ok(Hit { count, owes, .. }) => {
                // The key is dropped outside the pin.
                drop(guard);
                if owes {
                    engine.pay(hash);
                }
                Ok(count)
            }
            Err(missed) => {
                let load = n.into();
                let admitted =
                    engine.admit_missed(hash, key, load, (missed, guard), out, |entry, _| {
                        bind(entry)
                    });
                admitted.map(|(count, ())| count)
            }
        }
    }

    /// Adds what a buffer has gathered. If the user's code panics before it was counted, it is
    /// counted as rejected.
    pub(crate) fn hand_over(&self, hash: KeyHash, key: K, amount: Amount) {
        struct Counted<'a, K: Send + Sync + 'static>(Cell<bool>, &'a Engine<K>, KeyHash, Amount);
        impl<K: Send + Sync + 'static> Drop for Counted<'_, K> {
            fn drop(&mut self) {
                if !self.0.get() {
                    self.1.reject(self.2, self.3, Rejected::Capacity);
                }
            }
        }
        let counted = Counted(Cell::new(false), self.engine(), hash, amount);
        let mut out = Removals::new(self.engine());
        _ = self.add_owned(hash, key, amount, &mut out, |_| counted.0.set(true));
        // A rejection has counted it too.
        counted.0.set(true);
        out.deliver();
    }

    #[cold]
    fn admit_form<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        n: Load<'_>,
        missed: Missed<K>,
        guard: Guard,
        bind: impl FnOnce(Ref<'_, K>, bool) -> R,
    ) -> Result<(u64, R), Rejected>
    where
        Q: ToKey<K> + ?Sized,
    {
        let engine = self.engine();
        let mut out = Removals::new(engine);
        let admitted = if Q::IS_PLAIN {
            engine.admit_missed(hash, key.to_key(), n, (missed, guard), &mut out, bind)
        } else {
            // The user's code runs outside pins.
            drop(guard);
            engine.admit(hash, key.to_key(), n, &mut out, bind)
        };
        out.deliver();
        admitted
    }

    /// The count of a key, if it is live. Does not count as use. Lock-free; wait-free without a
    /// TTL and striped handles of the key.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<u64>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.get_with(key, |_, count| count)
    }

    pub(crate) fn get_with<Q, R>(
        &self,
        key: &Q,
        read: impl FnOnce(Ref<'_, K>, u64) -> R,
    ) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let mut out = Removals::new(self.engine());
        let guard = pin();
        let found = self.engine().get(self.hash(key), key, &guard, &mut out);
        let result = found.map(|(entry, count)| read(entry, count));
        drop(guard);
        out.deliver();
        result
    }

    /// Whether the key is live. Does not count as use. Progress as [`get`](Self::get).
    #[must_use]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.get(key).is_some()
    }

    /// Ends the life of a key; returns its exact final count. An increment that races with it is
    /// either in that count or in the next life. Lock-free.
    pub fn remove<Q>(&self, key: &Q) -> Option<u64>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.remove_with(key, |_, count| count)
    }

    pub(crate) fn remove_with<Q, R>(
        &self,
        key: &Q,
        read: impl FnOnce(Ref<'_, K>, u64) -> R,
    ) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let mut out = Removals::new(self.engine());
        let guard = pin();
        let removed = self.engine().remove(self.hash(key), key, &guard, &mut out);
        let result = removed.map(|(entry, count)| read(entry, count));
        drop(guard);
        out.deliver();
        result
    }

    /// Ends all lives that it meets; those that begin meanwhile may stay. Lock-free, O(capacity).
    pub fn clear(&self) {
        let mut panics = Panics::default();
        for group in 0..self.engine().groups() {
            let mut out = Removals::new(self.engine());
            self.engine().clear_group(group, &mut out);
            out.deliver_into(&mut panics);
        }
        self.engine().tidy();
        panics.resume();
    }

    /// Ends the lives that have been idle for longer than the TTL; how many. Also frees what can be
    /// freed. Lock-free, O(capacity). Not needed for correctness: ordinary traffic does the same
    /// bit by bit.
    pub fn prune(&self) -> usize {
        let mut ended = 0;
        let mut panics = Panics::default();
        for group in 0..self.engine().groups() {
            let mut out = Removals::new(self.engine());
            ended += self.engine().prune_group(group, self.engine().time(), &pin(), &mut out);
            out.deliver_into(&mut panics);
        }
        self.engine().tidy();
        panics.resume();
        ended
    }

    /// A handle to one counter, for a connection or a task that counts under one key for long: no
    /// hash, no pin, no search. Counts as a use of a live key; admits one that is not, with a count of 0
    /// and maybe in the place of another, and its first use is then the handle's. Always converts the key, since the handle keeps it. If that admission is
    /// rejected (which shows as one of [`Stats::rejections`]), the handle's next use tries again.
    #[must_use]
    pub fn counter<Q>(&self, key: &Q) -> Counter<K, S>
    where
        K: Clone,
        Q: ToKey<K> + ?Sized,
    {
        Counter::new(self.clone(), key.to_key())
    }

    /// A handle for one of several threads that count under the same key: each handle has cache
    /// lines of its own to count on. See [`Striped`]. Admits the key, as [`counter`](Self::counter)
    /// does.
    #[must_use]
    pub fn striped<Q>(&self, key: &Q) -> Striped<K, S>
    where
        K: Clone,
        Q: ToKey<K> + ?Sized,
    {
        Striped::new(self.counter(key))
    }

    /// A buffer that gathers what one thread adds and hands it over in fewer operations. See
    /// [`Buffer`].
    #[must_use]
    pub fn buffer(&self) -> Buffer<K, S> {
        Buffer::new(self.clone())
    }

    /// Pins once for many operations: each hit saves its own pin. Not to be kept: while it lives,
    /// nothing that has ended is freed in any store of this process. See [`Pinned`].
    #[must_use]
    pub fn pin(&self) -> Pinned<'_, K, S> {
        Pinned::new(self)
    }

    /// All live counters and the totals, exactly: at least what had been added when it began, at
    /// most what had been added when it ended, each unit once. Lock-free, O(capacity).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<K> {
        let [snapshot] = Snapshot::take(self.engine(), [0]);
        snapshot
    }

    /// The `n` largest counters, largest first. A snapshot, then a selection: O(capacity).
    #[must_use]
    pub fn top(&self, n: usize) -> Vec<(K, u64)>
    where
        K: Clone,
    {
        let snapshot = self.snapshot();
        snapshot.top(n).into_iter().map(|(key, count)| (key.clone(), count)).collect()
    }

    /// Where every unit is, exactly as in a [`snapshot`](Self::snapshot). O(capacity).
    #[must_use]
    pub fn totals(&self) -> Totals {
        let [totals] = Totals::take(self.engine(), [0]);
        totals
    }
}

impl<K, S> Clone for CounterStore<K, S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, S> fmt::Debug for CounterStore<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CounterStore")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("shards", &self.inner.engine.shards())
            .field("idle_ttl", &self.inner.engine.idle_ttl())
            .finish_non_exhaustive()
    }
}

// A panic of the user's code leaves the store whole: that is a promise, and tested.
impl<K, S> UnwindSafe for CounterStore<K, S> {}
impl<K, S> RefUnwindSafe for CounterStore<K, S> {}

/// A handle that does not keep its store alive. See [`CounterStore::downgrade`].
///
/// A listener gets one by way of a place that is filled once the store exists:
///
/// ```
/// use std::sync::{Arc, OnceLock};
///
/// use counterclock::{CounterStore, WeakStore};
///
/// let own = Arc::new(OnceLock::<WeakStore<String>>::new());
/// let seen = Arc::clone(&own);
/// let store = CounterStore::<String>::builder()
///     .capacity(1)
///     .on_removal(move |removal| {
///         if let Some(store) = seen.get().and_then(WeakStore::upgrade) {
///             println!("{} of {} left {}", removal.key, removal.count, store.len());
///         }
///     })
///     .build()?;
/// own.set(store.downgrade()).expect("set once");
/// store.increment("a");
/// # Ok::<(), counterclock::BuildError>(())
/// ```
pub struct WeakStore<K, S = RandomState>(Weak<Inner<K, S>>);

impl<K, S> WeakStore<K, S> {
    /// The store, if any other handle is left.
    #[must_use]
    pub fn upgrade(&self) -> Option<CounterStore<K, S>> {
        self.0.upgrade().map(|inner| CounterStore { inner })
    }
}

impl<K, S> Clone for WeakStore<K, S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, S> fmt::Debug for WeakStore<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakStore").field(&self.upgrade()).finish()
    }
}

impl<K, S> UnwindSafe for WeakStore<K, S> {}
impl<K, S> RefUnwindSafe for WeakStore<K, S> {}
