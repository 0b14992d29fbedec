//! The lists and the policy against a naive twin: the same victims in the same order.
#![no_main]

use arbitrary::Arbitrary;
use counterclock::harness::Duel;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    capacity: u8,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Increment {
        key: u8,
    },
    /// Many uses, so that the field that counts them wraps.
    Burst {
        key: u8,
        uses: u16,
    },
    /// New keys, one after the other.
    Scan {
        keys: u8,
    },
    Remove {
        key: u8,
    },
    /// Calls that must not disturb the policy.
    Look {
        key: u8,
    },
    Prune,
    Snapshot,
}

fuzz_target!(|input: Input| {
    // Small mostly, and so few keys that those that were evicted come back.
    let capacity = match input.capacity {
        n @ 240.. => usize::from(n) / 2,
        n => 1 + usize::from(n) % 24,
    };
    let nth = |key: u8| u64::from(key) % (2 * capacity as u64 + 2);
    let mut duel = Duel::new(capacity);
    let mut scanned = 1000;
    for step in input.steps {
        match step {
            Step::Increment { key } => duel.increment(nth(key)),
            Step::Burst { key, uses } => {
                (0..uses % 2100).for_each(|_| duel.increment(nth(key)));
            }
            Step::Scan { keys } => {
                (0..u64::from(keys)).for_each(|i| duel.increment(scanned + i));
                scanned += u64::from(keys);
            }
            Step::Remove { key } => duel.remove(nth(key)),
            Step::Look { key } => {
                let _ = duel.store().get(&nth(key));
            }
            Step::Prune => {
                let _ = duel.store().prune();
            }
            Step::Snapshot => drop(duel.store().snapshot()),
        }
        duel.check();
    }
});
