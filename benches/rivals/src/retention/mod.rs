//! What is still held after real traces: hit ratio, retained mass, recall of the true top 100.

mod play;
mod results;
mod trace;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::contest::{Progress, Rejected};
use crate::output::{Out, Table, grouped, preamble};
use crate::rivals::{Rival, Visible, with_shards};
use crate::stats::{mean, median, quantile};

use self::play::{Kept, Material, Outcome};
use self::results::{Lru, Results};
use self::trace::{Trace, Units};

/// Capacities as shares of a trace's keys.
const SHARES: [f64; 3] = [0.001, 0.01, 0.1];
const RIVALS: [(&str, Build); 5] = [
    ("quick_cache", |capacity| Rival::QuickCache.build_visible(capacity)),
    ("moka", |capacity| Rival::Moka.build_visible(capacity)),
    // It rounds its capacity up to a power of two by itself, which is up to twice the room.
    ("scc HashCache", |capacity| Rival::Scc.build_visible(capacity)),
    ("scc HashCache, rounded down", |capacity| Rival::Scc.build_visible(1 << capacity.ilog2())),
    ("TinyUFO", |capacity| Rival::TinyUfo.build_visible(capacity)),
];
type Build = fn(usize) -> Option<Box<dyn Visible>>;

pub const OURS: &str = "counterclock";
pub const OURS_BYTES: &str = "counterclock, bytes";

#[derive(Args)]
pub struct Options {
    /// Traces: `.u64.zst`, one little-endian u64 key a request
    #[arg(required = true)]
    traces: Vec<PathBuf>,
    /// The simulator's results, with LRU's figures
    #[arg(long)]
    results: Option<PathBuf>,
    /// Repeats counterclock with so many seeds of the hasher
    #[arg(long, default_value_t = 1)]
    hashers: usize,
    /// Shards of counterclock [default: its own choice]
    #[arg(long)]
    shards: Option<usize>,
    /// counterclock alone
    #[arg(long)]
    alone: bool,
    /// Where the CSV files go [default: docs/performance]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A store over a trace at a capacity. Shares in percent.
#[derive(Clone, Serialize, Deserialize)]
pub struct Row {
    pub trace: String,
    pub share: f64,
    pub capacity: usize,
    pub store: String,
    /// Which seed of the hasher.
    pub hasher: usize,
    pub hit_ratio: f64,
    pub mass: f64,
    pub recall: f64,
    pub lru_hit_ratio: Option<f64>,
    pub lru_mass: Option<f64>,
    pub lru_recall: Option<f64>,
    pub most_held: usize,
    pub rejections: u64,
    pub requests: u64,
}

impl Row {
    /// Points of hit ratio above LRU.
    fn points(&self) -> Option<f64> {
        Some(self.hit_ratio - self.lru_hit_ratio?)
    }
}

/// Means over the cells, and the worst cell against LRU.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    pub cells: usize,
    pub hit_ratio: f64,
    pub mass: f64,
    pub recall: f64,
    /// Points of hit ratio, in cells of at least 128 entries.
    pub worst: f64,
    /// And in smaller ones, where a point is few entries.
    pub worst_small: f64,
    pub rejected: Rejected,
}

impl Means {
    fn of<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Self {
        let of = |value: fn(&Row) -> f64| mean(rows.clone().map(value));
        let worst = |small: bool| {
            let cells = rows.clone().filter(|row| (row.capacity < 128) == small);
            cells.filter_map(Row::points).min_by(f64::total_cmp).unwrap_or(f64::NAN)
        };
        let rejected = |row: &Row| Rejected { calls: row.rejections, of: row.requests };
        Self {
            cells: rows.clone().count(),
            hit_ratio: of(|row| row.hit_ratio),
            mass: of(|row| row.mass),
            recall: of(|row| row.recall),
            worst: worst(false),
            worst_small: worst(true),
            rejected: rows.clone().map(rejected).sum(),
        }
    }
}

/// All rows of a run.
pub struct Retention {
    pub rows: Vec<Row>,
}

/// What is played.
pub struct Plan {
    pub traces: Vec<PathBuf>,
    pub results: Option<PathBuf>,
    pub hashers: usize,
    pub shards: Option<usize>,
    pub alone: bool,
}

impl Retention {
    pub fn measure(plan: &Plan) -> Result<Self> {
        let results = plan.results.as_deref().map(Results::read).transpose()?.unwrap_or_default();
        let mut retention = Self { rows: Vec::new() };
        let rivals = if plan.alone { 0 } else { RIVALS.len() };
        let steps = plan.traces.len() * SHARES.len() * (rivals + 2 * plan.hashers);
        let progress = Progress::new("retention".into(), steps);
        for path in &plan.traces {
            let trace = Trace::read(path)?;
            for units in [Units::One, Units::Bytes] {
                let material = Material::new(&trace, units);
                for share in SHARES {
                    retention.cell(&material, share, plan, &results, &progress)?;
                }
            }
        }
        Ok(retention)
    }

