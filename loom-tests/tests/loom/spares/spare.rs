// Spare memory: handed out to one at a time. In a copy in which loom may see memory used again.

use std::sync::Arc;

use loom::thread;

use super::tree::spare::{Blanks, Spares};
use crate::explore::explore;

fn blanks(n: usize) -> Blanks<usize> {
    let mut blanks = Blanks::new();
    (0..n).for_each(|_| blanks.push(Box::new_uninit()));
    blanks
}

/// The owner of the shard, an admission that is not, and a free.
pub(crate) fn no_blank_twice() {
    explore("spare, an owner, a taker and one that keeps", 3, 1000, || {
        let spares = Arc::new(Spares::new(2));
        assert_eq!(spares.keep(blanks(2)), 2);
        let owner = {
            let spares = Arc::clone(&spares);
            thread::spawn(move || {
                let mut own = Blanks::new();
                let blank = spares.pop_into(&mut own);
                (vec![blank, spares.pop_into(&mut own)], own)
            })
        };
        let taker = {
            let spares = Arc::clone(&spares);
            thread::spawn(move || {
                // As a free that follows an admission.
                let mut used = Blanks::new();
                spares.pop().into_iter().for_each(|blank| used.push(blank));
                spares.keep(used);
                spares.pop()
            })
        };
        spares.keep(blanks(1));
        let (mut taken, mut own) = owner.join().unwrap();
        taken.push(taker.join().unwrap());
        taken.extend(std::iter::from_fn(|| own.pop().map(Some)));
        taken.extend(std::iter::from_fn(|| spares.pop().map(Some)));
        let places = taken.iter().flatten().map(|blank| std::ptr::from_ref(&**blank).addr());
        let mut places: Vec<_> = places.collect();
        places.sort_unstable();
        assert!(places.is_sorted_by(|a, b| a < b), "a blank was handed out twice");
        assert!(places.len() <= 3, "a blank was handed out twice");
    });
}
