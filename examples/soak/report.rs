//! The lines that are printed.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use counterclock::Stats;

use crate::round::Outcome;

/// First, highest and last of something.
#[derive(Clone, Copy, Default)]
struct Course(Option<(u64, u64, u64)>);

impl Course {
    fn add(&mut self, value: Option<u64>) {
        let Some(value) = value else { return };
        let (first, highest, _) = self.0.unwrap_or((value, value, value));
        self.0 = Some((first, highest.max(value), value));
    }

    fn text(self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        self.0.map_or("not known here".to_owned(), |(first, highest, last)| {
            format!(
                "first {:.1}, highest {:.1}, last {:.1} MiB",
                mib(first),
                mib(highest),
                mib(last)
            )
        })
    }
}

#[derive(Default)]
struct Sum {
    operations: u64,
    stats: Stats,
    /// Rejected calls, and all that add, of stores that may evict.
    evicting: (u64, u64),
    /// The same of stores that may not.
    strict: (u64, u64),
    /// The round that came closest to its bound.
    entries: (usize, usize),
}

impl Sum {
    fn add(&mut self, round: &Outcome) {
        let (sum, stats) = (&mut self.stats, round.stats);
        self.operations += round.operations;
        sum.admitted += stats.admitted;
        sum.evicted += stats.evicted;
        sum.expired += stats.expired;
        sum.removed += stats.removed;
        let (rejections, calls) =
            if round.may_evict { &mut self.evicting } else { &mut self.strict };
        *rejections += stats.rejections;
        *calls += round.calls;
        let share = |(entries, bound): (usize, usize)| entries as f64 / bound.max(1) as f64;
        let entries = (round.entries, round.bound);
        if share(entries) >= share(self.entries) {
            self.entries = entries;
        }
    }

    fn text(&self) -> String {
        let Stats { admitted, evicted, expired, removed, .. } = self.stats;
        let (entries, bound) = self.entries;
        let share = |(part, all): (u64, u64)| {
            format!("{part} of {all} ({:.3} %)", 100.0 * part as f64 / all.max(1) as f64)
        };
        format!(
            "{} operations, {admitted} admissions, {evicted} evictions, {expired} expiries, \
             {removed} removals; rejected {}, and {} where nothing may be evicted; at most \
             {entries} entries of {bound}",
            self.operations,
            share(self.evicting),
            share(self.strict),
        )
    }
}

pub struct Report {
    start: Instant,
    every: Duration,
    printed: Option<Instant>,
    rounds: u64,
    since: Sum,
    all: Sum,
    full: Course,
    empty: Course,
    allocated: Course,
}

impl Report {
    pub fn new(start: Instant, every: Duration) -> Self {
        Self {
            start,
            every,
            printed: None,
            rounds: 0,
            since: Sum::default(),
            all: Sum::default(),
            full: Course::default(),
            empty: Course::default(),
            allocated: Course::default(),
        }
    }

    fn line(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{:7.1} s  {text}", self.start.elapsed().as_secs_f64())?;
        Ok(out.flush()?)
    }

    /// Adds a round, and prints a line for all since the last line when it is time.
    pub fn round(&mut self, round: &Outcome) -> Result<()> {
        self.rounds += 1;
        self.since.add(round);
        self.all.add(round);
        self.full.add(round.full);
        self.empty.add(round.empty);
        self.allocated.add(Some(round.allocated));
        if self.printed.is_none_or(|printed| printed.elapsed() >= self.every) {
            self.printed = Some(Instant::now());
            let since = std::mem::take(&mut self.since);
            let (rounds, since) = (self.rounds, since.text());
            let (allocated, resident) = (self.allocated.text(), self.empty.text());
            let memory = format!("allocated {allocated}; resident {resident}");
            self.line(&format!("round {rounds}: {since}; {memory}"))?;
        }
        Ok(())
    }

    pub fn end(&self, lasting: &Outcome) -> Result<()> {
        let mut sum = Sum::default();
        sum.add(lasting);
        self.line(&format!("the lasting store: {}", sum.text()))?;
        self.line(&format!("resident at the end of a round, store full: {}", self.full.text()))?;
        self.line(&format!("allocated between rounds: {}", self.allocated.text()))?;
        self.line(&format!("resident between rounds: {}", self.empty.text()))?;
        self.line(&format!("balanced: {} rounds, {}", self.rounds, self.all.text()))
    }
}
