//! What a contest has shown: a table, and rows for files.

use serde::{Deserialize, Serialize};

use crate::contest::{Record, Rejected};
use crate::output::{Table, grouped, ratio};
use crate::rivals::{Group, Rival};
use crate::stats::{Estimate, median, quantile, ratio_of_medians};

/// Who played what.
pub struct Cell {
    pub workload: &'static str,
    pub capacity: usize,
    pub threads: usize,
    pub records: Vec<Record>,
}

/// A sample, so that every figure can be computed again.
#[derive(Serialize)]
pub struct RoundRow {
    workload: &'static str,
    capacity: usize,
    threads: usize,
    store: &'static str,
    round: usize,
    operations: u64,
    nanoseconds: u64,
    rejections: u64,
}

/// A store in a cell. Ratios are those of the cell's first reference, see [`Cell::summary`].
#[derive(Serialize, Deserialize)]
pub struct SummaryRow {
    pub workload: String,
    pub capacity: usize,
    pub threads: usize,
    pub store: String,
    pub rounds: usize,
    pub median_ns: f64,
    pub lower_quartile_ns: f64,
    pub upper_quartile_ns: f64,
    pub least_ns: f64,
    pub most_ns: f64,
    pub reference: String,
    pub ratio: Option<f64>,
    pub ratio_low: Option<f64>,
    pub ratio_high: Option<f64>,
    pub rejections: u64,
    pub rejected_share: f64,
    pub void: bool,
}

impl Cell {
    pub fn record(&self, name: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.name == name)
    }

    /// The bounded rival with the least median.
    pub fn fastest_bounded(&self) -> Option<&Record> {
        let bounded = Rival::ALL.into_iter().filter(|rival| rival.group() == Group::Bounded);
        let records = bounded.filter_map(|rival| self.record(rival.name()));
        records.min_by(|a, b| median(&a.times()).total_cmp(&median(&b.times())))
    }

    /// One's median time over another's.
    pub fn ratio(&self, one: &str, other: &str) -> Option<Estimate> {
        let (one, other) = (self.record(one)?, self.record(other)?);
        Some(ratio_of_medians(&one.times(), &other.times()))
    }

    pub fn rejected(&self, name: &str) -> Rejected {
        self.record(name).map(Record::rejected).unwrap_or_default()
    }

    pub fn heading(&self) -> String {
        let threads =
            if self.threads == 1 { "1 thread".into() } else { format!("{} threads", self.threads) };
        format!("### {}, capacity {}, {threads}\n", self.workload, grouped(self.capacity as u64))
    }

    /// Each one's median with its spread, and its ratio to each of the references.
    pub fn table(&self, references: &[&'static str]) -> Table {
        let references: Vec<_> =
            references.iter().filter(|name| self.record(name).is_some()).collect();
        let mut titles = vec!["store".to_owned(), "ns an operation:".to_owned()];
        titles.push("quartiles:".to_owned());
        titles.push("least-most:".to_owned());
        titles.extend(references.iter().map(|name| format!("/ {name} (95 %):")));
        titles.push("rejected:".to_owned());
        let mut table = Table::with_titles(&titles);
        for record in &self.records {
            table.row(self.cells(record, &references));
        }
        table
    }

    fn cells(&self, record: &Record, references: &[&&'static str]) -> Vec<String> {
        let times = record.times();
        let between =
            |low, high| format!("{:.1}-{:.1}", quantile(&times, low), quantile(&times, high));
        let rejected = record.rejected();
        let void = if rejected.is_void() { "void: " } else { "" };
        let mut cells = vec![record.name.to_owned(), format!("{void}{:.1}", median(&times))];
        cells.push(between(0.25, 0.75));
        cells.push(between(0.0, 1.0));
        cells.extend(references.iter().map(|reference| {
            let of = self.ratio(record.name, reference).filter(|_| record.name != **reference);
            of.map_or_else(|| "1".to_owned(), ratio)
        }));
        cells.push(if record.rejects { rejected.to_string() } else { String::new() });
        cells
    }

    pub fn rounds(&self) -> impl Iterator<Item = RoundRow> {
        self.records.iter().flat_map(move |record| {
            record.samples.iter().enumerate().map(move |(round, sample)| RoundRow {
                workload: self.workload,
                capacity: self.capacity,
                threads: self.threads,
                store: record.name,
                round,
                operations: sample.operations,
                nanoseconds: sample.nanoseconds,
                rejections: sample.rejections,
            })
        })
    }

    pub fn summary(&self, reference: &'static str) -> impl Iterator<Item = SummaryRow> {
        self.records.iter().map(move |record| self.row(record, reference))
    }

    fn row(&self, record: &Record, reference: &'static str) -> SummaryRow {
        let times = record.times();
        let rejected = record.rejected();
        let ratio = self.ratio(record.name, reference);
        SummaryRow {
            workload: self.workload.to_owned(),
            capacity: self.capacity,
            threads: self.threads,
            store: record.name.to_owned(),
            rounds: times.len(),
            median_ns: median(&times),
            lower_quartile_ns: quantile(&times, 0.25),
            upper_quartile_ns: quantile(&times, 0.75),
            least_ns: quantile(&times, 0.0),
            most_ns: quantile(&times, 1.0),
            reference: reference.to_owned(),
            ratio: ratio.map(|ratio| ratio.value),
            ratio_low: ratio.map(|ratio| ratio.low),
            ratio_high: ratio.map(|ratio| ratio.high),
            rejections: rejected.calls,
            rejected_share: rejected.share(),
            void: rejected.is_void(),
        }
    }
}
