// Stripes: each add is in the final count, or is told that it is not.

use loom::thread;

use super::tree::cell::{Amount, Cause, Cell, State};
use super::tree::entry::Entry;
use crate::explore::explore;

use published::Published;

include!("published.rs");

/// As a handle that takes a stripe; none where the life has ended.
fn stripe(entry: &Entry<usize>) -> Option<&Cell> {
    let all = entry.stripes_or_make(2);
    let number = all.number();
    entry.cell().add_amount(Amount::NOTHING).ok()?;
    Some(all.cell(number))
}

fn add(entry: &Entry<usize>, n: u64) -> u64 {
    stripe(entry).and_then(|stripe| stripe.add(n).ok()).map_or(0, |_| n)
}

/// Whoever makes the stripes, the sealer sees them.
pub(crate) fn two_makers_and_a_sealer() {
    explore("stripes, two makers and a sealer", 3, 10_000, || {
        let entry = Published::new(0);
        let adders = [2, 4].map(|n| thread::spawn(move || add(entry.get().get(), n)));
        let units = entry.get().seal(Cause::Removed).expect("the only sealer");
        let added: u64 = adders.map(|adder| adder.join().unwrap()).iter().sum();
        assert_eq!(units, 1 + added, "the final count");
        assert_eq!(entry.get().read(), State::Ended(Cause::Removed, units), "the final count");
        entry.free();
    });
}

/// Who sees the seal sees the final count, though the sealer has not come to all stripes yet: from
/// then on nothing is added.
pub(crate) fn an_adder_a_sealer_and_a_reader() {
    explore("stripes, an adder, a sealer and a reader", 2, 100_000, || {
        let entry = Published::new(0);
        assert_eq!(add(entry.get().get(), 8), 8);
        let adder = thread::spawn(move || {
            let Some(stripe) = stripe(entry.get().get()) else { return 0 };
            [2, 4].into_iter().filter(|&n| stripe.add(n).is_ok()).sum()
        });
        let sealer = thread::spawn(move || entry.get().seal(Cause::Removed));
        let seen = entry.get().read();
        let units = sealer.join().unwrap().expect("the only sealer");
        let added: u64 = adder.join().unwrap();
        assert_eq!(units, 9 + added, "the final count");
        match seen {
            State::Live(seen) => assert!((9..=units).contains(&seen), "a reader saw {seen}"),
            State::Ended(_, seen) => assert_eq!(seen, units, "a reader saw {seen}"),
        }
        entry.free();
    });
}
