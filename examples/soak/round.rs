//! One round: threads that exit and are replaced, and the check when all are joined.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use counterclock::{AtCapacity, RandomState, Snapshot, Stats};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::bed::Bed;
use crate::books::Tally;
use crate::key::{Key, Pool};
use crate::memory::{allocated, resident};
use crate::plan::{Plan, Spread};
use crate::worker::Worker;

/// One operation in so many is on the lasting store.
const LASTING: u32 = 8;
/// Operations after which a thread is replaced, at most.
const GENERATION: u64 = 50_000;
/// Operations between two looks at the clock.
const GLANCE: u64 = 256;

#[derive(Clone, Copy)]
pub struct Limits {
    pub threads: usize,
    pub until: Option<Instant>,
    pub seed: u64,
}

/// The lasting store, with what all threads that have been joined added to it.
pub struct Lasting {
    bed: Arc<Bed<RandomState>>,
    tally: Tally,
}

/// What a store went through.
pub struct Outcome {
    pub operations: u64,
    /// Calls that add to the round's own store.
    pub calls: u64,
    pub stats: Stats,
    pub may_evict: bool,
    /// The most entries that were seen to exist, and how many might have.
    pub entries: usize,
    pub bound: usize,
    /// Resident memory when all threads had been joined and the store was still there, and when
    /// it was gone.
    pub full: Option<u64>,
    pub empty: Option<u64>,
    /// Allocated bytes when the store was gone.
    pub allocated: u64,
}

/// What is done by one thread after another.
struct Slot<S: Send + Sync + 'static> {
    own: Worker<S>,
    lasting: Worker<RandomState>,
    rng: SmallRng,
    left: u64,
    until: Option<Instant>,
    stop: Arc<AtomicBool>,
}

/// What a thread returns.
enum End<S: Send + Sync + 'static> {
    ReplacedBy(JoinHandle<End<S>>),
    Done(Box<Slot<S>>, Result<()>),
}

impl<S: BuildHasher + Send + Sync + 'static> Slot<S> {
    /// Until it is time for the next thread.
    fn generation(&mut self) -> Result<()> {
        let length = self.rng.random_range(1..GENERATION).min(self.left);
        for n in 0..length {
            if n.is_multiple_of(GLANCE) && self.is_over() {
                self.left = 0;
                return Ok(());
            }
            if self.rng.random_range(0..LASTING) == 0 {
                self.lasting.step(&mut self.rng).context("the lasting store")?;
            } else {
                self.own.step(&mut self.rng)?;
            }
        }
        self.left -= length;
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.stop.load(Relaxed) || self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn run(mut self) -> End<S> {
        let result = self.generation();
        self.own.leave();
        self.lasting.leave();
        if result.is_err() || self.left == 0 {
            self.stop.fetch_or(result.is_err(), Relaxed);
            return End::Done(Box::new(self), result);
        }
        End::ReplacedBy(thread::spawn(move || self.run()))
    }
}

/// Joins a thread and its successors, one by one.
fn join<S: Send + Sync + 'static>(mut thread: JoinHandle<End<S>>) -> Result<Slot<S>> {
    loop {
        match thread.join().map_err(|_| anyhow!("a thread panicked"))? {
            End::ReplacedBy(next) => thread = next,
            End::Done(slot, result) => return result.map(|()| *slot),
        }
    }
}

pub fn run(plan: &Plan, lasting: &mut Lasting, limits: Limits) -> Result<Outcome> {
    match plan.spread {
        Spread::Default => run_with(plan, RandomState::new(), lasting, limits),
        Spread::SipHash => run_with(plan, std::hash::RandomState::new(), lasting, limits),
        Spread::Colliding => run_with(plan, Constant, lasting, limits),
    }
}

fn run_with<S: BuildHasher + Send + Sync + 'static>(
    plan: &Plan,
    hasher: S,
    lasting: &mut Lasting,
    limits: Limits,
) -> Result<Outcome> {
    let bed = Arc::new(Bed::new(plan.clone(), Pool::Round, hasher)?);
    let stop = Arc::new(AtomicBool::new(false));
    let slots = (0..limits.threads).map(|n| Slot {
        own: Worker::new(&bed, limits.threads),
        lasting: Worker::new(&lasting.bed, limits.threads),
        rng: SmallRng::seed_from_u64(limits.seed ^ ((n as u64 + 1) << 32)),
        left: plan.operations,
        until: limits.until,
        stop: Arc::clone(&stop),
    });
    let threads: Vec<_> = slots.map(|slot| thread::spawn(move || slot.run())).collect();
    // All are joined before any error goes on.
    let slots: Vec<Result<Slot<S>>> = threads.into_iter().map(join).collect();

    let (mut tally, mut snapshots) = (Tally::new(plan.keys()), Vec::new());
    let before = lasting.tally.operations;
    for slot in slots {
        let Slot { own, lasting: long, .. } = slot?;
        lasting.take(long.end());
        let (own, kept) = own.end();
        tally.merge(&own);
        snapshots.extend(kept);
    }
    let bed = Arc::into_inner(bed).context("somebody still has the store")?;
    bed.check(&tally)?;
    bed.check_freed()?;
    lasting.check().context("the lasting store")?;
    let (stats, full) = (bed.store.stats(), resident());
    bed.check_end(snapshots)?;
    let (calls, entries, operations) = (tally.calls, tally.entries, tally.operations);
    drop(tally);
    Ok(Outcome {
        operations: operations + lasting.tally.operations - before,
        calls,
        stats,
        may_evict: plan.at_capacity == AtCapacity::Evict,
        entries,
        bound: plan.capacity + plan.slack,
        full,
        empty: resident(),
        allocated: allocated(),
    })
}

impl Lasting {
    pub fn new() -> Result<Self> {
        let plan = Plan::lasting();
        let tally = Tally::new(plan.keys());
        let bed = Arc::new(Bed::new(plan, Pool::Lasting, RandomState::new())?);
        Ok(Self { bed, tally })
    }

    fn take(&mut self, (tally, _): (Tally, Option<Snapshot<Key>>)) {
        self.tally.merge(&tally);
    }

    fn check(&self) -> Result<()> {
        self.bed.check(&self.tally)?;
        self.bed.check_freed()
    }

    /// Clears it, checks it once more and drops it.
    pub fn end(mut self) -> Result<Outcome> {
        self.bed.store.clear();
        self.tally.clears += 1;
        self.check()?;
        let (stats, full) = (self.bed.store.stats(), resident());
        let bound = self.bed.plan.capacity + self.bed.plan.slack;
        let bed = Arc::into_inner(self.bed).context("somebody still has the store")?;
        bed.check_end(Vec::new())?;
        Ok(Outcome {
            operations: self.tally.operations,
            calls: self.tally.calls,
            stats,
            may_evict: true,
            entries: self.tally.entries,
            bound,
            full,
            empty: resident(),
            allocated: allocated(),
        })
    }
}

/// All keys have the same hash.
#[derive(Clone, Copy)]
struct Constant;

impl BuildHasher for Constant {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl std::hash::Hasher for Constant {
    fn finish(&self) -> u64 {
        42
    }

    fn write(&mut self, _: &[u8]) {}
}
