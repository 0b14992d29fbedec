// Who frees: the last to let go, whoever that is, once, after all others. What is retired is freed
// at once here, so whoever touched an entry that it had let go of would be seen.

use std::sync::Arc;

use loom::thread;

use super::tree::entry::{CORE, Entry, HANDLE, INDEX, LEDGER, REPORT, ROSTER, Ref};
use super::tree::hash::KeyHash;
use super::tree::limbo::Limbo;
use super::tree::reclaim::pin;
use crate::explore::explore;

const KEY: usize = 7;

/// An entry in a slot, of which each thread has some of the holds.
#[derive(Clone)]
struct Held {
    limbo: Arc<Limbo<usize>>,
    entry: *mut Entry<usize>,
}

// SAFETY: entries are there to be shared, and this one lives while anybody has a hold on it.
unsafe impl Send for Held {}

impl Held {
    fn new(holds: u64) -> Self {
        let limbo = Arc::new(Limbo::new(1, 0, 0));
        let hash = KeyHash::mixed(KEY as u64);
        limbo.slot(hash).expect("the first").attach();
        let mut entry = Box::new(Entry::new(hash, KEY, holds));
        entry.prepare(1, 0, None);
        Self { limbo, entry: Box::into_raw(entry) }
    }

    fn get(&self) -> Ref<'_, usize> {
        // SAFETY: the caller has a hold.
        unsafe { Ref::new(self.entry) }.unwrap()
    }

    /// A structure's last look at the entry, then it lets go.
    fn let_go(self, bits: u64) {
        assert_eq!(*self.get().key(), KEY);
        // SAFETY: the hold is this thread's.
        unsafe { self.limbo.let_go(self.get(), bits, &pin()) };
    }

    fn let_go_handle(self) {
        assert_eq!(*self.get().key(), KEY);
        // SAFETY: the hold is this thread's.
        unsafe { self.limbo.let_go_handle(self.get().as_non_null()) };
    }

    /// As a clone of a handle: one more hold, or none where the store has let go.
    fn clone_handle(&self) -> Option<Self> {
        self.get().hold().then(|| self.clone())
    }
}

/// loom itself sees to it that the entry does not leak and is not freed twice.
pub(crate) fn five_holders_let_go() {
    explore("limbo, four structures and a handle let go", 3, 1000, || {
        let held = Held::new(CORE + HANDLE);
        let limbo = Arc::clone(&held.limbo);
        let others = [INDEX, ROSTER, REPORT].map(|bits| {
            let held = held.clone();
            thread::spawn(move || held.let_go(bits))
        });
        held.clone().let_go(LEDGER);
        held.let_go_handle();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(limbo.exist(), 0, "its slot went back, once");
        assert!(limbo.slot(KeyHash::mixed(0)).is_some());
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
                let clone = held.clone_handle();
                held.let_go_handle();
                if let Some(clone) = clone {
                    clone.let_go_handle();
                }
            })
        };
        held.clone().let_go(INDEX | REPORT);
        held.let_go(ROSTER | LEDGER);
        // From here on the entry is no more than its handles' memory.
        assert_eq!(limbo.exist(), 0, "its slot went back, once");
        [handle, cloner].into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(limbo.exist(), 0, "its slot went back, once");
    });
}
