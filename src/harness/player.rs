//! Plays calls on many threads at once.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::Hash;
use std::hint::spin_loop;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_utils::CachePadded;

use super::game::{KEPT, drain};
use super::model::Map;
use super::{Audit, Config, FewBits, Op, Units, Way};
use crate::quanta::Mock;
use crate::reclaim::{Guard, pin};
use crate::{Counter, CounterStore, Snapshot};

/// Units of one add: small enough that no count saturates, large enough for both ways to add.
const UNITS: u64 = (1 << 33) - 1;

/// Calls between two meetings of all threads.
const TOGETHER: usize = 4;
/// Looks at the others before a thread that waits for them gives its core away.
const SPINS: u32 = 1000;

/// What the target `concurrent` draws. Not an array of two: `arbitrary` leaves the last element of
/// an array empty when it takes the rest of the input.
#[doc(hidden)]
pub type TwoSequences<K> = (Config, Vec<Op<K>>, Vec<Op<K>>);

/// Plays each sequence on a thread of its own, all at once on one store. Every call holds the cap;
/// in the end the books of an [`Audit`] balance, and all memory comes back.
///
/// Units are taken modulo 2^33. Waits for pins of other threads.
///
/// # Panics
///
/// If no store can be built from the configuration, or if a promise was broken.
pub fn play_at_once<K>(config: Config, sequences: &[Vec<Op<K>>])
where
    K: Clone + Hash + Eq + Debug + Send + Sync + 'static,
{
    let audit = Audit::new();
    let heard = audit.clone();
    let (builder, time) = config.builder();
    let store = builder.on_removal(move |end| heard.ended(end)).build();
    let store = store.unwrap_or_else(|error| panic!("{config:?}: {error}"));
    let play = |ops: &[Op<K>], seat: Seat<'_>| {
        let mut player = Player::new(&config, &store, &audit, &time);
        for calls in ops.chunks(TOGETHER) {
            seat.meet();
            for op in calls {
                player.step(op);
                assert!(store.len() <= config.capacity, "above the cap");
            }
        }
        drop(seat);
    };
    let rounds: Box<[Round]> = sequences.iter().map(|_| Round::default()).collect();
    // All before the first thread: if one cannot be started, its seat is dropped, too.
    let seats: Vec<_> = (0..rounds.len()).map(|own| Seat { rounds: &rounds, own }).collect();
    thread::scope(|scope| {
        let play = &play;
        let each = sequences.iter().zip(seats);
        let threads = each.map(|(ops, seat)| scope.spawn(move || play(ops, seat)));
        let threads: Vec<_> = threads.collect();
        // The scope waits for the closures alone, and a leak checker would see a thread half gone.
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    audit.check(&store);
    store.clear();
    drain(&store);
    audit.check(&store);
}

/// How often a thread has come to meet the others; [`LEFT`] when it will not come again. Relaxed
/// throughout: no call of one thread shall be ordered after one of another by it.
type Round = CachePadded<AtomicU64>;

const LEFT: u64 = u64::MAX;

/// A thread's place among those that meet. It leaves when this is dropped, also by a panic.
///
/// Threads that wait in a lock are woken one after the other, and by then the first has made all
/// of its few calls. So they spin, and meet again every few calls.
struct Seat<'a> {
    rounds: &'a [Round],
    own: usize,
}

impl Seat<'_> {
    /// Waits until each of the others has come as often, or has left.
    fn meet(&self) {
        let round = self.rounds[self.own].fetch_add(1, Ordering::Relaxed) + 1;
        for other in self.rounds {
            let mut spins = 0;
            while other.load(Ordering::Relaxed) < round {
                if spins < SPINS {
                    spins += 1;
                    spin_loop();
                } else {
                    thread::yield_now();
                }
            }
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.rounds[self.own].store(LEFT, Ordering::Relaxed);
    }
}

/// One thread's calls, and what it keeps.
struct Player<'a, K: Send + Sync + 'static> {
    config: &'a Config,
    store: &'a CounterStore<K, FewBits>,
    audit: &'a Audit<K>,
    time: &'a Mock,
    guard: Option<Guard>,
    counters: VecDeque<Counter<K, FewBits>>,
    snapshots: VecDeque<Snapshot<K>>,
}

