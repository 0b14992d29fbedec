//! What the publishers were answered, and how long it took.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use serde::Deserialize;

use crate::harness::Snapshot;

/// The server's answer to an event.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Outcome {
    pub delivered: u64,
    pub dropped: u64,
    pub no_client: u64,
}

pub struct Books {
    published: u64,
    sum: Outcome,
    /// In microseconds, of small events.
    delivered: Histogram<u64>,
    dropped: Histogram<u64>,
    no_client: Histogram<u64>,
    refused: Histogram<u64>,
}

impl Default for Books {
    fn default() -> Self {
        let [delivered, dropped, no_client, refused] =
            // Microseconds, up to a minute.
            std::array::from_fn(|_| Histogram::new_with_bounds(1, 60_000_000, 3).expect("in order"));
        let (published, sum) = (0, Outcome::default());
        Self { published, sum, delivered, dropped, no_client, refused }
    }
}

impl Books {
    pub fn answered(&mut self, outcome: Outcome) {
        self.published += 1;
        self.sum.delivered += outcome.delivered;
        self.sum.dropped += outcome.dropped;
        self.sum.no_client += outcome.no_client;
    }

    /// A small event, of which each session has one client at most.
    pub fn took(&mut self, outcome: Outcome, took: Duration) {
        let histogram = match outcome {
            Outcome { delivered: 1, .. } => &mut self.delivered,
            Outcome { dropped: 1, .. } => &mut self.dropped,
            _ => &mut self.no_client,
        };
        histogram.saturating_record(micros(took));
    }

    pub fn refused(&mut self, took: Duration) {
        self.refused.saturating_record(micros(took));
    }

    pub fn add(&mut self, other: Self) {
        let Outcome { delivered, dropped, no_client } = other.sum;
        self.published += other.published;
        self.sum.delivered += delivered;
        self.sum.dropped += dropped;
        self.sum.no_client += no_client;
        for (mine, theirs) in [
            (&mut self.delivered, other.delivered),
            (&mut self.dropped, other.dropped),
            (&mut self.no_client, other.no_client),
            (&mut self.refused, other.refused),
        ] {
            mine.add(theirs).expect("histograms that resize");
        }
    }

    /// The server has counted exactly what it answered.
    pub fn balance(&self, server: &Snapshot) -> Result<()> {
        let at = |path: &str| server.at(path);
        println!(
            "lives: {} began; {} evicted, {} expired, {} removed",
            at("stats/admitted"),
            at("stats/evicted"),
            at("stats/expired"),
            at("stats/removed"),
        );
        println!(
            "calls rejected: {} for the capacity, {} for memory",
            at("stats/rejections_capacity"),
            at("stats/rejections_memory")
        );
        for counter in ["drops", "no_client"] {
            let recorded = at(&format!("totals/{counter}/recorded"));
            let places = ["live", "evicted", "expired", "removed", "rejected"]
                .map(|place| (place, at(&format!("totals/{counter}/{place}"))));
            let list = places.map(|(place, units)| format!("{units} {place}")).join(", ");
            println!("{counter}: {list}");
            let sum: u64 = places.iter().map(|place| place.1).sum();
            ensure!(sum == recorded, "of {recorded} {counter}, {sum} are somewhere");
        }
        println!("{:35} {:>10} {:>10}", "", "publishers", "server");
        for (what, mine, theirs) in [
            ("published", self.published, at("published")),
            ("delivered", self.sum.delivered, at("delivered")),
            ("drops, by the store", self.sum.dropped, at("totals/drops/recorded")),
            ("no_client, by the store", self.sum.no_client, at("totals/no_client/recorded")),
            ("drops, by the sum beside it", self.sum.dropped, at("counted/drops")),
            ("no_client, by the sum beside it", self.sum.no_client, at("counted/no_client")),
        ] {
            println!("{what:35} {mine:10} {theirs:10}");
            ensure!(mine == theirs, "{what}: not the same");
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "from the request to its answer, in milliseconds:")?;
        writeln!(f, "{:38} {:>10} {:>8} {:>8} {:>8}", "", "events", "p50", "p99", "p99.9")?;
        for (what, histogram) in [
            ("refused: neither published nor counted", &self.refused),
            ("delivered: nothing to count", &self.delivered),
            ("met nobody: counted", &self.no_client),
            ("dropped: counted", &self.dropped),
        ] {
            let [p50, p99, p999] =
                [0.5, 0.99, 0.999].map(|q| histogram.value_at_quantile(q) as f64 / 1000.0);
            writeln!(f, "{what:38} {:10} {p50:8.2} {p99:8.2} {p999:8.2}", histogram.len())?;
        }
        Ok(())
    }
}
