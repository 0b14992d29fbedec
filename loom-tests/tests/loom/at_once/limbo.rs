// Who frees: the last to let go, whoever that is, once, after all others. What is deferred is done
// at once here, so whoever touched an entry that it had let go of would be seen.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::tree::cell::{Amount, Cause};
use super::tree::clock_list::{Gone, Roster};
use super::tree::entry::{CORE, Entry, HANDLE, REPORT, Ref, SHARD};
use super::tree::hash::KeyHash;
use super::tree::limbo::Limbo;
use super::tree::reclaim::pin;
use crate::explore::explore;

const KEY: usize = 7;

/// An entry in a slot and in a shard's lists, of which each thread has some of the holds.
#[derive(Clone)]
struct Held {
    limbo: Arc<Limbo<usize>>,
    roster: Arc<Roster<usize>>,
    entry: *mut Entry<usize>,
}

// SAFETY: entries are there to be shared, and this one lives while anybody has a hold on it.
unsafe impl Send for Held {}

impl Held {
    fn new(holds: u64) -> Self {
        Self::within(&Arc::new(Limbo::new(1, 0, 0)), &Arc::new(Roster::new(1, 1)), holds)
    }

    fn within(limbo: &Arc<Limbo<usize>>, roster: &Arc<Roster<usize>>, holds: u64) -> Self {
        let (limbo, roster) = (Arc::clone(limbo), Arc::clone(roster));
        let hash = KeyHash::mixed(KEY as u64);
        limbo.slot_now(0).expect("there is one").attach();
        let mut entry = Box::new(Entry::new(hash, KEY, None, holds));
        entry.prepare(Amount::once(1), 0, None);
        let held = Self { limbo, roster, entry: Box::into_raw(entry) };
        held.roster.arrive(held.get());
        let gone = held.roster.own(|_| ()).expect("nobody else has it").1;
        assert!(gone.is_nothing());
        held
    }

    fn get(&self) -> Ref<'_, usize> {
        // SAFETY: the caller has a hold.
        unsafe { Ref::new(self.entry) }.unwrap()
    }

    /// The owner of the shard ends the life and lets go of the entry: all of it but the free.
    fn bury(&self) -> Gone<usize> {
        self.get().seal(Cause::Removed).expect("the only sealer");
        let ((), gone) = self.roster.own(|lists| lists.bury(self.get())).expect("the only owner");
        gone
    }

    /// When the shard is free again.
    fn free(self, gone: Gone<usize>) {
        self.limbo.let_go_of(0, gone, &pin());
    }

    /// The report's last look at the entry, then it lets go.
    fn let_go_of_report(self) {
        assert_eq!(*self.get().key(), KEY);
        // SAFETY: the hold is this thread's.
        unsafe { self.limbo.let_go(self.get(), REPORT, &pin()) };
    }

    fn let_go_handle(self) {
        assert_eq!(*self.get().key(), KEY);
        // SAFETY: the hold is this thread's.
        unsafe { self.limbo.let_go_handle(self.get().as_non_null()) };
    }

    /// As a clone of a handle, or by who has found the entry: one more hold, or none where the store
    /// has let go.
    fn hold(&self) -> Option<Self> {
        self.get().hold().then(|| self.clone())
    }
}

/// Its slot went back, and may be had again.
fn is_free(limbo: &Limbo<usize>) {
    assert_eq!(limbo.exist(), 0, "its slot went back, once");
    assert!(limbo.slot_now(0).is_some());
}

/// loom itself sees to it that the entry does not leak and is not freed twice.
pub(crate) fn all_holders_let_go() {
    explore("limbo, the owner, a report and a handle let go", 8, 500, || {
        let held = Held::new(CORE + HANDLE);
        let limbo = Arc::clone(&held.limbo);
        let report = {
            let held = held.clone();
            thread::spawn(move || held.let_go_of_report())
        };
        let handle = {
            let held = held.clone();
            thread::spawn(move || held.let_go_handle())
        };
        let gone = held.bury();
        held.free(gone);
        [report, handle].into_iter().for_each(|thread| thread.join().unwrap());
        is_free(&limbo);
    });
}

