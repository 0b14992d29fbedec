//! What threads added, and what the listener was told.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Result, ensure};
use counterclock::{Cause, Rejected, Removal, Snapshot};

use crate::key::Key;

/// All ends of lives. Relaxed, so that no thread is ordered after another by it: it would hide
/// races.
pub struct Told {
    units: Box<[AtomicU64]>,
    causes: [(AtomicU64, AtomicU64); 3],
}

fn index(cause: Cause) -> usize {
    match cause {
        Cause::Capacity => 0,
        Cause::Idle => 1,
        Cause::Removed => 2,
        _ => unreachable!("there are three causes"),
    }
}

impl Told {
    pub fn new(keys: u64) -> Self {
        Self { units: (0..keys).map(|_| AtomicU64::new(0)).collect(), causes: Default::default() }
    }

    pub fn note(&self, removal: &Removal<'_, Key>) {
        let (lives, units) = &self.causes[index(removal.cause)];
        lives.fetch_add(1, Relaxed);
        units.fetch_add(removal.count, Relaxed);
        self.units[removal.key.number() as usize].fetch_add(removal.count, Relaxed);
    }

    /// Lives and units that ended for this reason.
    pub fn by(&self, cause: Cause) -> (u64, u64) {
        let (lives, units) = &self.causes[index(cause)];
        (lives.load(Relaxed), units.load(Relaxed))
    }
}

/// What was added under one key.
#[derive(Clone, Copy, Default)]
struct Sum {
    /// By calls that said that it was counted.
    said: u64,
    /// By calls that do not tell a count from a rejection.
    unsaid: u64,
}

/// What callers know. A thread's own until it is joined.
#[derive(Default)]
pub struct Tally {
    keys: Vec<Sum>,
    pub operations: u64,
    /// Calls that add.
    pub calls: u64,
    /// Units and calls of which a `try_` call said that they were rejected.
    pub rejected: u64,
    pub rejections: u64,
    /// Calls that do not tell a count from a rejection.
    unsaid: u64,
    /// Units that `remove` returned.
    pub removed: u64,
    pub clears: u64,
    /// The most entries seen, live or waiting, as the store tells it.
    pub entries: usize,
}

impl Tally {
    pub fn new(keys: u64) -> Self {
        Self { keys: vec![Sum::default(); keys as usize], ..Self::default() }
    }

    pub fn said(&mut self, key: u64, n: u64, result: Result<u64, Rejected>) {
        self.calls += 1;
        match result {
            Ok(_) => self.keys[key as usize].said += n,
            Err(_) => {
                self.rejected += n;
                self.rejections += 1;
            }
        }
    }

    pub fn unsaid(&mut self, key: u64, n: u64) {
        self.calls += 1;
        self.unsaid += 1;
        self.keys[key as usize].unsaid += n;
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.keys.iter_mut().zip(&other.keys) {
            mine.said += theirs.said;
            mine.unsaid += theirs.unsaid;
        }
        self.operations += other.operations;
        self.calls += other.calls;
        self.rejected += other.rejected;
        self.rejections += other.rejections;
        self.unsaid += other.unsaid;
        self.removed += other.removed;
        self.clears += other.clears;
        self.entries = self.entries.max(other.entries);
    }

    /// All units that were added, rejected ones included.
    pub fn units(&self) -> u64 {
        self.rejected + self.keys.iter().map(|sum| sum.said + sum.unsaid).sum::<u64>()
    }

    /// Units that were rejected: at least those of which a caller was told.
    pub fn may_be_rejected(&self) -> RangeInclusive<u64> {
        self.rejected..=self.rejected + self.keys.iter().map(|sum| sum.unsaid).sum::<u64>()
    }

    /// The same of calls.
    pub fn may_be_rejections(&self) -> RangeInclusive<u64> {
        self.rejections..=self.rejections + self.unsaid
    }

    /// No key has more than was added under it.
    pub fn check_live(&self, snapshot: &Snapshot<Key>) -> Result<()> {
        for (key, count) in snapshot {
            let Sum { said, unsaid } = self.keys[key.number() as usize];
            ensure!(count <= said + unsaid, "{key:?} has {count} units of {}", said + unsaid);
        }
        Ok(())
    }

    /// Key by key: what ended and what is live is what was added. Returns the units that are not
    /// there, and of which nobody was told.
    pub fn check_keys(&self, told: &Told, snapshot: &Snapshot<Key>) -> Result<u64> {
        let mut placed: Vec<u64> = told.units.iter().map(|units| units.load(Relaxed)).collect();
        snapshot.iter().for_each(|(key, count)| placed[key.number() as usize] += count);
        let mut missing = 0;
        for (key, (sum, placed)) in self.keys.iter().zip(placed).enumerate() {
            ensure!(
                (sum.said..=sum.said + sum.unsaid).contains(&placed),
                "key {key}: {placed} units, of {} that were counted and {} of which the caller was \
                 not told",
                sum.said,
                sum.unsaid
            );
            missing += sum.said + sum.unsaid - placed;
        }
        Ok(missing)
    }
}

/// What a snapshot shows adds up, each key once.
pub fn check_snapshot(snapshot: &Snapshot<Key>) -> Result<()> {
    let mut seen = HashSet::with_capacity(snapshot.len());
    let twice = snapshot.iter().find(|(key, _)| !seen.insert(key.number()));
    ensure!(twice.is_none(), "a snapshot shows key {} twice", twice.map_or(0, |(k, _)| k.number()));
    let (sum, totals) = (snapshot.iter().map(|(_, count)| count).sum::<u64>(), snapshot.totals());
    ensure!(sum == totals.live, "a snapshot's counts are {sum} in sum: {totals:?}");
    Ok(())
}