impl<'a, K> Player<'a, K>
where
    K: Clone + Hash + Eq + Debug + Send + Sync + 'static,
{
    fn new(
        config: &'a Config,
        store: &'a CounterStore<K, FewBits>,
        audit: &'a Audit<K>,
        time: &'a Mock,
    ) -> Self {
        let (counters, snapshots) = (VecDeque::new(), VecDeque::new());
        Self { config, store, audit, time, guard: None, counters, snapshots }
    }

    fn step(&mut self, op: &Op<K>) {
        let Self { store, audit, .. } = *self;
        match op {
            Op::Add { way, key, units } => self.add(*way, key, *units),
            Op::Get { way, key } => {
                let _ = match (way, self.counters.front()) {
                    (Way::Counter, Some(counter)) => counter.get(),
                    (Way::Pinned, _) => store.pin().get(key),
                    _ => store.get(key),
                };
            }
            Op::Contains { key } => drop(store.contains(key)),
            Op::Remove { key } => drop(audit.remove(key, || store.remove(key))),
            Op::Batch { parts } => {
                let pinned = store.pin();
                for (key, units) in parts {
                    let n = units.get() & UNITS;
                    audit.add(key, n, || pinned.add(key, n));
                }
            }
            Op::Counter { key } => {
                audit.add(key, 0, || self.counters.push_front(store.counter(key)));
                self.counters.truncate(KEPT);
            }
            Op::CloneCounter => {
                self.counters.extend(self.counters.front().cloned());
                self.counters.truncate(KEPT);
            }
            Op::DropCounter => drop(self.counters.pop_front()),
            Op::Pin => self.guard = Some(pin()),
            Op::Unpin => self.guard = None,
            Op::KeepSnapshot => self.snapshot(),
            Op::DropSnapshot => drop(self.snapshots.pop_front()),
            Op::Top { n } => {
                let top = store.top(usize::from(*n));
                assert!(top.len() <= usize::from(*n));
                assert!(top.is_sorted_by_key(|(_, count)| Reverse(*count)), "{top:?}");
            }
            Op::Totals => drop(audit.totals(|| store.totals())),
            Op::Clear => store.clear(),
            Op::Prune => drop(store.prune()),
            Op::Advance { .. } | Op::Outlast { .. } => self.time.increment(self.config.wait(op)),
        }
    }

    fn add(&self, way: Way, key: &K, units: Units) {
        let (store, n) = (self.store, units.get() & UNITS);
        match (way, self.counters.front()) {
            (Way::Try, _) => drop(self.audit.add(key, n, || store.try_add(key, n))),
            (Way::Owned, _) => {
                self.audit.add(key, 1, || store.increment_owned(key.clone()));
            }
            (Way::Pinned, _) => {
                self.audit.add(key, n, || store.pin().add(key, n));
            }
            (Way::Counter, Some(counter)) => {
                self.audit.add(counter.key(), n, || counter.add(n));
            }
            (Way::Counter | Way::Store, _) => {
                self.audit.add(key, n, || store.add(key, n));
            }
        }
    }

    /// No key twice, and the counters shown are the live units.
    fn snapshot(&mut self) {
        let mut taken = None;
        self.audit.totals(|| taken.insert(self.store.snapshot()).totals());
        let Some(snapshot) = taken else { return };
        let shown: Map<_, _> = snapshot.iter().collect();
        assert_eq!(shown.len(), snapshot.len(), "a key twice");
        assert_eq!(shown.values().sum::<u64>(), snapshot.totals().live);
        self.snapshots.push_front(snapshot);
        self.snapshots.truncate(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arbitrary::{Arbitrary, Unstructured};

    use super::*;

    #[test]
    fn each_seed_has_calls_for_both_threads() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        if !fuzz.exists() {
            // The published package is without it.
            return;
        }
        for seed in 0..5 {
            let seed = fuzz.join(format!("corpus/concurrent/seed-{seed}"));
            let bytes = std::fs::read(&seed).expect("a seed of the repository");
            let input = TwoSequences::<u8>::arbitrary_take_rest(Unstructured::new(&bytes));
            let (_, one, two) = input.expect("enough bytes");
            assert!(one.len().min(two.len()) >= TOGETHER, "{seed:?}: {one:?}, {two:?}");
        }
    }

    #[test]
    fn threads_meet_until_one_leaves_or_panics() {
        for panics in [false, true] {
            let rounds: [Round; 2] = Default::default();
            let visit = |seat: Seat<'_>, times: u64| {
                for nth in 1..=times {
                    seat.meet();
                    let other = rounds[1 - seat.own].load(Ordering::Relaxed);
                    assert!(other >= nth, "not waited for: {other} of {nth}");
                }
                assert!(!panics || seat.own == 0, "leaves");
            };
            let [stays, leaves] = [0, 1].map(|own| Seat { rounds: &rounds, own });
            let met = thread::scope(|scope| {
                let threads = [(stays, 200), (leaves, 100)]
                    .map(|(seat, times)| scope.spawn(move || visit(seat, times)));
                threads.map(|thread| thread.join().is_ok())
            });
            assert_eq!(met, [true, !panics]);
        }
    }
}
