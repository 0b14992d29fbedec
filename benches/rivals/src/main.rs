//! The store beside its rivals, in one run: `cargo run --release --manifest-path benches/rivals/Cargo.toml`.
//!
//! Rounds interleave the rivals, so that whatever else the machine does falls on all of them. Printed are the median of
//! each, the median of the paired ratios with its quartiles, and the store's rejections: above 0.1 % a figure is void.

mod rivals;
mod workload;

use std::thread;
use std::time::Instant;

use clap::Parser;

use crate::rivals::{Rival, Store};
use crate::workload::{Kind, Workload};

#[derive(Parser)]
struct Args {
    /// Interleaved rounds.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Operations a thread and round.
    #[arg(long, default_value_t = 400_000)]
    operations: usize,
    /// Numbers of threads.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Capacities.
    #[arg(long, value_delimiter = ',', default_values_t = [2048])]
    capacities: Vec<usize>,
    /// Only these workloads.
    #[arg(long, value_delimiter = ',', value_enum)]
    workloads: Vec<Kind>,
}

/// Nanoseconds an operation, as the wall sees it: 2 threads that run at once take half.
fn round(store: &dyn Store, parts: &[Vec<&str>]) -> f64 {
    let start = Instant::now();
    thread::scope(|scope| {
        for part in parts {
            scope.spawn(move || part.iter().for_each(|key| store.increment(key)));
        }
    });
    start.elapsed().as_nanos() as f64 / parts.iter().map(Vec::len).sum::<usize>() as f64
}

fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

fn measure(args: &Args, kind: Kind, capacity: usize, threads: usize) {
    let workload = Workload::new(kind, capacity, args.operations * threads);
    let parts = workload.parts(threads);
    let rivals = Rival::ALL.map(|rival| rival.build(capacity));
    let mut times = vec![Vec::new(); rivals.len()];
    // One round to fill them and to warm up.
    rivals.iter().for_each(|rival| {
        round(rival.as_ref(), &parts);
    });
    for n in 0..args.rounds {
        for i in 0..rivals.len() {
            // Each goes first in turn.
            let i = (i + n) % rivals.len();
            times[i].push(round(rivals[i].as_ref(), &parts));
        }
    }
    for ((rival, store), own) in Rival::ALL.iter().zip(&rivals).zip(&times) {
        let ratios: Vec<_> = own.iter().zip(&times[0]).map(|(a, b)| a / b).collect();
        let (rejected, operations) =
            (store.rejections(), args.operations * threads * (args.rounds + 1));
        println!(
            "{kind:?} | {capacity} | {threads} | {} | {:.1} | {:.2} ({:.2}-{:.2}) | {rejected} ({:.3} %)",
            rival.name(),
            quantile(own, 0.5),
            quantile(&ratios, 0.5),
            quantile(&ratios, 0.25),
            quantile(&ratios, 0.75),
            100.0 * rejected as f64 / operations as f64,
        );
    }
}

fn main() {
    let args = Args::parse();
    let kinds = if args.workloads.is_empty() {
        vec![Kind::Hit, Kind::Churn]
    } else {
        args.workloads.clone()
    };
    println!(
        "workload | capacity | threads | store | ns an operation, median | ratio to the first, median (quartiles) | rejected"
    );
    println!("---|--:|--:|---|--:|--:|--:");
    for &kind in &kinds {
        for &capacity in &args.capacities {
            for &threads in &args.threads {
                measure(&args, kind, capacity, threads);
            }
        }
    }
}
