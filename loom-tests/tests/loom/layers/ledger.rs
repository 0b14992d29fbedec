// The ledger: each unit is in one place, at every instant. Owners credit one after the other, on
// the shard's `taken`; readers come in at any step of theirs.

use std::sync::Arc;

use loom::thread;

use super::tree::cell::{Cause, State};
use super::tree::clock_list::{HEED, Lists, Roster};
use super::tree::entry::Ref;
use super::tree::index::Index;
use super::tree::ledger::Ledger;
use super::tree::reclaim::{Guard, pin};
use crate::explore::explore;

use published::{Published, entry, hash};

include!("published.rs");

/// One bucket, one group, and the shard's owner.
struct Shard {
    index: Index<usize>,
    ledger: Ledger<usize>,
    roster: Roster<usize>,
}

/// Each key has other units and another cause, so that a sum says what is in it.
const UNITS: [u64; 3] = [1, 2, 4];
const ALL: u64 = 1 + 2 + 4;
const CAUSES: [Cause; 3] = [Cause::Capacity, Cause::Idle, Cause::Removed];

impl Shard {
    /// With a chain of the keys 2, 1 and 0.
    fn new() -> (Arc<Self>, [Published; 3]) {
        let roster = Roster::new(2, 1);
        let shard = Self { index: Index::new(0).unwrap(), ledger: Ledger::new(1, 1, 0), roster };
        let guard = pin();
        let entries = [0, 1, 2].map(|key| {
            let head = shard.index.find(hash(key), &key, &guard).head;
            let Ok(entry) = shard.index.insert(entry(key, UNITS[key]), head, &guard) else {
                panic!("nobody else is here yet");
            };
            Published::of(entry)
        });
        (Arc::new(shard), entries)
    }

    /// Runs `f` as the owner, if the shard is free, after burying what others have left.
    fn own(&self, f: impl FnOnce(&mut Lists<usize>, &Guard)) -> bool {
        let guard = pin();
        let owned = self.roster.own(|lists| {
            if lists.has_departures(&self.roster) {
                for _ in 0..HEED {
                    let Some(entry) = lists.next_departure(&guard) else { break };
                    self.bury(lists, entry, &guard);
                }
            }
            f(lists, &guard);
        });
        let is_owned = owned.is_some();
        if let Some(((), mut gone)) = owned {
            gone.free_notes(&guard);
        }
        is_owned
    }

    fn bury(&self, lists: &mut Lists<usize>, entry: Ref<'_, usize>, guard: &Guard) {
        let State::Ended(cause, units) = entry.cell().read() else {
            panic!("the seal is not to be seen");
        };
        self.ledger.credit(0, entry, (cause, units), &mut lists.pen, |pen| {
            self.index.unlink(entry, pen, guard);
        });
    }

    /// Ends a life as the store does.
    fn end(&self, entry: Published) {
        let entry = entry.get();
        entry.cell().seal(CAUSES[*entry.key()]).expect("the only sealer");
        if !self.own(|lists, guard| self.bury(lists, entry, guard)) {
            self.roster.depart(entry);
        }
    }

    /// As `Engine::read_group`: live units, and what has ended by cause.
    fn read(&self) -> (u64, [u64; 3]) {
        loop {
            if let Some(units) = self.try_read() {
                return units;
            }
        }
    }

    /// `None` where a credit went through meanwhile.
    fn try_read(&self) -> Option<(u64, [u64; 3])> {
        let guard = pin();
        let reading = self.ledger.read(0, &guard);
        let (mut live, mut units) = (0, reading.units);
        for entry in self.index.walk(0, &guard) {
            match entry.cell().read() {
                State::Live(count) => live += count,
                State::Ended(cause, count) if !reading.has(entry) => units[cause.index()] += count,
                State::Ended(..) => {}
            }
        }
        self.ledger.unchanged(0, &reading).then_some((live, units))
    }

