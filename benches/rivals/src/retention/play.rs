//! One store over one trace.

use std::collections::HashMap;

use anyhow::{Result, ensure};

use super::trace::{CHECKPOINTS, Trace, Truth, Units};
use crate::contest::Rejected;
use crate::rivals::Visible;

/// Each a share of 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Kept {
    /// Requests that found their key live.
    pub hits: f64,
    /// Units in live counters / all units so far, mean of the checkpoints.
    pub mass: f64,
    /// Of the true top 100 so far, how many are live, mean of the checkpoints.
    pub recall: f64,
}

#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub kept: Kept,
    /// The most keys that it held at a checkpoint.
    pub most_held: usize,
    pub rejected: Rejected,
}

/// A trace with what each request adds, and what was true of it.
pub struct Material<'a> {
    pub trace: &'a Trace,
    pub units: Units,
    amounts: Vec<u64>,
    truths: Vec<Truth>,
}

impl<'a> Material<'a> {
    pub fn new(trace: &'a Trace, units: Units) -> Self {
        let amounts = trace.amounts(units);
        let truths = trace.truths(&amounts);
        Self { trace, units, amounts, truths }
    }

    /// The cell's capacity, as the simulator rounds it.
    pub fn capacity(&self, share: f64) -> usize {
        let distinct = self.trace.distinct;
        ((distinct as f64 * share).round() as usize).max(64).min(distinct)
    }

    pub fn play(&self, store: &dyn Visible) -> Result<Outcome> {
        let (mut hits, mut all, mut most_held) = (0_u64, 0_u64, 0);
        let (mut mass, mut recall) = (0.0, 0.0);
        let mut next = 0;
        for truth in &self.truths {
            for at in next..truth.requests {
                let n = self.amounts[at];
                // More than was added now: the key was live.
                hits += u64::from(store.add(&self.trace.keys[at], n) > n);
                all += n;
            }
            next = truth.requests;
            let live: HashMap<u64, u64> = store.live().into_iter().collect();
            let held: u64 = live.values().sum();
            ensure!(held <= all, "{} units are live, and {all} were added", held);
            mass += held as f64 / all as f64;
            let found = truth.top.iter().filter(|key| live.contains_key(key)).count();
            recall += found as f64 / truth.top.len().max(1) as f64;
            most_held = live.len().max(most_held);
        }
        let requests = self.trace.keys.len();
        let checkpoints = CHECKPOINTS as f64;
        Ok(Outcome {
            kept: Kept {
                hits: hits as f64 / requests as f64,
                mass: mass / checkpoints,
                recall: recall / checkpoints,
            },
            most_held,
            rejected: Rejected { calls: store.rejections(), of: requests as u64 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rivals::Rival;

    #[test]
    fn a_store_that_holds_all_keeps_all() {
        let keys: Vec<u64> = (0..2000).map(|n| n * n % 200).collect();
        let trace = Trace::new("test".into(), keys);
        for units in [Units::One, Units::Bytes] {
            let material = Material::new(&trace, units);
            for rival in Rival::ALL {
                let Some(store) = rival.build_visible(4096) else { continue };
                let outcome = material.play(store.as_ref()).unwrap();
                let first_uses = trace.distinct as f64 / 2000.0;
                let kept = Kept { hits: 1.0 - first_uses, mass: 1.0, recall: 1.0 };
                assert_eq!(outcome.kept, kept, "{}", rival.name());
                assert_eq!(outcome.most_held, trace.distinct, "{}", rival.name());
                assert_eq!(outcome.rejected.calls, 0);
            }
        }
    }

    #[test]
    fn capacities_are_the_simulators() {
        let trace = Trace::new("test".into(), (0..69_602).collect());
        let material = Material::new(&trace, Units::One);
        let capacities = [0.001, 0.01, 0.1].map(|share| material.capacity(share));
        assert_eq!(capacities, [70, 696, 6960]);
        let few = Trace::new("few".into(), vec![1, 2, 3]);
        assert_eq!(Material::new(&few, Units::One).capacity(0.1), 3);
    }
}
