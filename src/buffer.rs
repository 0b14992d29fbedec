//! A thread's own gathering of increments.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};

use crate::cell::{Amount, USES_RANGE};
use crate::hash::{KeyHash, RandomState};
use crate::key::ToKey;
use crate::store::CounterStore;

/// Keys that a buffer holds, at most.
const KEYS: usize = 64;
/// Units that it holds, at most.
const UNITS: u64 = 1024;
/// Places of the table that finds a key's slot.
const PLACES: usize = 4 * KEYS;
const FREE: u8 = u8::MAX;
/// Uses that a count word tells apart.
const MOST_USES: u16 = USES_RANGE - 1;

/// Gathers what one thread adds, and hands it over to the store in fewer operations: a thousand
/// increments of one key become one. See [`CounterStore::buffer`].
///
/// A unit is added *when it is flushed*: until then no read, snapshot or total of the store has it,
/// and it is lost with the buffer if that is leaked. The buffer flushes itself before it would hold
/// more than 64 keys or 1,024 units, and when it is dropped. What is flushed counts for eviction
/// with all its uses. What the store rejects then is in its
/// [`Totals::rejected`](crate::Totals::rejected).
///
/// It holds keys, so it converts each once; and it keeps its store alive. `Send` and not `Sync`:
/// each thread has its own.
///
/// ```
/// let store = counterclock::CounterStore::<String>::new(100);
/// let buffer = store.buffer();
/// (0..1000).for_each(|_| buffer.increment("hot"));
/// assert_eq!((store.get("hot"), buffer.held()), (None, 1000));
/// buffer.flush();
/// assert_eq!((store.get("hot"), buffer.held()), (Some(1000), 0));
/// ```
pub struct Buffer<K, S = RandomState>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    store: CounterStore<K, S>,
    held: Cell<u64>,
    /// Borrowed while the user's `Hash`, `Eq` and conversions run: whoever comes back from there
    /// adds to the store itself.
    table: RefCell<Table<K>>,
}

// What a panic of the user's code leaves in it is what was not handed over.
impl<K, S> UnwindSafe for Buffer<K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
}
impl<K, S> RefUnwindSafe for Buffer<K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
}

struct Slot<K> {
    key: K,
    hash: KeyHash,
    amount: Amount,
}

struct Table<K> {
    /// In the order in which they came.
    slots: Vec<Slot<K>>,
    /// Open addressing: each place has the number of a slot.
    places: [u8; PLACES],
    /// The slot that was used last.
    last: usize,
}

impl<K> Table<K> {
    fn new() -> Self {
        Self { slots: Vec::with_capacity(KEYS), places: [FREE; PLACES], last: 0 }
    }

    /// The key's slot, or the place for it.
    fn find<Q: ToKey<K> + ?Sized>(&self, hash: KeyHash, key: &Q) -> Result<usize, usize> {
        let mut place = hash.below(PLACES);
        loop {
            let number = self.places[place];
            if number == FREE {
                return Err(place);
            }
            let slot = &self.slots[usize::from(number)];
            if slot.hash == hash && key.equivalent(&slot.key) {
                return Ok(usize::from(number));
            }
            place = (place + 1) % PLACES;
        }
    }
}

