//! How long single increments take under churn.

use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use quanta::Clock;
use serde::{Deserialize, Serialize};

use crate::contest::{Orders, Progress, Rejected, timed};
use crate::output::{Out, ROUNDS, Table, grouped, preamble};
use crate::rivals::{Group, Rival, Store};
use crate::speed::{Effort, Field};
use crate::stats::{Estimate, median, quantile, ratio_of_medians};
use crate::workload::{Kind, Lines};

/// Increments a thread and round: p99.99 is then the hundredth largest.
const OPERATIONS: usize = 1_000_000;
/// Ticks of the clock that a histogram tells apart: three digits, up to minutes.
const MOST_TICKS: u64 = 1 << 40;
const DIGITS: u8 = 3;

/// What is told of a round, with the names in tables.
pub const POINTS: [(f64, &str); 5] =
    [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99"), (1.0, "max")];
/// The place of p99.9 in `POINTS`.
const TAIL: usize = 2;

#[derive(Args)]
pub struct Options {
    /// Interleaved rounds; fewer than 15 do not count
    #[arg(long, default_value_t = ROUNDS)]
    rounds: usize,
    /// Increments a thread and round [default: 1,000,000]
    #[arg(long)]
    operations: Option<usize>,
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Capacities
    #[arg(long, value_delimiter = ',', default_values_t = [1 << 20])]
    capacities: Vec<usize>,
    /// Only these rivals [default: all bounded ones]
    #[arg(long, value_delimiter = ',', value_enum)]
    rivals: Vec<Rival>,
    /// Where the CSV files go [default: docs/performance]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Those of which there is a tail to compare: ours, and the bounded ones. Not the original: a round
/// of its would take minutes where it sorts, and it takes no part where the capacity is larger.
pub fn contenders(capacity: usize) -> Vec<Rival> {
    let compared = |rival: &Rival| match rival.group() {
        Group::Ours => true,
        Group::Bounded => *rival != Rival::Original,
        Group::Unbounded | Group::Floor => false,
    };
    let takes_part = |rival: &Rival| rival.share(Kind::Churn, capacity).is_some();
    Rival::ALL.into_iter().filter(compared).filter(takes_part).collect()
}

/// One store's rounds, each by the nanoseconds at `POINTS`.
pub struct Tail {
    rival: Rival,
    rounds: Vec<[f64; POINTS.len()]>,
    rejected: Rejected,
}

impl Tail {
    fn at(&self, point: usize) -> Vec<f64> {
        self.rounds.iter().map(|round| round[point]).collect()
    }
}

pub struct Tails {
    capacity: usize,
    threads: usize,
    tails: Vec<Tail>,
}

impl Tails {
    /// The bounded rival with the least median of p99.9, and ours over it.
    pub fn against_best(&self, ours: Rival) -> Option<(&'static str, Estimate)> {
        let bounded = self.tails.iter().filter(|tail| tail.rival.group() == Group::Bounded);
        let best = bounded.min_by(|a, b| median(&a.at(TAIL)).total_cmp(&median(&b.at(TAIL))))?;
        let own = self.tails.iter().find(|tail| tail.rival == ours)?;
        Some((best.rival.name(), ratio_of_medians(&own.at(TAIL), &best.at(TAIL))))
    }

    pub fn rejected(&self, ours: Rival) -> Rejected {
        let own = self.tails.iter().find(|tail| tail.rival == ours);
        own.map(|tail| tail.rejected).unwrap_or_default()
    }
}

/// Ticks between two readings with nothing between them: part of each figure.
fn clock_cost(clock: &Clock) -> Histogram<u64> {
    let mut times = histogram();
    for _ in 0..1_000_000 {
        let start = clock.raw();
        let end = clock.raw();
        times.saturating_record(end.saturating_sub(start));
    }
    times
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MOST_TICKS, DIGITS).expect("the bounds are in order")
}

fn nanoseconds(clock: &Clock, times: &Histogram<u64>, point: f64) -> f64 {
    clock.delta_as_nanos(0, times.value_at_quantile(point)) as f64
}

fn round(store: &dyn Store<str>, lines: &[Lines<'_>], clock: &Clock) -> Histogram<u64> {
    let all = Mutex::new(histogram());
    timed(lines.len(), |thread| {
        let Lines::Increments(keys) = &lines[thread] else { unreachable!("churn only counts") };
        let mut times = histogram();
        store.time(keys, clock, &mut times);
        *all.lock().expect("nobody panics under it") += times;
    });
    all.into_inner().expect("nobody panics under it")
}

pub fn measure(field: &mut Field, threads: usize, effort: Effort, clock: &Clock) -> Tails {
    let operations = effort.operations.unwrap_or(OPERATIONS);
    let capacity = field.capacity();
    let (stores, workload) = field.stores();
    let tail = |&(rival, _): &(Rival, _)| Tail {
        rival,
        rounds: Vec::new(),
        rejected: Rejected::default(),
    };
    let mut tails: Vec<_> = stores.iter().map(tail).collect();
    let progress =
        Progress::new(format!("latency, threads: {threads}"), effort.rounds * stores.len());
    let mut orders = Orders::new();
    // The first round warms up.
    for n in 0..=effort.rounds {
        let script = workload.round(threads, operations);
        let lines = script.lines();
        for at in orders.next(n, stores.len()) {
            let store = stores[at].1.as_ref();
            let before = store.rejections();
            let times = round(store, &lines, clock);
            if n > 0 {
                let points = POINTS.map(|(point, _)| nanoseconds(clock, &times, point));
                tails[at].rounds.push(points);
                tails[at].rejected.calls += store.rejections() - before;
                tails[at].rejected.of += times.len();
                progress.step();
            }
        }
    }
    Tails { capacity, threads, tails }
}

/// One store's round, or the median over its rounds.
#[derive(Serialize, Deserialize)]
pub struct Row {
    pub capacity: usize,
    pub threads: usize,
    pub store: String,
    pub round: Option<usize>,
    pub p50: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
    pub rejections: u64,
    pub rejected_share: f64,
}

impl Row {
    pub fn points(&self) -> [f64; POINTS.len()] {
        [self.p50, self.p99, self.p99_9, self.p99_99, self.max]
    }
}

impl Tails {
    fn row(&self, tail: &Tail, round: Option<usize>, points: [f64; POINTS.len()]) -> Row {
        let [p50, p99, p99_9, p99_99, max] = points;
        Row {
            capacity: self.capacity,
            threads: self.threads,
            store: tail.rival.name().to_owned(),
            round,
            p50,
            p99,
            p99_9,
            p99_99,
            max,
            rejections: tail.rejected.calls,
            rejected_share: tail.rejected.share(),
        }
    }

    pub fn rounds(&self) -> impl Iterator<Item = Row> {
        self.tails.iter().flat_map(move |tail| {
            let rounds = tail.rounds.iter().enumerate();
            rounds.map(move |(n, points)| self.row(tail, Some(n), *points))
        })
    }

    pub fn medians(&self) -> impl Iterator<Item = Row> {
        let middle = |tail: &Tail| std::array::from_fn(|point| median(&tail.at(point)));
        self.tails.iter().map(move |tail| self.row(tail, None, middle(tail)))
    }

    pub fn table(&self) -> Table {
        let titles = ["store".to_owned()].into_iter();
        let titles = titles.chain(POINTS.iter().map(|(_, name)| format!("{name}:")));
        let titles: Vec<_> =
            titles.chain(["p99.9, quartiles:".into(), "rejected:".into()]).collect();
        let mut table = Table::with_titles(&titles);
        for tail in &self.tails {
            let mut cells = vec![tail.rival.name().to_owned()];
            cells.extend((0..POINTS.len()).map(|point| grouped(median(&tail.at(point)) as u64)));
            let quartile = |q| grouped(quantile(&tail.at(TAIL), q) as u64);
            cells.push(format!("{}-{}", quartile(0.25), quartile(0.75)));
            let ours = tail.rival.group() == Group::Ours;
            cells.push(if ours { tail.rejected.to_string() } else { String::new() });
            table.row(cells);
        }
        table
    }
}

pub fn run(options: Options) -> Result<()> {
    let Options { rounds, operations, threads, capacities, rivals, out } = options;
    let effort = Effort { rounds, operations };
    effort.check(&threads, &capacities)?;
    let out = Out::new(out, effort.counts() && rivals.is_empty())?;
    let clock = Clock::new();
    println!("{}", preamble());
    let cost = clock_cost(&clock);
    println!(
        "Reading the clock twice takes {} ns (p50), {} ns (p99.9), and is part of each figure. \
         Nanoseconds, medians over {rounds} rounds.\n",
        nanoseconds(&clock, &cost, 0.5),
        nanoseconds(&clock, &cost, 0.999),
    );
    let (mut all, mut medians) = (Vec::new(), Vec::new());
    for capacity in capacities {
        let mut contenders = contenders(capacity);
        contenders.retain(|rival| rivals.is_empty() || rivals.contains(rival));
        ensure!(!contenders.is_empty(), "none of --rivals takes part in churn");
        let mut field = Field::new(Kind::Churn, capacity, &contenders);
        for &threads in &threads {
            let tails = measure(&mut field, threads, effort, &clock);
            println!("### churn, capacity {}, threads: {threads}\n", grouped(capacity as u64));
            println!("{}", tails.table());
            all.extend(tails.rounds());
            medians.extend(tails.medians());
            out.write("latency-rounds.csv", &all)?;
            out.write("latency.csv", &medians)?;
        }
    }
    Ok(())
}
