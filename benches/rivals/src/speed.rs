//! Nanoseconds an operation, of everybody, under each workload.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use crate::contest::{Contest, Contestant, Progress};
use crate::figure::{Cell, RoundRow, SummaryRow};
use crate::output::{Out, ROUNDS, cores, preamble};
use crate::rivals::{Rival, Store, play};
use crate::workload::{Kind, Workload};

pub const CAPACITIES: [usize; 3] = [2048, 1 << 16, 1 << 20];

#[derive(Args)]
pub struct Options {
    /// Interleaved rounds; fewer than 15 do not count
    #[arg(long, default_value_t = ROUNDS)]
    rounds: usize,
    /// Operations a thread and round, shared out among threads beyond the cores [default: enough
    /// for 50 to 100 ms]
    #[arg(long)]
    operations: Option<usize>,
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8])]
    threads: Vec<usize>,
    /// Capacities
    #[arg(long, value_delimiter = ',', default_values_t = CAPACITIES)]
    capacities: Vec<usize>,
    /// Workloads [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    workloads: Vec<Kind>,
    /// Only these rivals [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    rivals: Vec<Rival>,
    /// Where the CSV files go [default: docs/performance]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    pub operations: Option<usize>,
}

impl Effort {
    /// Whether its figures may be published.
    pub fn counts(self) -> bool {
        self.rounds >= ROUNDS && self.operations.is_none()
    }

    pub fn check(self, threads: &[usize], capacities: &[usize]) -> Result<()> {
        ensure!(self.rounds > 0, "--rounds must be at least 1");
        ensure!(self.operations != Some(0), "--operations must be at least 1");
        ensure!(threads.iter().all(|n| (1..=1024).contains(n)), "--threads must be 1 to 1024");
        // Keys are numbered with 32 bits, and churn has ten times as many.
        ensure!(
            capacities.iter().all(|n| (1..=1 << 28).contains(n)),
            "--capacities must be 1 to {}",
            1 << 28
        );
        Ok(())
    }

    /// Operations of each thread: enough for 50 to 100 ms a round for most of them, and in all as
    /// many as the cores can run at once.
    pub fn operations(self, kind: Kind, capacity: usize, threads: usize) -> usize {
        let large = capacity > 1 << 18;
        let usual = match kind {
            Kind::Hit if large => 1_000_000,
            Kind::Hit | Kind::One => 2_000_000,
            Kind::Churn if large => 500_000,
            Kind::Churn => 1_000_000,
            Kind::Scan if large => 300_000,
            Kind::Scan | Kind::Sessions => 500_000,
        };
        (self.operations.unwrap_or(usual) * threads.min(cores()) / threads).max(1)
    }
}

/// A rival and its store.
pub type Entrant = (Rival, Box<dyn Store<str>>);

/// The stores of a workload and capacity, filled.
pub struct Field {
    kind: Kind,
    capacity: usize,
    stores: Vec<Entrant>,
    workload: Workload,
}

impl Field {
    pub fn new(kind: Kind, capacity: usize, rivals: &[Rival]) -> Self {
        Self::over(Workload::new(kind, capacity), kind, capacity, rivals)
    }

    /// Hits on stores that are full.
    pub fn full(capacity: usize, rivals: &[Rival]) -> Self {
        Self::over(Workload::full(capacity), Kind::Hit, capacity, rivals)
    }

    fn over(mut workload: Workload, kind: Kind, capacity: usize, rivals: &[Rival]) -> Self {
        let rivals = rivals.iter().filter(|rival| rival.share(kind, capacity).is_some());
        let stores: Vec<_> = rivals.map(|&rival| (rival, rival.build(capacity))).collect();
        let what = format!("filling for {} {capacity}", kind.name());
        let progress = Progress::new(what, workload.fill_batches());
        workload.fill(|part| {
            stores.iter().for_each(|(_, store)| play(store.as_ref(), part));
            progress.step();
        });
        Self { kind, capacity, stores, workload }
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn stores(&mut self) -> (&[Entrant], &mut Workload) {
        (&self.stores, &mut self.workload)
    }

    /// The rivals, the workload that they play, and how much of it.
    pub fn contest(&mut self) -> (Contest<'_>, &mut Workload) {
        let Self { kind, capacity, stores, workload } = self;
        let contestants = stores.iter().filter_map(|(rival, store)| {
            Contestant::store(*rival, store.as_ref(), *kind, *capacity)
        });
        (Contest::new(contestants.collect()), workload)
    }

    pub fn measure(&mut self, threads: usize, effort: Effort) -> Cell {
        let (kind, capacity) = (self.kind, self.capacity);
        let operations = effort.operations(kind, capacity, threads);
        let (mut contest, workload) = self.contest();
        let what = format!("{} {capacity}, threads: {threads}", kind.name());
        let progress = Progress::new(what, effort.rounds * contest.len());
        contest.warm_up(&workload.round(threads, operations));
        for _ in 0..effort.rounds {
            contest.round(&workload.round(threads, operations), &progress);
        }
        Cell { workload: kind.name(), capacity, threads, records: contest.finish() }
    }
}

/// What is written of some cells.
#[derive(Default)]
pub struct Rows {
    pub rounds: Vec<RoundRow>,
    pub summary: Vec<SummaryRow>,
}

impl Rows {
    pub fn add(&mut self, cell: &Cell, reference: &'static str) {
        self.rounds.extend(cell.rounds());
        self.summary.extend(cell.summary(reference));
    }

    pub fn write(&self, out: &Out, name: &str) -> Result<()> {
        out.write(&format!("{name}-rounds.csv"), &self.rounds)?;
        out.write(&format!("{name}.csv"), &self.summary)
    }
}

pub fn run(options: Options) -> Result<()> {
    let Options { rounds, operations, threads, capacities, workloads, rivals, out } = options;
    let effort = Effort { rounds, operations };
    effort.check(&threads, &capacities)?;
    let out = Out::new(out, effort.counts() && rivals.is_empty())?;
    let kinds = if workloads.is_empty() { Kind::ALL.to_vec() } else { workloads };
    let rivals = if rivals.is_empty() { Rival::ALL.to_vec() } else { rivals };
    println!("{}", preamble());
    for kind in kinds {
        let mut rows = Rows::default();
        // One key takes no room: the capacity changes nothing.
        let sizes = if kind == Kind::One { &capacities[..1] } else { &capacities };
        for &capacity in sizes {
            let mut field = Field::new(kind, capacity, &rivals);
            if field.stores.is_empty() {
                eprintln!("{} {capacity}: none of --rivals takes part", kind.name());
                continue;
            }
            for &threads in &threads {
                let cell = field.measure(threads, effort);
                let ours = [Rival::Counterclock, Rival::CounterclockTtl, Rival::CounterclockRecent]
                    .map(Rival::name);
                println!("{}\n{}", cell.heading(), cell.table(&ours));
                rows.add(&cell, ours[0]);
                // After each cell, so that a run that is stopped has not been for nothing.
                rows.write(&out, &format!("speed-{}", kind.name()))?;
            }
        }
    }
    Ok(())
}
