//! One thread's use of one store.

use std::any::Any;
use std::cell::RefCell;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::thread;

use anyhow::{Result, ensure};
use counterclock::{Counter, Snapshot, ToKey};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::bed::Bed;
use crate::books::{Tally, check_snapshot};
use crate::key::{Key, Name};
use crate::plan::Plan;

/// Keys that a thread has in its hands at once: its argument, the clone for a new entry.
const KEYS_IN_HAND: usize = 4;
const HANDLES: usize = 4;
/// Operations for which a snapshot is kept, at most.
const KEPT: u64 = 5_000;

thread_local! {
    /// Dropped when its thread is over, after or before the store's own thread-local.
    static AT_EXIT: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

pub struct Worker<S: Send + Sync + 'static> {
    bed: Arc<Bed<S>>,
    threads: usize,
    pub tally: Tally,
    handles: Vec<Counter<Key, S>>,
    pub kept: Option<Snapshot<Key>>,
    drop_kept_at: u64,
    /// The sum of the latest snapshot.
    recorded: u64,
    admitted: u64,
}

impl<S: BuildHasher + Send + Sync + 'static> Worker<S> {
    pub fn new(bed: &Arc<Bed<S>>, threads: usize) -> Self {
        Self {
            bed: Arc::clone(bed),
            threads,
            tally: Tally::new(bed.plan.keys()),
            handles: Vec::new(),
            kept: None,
            drop_kept_at: 0,
            recorded: 0,
            admitted: 0,
        }
    }

    pub fn plan(&self) -> &Plan {
        &self.bed.plan
    }

    fn name(&self, rng: &mut SmallRng) -> Name {
        let keys = self.plan().keys();
        // Some are hot, most are seldom seen again.
        let number = match rng.random_range(0..4) {
            0 => rng.random_range(0..keys.min(3)),
            1 => rng.random_range(0..keys.min(64)),
            _ => rng.random_range(0..keys),
        };
        Name { number, pool: self.bed.pool }
    }

    fn units(&self, rng: &mut SmallRng) -> u64 {
        if self.plan().large_adds && rng.random_range(0..1000) == 0 {
            return (1 << 32) + rng.random_range(1..1000);
        }
        rng.random_range(0..1000)
    }

    pub fn step(&mut self, rng: &mut SmallRng) -> Result<()> {
        self.tally.operations += 1;
        let name = self.name(rng);
        // Those that go through the whole store are rarer in larger ones.
        let rare = 400 + self.plan().capacity as u32 / 4;
        if rng.random_range(0..rare) == 0 {
            self.whole_store(rng)?;
        }
        match rng.random_range(0..100) {
            0..55 => self.count(name, rng)?,
            55..63 => _ = self.bed.store.get(&name),
            63..66 => _ = self.bed.store.contains(&name),
            66..76 => self.tally.removed += self.bed.store.remove(&name).unwrap_or(0),
            76..88 if self.plan().holders => self.handle(name, rng)?,
            _ => self.batch(rng),
        }
        self.look()
    }

    fn count(&mut self, name: Name, rng: &mut SmallRng) -> Result<()> {
        let (store, number) = (&self.bed.store, name.number);
        let n = self.units(rng);
        let (asked, count) = match rng.random_range(0..6) {
            0 => (1, store.increment(&name)),
            1 => (n, store.add(&name, n)),
            2 => (1, store.increment_owned(name.to_key())),
            3 => (1, store.increment(&name.to_key())),
            kind => {
                let n = if kind == 4 { 1 } else { n };
                let result = store.try_add(&name, n);
                self.tally.said(number, n, result);
                ensure!(!matches!(result, Ok(count) if count < n), "{result:?} after {n} more");
                return Ok(());
            }
        };
        self.tally.unsaid(number, asked);
        ensure!(count >= asked, "key {number} had {count} after {asked} more");
        Ok(())
    }

    /// Handles are made, used across the ends of their entries, cloned and dropped.
    fn handle(&mut self, name: Name, rng: &mut SmallRng) -> Result<()> {
        if self.handles.len() < HANDLES {
            // Admits the key, or is rejected.
            self.handles.push(self.bed.store.counter(&name));
            self.tally.unsaid(name.number, 0);
            return Ok(());
        }
        let at = rng.random_range(0..HANDLES);
        let handle = &self.handles[at];
        let (number, n) = (handle.key().number(), self.units(rng));
        self.tally.unsaid(number, n);
        let count = handle.add(n);
        ensure!(count >= n, "the handle of key {number} had {count} after {n} more");
        match rng.random_range(0..8) {
            0 => drop(self.handles.swap_remove(at)),
            1 => self.handles[at] = self.handles[(at + 1) % HANDLES].clone(),
            2 => _ = handle.get(),
            _ => {}
        }
        Ok(())
    }

    fn batch(&mut self, rng: &mut SmallRng) {
        let long = rng.random_range(0..200) == 0;
        let names: Vec<_> = (0..rng.random_range(1..8)).map(|_| self.name(rng)).collect();
        let pinned = self.bed.store.pin();
        for name in &names {
            let n = self.units(rng);
            pinned.add(name, n);
            self.tally.unsaid(name.number, n);
            pinned.increment(name);
            self.tally.unsaid(name.number, 1);
        }
        // Readers keep the pin, so that nothing is freed meanwhile.
        for name in names.iter().cycle().take(if long { 2000 } else { names.len() }) {
            _ = pinned.get(name);
        }
        if long {
            thread::yield_now();
        }
    }

    fn whole_store(&mut self, rng: &mut SmallRng) -> Result<()> {
        let store = &self.bed.store;
        match rng.random_range(0..20) {
            0 if self.plan().clears => {
                store.clear();
                self.tally.clears += 1;
            }
            0..4 => _ = store.prune(),
            4..8 => {
                let totals = store.totals();
                self.has_grown("totals", totals.recorded)?;
            }
            8..11 if self.plan().holders => {
                let top = store.top(3);
                ensure!(top.is_sorted_by(|a, b| a.1 >= b.1), "the top is not sorted: {top:?}");
            }
            11..19 if self.plan().holders => {
                let snapshot = store.snapshot();
                check_snapshot(&snapshot)?;
                self.has_grown("a snapshot", snapshot.totals().recorded)?;
                self.kept = Some(snapshot);
                self.drop_kept_at = self.tally.operations + rng.random_range(0..KEPT);
            }
            _ => {
                let admitted = store.stats().admitted;
                ensure!(admitted >= self.admitted, "{admitted} admitted, after {}", self.admitted);
                self.admitted = admitted;
            }
        }
        Ok(())
    }

    /// What it shows is no less than the last one showed, nor than what this thread has added.
    fn has_grown(&mut self, what: &str, recorded: u64) -> Result<()> {
        ensure!(recorded >= self.recorded, "{what} fell from {} to {recorded}", self.recorded);
        self.recorded = recorded;
        let own = self.tally.units();
        ensure!(recorded >= own, "{what} has {recorded}, and this thread alone added {own}");
        Ok(())
    }

    /// The bounds hold at every instant.
    fn look(&mut self) -> Result<()> {
        let (store, plan) = (&self.bed.store, &self.bed.plan);
        let len = store.len();
        ensure!(len <= plan.capacity, "{len} live under a cap of {}", plan.capacity);
        if self.kept.is_some() && self.tally.operations >= self.drop_kept_at {
            check_snapshot(&self.kept.take().expect("just seen"))?;
        }
        if !self.tally.operations.is_multiple_of(16) {
            return Ok(());
        }
        let bound = plan.capacity + plan.slack;
        let waiting = store.waiting();
        ensure!(waiting <= bound, "{waiting} entries wait, and {bound} may exist");
        self.tally.entries = self.tally.entries.max(waiting + len.min(store.len()));
        let bound = bound + KEYS_IN_HAND * (self.threads + 1);
        let alive = self.bed.pool.alive();
        ensure!(
            plan.holders || alive <= bound,
            "{alive} keys exist, and {bound} may: capacity, slack and a few a thread"
        );
        Ok(())
    }

    /// What the thread leaves behind when it is replaced: some handles go with its thread-locals,
    /// some before them, and the rest goes on to its successor.
    pub fn leave(&mut self) {
        let rest = self.handles.split_off(self.handles.len().min(2));
        let own = std::mem::replace(&mut self.handles, rest);
        AT_EXIT.with_borrow_mut(|kept| kept.extend(own.into_iter().map(|h| Box::new(h) as _)));
        self.handles.truncate(1);
    }

    /// Lets go of the store.
    pub fn end(self) -> (Tally, Option<Snapshot<Key>>) {
        (self.tally, self.kept)
    }
}
