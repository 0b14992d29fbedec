//! Traces, and what was true of them at each checkpoint.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Looks at the store, spread evenly over the trace.
pub const CHECKPOINTS: usize = 20;
/// The keys with the most units, of which the store should hold many.
pub const TOP: usize = 100;
/// A packet.
const BYTES: std::ops::RangeInclusive<u64> = 1..=1500;

/// What a use adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    One,
    /// 1 to 1500, by chance, and the same in each run.
    Bytes,
}

/// Keys in the order in which they were asked for.
pub struct Trace {
    pub name: String,
    pub keys: Vec<u64>,
    pub distinct: usize,
}

/// After so many requests, these were the keys with the most units.
pub struct Truth {
    pub requests: usize,
    pub top: Vec<u64>,
}

impl Trace {
    /// Little-endian numbers, compressed with zstd if the name ends so.
    pub fn read(path: &Path) -> Result<Self> {
        Self::try_read(path).with_context(|| path.display().to_string())
    }

    fn try_read(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let mut bytes = Vec::new();
        if path.extension().is_some_and(|extension| extension == "zst") {
            zstd::Decoder::new(file)?.read_to_end(&mut bytes)?;
        } else {
            (&file).read_to_end(&mut bytes)?;
        }
        let (keys, rest) = bytes.as_chunks();
        ensure!(rest.is_empty(), "{} bytes are left over after whole keys of 8", rest.len());
        ensure!(!keys.is_empty(), "no keys");
        let keys: Vec<_> = keys.iter().map(|key| u64::from_le_bytes(*key)).collect();
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = file_name.split(".u64").next().unwrap_or_default().to_owned();
        Ok(Self::new(name, keys))
    }

    pub fn new(name: String, keys: Vec<u64>) -> Self {
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        sorted.dedup();
        Self { name, keys, distinct: sorted.len() }
    }

    /// What each request adds.
    pub fn amounts(&self, units: Units) -> Vec<u64> {
        match units {
            Units::One => vec![1; self.keys.len()],
            Units::Bytes => {
                let mut rng = SmallRng::seed_from_u64(1500);
                self.keys.iter().map(|_| rng.random_range(BYTES)).collect()
            }
        }
    }

    /// What was true at each checkpoint. Of keys with equal units, those that came first are on
    /// top, as in the simulator that made `RESULTS.csv`.
    pub fn truths(&self, amounts: &[u64]) -> Vec<Truth> {
        let mut counts: HashMap<u64, (u64, usize)> = HashMap::with_capacity(self.distinct);
        let mut requests = self.keys.iter().zip(amounts).enumerate();
        let mut played = 0;
        (1..=CHECKPOINTS)
            .map(|n| {
                let end = self.keys.len() * n / CHECKPOINTS;
                for (at, (&key, amount)) in requests.by_ref().take(end - played) {
                    counts.entry(key).or_insert((0, at)).0 += amount;
                }
                played = end;
                Truth { requests: end, top: top(&counts) }
            })
            .collect()
    }
}

fn top(counts: &HashMap<u64, (u64, usize)>) -> Vec<u64> {
    let rank = |&(key, count, first): &(u64, u64, usize)| (u64::MAX - count, first, key);
    let mut keys: Vec<_> =
        counts.iter().map(|(&key, &(count, first))| (key, count, first)).collect();
    if keys.len() > TOP {
        keys.select_nth_unstable_by_key(TOP, rank);
        keys.truncate(TOP);
    }
    keys.sort_unstable_by_key(rank);
    keys.into_iter().map(|(key, ..)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_is_by_units_and_then_by_age() {
        // 0 to 199 once each, then 199 and 198 once more.
        let keys = (0..200).chain([199, 198]).collect();
        let trace = Trace::new("test".into(), keys);
        assert_eq!(trace.distinct, 200);
        let truths = trace.truths(&trace.amounts(Units::One));
        let last = truths.last().unwrap();
        assert_eq!((truths.len(), last.requests), (CHECKPOINTS, 202));
        assert_eq!(last.top.len(), TOP);
        assert_eq!(last.top[..3], [198, 199, 0]);
        assert_eq!(truths[0].top, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn amounts_are_of_packets_and_the_same_each_time() {
        let trace = Trace::new("test".into(), vec![7; 1000]);
        let amounts = trace.amounts(Units::Bytes);
        assert!(amounts.iter().all(|n| BYTES.contains(n)));
        assert_eq!(amounts, trace.amounts(Units::Bytes));
        assert_ne!(amounts[0], amounts[1]);
    }
}
