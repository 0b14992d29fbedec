//! The bars that were set, and whether they are met.

mod line;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::contest::Rejected;
use crate::figure::{Cell, SummaryRow};
use crate::growth::Growth;
use crate::handles;
use crate::latency;
use crate::memory::{self, Keys};
use crate::output::{Out, ROUNDS, grouped, preamble, read};
use crate::retention::{Means, OURS, OURS_BYTES, Plan, Retention};
use crate::rivals::{Group, Rival};
use crate::speed::{CAPACITIES, Effort, Field, Rows};
use crate::stats::{Estimate, mean};
use crate::workload::Kind;

use self::line::{Limit, Line, table};

const SMALL: usize = CAPACITIES[0];
const LARGE: usize = CAPACITIES[2];
const THREADS: [usize; 2] = [1, 2];
/// Ours without a TTL, with one, and with one by quanta's recent time.
const OURS_EACH: [(Rival, &str); 3] = [
    (Rival::Counterclock, "off"),
    (Rival::CounterclockTtl, "on"),
    (Rival::CounterclockRecent, "recent"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bar {
    Hit,
    Pin,
    Counter,
    OneKey,
    Churn,
    Scan,
    Sessions,
    Tail,
    Growth,
    Memory,
    Retention,
}

#[derive(Args)]
pub struct Options {
    /// Interleaved rounds; fewer than 15 do not count
    #[arg(long, default_value_t = ROUNDS)]
    rounds: usize,
    /// Operations a thread and round [default: as each figure has them]
    #[arg(long)]
    operations: Option<usize>,
    /// Only these bars [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Bar>,
    /// Directory with the traces (`.u64.zst`) and `RESULTS.csv`; without it, no retention
    #[arg(long)]
    traces: Option<PathBuf>,
    /// Seeds of the hasher over which retention is taken
    #[arg(long, default_value_t = 3)]
    hashers: usize,
    /// Where the CSV files go [default: docs/performance]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Measures, and collects lines.
struct Bars<'a> {
    effort: Effort,
    lines: Vec<Line>,
    rows: Rows,
    out: &'a Out,
}

fn threads_text(threads: usize) -> &'static str {
    if threads == 1 { "1 thread" } else { "2 threads" }
}

impl Bars<'_> {
    /// A line for a ratio of two records in a cell; `inverse` where more is better.
    fn ratio(
        &mut self,
        cell: &Cell,
        bar: &str,
        ours: (&str, &'static str),
        limit: Limit,
        of: &str,
    ) {
        let (name, ttl) = ours;
        let ratio = match limit {
            Limit::AtMost(_) => cell.ratio(name, of),
            // Of throughput: the other's time over ours.
            Limit::AtLeast(_) => cell.ratio(of, name),
        };
        if let Some(measured) = ratio {
            let (bar, against) = (bar.to_owned(), of.to_owned());
            let rejected = cell.rejected(name);
            self.lines.push(Line { bar, ttl, limit, measured, against, rejected });
        }
    }

    fn against_fastest(&mut self, cell: &Cell, limit: f64) {
        let Some(fastest) = cell.fastest_bounded().map(|record| record.name) else { return };
        let threads = threads_text(cell.threads);
        let bar = format!("{} {}, {threads}", cell.workload, grouped(cell.capacity as u64));
        for (ours, ttl) in OURS_EACH {
            self.ratio(cell, &bar, (ours.name(), ttl), Limit::AtMost(limit), fastest);
        }
    }

    fn hit(&mut self, cell: &Cell) {
        let capacity = grouped(cell.capacity as u64);
        if cell.threads == 2 {
            return self.against_fastest(cell, 0.7);
        }
        let floor = Rival::ArrayPinned.name();
        for (ours, ttl) in OURS_EACH {
            let bar = format!("hit {capacity}, 1 thread, floor with a pin");
            self.ratio(cell, &bar, (ours.name(), ttl), Limit::AtMost(1.25), floor);
        }
        self.against_fastest(cell, 0.9);
    }

    fn pin(&mut self, cell: &Cell) {
        let bar = format!("pin held over a batch, {}, 1 thread", grouped(cell.capacity as u64));
        let pinned = [(Rival::CounterclockPinned, "off"), (Rival::CounterclockPinnedTtl, "on")];
        for (ours, ttl) in pinned {
            self.ratio(cell, &bar, (ours.name(), ttl), Limit::AtMost(1.3), Rival::Array.name());
        }
    }

    /// What the bars need of a workload's stores: not the unbounded ones.
    fn field(kind: Kind, capacity: usize) -> Field {
        let wanted = |rival: &Rival| match rival.group() {
            Group::Ours | Group::Bounded => true,
            Group::Floor => kind == Kind::Hit && *rival != Rival::Chain,
            Group::Unbounded => false,
        };
        let rivals: Vec<_> = Rival::ALL.into_iter().filter(wanted).collect();
        Field::new(kind, capacity, &rivals)
    }

    fn measure(&mut self, field: &mut Field, threads: usize) -> Result<Cell> {
        let cell = field.measure(threads, self.effort);
        self.rows.add(&cell, Rival::Counterclock.name());
        self.rows.write(self.out, "bars-speed")?;
        Ok(cell)
    }

    fn hits(&mut self, only: &dyn Fn(Bar) -> bool) -> Result<()> {
        for capacity in CAPACITIES {
            let mut field = Self::field(Kind::Hit, capacity);
            for threads in THREADS {
                let cell = self.measure(&mut field, threads)?;
                if only(Bar::Hit) {
                    self.hit(&cell);
                }
                if only(Bar::Pin) && threads == 1 {
                    self.pin(&cell);
                }
            }
        }
        Ok(())
    }

    fn misses(&mut self, kind: Kind, capacities: &[usize]) -> Result<()> {
        for &capacity in capacities {
            let mut field = Self::field(kind, capacity);
            for threads in THREADS {
                let cell = self.measure(&mut field, threads)?;
                let limit = match (capacity, threads) {
                    (SMALL, 1) => 1.1,
                    (SMALL, _) => 1.0,
                    _ => 0.8,
                };
                self.against_fastest(&cell, limit);
            }
        }
        Ok(())
    }

    fn counter(&mut self) -> Result<()> {
        let cell = handles::measure(1, self.effort)?;
        let ours = (handles::HELD, "off");
        self.ratio(&cell, "held Counter, 1 thread", ours, Limit::AtMost(1.5), handles::BARE);
        self.rows.add(&cell, handles::BARE);
        Ok(())
    }

    fn one_key(&mut self) -> Result<()> {
        let cell = handles::measure(2, self.effort)?;
        let ways = [
            ("increment", Rival::Counterclock.name(), "off"),
            ("increment", Rival::CounterclockTtl.name(), "on"),
            ("increment", Rival::CounterclockRecent.name(), "recent"),
            ("held Counter", handles::HELD, "off"),
            ("held Counter", handles::HELD_TTL, "on"),
            ("held Counter", handles::HELD_RECENT, "recent"),
            ("Striped", handles::STRIPED, "off"),
            ("Striped", handles::STRIPED_TTL, "on"),
            ("Striped", handles::STRIPED_RECENT, "recent"),
            ("Buffer", handles::BUFFER, "off"),
            ("Buffer", handles::BUFFER_TTL, "on"),
        ];
        for (way, name, ttl) in ways {
            let bar = format!("one key, 2 threads, {way}");
            self.ratio(&cell, &bar, (name, ttl), Limit::AtLeast(0.9), handles::PRIVATE);
        }
        self.rows.add(&cell, handles::PRIVATE);
        Ok(())
    }

    fn tail(&mut self) -> Result<()> {
        let clock = quanta::Clock::new();
        let mut field = Field::new(Kind::Churn, LARGE, &latency::contenders(LARGE));
        let mut rounds = Vec::new();
        for threads in THREADS {
            let tails = latency::measure(&mut field, threads, self.effort, &clock);
            for (ours, ttl) in OURS_EACH {
                let (best, measured) = tails.against_best(ours).context("each takes part")?;
                self.lines.push(Line {
                    bar: format!(
                        "p99.9 under churn {}, {}",
                        grouped(LARGE as u64),
                        threads_text(threads)
                    ),
                    ttl,
                    limit: Limit::AtMost(1.0),
                    measured,
                    against: best.to_owned(),
                    rejected: tails.rejected(ours),
                });
            }
            println!(
                "churn, single increments in ns, {}\n\n{}",
                threads_text(threads),
                tails.table()
            );
            rounds.extend(tails.rounds());
        }
        self.out.write("bars-latency-rounds.csv", &rounds)
    }

    fn growth(&mut self) -> Result<()> {
        let growth = Growth::measure(self.effort);
        for (ours, ttl) in OURS_EACH {
            self.lines.push(Line {
                bar: format!(
                    "growth of a hit from {} to {}",
                    grouped(SMALL as u64),
                    grouped(LARGE as u64)
                ),
                ttl,
                limit: Limit::AtMost(1.2),
                measured: growth.against_chain(ours).context("each takes part")?,
                against: format!("the growth of {}", Rival::Chain.name()),
                rejected: growth.rejected(ours),
            });
        }
        growth.cells().iter().for_each(|cell| self.rows.add(cell, Rival::Chain.name()));
        Ok(())
    }

    /// By the other binary, and from the file that it writes.
    fn memory(&mut self) -> Result<()> {
        let scratch = std::env::temp_dir().join(format!("rivals-memory-{}", std::process::id()));
        let directory = scratch.display().to_string();
        let rivals = "counterclock,counterclock-ttl";
        memory::delegate(&["--rivals", rivals, "--out", &directory].map(str::to_owned))?;
        let rows: Vec<memory::Row> = read(&scratch.join("memory.csv"))?;
        fs::remove_dir_all(&scratch).with_context(|| directory)?;
        for (ours, ttl) in OURS_EACH {
            let own = rows.iter().filter(|row| row.store == ours.name() && row.keys == Keys::U64);
            self.lines.extend(own.map(|row| Line {
                bar: format!("bytes / capacity, u64 keys, full, {}", grouped(row.capacity as u64)),
                ttl,
                limit: Limit::AtMost(160.0),
                measured: Estimate::exact(row.full),
                against: "-".to_owned(),
                rejected: Rejected { calls: row.rejections, of: row.capacity as u64 * 3 },
            }));
        }
        self.out.write("bars-memory.csv", &rows)
    }

    fn retention(&mut self, directory: &Path, hashers: usize) -> Result<()> {
        let mut traces = Vec::new();
        for entry in
            std::fs::read_dir(directory).with_context(|| directory.display().to_string())?
        {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(".u64.zst") {
                traces.push(path);
            }
        }
        traces.sort();
        ensure!(!traces.is_empty(), "--traces {}: no .u64.zst there", directory.display());
        let results = Some(directory.join("RESULTS.csv"));
        let retention =
            Retention::measure(&Plan { traces, results, hashers, shards: None, alone: true })?;
        for (store, units) in [(OURS, "1 a use"), (OURS_BYTES, "1 to 1,500 a use")] {
            self.kept(&retention.means(store), units);
        }
        self.out.write("bars-retention.csv", &retention.rows)
    }

    /// The mean over the seeds is what counts; beside it, the least and the most of them.
    fn kept(&mut self, means: &[Means], units: &str) {
        type Value = fn(&Means) -> f64;
        let figures: [(&str, f64, Value); 5] = [
            ("hit ratio, %", 50.0, |means| means.hit_ratio),
            ("retained mass, %", 28.5, |means| means.mass),
            ("recall of the top 100, %", 71.0, |means| means.recall),
            ("worst cell against LRU, points", -1.0, |means| means.worst),
            ("the same, of fewer than 128 entries", -1.5, |means| means.worst_small),
        ];
        let rejected: Rejected = means.iter().map(|means| means.rejected).sum();
        self.lines.push(Line {
            bar: format!("rejections, {units}"),
            ttl: "off",
            limit: Limit::AtMost(0.0),
            measured: Estimate::exact(rejected.calls as f64),
            against: "-".to_owned(),
            rejected,
        });
        for (figure, limit, value) in figures {
            let all: Vec<f64> = means.iter().map(value).collect();
            let low = all.iter().copied().fold(f64::INFINITY, f64::min);
            let high = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let cells = means.first().map_or(0, |means| means.cells);
            self.lines.push(Line {
                bar: format!("{figure}, {units}, {cells} cells"),
                ttl: "off",
                limit: Limit::AtLeast(limit),
                measured: Estimate::exact(mean(all)),
                against: format!("{} seeds: {low:.2}..{high:.2}", means.len()),
                rejected,
            });
        }
    }

    fn write(&self) -> Result<()> {
        let rows: Vec<_> = self.lines.iter().map(Line::row).collect();
        self.out.write("bars.csv", &rows)?;
        // For `plot`, as `speed` writes them.
        for kind in Kind::ALL {
            let of_kind = |row: &&SummaryRow| row.workload == kind.name();
            let rows: Vec<_> = self.rows.summary.iter().filter(of_kind).collect();
            if !rows.is_empty() {
                self.out.write(&format!("speed-{}.csv", kind.name()), &rows)?;
            }
        }
        self.rows.write(self.out, "bars-speed")
    }
}

pub fn run(options: Options) -> Result<()> {
    let Options { rounds, operations, only, traces, hashers, out } = options;
    let effort = Effort { rounds, operations };
    effort.check(&THREADS, &CAPACITIES)?;
    ensure!(hashers > 0, "--hashers must be at least 1");
    let out = Out::new(out, effort.counts() && only.is_empty())?;
    let wanted = |bar: Bar| only.is_empty() || only.contains(&bar);
    println!("{}", preamble());
    let mut bars = Bars { effort, lines: Vec::new(), rows: Rows::default(), out: &out };
    if wanted(Bar::Hit) || wanted(Bar::Pin) {
        bars.hits(&wanted)?;
    }
    if wanted(Bar::Counter) {
        bars.counter()?;
    }
    if wanted(Bar::OneKey) {
        bars.one_key()?;
    }
    if wanted(Bar::Churn) {
        bars.misses(Kind::Churn, &CAPACITIES)?;
    }
    if wanted(Bar::Scan) {
        bars.misses(Kind::Scan, &CAPACITIES[1..])?;
    }
    if wanted(Bar::Sessions) {
        bars.misses(Kind::Sessions, &[SMALL])?;
    }
    if wanted(Bar::Tail) {
        bars.tail()?;
    }
    if wanted(Bar::Growth) {
        bars.growth()?;
    }
    if wanted(Bar::Memory) {
        bars.memory()?;
    }
    match &traces {
        Some(directory) if wanted(Bar::Retention) => bars.retention(directory, hashers)?,
        None if wanted(Bar::Retention) => {
            println!("Retention was not measured: it needs --traces.\n");
        }
        _ => {}
    }
    println!("{}", table(&bars.lines));
    bars.write()
}
