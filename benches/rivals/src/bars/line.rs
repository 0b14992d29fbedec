//! A bar, what was measured, and the verdict.

use std::fmt;

use serde::Serialize;

use crate::contest::Rejected;
use crate::output::Table;
use crate::stats::Estimate;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Limit {
    /// By the interval's better end.
    fn is_met(self, measured: Estimate) -> bool {
        match self {
            Self::AtMost(limit) => measured.low <= limit,
            Self::AtLeast(limit) => measured.high >= limit,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "<= {limit}"),
            Self::AtLeast(limit) => write!(f, ">= {limit}"),
        }
    }
}

/// A line of the table.
pub struct Line {
    pub bar: String,
    pub ttl: &'static str,
    pub limit: Limit,
    pub measured: Estimate,
    /// What it was measured against.
    pub against: String,
    pub rejected: Rejected,
}

impl Line {
    pub fn verdict(&self) -> &'static str {
        if self.rejected.is_void() {
            "void"
        } else if self.limit.is_met(self.measured) {
            "met"
        } else {
            "NOT met"
        }
    }

    pub fn row(&self) -> Row<'_> {
        Row {
            bar: &self.bar,
            ttl: self.ttl,
            limit: self.limit.to_string(),
            measured: self.measured.value,
            low: self.measured.low,
            high: self.measured.high,
            against: &self.against,
            rejections: self.rejected.calls,
            rejected_share: self.rejected.share(),
            verdict: self.verdict(),
        }
    }
}

#[derive(Serialize)]
pub struct Row<'a> {
    bar: &'a str,
    ttl: &'a str,
    limit: String,
    measured: f64,
    low: f64,
    high: f64,
    against: &'a str,
    rejections: u64,
    rejected_share: f64,
    verdict: &'a str,
}

pub fn table(lines: &[Line]) -> Table {
    let mut table =
        Table::new(["bar", "TTL", "limit:", "measured (95 %):", "against", "rejected:", "verdict"]);
    for line in lines {
        let Estimate { value, low, high } = line.measured;
        let digits = if value.abs() < 10.0 { 3 } else { 1 };
        let exact = low == high;
        let interval =
            if exact { String::new() } else { format!(" ({low:.digits$}..{high:.digits$})") };
        table.row([
            line.bar.clone(),
            line.ttl.to_owned(),
            line.limit.to_string(),
            format!("{value:.digits$}{interval}"),
            line.against.clone(),
            line.rejected.to_string(),
            line.verdict().to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_end_of_the_interval_decides() {
        let measured = Estimate { value: 1.0, low: 0.9, high: 1.1 };
        assert!(Limit::AtMost(0.9).is_met(measured));
        assert!(!Limit::AtMost(0.89).is_met(measured));
        assert!(Limit::AtLeast(1.1).is_met(measured));
        assert!(!Limit::AtLeast(1.11).is_met(measured));
    }

    #[test]
    fn a_void_figure_meets_nothing() {
        let line = Line {
            bar: String::new(),
            ttl: "off",
            limit: Limit::AtMost(1.0),
            measured: Estimate::exact(0.5),
            against: String::new(),
            rejected: Rejected { calls: 2, of: 1000 },
        };
        assert_eq!(line.verdict(), "void");
    }
}
