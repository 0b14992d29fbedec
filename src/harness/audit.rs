//! Books that are kept outside the store, for calls from many threads at once.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::model::Map;
use super::validate;
use crate::{Cause, CounterStore, MAX_COUNT, Rejected, Removal, Stats, Totals};

/// What callers added and were told, and what the listener heard. A clone keeps the same books.
///
/// Every call that counts, and every removal, goes through [`add`](Self::add) and
/// [`remove`](Self::remove), from any thread; the store's listener calls [`ended`](Self::ended).
/// Then [`check`](Self::check) holds the store to its promises: every unit is in exactly one place,
/// each life ended in one report with its exact count, and within a life the counts that callers
/// were told are those of one add after the other, without gap or repeat.
///
/// Making a [`Counter`](crate::Counter) admits its key and may be rejected, so it is such a call, of
/// no units: `audit.add(&key, 0, || handles.push(store.counter(&key)))`. `n` is what is really handed
/// to the store, also where it is rejected.
///
/// No count may saturate, and all units together stay below 2^63. It remembers every call, so it is
/// for runs of some thousands.
///
/// ```
/// use counterclock::CounterStore;
/// use counterclock::harness::Audit;
///
/// let audit = Audit::new();
/// let heard = audit.clone();
/// let builder = CounterStore::<u64>::builder().capacity(2);
/// let store = builder.on_removal(move |end| heard.ended(end)).build()?;
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| {
///             for key in [1, 2, 3, 1] {
///                 audit.add(&key, 1, || store.increment(&key));
///             }
///             audit.totals(|| store.totals());
///         });
///     }
/// });
/// audit.check(&store);
/// # Ok::<(), counterclock::BuildError>(())
/// ```
pub struct Audit<K>(Arc<Books<K>>);

struct Books<K> {
    /// Units of calls that have begun, and of those that have returned.
    begun: AtomicU64,
    done: AtomicU64,
    /// The largest sum that anybody was shown.
    shown: AtomicU64,
    log: Mutex<Log<K>>,
}

struct Log<K> {
    adds: Vec<(K, u64, Told)>,
    removes: Vec<(K, u64)>,
    ends: Vec<(K, u64, Cause)>,
}

/// What a call that counts was answered. Sealed: it is implemented for what the store answers.
pub trait Answer {
    /// What it says of an add of `n` units.
    #[doc(hidden)]
    fn told(&self, n: u64) -> Told;
}

/// What an answer says.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Counted(u64),
    Rejected,
    /// Counted as the first of a life, or rejected.
    FirstOrRejected,
    Nothing,
}

/// Of the `try_` calls.
impl Answer for Result<u64, Rejected> {
    fn told(&self, _: u64) -> Told {
        self.map_or(Told::Rejected, Told::Counted)
    }
}

/// The same by way of [`Result::ok`].
impl Answer for Option<u64> {
    fn told(&self, _: u64) -> Told {
        self.map_or(Told::Rejected, Told::Counted)
    }
}

/// Of the other calls: the count, or `n` where it was rejected.
impl Answer for u64 {
    fn told(&self, n: u64) -> Told {
        if *self == n { Told::FirstOrRejected } else { Told::Counted(*self) }
    }
}

/// Where the caller is not told.
impl Answer for () {
    fn told(&self, _: u64) -> Told {
        Told::Nothing
    }
}

impl<K> Clone for Audit<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Audit<K> {
    fn default() -> Self {
        Self(Arc::new(Books {
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            shown: AtomicU64::new(0),
            log: Mutex::new(Log { adds: Vec::new(), removes: Vec::new(), ends: Vec::new() }),
        }))
    }
}

impl<K> fmt::Debug for Audit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("added", &self.0.done).finish_non_exhaustive()
    }
}

impl<K: Clone + Hash + Eq + Debug> Audit<K> {
    /// Empty books.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn log(&self) -> MutexGuard<'_, Log<K>> {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the store's listener.
    pub fn ended(&self, end: &Removal<'_, K>) {
        self.log().ends.push((end.key.clone(), end.count, end.cause));
    }

    /// Makes a call that counts `n` units under `key`, and notes what it answered.
    pub fn add<A: Answer>(&self, key: &K, n: u64, call: impl FnOnce() -> A) -> A {
        self.0.begun.fetch_add(n, Ordering::SeqCst);
        let answer = call();
        self.0.done.fetch_add(n, Ordering::SeqCst);
        self.log().adds.push((key.clone(), n, answer.told(n)));
        answer
    }

