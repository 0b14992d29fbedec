//! Pictures of the CSV files: one SVG a figure.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::figure::SummaryRow;
use crate::latency::{self, POINTS};
use crate::memory::{ChurnRow, Row as MemoryRow};
use crate::output::{default_directory, grouped, read};
use crate::picture::{Panel, Picture, Series};
use crate::retention::Row as RetentionRow;
use crate::stats::mean;
use crate::workload::Kind;

#[derive(Args)]
pub struct Options {
    /// The directory with the CSV files, where the pictures go as well [default: docs/performance]
    #[arg(long)]
    out: Option<PathBuf>,
}

pub fn run(options: Options) -> Result<()> {
    let directory = options.out.unwrap_or_else(default_directory);
    ensure!(directory.is_dir(), "--out {}: no such directory", directory.display());
    let mut drawn = 0;
    let mut draw = |csv: &str, picture: fn(&Path) -> Result<Picture>| -> Result<()> {
        let path = directory.join(csv);
        if !path.exists() {
            eprintln!("{csv}: not there, so not drawn");
            return Ok(());
        }
        let svg = picture(&path)?.draw().with_context(|| format!("drawing {csv}"))?;
        let path = path.with_extension("svg");
        fs::write(&path, svg).with_context(|| path.display().to_string())?;
        println!("{}", path.display());
        drawn += 1;
        Ok(())
    };
    for kind in Kind::ALL {
        draw(&format!("speed-{}.csv", kind.name()), speed)?;
    }
    draw("handles.csv", speed)?;
    draw("latency.csv", latency)?;
    draw("memory.csv", memory)?;
    draw("memory-churn.csv", memory_churn)?;
    draw("retention.csv", retention)?;
    ensure!(drawn > 0, "{}: none of the CSV files is there", directory.display());
    Ok(())
}

/// The distinct values, in the order in which they first come.
fn distinct<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