    fn cell(
        &mut self,
        material: &Material<'_>,
        share: f64,
        plan: &Plan,
        results: &Results,
        progress: &Progress,
    ) -> Result<()> {
        let capacity = material.capacity(share);
        let lru = results.lru(&material.trace.name, capacity);
        let mut play = |name: &str, hasher, store: &dyn Visible| -> Result<()> {
            let outcome = material.play(store).with_context(|| name.to_owned())?;
            let of = Of { trace: material.trace, share, capacity, lru };
            self.rows.push(of.row(name, hasher, outcome));
            progress.step();
            Ok(())
        };
        let ours = if material.units == Units::One { OURS } else { OURS_BYTES };
        for hasher in 0..plan.hashers {
            // Each store draws a seed of its own.
            play(ours, hasher, counterclock(capacity, plan.shards)?.as_ref())?;
        }
        if plan.alone || material.units == Units::Bytes {
            return Ok(());
        }
        for (name, build) in RIVALS {
            let store = build(capacity).context("each shows what it holds")?;
            play(name, 0, store.as_ref())?;
        }
        Ok(())
    }

    fn of(&self, store: &str, hasher: usize) -> impl Iterator<Item = &Row> + Clone {
        self.rows.iter().filter(move |row| row.store == store && row.hasher == hasher)
    }

    /// Ours first, then the others in the order in which they played.
    fn stores(&self) -> Vec<&str> {
        let mut stores = vec![OURS, OURS_BYTES];
        for row in &self.rows {
            if !stores.contains(&row.store.as_str()) {
                stores.push(&row.store);
            }
        }
        stores
    }

    /// The means of each seed of the hasher.
    pub fn means(&self, store: &str) -> Vec<Means> {
        let seeds = self.rows.iter().map(|row| row.hasher + 1).max().unwrap_or(0);
        let means = (0..seeds).map(|hasher| Means::of(self.of(store, hasher)));
        means.filter(|means| means.cells > 0).collect()
    }

    fn cells_table(&self, store: &str) -> Table {
        let mut table = Table::new([
            "trace",
            "of the keys:",
            "capacity:",
            "hit ratio, %:",
            "LRU:",
            "points:",
            "retained mass, %:",
            "LRU:",
            "recall of the top 100, %:",
            "LRU:",
            "rejected:",
        ]);
        let or_none = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        for row in self.of(store, 0) {
            table.row([
                row.trace.clone(),
                row.share.to_string(),
                grouped(row.capacity as u64),
                format!("{:.2}", row.hit_ratio),
                or_none(row.lru_hit_ratio),
                row.points().map_or("-".into(), |points| format!("{points:+.2}")),
                format!("{:.2}", row.mass),
                or_none(row.lru_mass),
                format!("{:.2}", row.recall),
                or_none(row.lru_recall),
                row.rejections.to_string(),
            ]);
        }
        table
    }

    /// One figure of everybody, cell by cell.
    fn everybody(&self, value: fn(&Row) -> f64, lru: fn(&Row) -> Option<f64>) -> Table {
        let stores = self.stores();
        let titles = ["trace", "capacity:", "LRU:"].map(str::to_owned).into_iter();
        let titles = titles.chain(stores.iter().map(|store| format!("{store}:")));
        let titles: Vec<_> = titles.collect();
        let mut table = Table::with_titles(&titles);
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        for cell in self.of(OURS, 0) {
            let mut cells = vec![cell.trace.clone(), grouped(cell.capacity as u64)];
            cells.push(number(lru(cell)));
            cells.extend(stores.iter().map(|store| {
                let same = |row: &&Row| row.trace == cell.trace && row.share == cell.share;
                number(self.of(store, 0).find(same).map(value))
            }));
            table.row(cells);
        }
        table
    }

