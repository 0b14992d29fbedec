//! Where the requests go: the bounded store, and the unbounded map it is compared with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use counterclock::{Cause, CounterStore, Removal, quanta};

use crate::args::{Args, Ttl};
use crate::batch::Key;

/// Something that counts keys, from many threads at once.
pub trait Sink<K: Key>: Sync {
    /// Counts once; 1 says that the key was new.
    fn increment(&self, key: &K::Query) -> u64;

    fn close(&self, key: &K::Query);

    /// It is this many nanoseconds after the start of the simulation.
    fn advance_to(&self, nanos: u64);
}

/// The store, with a listener that keeps books of its own.
pub struct StoreSink<K: Key> {
    pub store: CounterStore<K>,
    pub ended: Arc<Ended>,
    clock: Option<SimulatedClock>,
}

impl<K: Key> StoreSink<K> {
    pub fn build(
        args: &Args,
        ttl: Ttl,
        clock: Option<(quanta::Clock, Arc<quanta::Mock>)>,
    ) -> Result<Self> {
        let ended = Arc::new(Ended::default());
        let listener = Arc::clone(&ended);
        let mut builder = CounterStore::<K>::builder()
            .capacity(args.capacity)
            .on_removal(move |removal: &Removal<'_, K>| listener.hear(removal));
        if let Some(shards) = args.shards {
            builder = builder.shards(shards);
        }
        if let Ttl::After(time) = ttl {
            builder = builder.idle_ttl(time);
        }
        let (clock, mock) = clock.unzip();
        if let Some(clock) = clock {
            builder = builder.clock(clock);
        }
        Ok(Self {
            store: builder.build().context("the store")?,
            ended,
            clock: mock.map(SimulatedClock::new),
        })
    }
}

impl<K: Key> Sink<K> for StoreSink<K> {
    fn increment(&self, key: &K::Query) -> u64 {
        self.store.increment(key)
    }

    fn close(&self, key: &K::Query) {
        self.store.remove(key);
    }

    fn advance_to(&self, nanos: u64) {
        if let Some(clock) = &self.clock {
            clock.advance_to(nanos);
        }
    }
}

/// What the listener heard of ended lives, one [`Line`] a cause.
#[derive(Debug, Default)]
pub struct Ended {
    pub evicted: Line,
    pub expired: Line,
    pub removed: Line,
}

/// Lives that ended from one cause.
#[derive(Debug, Default)]
pub struct Line {
    lives: AtomicU64,
    units: AtomicU64,
    largest: AtomicU64,
}

impl Ended {
    fn hear<K>(&self, removal: &Removal<'_, K>) {
        let line = match removal.cause {
            Cause::Capacity => &self.evicted,
            Cause::Idle => &self.expired,
            Cause::Removed => &self.removed,
            // A cause of a later version is missed here, and the books say so.
            _ => return,
        };
        line.add(removal.count);
    }
}

impl Line {
    /// A life ended with this count.
    pub fn add(&self, count: u64) {
        // Relaxed: sums, read when the workers have been joined.
        self.lives.fetch_add(1, Relaxed);
        self.units.fetch_add(count, Relaxed);
        self.largest.fetch_max(count, Relaxed);
    }

    pub fn lives(&self) -> u64 {
        self.lives.load(Relaxed)
    }

    pub fn units(&self) -> u64 {
        self.units.load(Relaxed)
    }

    pub fn largest(&self) -> u64 {
        self.largest.load(Relaxed)
    }
}

/// A clock that is set by what is replayed, and never runs back.
struct SimulatedClock {
    mock: Arc<quanta::Mock>,
    nanos: AtomicU64,
}

impl SimulatedClock {
    fn new(mock: Arc<quanta::Mock>) -> Self {
        Self { mock, nanos: AtomicU64::new(0) }
    }

    fn advance_to(&self, nanos: u64) {
        // Each thread adds what it alone moved the time by, so that the parts add up.
        let before = self.nanos.fetch_max(nanos, Relaxed);
        if nanos > before {
            self.mock.increment(nanos - before);
        }
    }
}

/// What one writes first: std's map behind std's mutex. It is exact, and forgets only what says goodbye.
pub struct MapSink<K>(Mutex<HashMap<K, u64>>);

impl<K> Default for MapSink<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> MapSink<K> {
    pub fn lock(&self) -> MutexGuard<'_, HashMap<K, u64>> {
        // A worker that panicked has ended the program by now.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Key> Sink<K> for MapSink<K> {
    fn increment(&self, key: &K::Query) -> u64 {
        let mut map = self.lock();
        if let Some(count) = map.get_mut(key) {
            *count += 1;
            return *count;
        }
        map.insert(key.to_owned(), 1);
        1
    }

    fn close(&self, key: &K::Query) {
        self.lock().remove(key);
    }

    fn advance_to(&self, _nanos: u64) {}
}