/// A line for each store, over the categories.
fn series<'a, R>(
    rows: &[&'a R],
    store: fn(&'a R) -> &'a str,
    categories: usize,
    value: impl Fn(&[&'a R], usize) -> Option<f64>,
) -> Vec<Series> {
    let stores = distinct(rows.iter().map(|row| store(row)));
    let line = |name: &str| {
        let own: Vec<&R> = rows.iter().copied().filter(|row| store(row) == name).collect();
        let values = (0..categories).map(|at| value(&own, at)).collect();
        Series { name: name.to_owned(), values }
    };
    stores.into_iter().map(line).collect()
}

fn speed(path: &Path) -> Result<Picture> {
    let rows: Vec<SummaryRow> = read(path)?;
    let workload = rows.first().map_or("", |row| row.workload.as_str()).to_owned();
    let threads = distinct(rows.iter().map(|row| row.threads));
    let panel = |capacity: usize| {
        let rows: Vec<_> = rows.iter().filter(|row| row.capacity == capacity).collect();
        let value = |own: &[&SummaryRow], at: usize| {
            own.iter().find(|row| row.threads == threads[at]).map(|row| row.median_ns)
        };
        Panel {
            title: format!("capacity {}", grouped(capacity as u64)),
            categories: threads.iter().map(usize::to_string).collect(),
            series: series(&rows, |row| &row.store, threads.len(), value),
        }
    };
    Ok(Picture {
        title: format!("{workload}: time an operation (less is better)"),
        across: "threads".into(),
        up: "ns an operation, wall time / all threads' operations".into(),
        logarithmic: true,
        panels: distinct(rows.iter().map(|row| row.capacity)).into_iter().map(panel).collect(),
    })
}

fn latency(path: &Path) -> Result<Picture> {
    let rows: Vec<latency::Row> = read(path)?;
    let panel = |(capacity, threads): (usize, usize)| {
        let rows: Vec<_> =
            rows.iter().filter(|row| (row.capacity, row.threads) == (capacity, threads)).collect();
        let value = |own: &[&latency::Row], at: usize| own.first().map(|row| row.points()[at]);
        Panel {
            title: format!("capacity {}, threads: {threads}", grouped(capacity as u64)),
            categories: POINTS.iter().map(|(_, name)| (*name).to_owned()).collect(),
            series: series(&rows, |row| &row.store, POINTS.len(), value),
        }
    };
    let cells = distinct(rows.iter().map(|row| (row.capacity, row.threads)));
    Ok(Picture {
        title: "Single increments under churn (less is better)".into(),
        across: "quantile, median of the rounds".into(),
        up: "ns".into(),
        logarithmic: true,
        panels: cells.into_iter().map(panel).collect(),
    })
}

fn memory(path: &Path) -> Result<Picture> {
    let rows: Vec<MemoryRow> = read(path)?;
    let capacities = distinct(rows.iter().map(|row| row.capacity));
    let panel = |keys| {
        let rows: Vec<_> = rows.iter().filter(|row| row.keys == keys).collect();
        let value = |own: &[&MemoryRow], at: usize| {
            own.iter().find(|row| row.capacity == capacities[at]).map(|row| row.full)
        };
        Panel {
            title: keys.name().to_owned(),
            categories: capacities.iter().map(|&capacity| grouped(capacity as u64)).collect(),
            series: series(&rows, |row| &row.store, capacities.len(), value),
        }
    };
    Ok(Picture {
        title: "Memory of full stores (less is better)".into(),
        across: "capacity".into(),
        up: "bytes requested / capacity".into(),
        logarithmic: false,
        panels: distinct(rows.iter().map(|row| row.keys)).into_iter().map(panel).collect(),
    })
}

fn memory_churn(path: &Path) -> Result<Picture> {
    let rows: Vec<ChurnRow> = read(path)?;
    let panel = |capacity: usize| {
        let own = rows.iter().filter(|row| row.capacity == capacity);
        let line = |name: &str, value: fn(&ChurnRow) -> f64| Series {
            name: name.to_owned(),
            values: own.clone().map(|row| Some(value(row))).collect(),
        };
        let capacities = |row: &ChurnRow| (row.new_keys as f64 / capacity as f64).round();
        Panel {
            title: format!("capacity {}", grouped(capacity as u64)),
            categories: own.clone().map(|row| capacities(row).to_string()).collect(),
            series: vec![
                line("counterclock", |row| row.bytes),
                line("peak between samples", |row| row.peak),
            ],
        }
    };
    Ok(Picture {
        title: "Memory of counterclock under a long churn".into(),
        across: "new keys / capacity".into(),
        up: "bytes requested / capacity".into(),
        logarithmic: false,
        panels: distinct(rows.iter().map(|row| row.capacity)).into_iter().map(panel).collect(),
    })
}

fn retention(path: &Path) -> Result<Picture> {
    let rows: Vec<RetentionRow> = read(path)?;
    let shares = distinct(rows.iter().map(|row| row.share));
    type Value = fn(&RetentionRow) -> f64;
    type Lru = fn(&RetentionRow) -> Option<f64>;
    let panel = |(title, value, lru): (&str, Value, Lru)| {
        let all: Vec<&RetentionRow> = rows.iter().collect();
        let of_store = |own: &[&RetentionRow], at: usize| {
            let at_share = own.iter().filter(|row| row.share == shares[at]);
            Some(mean(at_share.map(|row| value(row))))
        };
        let simulated = |&share: &f64| {
            let at_share = rows.iter().filter(|row| row.share == share);
            Some(mean(at_share.filter_map(lru))).filter(|mean| mean.is_finite())
        };
        let mut series = series(&all, |row| &row.store, shares.len(), of_store);
        let values = shares.iter().map(simulated).collect();
        series.push(Series { name: "LRU, simulated".into(), values });
        let categories = shares.iter().map(f64::to_string).collect();
        Panel { title: title.to_owned(), categories, series }
    };
    let panels: [(&str, Value, Lru); 3] = [
        ("hit ratio", |row| row.hit_ratio, |row| row.lru_hit_ratio),
        ("retained mass", |row| row.mass, |row| row.lru_mass),
        ("recall of the top 100", |row| row.recall, |row| row.lru_recall),
    ];
    Ok(Picture {
        title: "What is kept of real traces, means (more is better)".into(),
        across: "capacity / keys of the trace".into(),
        up: "%".into(),
        logarithmic: false,
        panels: panels.into_iter().map(panel).collect(),
    })
}