    fn means_table(&self) -> Table {
        let mut table = Table::new([
            "store",
            "cells:",
            "hit ratio, %:",
            "retained mass, %:",
            "recall of the top 100, %:",
            "worst cell against LRU, points:",
            "of fewer than 128 entries:",
            "most held / capacity:",
            "rejected:",
        ]);
        let lru = |value: fn(&Row) -> Option<f64>| mean(self.of(OURS, 0).filter_map(value));
        if self.of(OURS, 0).any(|row| row.lru_hit_ratio.is_some()) {
            table.row([
                "LRU, simulated".to_owned(),
                self.of(OURS, 0).filter(|row| row.lru_hit_ratio.is_some()).count().to_string(),
                format!("{:.2}", lru(|row| row.lru_hit_ratio)),
                format!("{:.2}", lru(|row| row.lru_mass)),
                format!("{:.2}", lru(|row| row.lru_recall)),
                "0".to_owned(),
                "0".to_owned(),
                "1".to_owned(),
                "-".to_owned(),
            ]);
        }
        for store in self.stores() {
            let means = Means::of(self.of(store, 0));
            let fullest = self.of(store, 0).map(|row| row.most_held as f64 / row.capacity as f64);
            let ours = store.starts_with(OURS);
            table.row([
                store.to_owned(),
                means.cells.to_string(),
                format!("{:.2}", means.hit_ratio),
                format!("{:.2}", means.mass),
                format!("{:.2}", means.recall),
                format!("{:+.2}", means.worst),
                format!("{:+.2}", means.worst_small),
                format!("{:.2}", fullest.fold(0.0, f64::max)),
                if ours { means.rejected.to_string() } else { "-".to_owned() },
            ]);
        }
        table
    }

    /// How far the seeds of the hasher move the means.
    fn seeds_table(&self) -> Table {
        let mut table = Table::new(["store", "", "least:", "median:", "most:"]);
        type Value = fn(&Means) -> f64;
        let values: [(&str, Value); 5] = [
            ("hit ratio, %", |means| means.hit_ratio),
            ("retained mass, %", |means| means.mass),
            ("recall of the top 100, %", |means| means.recall),
            ("worst cell against LRU, points", |means| means.worst),
            ("of fewer than 128 entries", |means| means.worst_small),
        ];
        for store in [OURS, OURS_BYTES] {
            let means = self.means(store);
            for (name, value) in values {
                let all: Vec<f64> = means.iter().map(value).collect();
                let [least, most] = [0.0, 1.0].map(|q| quantile(&all, q));
                let cells = [least, median(&all), most].map(|value| format!("{value:.2}"));
                let [least, middle, most] = cells;
                table.row([store.to_owned(), name.to_owned(), least, middle, most]);
            }
        }
        table
    }
}

/// Where an outcome belongs.
struct Of<'a> {
    trace: &'a Trace,
    share: f64,
    capacity: usize,
    lru: Option<Lru>,
}

impl Of<'_> {
    fn row(&self, store: &str, hasher: usize, outcome: Outcome) -> Row {
        let Kept { hits, mass, recall } = outcome.kept;
        let percent = |share: f64| share * 100.0;
        Row {
            trace: self.trace.name.clone(),
            share: self.share,
            capacity: self.capacity,
            store: store.to_owned(),
            hasher,
            hit_ratio: percent(hits),
            mass: percent(mass),
            recall: percent(recall),
            lru_hit_ratio: self.lru.map(|lru| percent(lru.hits)),
            lru_mass: self.lru.map(|lru| percent(lru.mass)),
            lru_recall: self.lru.map(|lru| percent(lru.recall)),
            most_held: outcome.most_held,
            rejections: outcome.rejected.calls,
            requests: outcome.rejected.of,
        }
    }
}

fn counterclock(capacity: usize, shards: Option<usize>) -> Result<Box<dyn Visible>> {
    match shards {
        Some(shards) => Ok(with_shards(capacity, shards)?),
        None => Rival::Counterclock.build_visible(capacity).context("it shows what it holds"),
    }
}

pub fn run(options: Options) -> Result<()> {
    let Options { traces, results, hashers, shards, alone, out } = options;
    ensure!(hashers > 0, "--hashers must be at least 1");
    let counts = shards.is_none() && !alone && traces.len() > 1;
    let out = Out::new(out, counts)?;
    println!("{}", preamble());
    let plan = Plan { traces, results, hashers, shards, alone };
    let retention = Retention::measure(&plan)?;
    println!("### counterclock, one unit a use\n\n{}", retention.cells_table(OURS));
    println!("### counterclock, 1 to 1,500 units a use\n\n{}", retention.cells_table(OURS_BYTES));
    if !plan.alone {
        let hits = retention.everybody(|row| row.hit_ratio, |row| row.lru_hit_ratio);
        println!("### hit ratio, %\n\n{hits}");
        let mass = retention.everybody(|row| row.mass, |row| row.lru_mass);
        println!("### retained mass, %\n\n{mass}");
        let recall = retention.everybody(|row| row.recall, |row| row.lru_recall);
        println!("### recall of the true top 100, %\n\n{recall}");
    }
    println!("### means\n\n{}", retention.means_table());
    if plan.hashers > 1 {
        println!("### means, over {} seeds of the hasher\n", plan.hashers);
        println!("{}", retention.seeds_table());
    }
    out.write("retention.csv", &retention.rows)
}