    /// Makes a call that removes `key`, and notes what it answered.
    pub fn remove(&self, key: &K, call: impl FnOnce() -> Option<u64>) -> Option<u64> {
        let count = call();
        self.log().removes.extend(count.map(|count| (key.clone(), count)));
        count
    }

    /// Takes totals, or those of a snapshot: at least what had been added when that began, at most
    /// what had been added when it ended, and never less than anybody was shown before.
    ///
    /// # Panics
    ///
    /// If they are not.
    pub fn totals(&self, call: impl FnOnce() -> Totals) -> Totals {
        let Books { begun, done, shown, .. } = &*self.0;
        let least = done.load(Ordering::SeqCst).max(shown.load(Ordering::SeqCst));
        let totals = call();
        let most = begun.load(Ordering::SeqCst);
        let recorded = totals.recorded;
        assert!((least..=most).contains(&recorded), "{recorded}, not in {least}..={most}");
        shown.fetch_max(recorded, Ordering::SeqCst);
        totals
    }

    /// Balances the books of a store, with nothing in flight, and looks at its insides.
    ///
    /// The store was empty when the books were opened. May be called again.
    ///
    /// # Panics
    ///
    /// If the books do not balance, or if [`validate`](super::validate) does.
    pub fn check<S>(&self, store: &CounterStore<K, S>)
    where
        K: Send + Sync + 'static,
        S: BuildHasher,
    {
        validate(store);
        // First: it ends idle lives, which the log hears of.
        let snapshot = store.snapshot();
        let (totals, stats) = (snapshot.totals(), store.stats());
        let log = self.log();
        assert_eq!((store.len(), snapshot.len()), (snapshot.len(), lives(&log, stats)), "lives");
        log.check_ends(totals, stats);
        assert_eq!(totals.recorded, log.adds.iter().map(|add| add.1).sum::<u64>(), "all units");
        let books = log.by_key(snapshot.iter());
        let untold =
            books.iter().map(|(key, book)| book.check(key)).fold(Untold::default(), Untold::and);
        log.check_rejections(totals, stats, untold);
    }
}

/// Lives that must still last.
fn lives<K>(log: &Log<K>, stats: Stats) -> usize {
    stats.admitted as usize - log.ends.len()
}

/// What concerns one key.
#[derive(Debug, Default)]
struct Book {
    /// Units of calls that were counted for sure, and of those that may have been.
    counted: u64,
    perhaps: u64,
    /// The counts before and after each call that was counted for sure.
    steps: Vec<(u64, u64)>,
    /// Calls that were the first of a life or rejected, by their units.
    firsts: BTreeMap<u64, u64>,
    /// Calls with units of which nothing is known, and calls of no units that may have been
    /// rejected.
    blind: u64,
    empty: u64,
    /// The final counts, and that of a live one.
    finals: Vec<u64>,
    /// Reports of removals, less what callers of `remove` were told.
    removed: BTreeMap<u64, i64>,
}

/// What was rejected and nobody was told of.
#[derive(Clone, Copy, Default)]
struct Untold {
    units: u64,
    /// At least and at most.
    calls: (u64, u64),
}

impl Untold {
    fn and(self, other: Self) -> Self {
        let calls = (self.calls.0 + other.calls.0, self.calls.1 + other.calls.1);
        Self { units: self.units + other.units, calls }
    }
}

impl<K: Clone + Hash + Eq + Debug> Log<K> {
    fn check_ends(&self, totals: Totals, stats: Stats) {
        let causes = [
            (Cause::Capacity, totals.evicted, stats.evicted),
            (Cause::Idle, totals.expired, stats.expired),
            (Cause::Removed, totals.removed, stats.removed),
        ];
        for (cause, units, lives) in causes {
            let heard = self.ends.iter().filter(|end| end.2 == cause);
            let heard = heard.fold((0, 0), |(units, lives), end| (units + end.1, lives + 1));
            assert_eq!(heard, (units, lives), "units and lives ended by {cause:?}");
        }
    }

    fn check_rejections(&self, totals: Totals, stats: Stats, untold: Untold) {
        let told = self.adds.iter().filter(|add| add.2 == Told::Rejected);
        let (calls, units) = told.fold((0, 0), |(calls, units), add| (calls + 1, units + add.1));
        assert_eq!(totals.rejected, units + untold.units, "units rejected");
        let range = calls + untold.calls.0..=calls + untold.calls.1;
        let rejections = stats.rejections;
        assert!(
            range.contains(&rejections),
            "{rejections} rejections, not {range:?}; was each call that may be rejected, such as making \
             a `Counter`, put through `add`?"
        );
    }

