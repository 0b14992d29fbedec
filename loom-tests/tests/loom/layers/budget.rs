// The cap as permits.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::tree::budget::Permits;
use crate::explore::explore;

pub(crate) fn never_above_the_cap() {
    explore("budget, three takers and an observer", 2, 1000, || {
        let permits = Arc::new(Permits::new(2));
        let takers = [false, false, true].map(|gives_back| {
            let permits = Arc::clone(&permits);
            thread::spawn(move || match permits.acquire() {
                Some(permit) => {
                    assert!(permits.used() <= 2, "above the cap");
                    if gives_back {
                        drop(permit)
                    } else {
                        permit.attach()
                    }
                    usize::from(!gives_back)
                }
                None => 0,
            })
        });
        assert!(permits.used() <= 2, "above the cap");
        let held: usize = takers.map(|taker| taker.join().unwrap()).iter().sum();
        assert_eq!(permits.used(), held);
    });
}

/// What the last holder did is seen by the next.
pub(crate) fn a_permit_publishes() {
    explore("budget, what a permit publishes", 3, 10, || {
        let shared = Arc::new((Permits::new(1), UnsafeCell::new(0)));
        let visit = |(permits, guarded): &(Permits, UnsafeCell<u32>)| match permits.acquire() {
            Some(permit) => {
                // SAFETY: the one permit; loom sees it if this is wrong.
                guarded.with_mut(|guarded| unsafe { *guarded += 1 });
                drop(permit);
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
