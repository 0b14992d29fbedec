//! Whether each rival counts right, below its capacity.

use std::collections::HashMap;

use anyhow::{Result, ensure};

use crate::contest::timed;
use crate::key::Texts;
use crate::output::Table;
use crate::rivals::{Rival, Store, play};
use crate::workload::Part;

/// Far more than the keys: no set of a set-associative cache is full.
const CAPACITY: usize = 1 << 16;
const KEYS: usize = 1000;
const STEPS: usize = 20_000;
const THREADS: usize = 2;
const ROUNDS: usize = 100;

pub fn run() -> Result<()> {
    let mut table = Table::new(["store", "increments checked:", "held:", "removed:"]);
    for rival in Rival::ALL {
        let outcome = check(rival)?;
        let number = |n: Option<usize>| n.map_or_else(|| "-".into(), |n| n.to_string());
        table.row([
            rival.name().to_owned(),
            outcome.checked.to_string(),
            number(outcome.held),
            number(outcome.removed),
        ]);
    }
    println!("{table}\nAll counts are right.");
    Ok(())
}

struct Outcome {
    checked: usize,
    held: Option<usize>,
    removed: Option<usize>,
}

fn check(rival: Rival) -> Result<Outcome> {
    let store = rival.build::<str>(CAPACITY);
    let keys: Texts = (0..if rival.is_keyed() { KEYS as u64 } else { 1 }).collect();
    let mut model = HashMap::new();
    one_thread(rival, store.as_ref(), &keys, &mut model)?;
    // In batches as in a round, by threads that overlap.
    let all: Vec<&str> = (0..keys.len()).map(|at| keys.get(at)).collect();
    timed(THREADS, |_| {
        for _ in 0..ROUNDS {
            play(store.as_ref(), Part::Increments(&all));
            play(store.as_ref(), Part::Repeat(all[0], 1));
        }
    });
    store.settle();
    for (at, key) in all.iter().enumerate() {
        let more = if at == 0 { 2 } else { 1 } * THREADS * ROUNDS;
        let expected = model[key] + more as u64;
        let found = store.add(key, 0);
        ensure!(found == expected, "{}: {key} has {found}, not {expected}", rival.name());
    }
    ensure!(store.rejections() == 0, "{}: {} rejections", rival.name(), store.rejections());
    let held = store.len();
    ensure!(held.is_none_or(|held| held == keys.len()), "{}: holds {held:?}", rival.name());
    let removed = rival.removes().then(|| remove(rival, store.as_ref(), &all)).transpose()?;
    let checked = STEPS + THREADS * ROUNDS * (keys.len() + 1);
    Ok(Outcome { checked, held, removed })
}

/// Each increment returns the count after it.
fn one_thread<'a>(
    rival: Rival,
    store: &dyn Store<str>,
    keys: &'a Texts,
    model: &mut HashMap<&'a str, u64>,
) -> Result<()> {
    for step in 0..STEPS {
        // 7919 is prime: each key comes by, in no simple order.
        let key = keys.get(step * step % 7919 % keys.len());
        let n = step as u64 % 3;
        let expected = model.entry(key).or_insert(0);
        *expected += n;
        let found = store.add(key, n);
        ensure!(found == *expected, "{}: {key} has {found}, not {expected}", rival.name());
    }
    for at in 0..keys.len() {
        let key = keys.get(at);
        let expected = model.entry(key).or_insert(0);
        ensure!(store.add(key, 0) == *expected, "{}: {key} at the end", rival.name());
    }
    Ok(())
}

/// A key that was removed begins again.
fn remove(rival: Rival, store: &dyn Store<str>, keys: &[&str]) -> Result<usize> {
    keys.iter().for_each(|key| store.remove(key));
    store.settle();
    let held = store.len();
    ensure!(held.is_none_or(|held| held == 0), "{}: {held:?} left", rival.name());
    for key in keys {
        ensure!(store.add(key, 1) == 1, "{}: {key} was not removed", rival.name());
    }
    Ok(keys.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rival_counts_right() {
        for rival in Rival::ALL {
            check(rival).unwrap();
        }
    }
}