    fn by_key<'a>(&'a self, live: impl Iterator<Item = (&'a K, u64)>) -> Map<&'a K, Book> {
        let mut books = Map::<&K, Book>::default();
        for (key, n, told) in &self.adds {
            let book = books.entry(key).or_default();
            match *told {
                Told::Counted(count) => {
                    assert!((*n..=MAX_COUNT).contains(&count), "{count} after adding {n}");
                    book.counted += n;
                    book.steps.push((count - n, count));
                }
                Told::FirstOrRejected | Told::Nothing if *n == 0 => book.empty += 1,
                Told::FirstOrRejected => {
                    book.perhaps += n;
                    *book.firsts.entry(*n).or_default() += 1;
                }
                Told::Nothing => {
                    book.perhaps += n;
                    book.blind += 1;
                }
                Told::Rejected => {}
            }
        }
        for (key, count, cause) in &self.ends {
            let book = books.entry(key).or_default();
            book.finals.push(*count);
            if *cause == Cause::Removed {
                *book.removed.entry(*count).or_default() += 1;
            }
        }
        for (key, count) in &self.removes {
            *books.entry(key).or_default().removed.entry(*count).or_default() -= 1;
        }
        live.for_each(|(key, count)| books.entry(key).or_default().finals.push(count));
        books
    }
}

impl Book {
    /// What is missing was rejected.
    fn check(&self, key: &impl Debug) -> Untold {
        let sum: u64 = self.finals.iter().sum();
        let range = self.counted..=self.counted + self.perhaps;
        assert!(range.contains(&sum), "{key:?}: {sum} units in its lives, not {range:?}");
        let told_in_vain = self.removed.iter().find(|(_, reports)| **reports < 0);
        assert_eq!(told_in_vain, None, "{key:?}: removals that nobody reported");
        let units = self.counted + self.perhaps - sum;
        let (least, most) = if self.blind == 0 {
            let rejected = self.check_steps(key);
            (rejected, rejected)
        } else if units == 0 {
            (0, 0)
        } else {
            (1, self.blind + self.firsts.values().sum::<u64>())
        };
        Untold { units, calls: (least, most + self.empty) }
    }

