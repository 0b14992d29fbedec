//! What the simulator found, from `RESULTS.csv`.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use crate::output::read;

#[derive(Deserialize)]
struct Row {
    trace: String,
    capacity: usize,
    policy: String,
    hit_ratio: f64,
    mass_avg: f64,
    recall100_avg: f64,
}

/// LRU's figures, each a share of 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lru {
    pub hits: f64,
    pub mass: f64,
    pub recall: f64,
}

/// LRU in each cell that was simulated.
#[derive(Default)]
pub struct Results(Vec<Row>);

impl Results {
    pub fn read(path: &Path) -> Result<Self> {
        let mut rows: Vec<Row> = read(path)?;
        rows.retain(|row| row.policy == "LRU");
        Ok(Self(rows))
    }

    pub fn lru(&self, trace: &str, capacity: usize) -> Option<Lru> {
        let row = self.0.iter().find(|row| row.trace == trace && row.capacity == capacity)?;
        Some(Lru { hits: row.hit_ratio, mass: row.mass_avg, recall: row.recall100_avg })
    }
}
