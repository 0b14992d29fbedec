//! How a hit's cost grows with the table, beside what memory alone makes it grow.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::contest::{Progress, Rejected};
use crate::figure::Cell;
use crate::output::{Out, ROUNDS, Table, preamble, ratio};
use crate::rivals::Rival;
use crate::speed::{Effort, Field, Rows};
use crate::stats::{Estimate, bootstrap, median, median_of};
use crate::workload::Kind;

const SIZES: [usize; 2] = [2048, 1 << 20];
const RIVALS: [Rival; 4] =
    [Rival::Counterclock, Rival::CounterclockTtl, Rival::CounterclockRecent, Rival::Chain];

#[derive(Args)]
pub struct Options {
    /// Interleaved rounds; fewer than 15 do not count
    #[arg(long, default_value_t = ROUNDS)]
    rounds: usize,
    /// Operations a round [default: enough for 50 to 100 ms]
    #[arg(long)]
    operations: Option<usize>,
    /// Where the CSV files go [default: docs/performance]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Hits on full stores of both sizes, measured in the same rounds.
pub struct Growth([Cell; 2]);

impl Growth {
    pub fn measure(effort: Effort) -> Self {
        let mut fields = SIZES.map(|entries| Field::full(entries, &RIVALS));
        let operations = SIZES.map(|entries| effort.operations(Kind::Hit, entries, 1));
        let [(mut small, small_work), (mut large, large_work)] =
            fields.each_mut().map(Field::contest);
        let progress = Progress::new("growth".into(), effort.rounds * RIVALS.len() * 2);
        small.warm_up(&small_work.round(1, operations[0]));
        large.warm_up(&large_work.round(1, operations[1]));
        for _ in 0..effort.rounds {
            small.round(&small_work.round(1, operations[0]), &progress);
            large.round(&large_work.round(1, operations[1]), &progress);
        }
        let cell = |capacity, records| Cell { workload: "full", capacity, threads: 1, records };
        Self([cell(SIZES[0], small.finish()), cell(SIZES[1], large.finish())])
    }

    /// The small one, then the large one.
    pub fn cells(&self) -> &[Cell] {
        &self.0
    }

    fn times(&self, rival: Rival) -> Option<[Vec<f64>; 2]> {
        let [small, large] = self.0.each_ref().map(|cell| cell.record(rival.name()));
        Some([small?.times(), large?.times()])
    }

    /// A store's growth over the chain's.
    pub fn against_chain(&self, rival: Rival) -> Option<Estimate> {
        let (own, chain) = (self.times(rival)?, self.times(Rival::Chain)?);
        let growth = |times: &[Vec<f64>; 2], rounds: &[usize]| {
            median_of(&times[1], rounds) / median_of(&times[0], rounds)
        };
        Some(bootstrap(own[0].len(), |rounds| growth(&own, rounds) / growth(&chain, rounds)))
    }

    pub fn rejected(&self, rival: Rival) -> Rejected {
        self.0.iter().map(|cell| cell.rejected(rival.name())).sum()
    }
}

#[derive(Serialize)]
struct Row {
    store: &'static str,
    small_entries: usize,
    small_ns: f64,
    large_entries: usize,
    large_ns: f64,
    growth: f64,
    against_chain: f64,
    low: f64,
    high: f64,
    rejections: u64,
}

pub fn run(options: Options) -> Result<()> {
    let Options { rounds, operations, out } = options;
    let effort = Effort { rounds, operations };
    effort.check(&[], &[])?;
    let out = Out::new(out, effort.counts())?;
    println!("{}", preamble());
    let growth = Growth::measure(effort);
    let mut table = Table::new([
        "store, full",
        "ns a hit, 2,048 entries:",
        "1,048,576 entries:",
        "growth:",
        "/ the chain's (95 %):",
        "rejected:",
    ]);
    let mut rows = Vec::new();
    for rival in RIVALS {
        let [small, large] =
            growth.times(rival).context("each takes part")?.map(|all| median(&all));
        let against = growth.against_chain(rival).context("each takes part")?;
        let rejected = growth.rejected(rival);
        table.row([
            rival.name().to_owned(),
            format!("{small:.1}"),
            format!("{large:.1}"),
            format!("{:.2}", large / small),
            ratio(against),
            rejected.to_string(),
        ]);
        rows.push(Row {
            store: rival.name(),
            small_entries: SIZES[0],
            small_ns: small,
            large_entries: SIZES[1],
            large_ns: large,
            growth: large / small,
            against_chain: against.value,
            low: against.low,
            high: against.high,
            rejections: rejected.calls,
        });
    }
    println!("{table}");
    out.write("growth.csv", &rows)?;
    let mut all = Rows::default();
    growth.cells().iter().for_each(|cell| all.add(cell, Rival::Chain.name()));
    out.write("growth-rounds.csv", &all.rounds)
}