    /// A reading during which some of the keys may end. What it says has ended.
    fn read_beside(&self, ending: &[usize]) -> [u64; 3] {
        let (live, ended) = self.read();
        is_whole(live, ended, ending);
        ended
    }

    /// When all threads have been joined.
    fn finish(self: Arc<Self>, entries: [Published; 3], ended: &[usize]) {
        assert!(self.own(|lists, _| assert!(!lists.has_work())), "nobody has it");
        let mut units = [0; 3];
        for &key in ended {
            units[CAUSES[key].index()] = UNITS[key];
        }
        let live = ALL - units.iter().sum::<u64>();
        assert_eq!(self.read(), (live, units), "each unit once");
        let left: Vec<_> = self.index.walk(0, &pin()).map(|entry| *entry.key()).collect();
        let living: Vec<_> = [2, 1, 0].into_iter().filter(|key| !ended.contains(key)).collect();
        assert_eq!(left, living, "what has ended is unlinked");
        entries.into_iter().for_each(Published::free);
    }
}

/// What was read while some of the keys may have ended.
fn is_whole(live: u64, ended: [u64; 3], ending: &[usize]) {
    assert_eq!(live + ended.iter().sum::<u64>(), ALL, "each unit once");
    for key in 0..3 {
        let may_be = if ending.contains(&key) { [0, UNITS[key]] } else { [0; 2] };
        assert!(may_be.contains(&ended[CAUSES[key].index()]), "each unit once");
    }
}

/// The head of a chain, and one below it.
pub(crate) fn a_credit_and_a_reader() {
    for key in [2, 0] {
        explore("ledger, a credit and a reader", 4, 10_000, move || {
            let (shard, entries) = Shard::new();
            let owner = {
                let (shard, entry) = (Arc::clone(&shard), entries[key]);
                thread::spawn(move || shard.end(entry))
            };
            shard.read_beside(&[key]);
            owner.join().unwrap();
            shard.finish(entries, &[key]);
        });
    }
}

/// Both copies of the totals are written while the reader is on its way.
pub(crate) fn two_credits_and_a_reader() {
    explore("ledger, two credits and a reader", 2, 10_000, || {
        let (shard, entries) = Shard::new();
        let owner = {
            let shard = Arc::clone(&shard);
            thread::spawn(move || [1, 2].into_iter().for_each(|key| shard.end(entries[key])))
        };
        shard.read_beside(&[1, 2]);
        owner.join().unwrap();
        shard.finish(entries, &[1, 2]);
    });
}

/// Owners one after the other, or one for both. One reading, which may come to nothing.
pub(crate) fn two_owners_and_a_reader() {
    explore("ledger, two owners and a reader", 2, 10_000, || {
        let (shard, entries) = Shard::new();
        let owners = [1, 0].map(|key| {
            let (shard, entry) = (Arc::clone(&shard), entries[key]);
            thread::spawn(move || shard.end(entry))
        });
        if let Some((live, ended)) = shard.try_read() {
            is_whole(live, ended, &[1, 0]);
        }
        owners.into_iter().for_each(|owner| owner.join().unwrap());
        shard.finish(entries, &[1, 0]);
    });
}

/// A reader that has ended a life itself sees it, whoever buries it, and sums never fall.
pub(crate) fn a_credit_and_a_reader_that_credits() {
    explore("ledger, a credit, and a credit and readings", 2, 5000, || {
        let (shard, entries) = Shard::new();
        let owner = {
            let (shard, entry) = (Arc::clone(&shard), entries[0]);
            thread::spawn(move || shard.end(entry))
        };
        shard.end(entries[1]);
        let [first, second] = [(); 2].map(|()| shard.read_beside(&[0, 1]));
        assert_eq!(first[CAUSES[1].index()], UNITS[1], "its own");
        assert!(first.iter().zip(second).all(|(first, second)| *first <= second), "a sum fell");
        owner.join().unwrap();
        shard.finish(entries, &[0, 1]);
    });
}
