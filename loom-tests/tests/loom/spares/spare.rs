// Spare memory: handed out to one at a time. In a copy in which loom may see memory used again.

use std::sync::Arc;

use loom::thread;

use super::tree::spare::{Blank, Spares};
use crate::explore::explore;

fn blanks(n: usize) -> impl Iterator<Item = Blank<usize>> {
    (0..n).map(|_| Box::new_uninit())
}

pub(crate) fn no_blank_twice() {
    explore("spare, two takers and one that keeps", 3, 1000, || {
        let spares = Arc::new(Spares::new(2));
        assert_eq!(spares.keep(blanks(2)), 2);
        let takers = [(); 2].map(|()| {
            let spares = Arc::clone(&spares);
            thread::spawn(move || {
                let first = spares.pop();
                // As a free that follows an admission.
                let kept = first.map_or(0, |blank| spares.keep(std::iter::once(blank)));
                (kept, spares.pop())
            })
        });
        let kept = spares.keep(blanks(1));
        let taken = takers.map(|taker| taker.join().unwrap());
        let held: Vec<_> = taken.iter().filter_map(|(_, blank)| blank.as_ref()).collect();
        let place = |blank: &Blank<usize>| std::ptr::from_ref(&**blank).addr();
        if let [first, second] = held[..] {
            assert_ne!(place(first), place(second), "a blank was handed out twice");
        }
        assert!(spares.len() <= 2, "more than may be kept");
        let left = std::iter::from_fn(|| spares.pop()).inspect(|blank| {
            assert!(held.iter().all(|other| place(other) != place(blank)), "listed and handed out");
        });
        let _ = (kept, left.count());
    });
}
