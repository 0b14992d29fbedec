//! What travels from the input to the store: requests, a batch at a time.
//!
//! A batch of text keeps its keys in one string, so that reading allocates per batch and not per
//! key, and the store is asked by `&str`.

use std::borrow::Borrow;
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;

use anyhow::Result;
use counterclock::{ToKey, quanta};

/// Keys a batch: enough to forget the cost of handing it over, few enough for a fine curve.
pub const BATCH: usize = 1024;

/// Bytes of text after which a batch is full, however few its keys.
pub const BATCH_BYTES: usize = 1 << 20;

/// A key as it is stored, and the form in which it is looked up.
pub trait Key:
    Hash + Eq + Ord + Clone + Display + Borrow<Self::Query> + Send + Sync + 'static
{
    type Query: ToKey<Self> + Hash + Eq + ToOwned<Owned = Self> + ?Sized;
}

impl Key for String {
    type Query = str;
}

impl Key for u64 {
    type Query = u64;
}

/// One thing to do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Count,
    /// The client said goodbye: its counter is no longer needed.
    Close,
}

/// Requests in the order in which they were read.
pub trait Batch: Send {
    type Key: Key;

    /// How many of its requests count.
    fn counted(&self) -> usize;

    /// When it happened, in nanoseconds since the start of the simulation.
    fn at(&self) -> Option<u64> {
        None
    }

    fn each(&self, act: impl FnMut(Request, &<Self::Key as Key>::Query));
}

/// How far an input has been read, in units of its own (bytes or requests).
#[derive(Clone, Copy, Debug, Default)]
pub struct Position {
    pub done: u64,
    pub total: Option<u64>,
}

/// An input that yields requests until it ends.
pub trait Source {
    type Key: Key;
    type Batch: Batch<Key = Self::Key>;

    /// The next requests, at most `room` of them to count; `None` at the end.
    fn next_batch(&mut self, room: usize) -> Result<Option<Self::Batch>>;

    fn progress(&self) -> Position;

    /// The clock that simulated time drives, for the store to run on.
    fn clock(&self) -> Option<(quanta::Clock, Arc<quanta::Mock>)> {
        None
    }

    /// What was passed over, in words for the report.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Keys of text.
#[derive(Debug, Default)]
pub struct TextBatch {
    text: String,
    /// Where each key ends in `text`, and what to do with it.
    requests: Vec<(usize, Request)>,
    counted: usize,
    at: Option<u64>,
}

impl TextBatch {
    /// An empty one, at a simulated time.
    pub fn timed(nanos: u64) -> Self {
        Self { at: Some(nanos), ..Self::default() }
    }

    pub fn push(&mut self, request: Request, key: &str) {
        self.text.push_str(key);
        self.requests.push((self.text.len(), request));
        self.counted += usize::from(request == Request::Count);
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub fn is_full(&self, room: usize) -> bool {
        self.counted >= room || self.text.len() >= BATCH_BYTES
    }
}

impl Batch for TextBatch {
    type Key = String;

    fn counted(&self) -> usize {
        self.counted
    }

    fn at(&self) -> Option<u64> {
        self.at
    }

    fn each(&self, mut act: impl FnMut(Request, &str)) {
        let mut rest = self.text.as_str();
        let mut begin = 0;
        for &(end, request) in &self.requests {
            let (key, after) = rest.split_at(end - begin);
            act(request, key);
            (rest, begin) = (after, end);
        }
    }
}

/// Keys of a binary trace.
#[derive(Debug, Default)]
pub struct TraceBatch(pub Vec<u64>);

impl Batch for TraceBatch {
    type Key = u64;

    fn counted(&self) -> usize {
        self.0.len()
    }

    fn each(&self, mut act: impl FnMut(Request, &u64)) {
        for key in &self.0 {
            act(Request::Count, key);
        }
    }
}
