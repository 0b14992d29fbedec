//! The store against a map that evicts nothing: what a cap saves, and what it costs.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;

use counterclock::CounterStore;

use crate::args::Args;
use crate::batch::Key;
use crate::format::{bytes, grouped, percent};
use crate::memory::Resident;
use crate::pass::Pass;
use crate::report::rate;
use crate::sink::{MapSink, StoreSink};

/// Both passes, and what the store still knew at its end.
pub struct Comparison {
    pub store: Side,
    pub map: Side,
    pub capacity: u64,
    recalls: Vec<Recall>,
    resident: Option<u64>,
}

/// One of the two, at its end.
pub struct Side {
    pub pass: Pass,
    pub keys: u64,
    units: u64,
}

/// How many of the keys that are truly the largest the store held.
#[derive(Debug, PartialEq, Eq)]
struct Recall {
    asked: usize,
    of: usize,
    held: usize,
    /// Held since their first request, so that their count is the true one.
    whole: usize,
}

impl Comparison {
    /// `before` is the memory before the second pass.
    pub fn gather<K: Key>(
        args: &Args,
        sink: &StoreSink<K>,
        map: MapSink<K>,
        first: Pass,
        second: Pass,
        before: Resident,
    ) -> Self {
        let after = Resident::now();
        let map = map.lock();
        let mut asked = vec![args.top, 100];
        asked.sort_unstable();
        asked.dedup();
        Self {
            recalls: recalls(&map, &sink.store, &asked),
            capacity: sink.store.capacity() as u64,
            store: Side {
                pass: first,
                keys: sink.store.len() as u64,
                units: sink.store.totals().live,
            },
            map: Side { pass: second, keys: map.len() as u64, units: map.values().sum() },
            resident: after.now.zip(before.now).map(|(after, before)| after.saturating_sub(before)),
        }
    }

    /// The second pass did not reach the end of the first.
    pub fn interrupted(&self) -> bool {
        self.map.pass.interrupted
    }
}

/// For each number of `asked`, that many of the largest keys of the map, looked up in the store.
fn recalls<K: Key>(map: &HashMap<K, u64>, store: &CounterStore<K>, asked: &[usize]) -> Vec<Recall> {
    let mut truth: Vec<(&K, u64)> = map.iter().map(|(key, &count)| (key, count)).collect();
    // By key among equals, so that the answer does not depend on the map's order.
    truth.sort_unstable_by_key(|&(key, count)| (Reverse(count), key));
    asked
        .iter()
        .map(|&asked| {
            let largest = &truth[..asked.min(truth.len())];
            let counts =
                largest.iter().filter_map(|&(key, truth)| Some((store.get(key.borrow())?, truth)));
            let (mut held, mut whole) = (0, 0);
            for (count, truth) in counts {
                held += 1;
                whole += usize::from(count == truth);
            }
            Recall { asked, of: largest.len(), held, whole }
        })
        .collect()
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nThe same requests through std's HashMap behind a Mutex, which evicts nothing"
        )?;
        if self.interrupted() {
            let requests = grouped(self.map.pass.tally.requests);
            return writeln!(f, "  INTERRUPTED after {requests} requests: no comparison");
        }
        writeln!(f, "  {:18}{:>15}{:>15}", "", "store", "map")?;
        let mut row = |name: &str, cell: fn(&Side) -> String| {
            let (store, map) = (cell(&self.store), cell(&self.map));
            writeln!(f, "  {name:18}{store:>15}{map:>15}")
        };
        row("keys held", |side| grouped(side.keys))?;
        row("memory allocated", |side| bytes(side.pass.curve.last().bytes))?;
        row("  the most seen", |side| bytes(side.pass.curve.most()))?;
        row("increments/s", |side| grouped(rate(&side.pass.tally, side.pass.wall)))?;
        row("retained mass", |side| {
            format!("{:.1} %", percent(side.units, side.pass.tally.requests))
        })?;
        for recall in &self.recalls {
            writeln!(
                f,
                "  of the true top {} the store holds {} of {}, {} of them with their full count",
                recall.asked, recall.held, recall.of, recall.whole
            )?;
        }
        writeln!(f, "  retained mass is the share of all requests that live counters hold")?;
        if let Some(resident) = self.resident {
            let grown = bytes(resident);
            writeln!(f, "  resident memory grew by {grown} in the pass through the map")?;
        }
        Ok(())
    }
}