pub(crate) fn handles_against_the_store() {
    explore("limbo, a handle, its clone and the store let go", 4, 1000, || {
        let held = Held::new(CORE + 2 * HANDLE);
        let limbo = Arc::clone(&held.limbo);
        let handle = {
            let held = held.clone();
            thread::spawn(move || held.let_go_handle())
        };
        let cloner = {
            let held = held.clone();
            thread::spawn(move || {
                let clone = held.hold();
                held.let_go_handle();
                if let Some(clone) = clone {
                    clone.let_go_handle();
                }
            })
        };
        let gone = held.bury();
        held.clone().free(gone);
        held.let_go_of_report();
        // From here on the entry is no more than its handles' memory.
        assert_eq!(limbo.exist(), 0, "its slot went back, once");
        [handle, cloner].into_iter().for_each(|thread| thread.join().unwrap());
        is_free(&limbo);
    });
}

/// Who has found the entry takes a hold while it is being buried, and lets go while it is freed.
pub(crate) fn a_handle_taken_before_the_free() {
    explore("limbo, a handle taken before the free", 8, 200, || {
        let held = Held::new(SHARD);
        let limbo = Arc::clone(&held.limbo);
        let finder = {
            let held = held.clone();
            thread::spawn(move || held.hold())
        };
        let gone = held.bury();
        // The grace period.
        let handle = finder.join().unwrap();
        let holder = thread::spawn(move || handle.map_or((), Held::let_go_handle));
        held.free(gone);
        assert_eq!(limbo.exist(), 0, "its slot went back, once");
        holder.join().unwrap();
        is_free(&limbo);
    });
}

/// Both are let go of last by reports, and come into limbo one on top of the other: who takes them
/// sees the whole stack as it was pushed.
pub(crate) fn two_that_are_let_go_of_at_once() {
    explore("limbo, two reports let go of two entries", 8, 3000, || {
        let (limbo, roster) = (Arc::new(Limbo::new(2, 0, 0)), Arc::new(Roster::new(2, 2)));
        let both = [(); 2].map(|()| Held::within(&limbo, &roster, CORE));
        // A batch of both: the later one has a link to the other from here on.
        let ((), gone) = roster
            .own(|lists| {
                both.iter().for_each(|held| {
                    held.get().seal(Cause::Removed).expect("the only sealer");
                    lists.bury(held.get());
                });
            })
            .expect("the only owner");
        let [first, second] = both;
        first.clone().free(gone);
        let other = thread::spawn(move || first.let_go_of_report());
        second.let_go_of_report();
        other.join().unwrap();
        is_free(&limbo);
    });
}

/// What was done to the memory of the last entry in a slot is seen by who takes it next.
pub(crate) fn a_slot_publishes() {
    explore("limbo, what a slot publishes", 3, 1000, || {
        #[allow(clippy::arc_with_non_send_sync)] // loom sees to it that the cell is not shared.
        let shared = Arc::new((Limbo::<usize>::new(1, 0, 0), UnsafeCell::new(0)));
        let visit = |(limbo, guarded): &(Limbo<usize>, UnsafeCell<u32>)| match limbo.slot_now(0) {
            Some(slot) => {
                // SAFETY: the one slot; loom sees it if this is wrong.
                guarded.with_mut(|guarded| unsafe { *guarded += 1 });
                drop(slot);
                1
            }
            None => 0,
        };
        let visitors = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || visit(&shared))
        });
        let mut visits = visit(&shared);
        for visitor in visitors {
            visits += visitor.join().unwrap();
        }
        // SAFETY: all have been joined.
        assert_eq!(shared.1.with(|guarded| unsafe { *guarded }), visits);
    });
}
