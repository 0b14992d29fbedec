//! Bytes requested from the allocator by a full store, divided by its capacity.
//!
//! Run by the binary `memory`, which counts what its allocator is asked for, so that the speed
//! figures' allocator is left alone. Each case has a process of its own: what one store leaves to
//! be freed later is not the next one's.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::contest::{Progress, timed};
use crate::key::{Form, uuid};
use crate::output::{Out, Table, cores, grouped, preamble};
use crate::rivals::{Group, Rival, Store};
use crate::speed::CAPACITIES;
use crate::workload::Kind;

/// What the allocator of the process has been asked for.
#[derive(Clone, Copy)]
pub struct Meter {
    /// Bytes that are held at present.
    pub bytes: fn() -> usize,
    /// The most since `reset`.
    pub peak: fn() -> usize,
    pub reset: fn(),
}

/// Bytes requested from the allocator by full stores, divided by the capacity.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    case: Option<Case>,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
pub struct Options {
    /// Capacities
    #[arg(long, value_delimiter = ',', default_values_t = CAPACITIES)]
    capacities: Vec<usize>,
    /// Only these rivals [default: all that are stores]
    #[arg(long, value_delimiter = ',', value_enum)]
    rivals: Vec<Rival>,
    /// New keys of the long churn, in capacities
    #[arg(long, default_value_t = 30)]
    churn: usize,
    /// Where the CSV files go [default: docs/performance]
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Options {
    /// Arguments for the binary `memory` that ask for the same.
    pub fn to_arguments(&self) -> Vec<String> {
        let list = |all: &[String]| all.join(",");
        let capacities: Vec<_> = self.capacities.iter().map(usize::to_string).collect();
        let mut arguments = vec!["--capacities".to_owned(), list(&capacities)];
        arguments.extend(["--churn".to_owned(), self.churn.to_string()]);
        if !self.rivals.is_empty() {
            let rivals: Vec<_> = self.rivals.iter().map(|&rival| argument(rival)).collect();
            arguments.extend(["--rivals".to_owned(), list(&rivals)]);
        }
        if let Some(out) = &self.out {
            arguments.extend(["--out".to_owned(), out.display().to_string()]);
        }
        arguments
    }
}

/// How a value is written on the command line.
fn argument(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[derive(Subcommand)]
enum Case {
    /// One store; prints a row of CSV
    #[command(hide = true)]
    Full {
        #[arg(value_enum)]
        rival: Rival,
        #[arg(value_enum)]
        keys: Keys,
        capacity: usize,
    },
    /// counterclock under a long churn; prints rows of CSV
    #[command(hide = true)]
    Churn { capacity: usize, capacities: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keys {
    U64,
    Text,
}

impl Keys {
    pub fn name(self) -> &'static str {
        match self {
            Self::U64 => "u64 keys",
            Self::Text => "36-byte String keys",
        }
    }
}

/// A store when it is empty, when as many keys as its capacity have come, and when twice as many
/// more have.
#[derive(Serialize, Deserialize)]
pub struct Row {
    pub store: String,
    pub keys: Keys,
    pub capacity: usize,
    pub empty: f64,
    pub full: f64,
    /// Keys that it held when it was full.
    pub held: Option<usize>,
    /// None for those that would only grow, or take hours.
    pub churned: Option<f64>,
    /// Ended entries that had not been freed then.
    pub waiting: Option<usize>,
    pub rejections: u64,
}

/// The store after so many new keys, with nothing in flight.
#[derive(Serialize, Deserialize)]
pub struct ChurnRow {
    pub capacity: usize,
    pub new_keys: u64,
    pub bytes: f64,
    /// Since the row before.
    pub peak: f64,
    pub held: usize,
    pub waiting: usize,
    pub rejections: u64,
}

/// `main` of the binary `memory`.
pub fn main(meter: Meter) -> Result<()> {
    let cli = Cli::parse();
    match cli.case {
        Some(Case::Full { rival, keys: Keys::U64, capacity }) => {
            print(&[full::<u64>(meter, rival, Keys::U64, capacity, |store, id| {
                store.add(&id, 1);
            })])
        }
        Some(Case::Full { rival, keys: Keys::Text, capacity }) => {
            print(&[full::<str>(meter, rival, Keys::Text, capacity, |store, id| {
                let text = uuid(id);
                store.add(std::str::from_utf8(&text).expect("hexadecimal digits"), 1);
            })])
        }
        Some(Case::Churn { capacity, capacities }) => print(&churn(meter, capacity, capacities)),
        None => all(cli.options),
    }
}

fn print<T: Serialize>(rows: &[T]) -> Result<()> {
    let mut writer = csv::Writer::from_writer(std::io::stdout());
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    Ok(writer.flush()?)
}

fn full<F: Form + ?Sized>(
    meter: Meter,
    rival: Rival,
    keys: Keys,
    capacity: usize,
    count: impl Fn(&dyn Store<F>, u64),
) -> Row {
    let before = (meter.bytes)();
    let each = || ((meter.bytes)() - before) as f64 / capacity as f64;
    let store = rival.build::<F>(capacity);
    let empty = each();
    let play = |ids: std::ops::Range<usize>| {
        ids.for_each(|id| count(store.as_ref(), id as u64));
        store.settle();
        each()
    };
    let full = play(0..capacity);
    let held = store.len();
    let churns = rival.share(Kind::Scan, capacity).is_some();
    let churned = churns.then(|| play(capacity..capacity * 3));
    let (waiting, rejections) = (store.waiting(), store.rejections());
    let store = rival.name().to_owned();
    Row { store, keys, capacity, empty, full, held, churned, waiting, rejections }
}

/// All cores bring new keys all the time; a sample after each capacity's worth of them.
fn churn(meter: Meter, capacity: usize, capacities: usize) -> Vec<ChurnRow> {
    let before = (meter.bytes)();
    let each = |bytes: usize| bytes.saturating_sub(before) as f64 / capacity as f64;
    let store = Rival::Counterclock.build::<u64>(capacity);
    let next = AtomicU64::new(0);
    let sample = |_| {
        (meter.reset)();
        timed(cores(), |_| {
            for _ in 0..capacity.div_ceil(cores()) {
                store.add(&next.fetch_add(1, Ordering::Relaxed), 1);
            }
        });
        ChurnRow {
            capacity,
            new_keys: next.load(Ordering::Relaxed),
            bytes: each((meter.bytes)()),
            peak: each((meter.peak)()),
            held: store.len().unwrap_or(0),
            waiting: store.waiting().unwrap_or(0),
            rejections: store.rejections(),
        }
    };
    (0..capacities).map(sample).collect()
}

/// Runs a case in a process of its own.
fn child<T: for<'a> Deserialize<'a>>(arguments: &[String]) -> Result<Vec<T>> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(arguments).output()?;
    let name = arguments.join(" ");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "memory {name}: {}\n{stderr}", output.status);
    let rows: csv::Result<_> = csv::Reader::from_reader(&output.stdout[..]).deserialize().collect();
    rows.with_context(|| format!("memory {name}"))
}

/// Stores; a pin changes nothing about memory, and the floors are none.
fn is_store(rival: Rival) -> bool {
    let pinned = [Rival::CounterclockPinned, Rival::CounterclockPinnedTtl].contains(&rival);
    rival.group() != Group::Floor && !pinned
}

fn all(options: Options) -> Result<()> {
    let Options { capacities, rivals, churn, out } = options;
    ensure!(!capacities.contains(&0), "--capacities must be at least 1");
    let out = Out::new(out, rivals.is_empty() && capacities == CAPACITIES)?;
    let rivals: Vec<_> = Rival::ALL
        .into_iter()
        .filter(|&rival| is_store(rival) && (rivals.is_empty() || rivals.contains(&rival)))
        .collect();
    println!("{}", preamble());
    println!("Bytes requested from the allocator, divided by the capacity; one thread.\n");
    let mut rows: Vec<Row> = Vec::new();
    for keys in [Keys::U64, Keys::Text] {
        let mut table = table();
        let cases = capacities.len() * rivals.len();
        let progress = Progress::new(format!("memory, {}", keys.name()), cases);
        for &capacity in &capacities {
            for &rival in &rivals {
                let case =
                    ["full".to_owned(), argument(rival), argument(keys), capacity.to_string()];
                for row in child::<Row>(&case)? {
                    table.row(row.cells());
                    rows.push(row);
                }
                progress.step();
            }
        }
        drop(progress);
        println!("### {}\n\n{table}", keys.name());
        out.write("memory.csv", &rows)?;
    }
    long_churn(&capacities, churn, &out)
}

fn table() -> Table {
    Table::new([
        "store",
        "capacity:",
        "empty:",
        "full:",
        "keys held:",
        "after twice as many more:",
        "ended, not freed:",
        "rejected:",
    ])
}

impl Row {
    fn cells(&self) -> [String; 8] {
        let or_none = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
        [
            self.store.clone(),
            grouped(self.capacity as u64),
            format!("{:.1}", self.empty),
            format!("{:.1}", self.full),
            or_none(self.held.map(|held| grouped(held as u64))),
            or_none(self.churned.map(|churned| format!("{churned:.1}"))),
            or_none(self.waiting.map(|waiting| grouped(waiting as u64))),
            self.rejections.to_string(),
        ]
    }
}

fn long_churn(capacities: &[usize], times: usize, out: &Out) -> Result<()> {
    println!("### counterclock under a long churn, u64 keys, {} threads\n", cores());
    println!(
        "The first row is the store when it is full. What is beyond that later is slack: ended \
         entries that wait to be freed, and spares.\n"
    );
    let mut table = Table::new([
        "capacity:",
        "new keys:",
        "bytes / capacity:",
        "beyond full:",
        "peak:",
        "live:",
        "ended, not freed:",
        "rejected:",
    ]);
    let mut rows = Vec::new();
    for &capacity in capacities {
        let case = ["churn".to_owned(), capacity.to_string(), times.to_string()];
        let samples: Vec<ChurnRow> = child(&case)?;
        // Ten of them are enough to see that it is flat.
        let every = samples.len().div_ceil(10).max(1);
        for (at, row) in samples.iter().enumerate() {
            if at == 0 || (at + 1) % every == 0 {
                table.row(row.cells(samples[0].bytes));
            }
        }
        rows.extend(samples);
        out.write("memory-churn.csv", &rows)?;
    }
    println!("{table}");
    Ok(())
}

impl ChurnRow {
    fn cells(&self, full: f64) -> [String; 8] {
        [
            grouped(self.capacity as u64),
            grouped(self.new_keys),
            format!("{:.1}", self.bytes),
            format!("{:.1}", self.bytes - full),
            format!("{:.1}", self.peak),
            grouped(self.held as u64),
            grouped(self.waiting as u64),
            self.rejections.to_string(),
        ]
    }
}

/// Has cargo build and run the binary `memory`, so that it is never an old one.
pub fn delegate(arguments: &[String]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["run", "--release", "--quiet", "--manifest-path", manifest]);
    command.args(["--bin", "memory", "--"]).args(arguments);
    let status = command.status().context("cargo, which builds and runs the binary `memory`")?;
    ensure!(status.success(), "the binary `memory`: {status}");
    Ok(())
}