    /// Each life is a path from 0 to its final count, and each call that was counted one step of
    /// one path: so every count is reached as often as it is left, ends included. Where it is
    /// reached more often, that many of the calls that may have led there from 0 were rejected;
    /// returns how many. What is true of all other counts is true of 0 as well.
    fn check_steps(&self, key: &impl Debug) -> u64 {
        let mut at = BTreeMap::<u64, i64>::new();
        for (&count, &calls) in &self.firsts {
            *at.entry(count).or_default() += calls as i64;
        }
        for &(before, after) in &self.steps {
            *at.entry(before).or_default() -= 1;
            *at.entry(after).or_default() += 1;
        }
        for &last in &self.finals {
            *at.entry(last).or_default() -= 1;
        }
        at.remove(&0);
        let rejected = at.iter().map(|(count, &balance)| {
            let firsts = self.firsts.get(count).copied().unwrap_or(0);
            let rejected = u64::try_from(balance).ok().filter(|rejected| *rejected <= firsts);
            rejected.unwrap_or_else(|| {
                panic!("{key:?}: {count} was skipped or told twice, by {balance}: {self:?}")
            })
        });
        rejected.sum()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Two keys, four lives, books that balance.
    fn balanced() -> (CounterStore<u64>, Audit<u64>) {
        let audit = Audit::new();
        let heard = audit.clone();
        let builder = CounterStore::builder().capacity(1);
        let store = builder.on_removal(move |end| heard.ended(end)).build().expect("valid");
        for key in [1, 2, 1, 1] {
            audit.add(&key, 3, || store.add(&key, 3));
        }
        audit.remove(&1, || store.remove(&1));
        let result = audit.add(&1, 1, || store.try_increment(&1));
        assert_eq!(result, Ok(1));
        audit.check(&store);
        (store, audit)
    }

    fn fails(store: &CounterStore<u64>, audit: &Audit<u64>) -> bool {
        catch_unwind(AssertUnwindSafe(|| audit.check(store))).is_err()
    }

    #[test]
    fn notices_each_kind_of_error() {
        type Err = fn(&CounterStore<u64>, &mut Log<u64>);
        let errors: &[(&str, Err)] = &[
            ("a unit was lost", |_, log| log.adds.push((1, 1, Told::Counted(2)))),
            ("a unit came from nowhere", |store, _| assert_eq!(store.increment(&1), 2)),
            ("a count twice", |_, log| log.adds[3].2 = Told::Counted(3)),
            ("a count was skipped", |_, log| log.adds[3].2 = Told::Counted(7)),
            ("units under the wrong key", |_, log| log.adds[1].0 = 3),
            ("no report", |_, log| log.ends.truncate(1)),
            ("two reports", |_, log| log.ends.push(log.ends[0])),
            ("a wrong count in a report", |_, log| log.ends[0].1 += 1),
            ("a wrong cause", |_, log| log.ends[0].2 = Cause::Idle),
            ("a wrong key in a report", |_, log| log.ends[0].0 = 2),
            ("a removal of nothing", |_, log| log.removes.push((2, 3))),
            ("a rejection that was none", |_, log| log.adds[4].2 = Told::Rejected),
        ];
        for (name, err) in errors {
            let (store, audit) = balanced();
            err(&store, &mut audit.log());
            assert!(fails(&store, &audit), "{name}");
        }
    }

    #[test]
    fn notices_totals_that_are_off() {
        let (store, audit) = balanced();
        for recorded in [12, 14] {
            let wrong = || audit.totals(|| Totals { recorded, ..store.totals() });
            assert!(catch_unwind(AssertUnwindSafe(wrong)).is_err());
        }
        audit.totals(|| store.totals());
    }

    /// Units of three keys were rejected, and callers were not told.
    fn rejecting() -> (CounterStore<u64>, Audit<u64>) {
        let audit = Audit::new();
        let heard = audit.clone();
        let builder = CounterStore::builder().capacity(1).slack(0);
        let store = builder.on_removal(move |end| heard.ended(end)).build().expect("valid");
        for (key, n) in [(1, 5), (2, 5), (2, 5), (1, 5), (1, 5), (3, 7), (4, 0)] {
            audit.add(&key, n, || store.add(&key, n));
        }
        assert_eq!((store.stats().rejections, store.totals().rejected), (4, 17));
        audit.check(&store);
        (store, audit)
    }

    #[test]
    fn rejections_that_nobody_was_told_of_are_allowed_for() {
        let (store, audit) = rejecting();
        audit.add(&1, 5, || {
            store.add(&1, 5);
        });
        audit.add(&2, 5, || {
            store.add(&2, 5);
        });
        audit.check(&store);
        assert_eq!(audit.add(&2, 1, || store.try_increment(&2).ok()), None);
        assert_eq!(audit.log().adds.last(), Some(&(2, 1, Told::Rejected)));
        assert!(audit.add(&2, 1, || store.try_increment(&2)).is_err());
        assert_eq!(audit.log().adds.last(), Some(&(2, 1, Told::Rejected)));
        audit.check(&store);
    }

    #[test]
    fn rejections_that_nobody_was_told_of_hide_nothing() {
        type Err = fn(&mut Log<u64>);
        let errors: &[(&str, Err)] = &[
            ("a count twice", |log| log.adds[4].2 = Told::Counted(10)),
            ("a count was skipped", |log| log.adds[4].2 = Told::Counted(20)),
            ("a life that began with a skip", |log| (log.adds[0].1, log.adds[5].1) = (7, 5)),
            ("a rejection told as counted", |log| {
                log.adds[1].1 = 10;
                log.adds[5] = (1, 2, Told::Counted(2));
            }),
            ("more calls rejected", |log| {
                log.adds[1].1 = 1;
                log.adds.extend([(2, 2, Told::FirstOrRejected); 2]);
            }),
            ("fewer calls rejected", |log| {
                log.adds[1].1 = 10;
                log.adds.swap_remove(2);
            }),
        ];
        for (name, err) in errors {
            let (store, audit) = rejecting();
            err(&mut audit.log());
            assert!(fails(&store, &audit), "{name}");
        }
    }

    #[test]
    fn units_that_no_key_misses_were_not_rejected() {
        let (store, audit) = rejecting();
        for rejected in [16, 18] {
            let totals = Totals { rejected, ..store.totals() };
            let untold = Untold { units: 17, calls: (3, 4) };
            let check = || audit.log().check_rejections(totals, store.stats(), untold);
            assert!(catch_unwind(AssertUnwindSafe(check)).is_err());
        }
    }
}
