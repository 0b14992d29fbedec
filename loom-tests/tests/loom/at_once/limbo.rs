// Who frees: the last to let go, whoever that is, once, after all others. What is deferred is done
// at once here, so whoever touched an entry that it had let go of would be seen.

use std::sync::Arc;

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
        let (limbo, roster) = (Limbo::new(1, 0, 0), Roster::new(1, 1));
        let (limbo, roster) = (Arc::new(limbo), Arc::new(roster));
        let hash = KeyHash::mixed(KEY as u64);
        limbo.slot_now(0).expect("the first").attach();
        let mut entry = Box::new(Entry::new(hash, KEY, holds));
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
    explore("limbo, the owner, a report and a handle let go", 8, 1000, || {
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
    explore("limbo, a handle taken before the free", 8, 1000, || {
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
