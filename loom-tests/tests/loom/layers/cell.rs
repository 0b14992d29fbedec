// The count word, and the announcement that makes a sealed count readable.

use loom::sync::Arc;
use loom::thread;

use super::tree::cell::{Amount, Cause, Cell, MAX_COUNT, State};
use crate::explore::explore;

/// As an entry begins its life.
fn born(units: u64) -> Cell {
    let mut cell = Cell::unused();
    cell.restart(Amount::once(units));
    cell
}

/// What was sealed is what the adders were told that they had counted.
pub(crate) fn two_adders_and_a_sealer() {
    explore("cell, two adders and a sealer", 3, 100, || {
        let cell = Arc::new(born(1));
        let adders = [2, 4].map(|n| {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.add(n).map(|count| (n, count)).ok())
        });
        let sealed = cell.seal(Cause::Capacity).expect("one sealer");
        let told = adders.map(|adder| adder.join().unwrap());
        let added: u64 = told.iter().flatten().map(|(n, _)| n).sum();
        assert_eq!(sealed, 1 + added, "the sealed count");
        assert_eq!(cell.read(), State::Ended(Cause::Capacity, sealed));
        // Each saw its own units, in one order of all adds.
        let mut counts: Vec<_> = told.iter().flatten().collect();
        counts.sort_by_key(|(_, count)| *count);
        counts.iter().fold(1, |before, (n, count)| {
            assert_eq!(*count, before + n);
            *count
        });
    });
}

/// Nobody's overshoot is taken back twice, and none is sealed.
pub(crate) fn adders_at_the_top() {
    explore("cell, adders at the top and a sealer", 3, 100, || {
        let cell = Arc::new(born(MAX_COUNT - 1));
        let adders = [1, 3].map(|n| {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.add(n).ok())
        });
        // A large add takes the other path.
        let large = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.add(MAX_COUNT).ok())
        };
        let early = cell.read();
        assert!(matches!(early, State::Live(n) if (MAX_COUNT - 1..=MAX_COUNT).contains(&n)));
        for adder in adders {
            assert_eq!(adder.join().unwrap(), Some(MAX_COUNT));
        }
        assert_eq!(large.join().unwrap(), Some(MAX_COUNT));
        assert_eq!(cell.read(), State::Live(MAX_COUNT));
        assert_eq!(cell.seal(Cause::Idle), Some(MAX_COUNT));
    });
}

/// Whoever sees the seal sees the count that was announced before it.
pub(crate) fn a_sealer_an_adder_and_a_reader() {
    explore("cell, a sealer, an adder and a reader", 3, 1000, || {
        let cell = Arc::new(born(1));
        let sealer = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.seal(Cause::Removed).expect("the only sealer"))
        };
        let adder = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.add(1).is_ok())
        };
        let seen = cell.read();
        let sealed = sealer.join().unwrap();
        assert_eq!(sealed, 1 + u64::from(adder.join().unwrap()), "the sealed count");
        match seen {
            State::Live(seen) => assert!((1..=sealed).contains(&seen), "a reader saw {seen}"),
            State::Ended(_, seen) => assert_eq!(seen, sealed, "a reader saw another count"),
        }
    });
}

/// The announcement is that of the count that was sealed, whatever the losers of the race had
/// announced.
pub(crate) fn two_sealers_and_an_adder() {
    explore("cell, two sealers and an adder", 3, 10_000, || {
        let cell = Arc::new(born(1));
        let sealer = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.seal(Cause::Idle))
        };
        let adder = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || [1, 2].into_iter().filter(|&n| cell.add(n).is_ok()).sum::<u64>())
        };
        let sealed = (cell.seal(Cause::Removed), sealer.join().unwrap());
        let counted = 1 + adder.join().unwrap();
        let end = match sealed {
            (Some(units), None) => State::Ended(Cause::Removed, units),
            (None, Some(units)) => State::Ended(Cause::Idle, units),
            _ => panic!("not sealed once: {sealed:?}"),
        };
        assert!(matches!(end, State::Ended(_, units) if units == counted), "the sealed count");
        assert_eq!(cell.read(), end, "a reader saw another count");
    });
}
