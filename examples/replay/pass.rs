//! One pass: an input, read to its end, counted by one thread or several.

use std::ops::AddAssign;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::batch::{BATCH, Batch, Request, Source};
use crate::curve::Curve;
use crate::interrupt::interrupted;
use crate::memory;
use crate::progress::Progress;
use crate::sink::Sink;

/// Batches that wait for each worker, at most: a reader that is ahead has to wait.
const QUEUED: usize = 4;

/// How much is replayed, and by how many.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    threads: usize,
    requests: u64,
}

impl Limits {
    pub fn new(threads: usize, requests: Option<u64>) -> Self {
        Self { threads, requests: requests.unwrap_or(u64::MAX) }
    }
}

/// What the workers did, counted by themselves and not by the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub requests: u64,
    /// Requests that were answered with 1: a new life began, or the call was rejected.
    pub ones: u64,
    pub closes: u64,
    /// Time of all workers together spent on counting.
    pub busy: Duration,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.ones += other.ones;
        self.closes += other.closes;
        self.busy += other.busy;
    }
}

/// A pass that has come to its end.
#[derive(Debug)]
pub struct Pass {
    pub tally: Tally,
    /// From the first read to the last count.
    pub wall: Duration,
    pub curve: Curve,
    pub interrupted: bool,
}

/// Reads `source` to its end, to the limit, or to an interrupt.
///
/// `base` is what was metered before whatever `sink` counts with existed.
pub fn run<S: Source, T: Sink<S::Key>>(
    source: &mut S,
    sink: &T,
    limits: Limits,
    base: i64,
    progress: Progress,
) -> Result<Pass> {
    let begun = Instant::now();
    let curve = Mutex::new(Curve::begin(base));
    let mut reader = Reader { source, left: limits.requests, progress };
    let tally = if limits.threads == 1 {
        in_order(&mut reader, sink, &curve)?
    } else {
        fan_out(&mut reader, sink, &curve, limits.threads)?
    };
    Ok(Pass {
        tally,
        wall: begun.elapsed(),
        curve: curve.into_inner().unwrap_or_else(PoisonError::into_inner).finish(),
        interrupted: interrupted(),
    })
}

/// A source that heeds the limit and Ctrl-C.
struct Reader<'a, S> {
    source: &'a mut S,
    left: u64,
    progress: Progress,
}

impl<S: Source> Reader<'_, S> {
    fn next(&mut self) -> Result<Option<S::Batch>> {
        let room = usize::try_from(self.left).unwrap_or(BATCH).min(BATCH);
        if room == 0 || interrupted() {
            return Ok(None);
        }
        let batch = self.source.next_batch(room)?;
        self.left -= batch.as_ref().map_or(0, Batch::counted) as u64;
        self.progress.show(self.source.progress());
        Ok(batch)
    }
}

fn in_order<S: Source, T: Sink<S::Key>>(
    reader: &mut Reader<'_, S>,
    sink: &T,
    curve: &Mutex<Curve>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    while let Some(batch) = reader.next()? {
        tally += apply(&batch, sink, curve);
    }
    Ok(tally)
}

/// This thread reads, and `threads` others count.
fn fan_out<S: Source, T: Sink<S::Key>>(
    reader: &mut Reader<'_, S>,
    sink: &T,
    curve: &Mutex<Curve>,
    threads: usize,
) -> Result<Tally> {
    let (sender, receiver) = mpsc::sync_channel(threads * QUEUED);
    let receiver = Arc::new(Mutex::new(receiver));
    thread::scope(|scope| {
        // Both ends are owned in here: an error below hangs up on the workers, and the reader
        // does not wait for workers that are gone.
        let (sender, receiver) = (sender, receiver);
        let workers = (0..threads)
            .map(|_| {
                let receiver = Arc::clone(&receiver);
                thread::Builder::new().spawn_scoped(scope, move || work(&receiver, sink, curve))
            })
            .collect::<std::io::Result<Vec<_>>>()
            .context("starting the threads")?;
        drop(receiver);
        while let Some(batch) = reader.next()? {
            if sender.send(batch).is_err() {
                // All workers are gone, so they panicked: joining them says why.
                break;
            }
        }
        drop(sender);
        let mut tally = Tally::default();
        for worker in workers {
            match worker.join() {
                Ok(part) => tally += part,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(tally)
    })
}

fn work<B: Batch, T: Sink<B::Key>>(
    batches: &Mutex<Receiver<B>>,
    sink: &T,
    curve: &Mutex<Curve>,
) -> Tally {
    let mut tally = Tally::default();
    loop {
        // A statement of its own: the lock is for taking a batch, not for working on it.
        let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match batch {
            Ok(batch) => tally += apply(&batch, sink, curve),
            Err(mpsc::RecvError) => return tally,
        }
    }
}

fn apply<B: Batch, T: Sink<B::Key>>(batch: &B, sink: &T, curve: &Mutex<Curve>) -> Tally {
    let mut tally = Tally::default();
    let begun = Instant::now();
    if let Some(nanos) = batch.at() {
        sink.advance_to(nanos);
    }
    memory::metered(|| {
        batch.each(|request, key| match request {
            Request::Count => {
                tally.requests += 1;
                tally.ones += u64::from(sink.increment(key) == 1);
            }
            Request::Close => {
                tally.closes += 1;
                sink.close(key);
            }
        });
    });
    tally.busy = begun.elapsed();
    curve.lock().unwrap_or_else(PoisonError::into_inner).advance(tally.requests);
    tally
}
