//! A handle with a stripe of its own.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::num::NonZero;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cell::{self, Amount};
use crate::counter::Counter;
use crate::engine::Engine;
use crate::entry::Entry;
use crate::hash::RandomState;

/// A handle to one counter that several threads count on at once. See [`CounterStore::striped`].
///
/// Two threads that increment one atomic wait for each other's cache line. Each `Striped` adds to
/// lines of its own instead, so they do not meet: one `fetch_add`, wait-free without a TTL. In
/// return [`add`](Self::add) cannot say what the count is now. [`get`](Self::get), snapshots, totals
/// and the removal have the exact sum of all handles and of every other increment of the key; what
/// *others'* increments return includes what they found in the stripes one after the other, so
/// numbers may be left out or come twice, and of two adds a read may show the later alone.
///
/// The first handle gives the key's entry as many stripes as the machine has processors, 128 bytes
/// each, until its life ends. For a key that is counted by one thread at a time, use
/// [`counter`]. Everything else is as with [`Counter`]: never orphaned, does
/// not protect from eviction, keeps its store alive; `Send` and not `Sync`, so each thread takes a
/// clone, which gets another stripe. With more handles than stripes, those that were dropped
/// included, some share one.
///
/// With a TTL, the first add in each tick also counts on the common cell. What is rejected is in
/// [`Totals::rejected`](crate::Totals::rejected); to be told, use [`Counter::try_add`].
///
/// ```
/// let store = counterclock::CounterStore::<String>::new(100);
/// let striped = store.striped("hot");
/// std::thread::scope(|scope| {
///     for _ in 0..4 {
///         let striped = striped.clone();
///         scope.spawn(move || (0..1000).for_each(|_| striped.increment()));
///     }
/// });
/// assert_eq!(store.get("hot"), Some(4000));
/// ```
///
/// [`CounterStore::striped`]: crate::CounterStore::striped
/// [`counter`]: crate::CounterStore::counter
pub struct Striped<K: Send + Sync + 'static, S = RandomState> {
    counter: Counter<K, S>,
    /// In the entry that `counter` holds.
    stripe: Cell<Option<NonNull<cell::Cell>>>,
    /// Its number among the stripes of that entry, which is compared and not followed.
    number: Cell<Option<(NonNull<Entry<K>>, usize)>>,
    /// The tick in which this handle last counted on the common cell.
    tick: Cell<u64>,
    /// It is counting on the common cell: who comes back from the user's code takes no stripe.
    is_busy: Cell<bool>,
}

// SAFETY: the pointer leads into the entry that `counter`, which is `Send` on the same terms, holds
// wherever it goes.
unsafe impl<K: Send + Sync + 'static, S: Send + Sync> Send for Striped<K, S> {}

// As the counter in it.
impl<K: Send + Sync + 'static, S> UnwindSafe for Striped<K, S> {}
impl<K: Send + Sync + 'static, S> RefUnwindSafe for Striped<K, S> {}

/// As many stripes as threads can run at once.
fn stripes() -> usize {
    // Not a `OnceLock`: nobody waits for who asks first.
    static STRIPES: AtomicUsize = AtomicUsize::new(0);
    match STRIPES.load(Ordering::Relaxed) {
        0 => {
            let n = std::thread::available_parallelism().map_or(1, NonZero::get);
            STRIPES.store(n, Ordering::Relaxed);
            n
        }
        n => n,
    }
}

impl<K, S> Striped<K, S>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    pub(crate) fn new(counter: Counter<K, S>) -> Self {
        let (stripe, number) = (Cell::new(None), Cell::new(None));
        let (tick, is_busy) = (Cell::new(0), Cell::new(false));
        let striped = Self { counter, stripe, number, tick, is_busy };
        striped.take_stripe();
        striped
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &K {
        self.counter.key()
    }

    /// Counts one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `n` units. Progress as [`Counter::add`].
    #[inline]
    pub fn add(&self, n: u64) {
        if let Some(stripe) = self.stripe.get() {
            let time = self.counter.store().engine().time();
            if (time.is_none() || Engine::<K>::tick(time) == self.tick.get())
                // SAFETY: `counter` holds the entry, and the stripes are freed with it.
                && unsafe { stripe.as_ref() }.add(n).is_ok()
            {
                return;
            }
        }
        self.add_in_common(n);
    }

    /// On the common cell, of this entry or the next.
    #[cold]
    fn add_in_common(&self, n: u64) {
        struct Busy<'a>(&'a Cell<bool>);
        impl Drop for Busy<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        if self.is_busy.replace(true) {
            self.counter.add(n);
            return;
        }
        let busy = Busy(&self.is_busy);
        // The counter may let go of the entry.
        self.stripe.set(None);
        self.tick.set(Engine::<K>::tick(self.counter.store().engine().time()));
        self.counter.add(n);
        drop(busy);
        self.take_stripe();
    }

    /// Leaves the handle without a stripe where the entry has ended meanwhile.
    fn take_stripe(&self) {
        let Some(entry) = self.counter.entry() else { return };
        let all = entry.stripes_or_make(stripes());
        let this = NonNull::from(entry);
        let number = match self.number.get() {
            Some((entry, number)) if entry == this => number,
            _ => all.number(),
        };
        self.number.set(Some((this, number)));
        // Its sealer sees this, and with it the stripes.
        if entry.cell().add_amount(Amount::NOTHING).is_ok() {
            self.stripe.set(Some(NonNull::from(all.cell(number))));
        }
    }

    /// The exact count, if the key is live. Does not count as use. O(stripes).
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        self.counter.get()
    }
}

impl<K, S> Clone for Striped<K, S>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    /// A handle for another thread, with a stripe of its own. Does not count as use.
    fn clone(&self) -> Self {
        Self::new(self.counter.clone())
    }
}

impl<K: fmt::Debug + Send + Sync + 'static, S> fmt::Debug for Striped<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Striped").field("counter", &self.counter).finish_non_exhaustive()
    }
}
