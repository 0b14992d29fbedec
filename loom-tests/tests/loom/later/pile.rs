// What waits for the collector is handed over once that moves. What is deferred is done when the model
// says so, a batch is worth a bag from two entries on, and one closure is a pile.

use std::sync::Arc;

use loom::thread;

use super::tree::cell::{Amount, Cause};
use super::tree::entry::{Entry, REPORT, Ref};
use super::tree::hash::KeyHash;
use super::tree::limbo::Limbo;
use super::tree::reclaim::{fall_due, pin};
use crate::explore::explore;

/// Lets go of a new entry in a slot of its own, as the last that holds it.
fn retire(limbo: &Arc<Limbo<usize>>) {
    limbo.slot_now(0).expect("there is one").attach();
    let mut entry = Box::new(Entry::new(KeyHash::mixed(7), 7, None, REPORT));
    entry.prepare(Amount::once(1), 0, None);
    entry.seal(Cause::Removed).expect("the only sealer");
    // SAFETY: the hold is this thread's, and the last.
    unsafe {
        let entry = Ref::new(Box::into_raw(entry)).expect("not null");
        limbo.let_go(entry, REPORT, &pin());
    }
}

/// The pile is lowered while an entry is let go of, by each of `others` threads.
fn waits(name: &str, others: usize, preemptions: usize, more_than: u64) {
    explore(name, preemptions, more_than, move || {
        let limbo = Arc::new(Limbo::new(1 + others, 0, 0));
        retire(&limbo);
        let waiting: Vec<_> = (0..others)
            .map(|_| {
                let limbo = Arc::clone(&limbo);
                thread::spawn(move || retire(&limbo))
            })
            .collect();
        assert!(fall_due(), "the first was deferred");
        waiting.into_iter().for_each(|thread| thread.join().unwrap());
        while fall_due() {}
        assert_eq!(limbo.exist(), 0, "it was handed over");
    });
}

pub(crate) fn one_that_waits() {
    waits("limbo, one waits while the pile is lowered", 1, 6, 500);
}

pub(crate) fn two_that_wait() {
    waits("limbo, two wait while the pile is lowered", 2, 3, 1000);
}