impl<K, S> Buffer<K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    pub(crate) fn new(store: CounterStore<K, S>) -> Self {
        Self { store, held: Cell::new(0), table: RefCell::new(Table::new()) }
    }

    /// The store that it adds to.
    #[must_use]
    pub fn store(&self) -> &CounterStore<K, S> {
        &self.store
    }

    /// Units that were not handed over yet.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.get()
    }

    /// Gathers one unit. A key that is used again and again is compared, not hashed.
    #[inline]
    pub fn increment<Q>(&self, key: &Q)
    where
        Q: ToKey<K> + ?Sized,
    {
        self.add(key, 1);
    }

    /// Gathers `n` units; more than 1,024 go to the store at once. With 0, a use.
    ///
    /// # Panics
    ///
    /// If the user's code does: `Hash`, `Eq`, a conversion, or a listener in a [`flush`](Self::flush)
    /// that this had to make room with. Then `n` was not gathered.
    #[inline]
    pub fn add<Q>(&self, key: &Q, n: u64)
    where
        Q: ToKey<K> + ?Sized,
    {
        if n > UNITS {
            self.store.add(key, n);
            return;
        }
        if n > UNITS - self.held.get() {
            self.flush();
        }
        if let Ok(mut table) = self.table.try_borrow_mut() {
            let last = table.last;
            if let Some(slot) = table.slots.get_mut(last)
                && slot.amount.uses < MOST_USES
                && key.equivalent(&slot.key)
            {
                slot.amount.units += n;
                slot.amount.uses += 1;
                self.held.set(self.held.get() + n);
                return;
            }
        }
        self.add_another(key, n);
    }

    /// Another key than the last one.
    fn add_another<Q>(&self, key: &Q, n: u64)
    where
        Q: ToKey<K> + ?Sized,
    {
        let hash = self.store.hash(key);
        let Ok(mut table) = self.table.try_borrow_mut() else {
            // From inside the user's code.
            self.store.add(key, n);
            return;
        };
        // Again: the user's `Hash` may have come back and gathered more.
        let fits = n <= UNITS - self.held.get();
        let number = match table.find(hash, key) {
            Ok(number) if fits && table.slots[number].amount.uses < MOST_USES => number,
            Err(place) if fits && table.slots.len() < KEYS => {
                let slot = Slot { key: key.to_key(), hash, amount: Amount { units: 0, uses: 0 } };
                table.places[place] = table.slots.len() as u8;
                table.slots.push(slot);
                table.slots.len() - 1
            }
            _ => {
                drop(table);
                self.flush();
                return self.add_another(key, n);
            }
        };
        table.last = number;
        let amount = &mut table.slots[number].amount;
        amount.units += n;
        amount.uses += 1;
        self.held.set(self.held.get() + n);
    }

    /// Hands everything over to the store.
    ///
    /// # Panics
    ///
    /// If the user's code does: `Eq`, or a listener. The units of that key are then counted, as
    /// rejected if it came to nothing else; the rest stays in the buffer.
    pub fn flush(&self) {
        let Ok(mut table) = self.table.try_borrow_mut() else { return };
        if table.slots.is_empty() {
            return;
        }
        table.places = [FREE; PLACES];
        table.last = 0;
        // From now on the oldest is the last.
        table.slots.reverse();
        while let Some(Slot { key, hash, amount }) = table.slots.pop() {
            self.held.set(self.held.get() - amount.units);
            self.store.hand_over(hash, key, amount);
        }
    }
}

impl<K, S> Drop for Buffer<K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    /// Hands over everything, whatever panics: the first panic goes on afterwards, unless one is on
    /// its way already.
    fn drop(&mut self) {
        let mut first = None;
        // Ends: each flush hands over at least one key.
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.flush())) {
            match first {
                None => first = Some(panic),
                // The payload's own `Drop` could panic.
                Some(_) => std::mem::forget(panic),
            }
        }
        match first {
            Some(panic) if !std::thread::panicking() => resume_unwind(panic),
            other => std::mem::forget(other),
        }
    }
}

impl<K, S> fmt::Debug for Buffer<K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("held", &self.held.get())
            .field("store", &self.store)
            .finish()
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_add_is_a_use() {
        let store = CounterStore::<u64>::new(4);
        let buffer = store.buffer();
        for (key, n) in [(1, 5), (1, 0), (2, 1), (1, 2), (2, 1), (2, 0)] {
            buffer.add(&key, n);
        }
        let table = buffer.table.borrow();
        let gathered = table.slots.iter().map(|slot| (slot.key, slot.amount)).collect::<Vec<_>>();
        let amount = |units, uses| Amount { units, uses };
        assert_eq!(gathered, [(1, amount(7, 3)), (2, amount(2, 3))]);
        drop(table);
        buffer.flush();
    }
}
