//! Rounds in which everybody plays, one after the other.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::rivals::{Group, Rival, Store, play};
use crate::workload::{Kind, Part, Script};

/// Runs `work` on so many threads, which begin together. From the first one's start to the last
/// one's end, without the time that it takes to spawn them.
pub fn timed(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let run = |thread| {
        barrier.wait();
        let start = Instant::now();
        work(thread);
        (start, Instant::now())
    };
    let spans: Vec<_> = thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        running.into_iter().map(|thread| thread.join().expect("nobody panics")).collect()
    });
    let start = spans.iter().map(|(start, _)| *start).min();
    let end = spans.iter().map(|(_, end)| *end).max();
    start.zip(end).map_or(Duration::ZERO, |(start, end)| end - start)
}

/// One who takes part.
pub struct Contestant<'a> {
    name: &'static str,
    /// It plays the first `1 / share` of each part.
    share: usize,
    play: Box<dyn Fn(Part<'_>, usize) + Sync + 'a>,
    /// None for those that never reject.
    rejections: Option<Box<dyn Fn() -> u64 + 'a>>,
}

impl<'a> Contestant<'a> {
    /// One that is called with each thread's part, and the thread's number.
    pub fn new(name: &'static str, play: impl Fn(Part<'_>, usize) + Sync + 'a) -> Self {
        Self { name, share: 1, play: Box::new(play), rejections: None }
    }

    /// A store, if that rival takes part.
    pub fn store(
        rival: Rival,
        store: &'a dyn Store<str>,
        kind: Kind,
        capacity: usize,
    ) -> Option<Self> {
        let share = rival.share(kind, capacity)?;
        let contestant = Self::new(rival.name(), move |part, _| play(store, part)).playing(share);
        let rejects = rival.group() == Group::Ours;
        Some(if rejects { contestant.rejecting(|| store.rejections()) } else { contestant })
    }

    /// One that plays less of each part, so that its rounds take about as long as the others'.
    pub fn playing(self, share: usize) -> Self {
        Self { share, ..self }
    }

    /// Where its rejections are counted.
    pub fn rejecting(self, rejections: impl Fn() -> u64 + 'a) -> Self {
        Self { rejections: Some(Box::new(rejections)), ..self }
    }

    fn rejections(&self) -> u64 {
        self.rejections.as_ref().map_or(0, |rejections| rejections())
    }

    fn play(&self, parts: &[Part<'_>]) -> Sample {
        let parts: Vec<_> = parts.iter().map(|part| part.first(self.share)).collect();
        let before = self.rejections();
        let play = &self.play;
        let taken = timed(parts.len(), |thread| play(parts[thread], thread));
        Sample {
            operations: parts.iter().map(|part| part.len() as u64).sum(),
            nanoseconds: taken.as_nanos() as u64,
            rejections: self.rejections() - before,
        }
    }
}

/// What one did in one round.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub operations: u64,
    pub nanoseconds: u64,
    pub rejections: u64,
}

/// What one did in all rounds.
#[derive(Clone, Debug)]
pub struct Record {
    pub name: &'static str,
    pub samples: Vec<Sample>,
    /// Operations of the rounds that do not count.
    pub warm_up: u64,
    /// Whether it can reject.
    pub rejects: bool,
}

impl Record {
    /// Nanoseconds an operation as the wall sees them, for each round: the time that passed,
    /// divided by the operations of all threads.
    pub fn times(&self) -> Vec<f64> {
        let each = |sample: &Sample| sample.nanoseconds as f64 / sample.operations as f64;
        self.samples.iter().map(each).collect()
    }

    /// All that it ever did.
    pub fn operations(&self) -> u64 {
        self.samples.iter().map(|sample| sample.operations).sum::<u64>() + self.warm_up
    }

    pub fn rejected(&self) -> Rejected {
        Rejected {
            calls: self.samples.iter().map(|sample| sample.rejections).sum(),
            of: self.samples.iter().map(|sample| sample.operations).sum(),
        }
    }
}

/// Rejecting is cheap, so a store that rejects looks fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    pub calls: u64,
    pub of: u64,
}

impl Rejected {
    /// The largest share of rejected calls with which a figure counts.
    const LIMIT: f64 = 0.001;

    pub fn share(self) -> f64 {
        if self.of == 0 { 0.0 } else { self.calls as f64 / self.of as f64 }
    }

    pub fn is_void(self) -> bool {
        self.share() > Self::LIMIT
    }
}

impl std::iter::Sum for Rejected {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self { calls: a.calls + b.calls, of: a.of + b.of })
    }
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:.3} %)", self.calls, self.share() * 100.0)
    }
}

/// The order of a round: another one goes first each time, and the others' neighbours change too,
/// since who plays after a large store finds the caches cold.
pub struct Orders(SmallRng);

impl Orders {
    pub fn new() -> Self {
        Self(SmallRng::seed_from_u64(4))
    }

    pub fn next(&mut self, round: usize, contestants: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..contestants).collect();
        order.shuffle(&mut self.0);
        if let Some(at) = order.iter().position(|&one| one == round % contestants) {
            order.swap(0, at);
        }
        order
    }
}

impl Default for Orders {
    fn default() -> Self {
        Self::new()
    }
}

/// Contestants, and what they did so far.
pub struct Contest<'a> {
    contestants: Vec<Contestant<'a>>,
    records: Vec<Record>,
    orders: Orders,
    rounds: usize,
}

impl<'a> Contest<'a> {
    pub fn new(contestants: Vec<Contestant<'a>>) -> Self {
        let record = |one: &Contestant<'_>| Record {
            name: one.name,
            samples: Vec::new(),
            warm_up: 0,
            rejects: one.rejections.is_some(),
        };
        let records = contestants.iter().map(record).collect();
        Self { contestants, records, orders: Orders::new(), rounds: 0 }
    }

    /// A round that does not count.
    pub fn warm_up(&mut self, script: &Script) {
        let lines = script.lines();
        let parts: Vec<_> = lines.iter().map(|line| line.part()).collect();
        for (one, record) in self.contestants.iter().zip(&mut self.records) {
            record.warm_up += one.play(&parts).operations;
        }
    }

    pub fn round(&mut self, script: &Script, progress: &Progress) {
        let lines = script.lines();
        let parts: Vec<_> = lines.iter().map(|line| line.part()).collect();
        for at in self.orders.next(self.rounds, self.contestants.len()) {
            let sample = self.contestants[at].play(&parts);
            self.records[at].samples.push(sample);
            progress.step();
        }
        self.rounds += 1;
    }

    pub fn len(&self) -> usize {
        self.contestants.len()
    }

    pub fn is_empty(&self) -> bool {
        self.contestants.is_empty()
    }

    pub fn finish(self) -> Vec<Record> {
        self.records
    }
}

/// A bar on stderr, where that is a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new(what: String, steps: usize) -> Self {
        // A template that is wrong gives a plain bar, and no reason to stop.
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}  {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::new(steps as u64).with_style(style).with_message(what))
    }

    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::workload::Workload;

    #[test]
    fn everybody_goes_first_in_turn_and_plays_once_a_round() {
        let mut orders = Orders::new();
        for round in 0..12 {
            let mut order = orders.next(round, 5);
            assert_eq!(order[0], round % 5);
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn operations_of_all_threads_are_counted() {
        let counted = AtomicUsize::new(0);
        let all = Contestant::new("all", |part, _| {
            counted.fetch_add(part.len(), Ordering::Relaxed);
        });
        let quarter = Contestant::new("quarter", |_, _| ()).playing(4);
        let mut contest = Contest::new(vec![all, quarter]);
        let script = Workload::new(Kind::Hit, 100).round(2, 1000);
        contest.warm_up(&script);
        contest.round(&script, &Progress::new(String::new(), 2));
        let records = contest.finish();
        assert_eq!(records[0].samples[0].operations, 2000);
        assert_eq!(records[1].samples[0].operations, 500);
        assert_eq!(records[1].operations(), 1000);
        assert_eq!(counted.into_inner(), 4000);
    }

    #[test]
    fn above_one_in_a_thousand_a_figure_is_void() {
        assert!(!Rejected { calls: 1, of: 1000 }.is_void());
        assert!(Rejected { calls: 2, of: 1000 }.is_void());
        assert!(!Rejected::default().is_void());
    }
}
