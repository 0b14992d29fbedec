//! counterclock.

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Duration;

use counterclock::CounterStore;
use counterclock::quanta::{Handle, Upkeep};

use super::{Store, Visible};
use crate::key::Form;

pub const TTL: Duration = Duration::from_secs(30 * 60);
/// Hits under one pin.
const BATCH: usize = 4096;

/// Tells the process the time, every 10 ms.
static UPKEEP: LazyLock<Handle> = LazyLock::new(|| {
    Upkeep::new(Duration::from_millis(10)).start().expect("a thread, and nobody else's upkeep")
});

/// Whether keys expire, and by which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    Off,
    /// By the processor's counter.
    On,
    /// By quanta's recent time.
    Recent,
}

impl Ttl {
    /// A store with all else by default.
    pub fn store<K>(self, capacity: usize) -> CounterStore<K>
    where
        K: std::hash::Hash + Eq + Send + Sync + 'static,
    {
        let builder = CounterStore::builder().capacity(capacity);
        let builder = match self {
            Self::Off => builder,
            Self::On => builder.idle_ttl(TTL),
            Self::Recent => {
                LazyLock::force(&UPKEEP);
                builder.idle_ttl(TTL).recent_time(true)
            }
        };
        builder.build().expect("a capacity and a TTL within the limits")
    }
}

/// A store with so many shards, and all else by default.
pub fn with_shards(
    capacity: usize,
    shards: usize,
) -> Result<Box<dyn Visible>, counterclock::BuildError> {
    let store = CounterStore::builder().capacity(capacity).shards(shards).build()?;
    Ok(Box::new(Counterclock::<u64>(store)))
}

/// As it comes: default shards, default slack, default hasher.
pub struct Counterclock<F: Form + ?Sized>(CounterStore<F::Owned>);

impl<F: Form + ?Sized> Counterclock<F> {
    pub fn new(capacity: usize, ttl: Ttl) -> Self {
        Self(ttl.store(capacity))
    }
}

impl<F: Form + ?Sized> Store<F> for Counterclock<F> {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        self.0.add(key, n)
    }

    fn remove(&self, key: &F) {
        black_box(self.0.remove(key));
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.len())
    }

    fn waiting(&self) -> Option<usize> {
        Some(self.0.waiting())
    }

    fn rejections(&self) -> u64 {
        self.0.stats().rejections
    }
}

impl Visible for Counterclock<u64> {
    fn live(&self) -> Vec<(u64, u64)> {
        self.0.snapshot().iter().map(|(key, count)| (*key, count)).collect()
    }
}

/// The same with `pin()` held over each batch of hits.
pub struct Pinned<F: Form + ?Sized>(Counterclock<F>);

impl<F: Form + ?Sized> Pinned<F> {
    pub fn new(capacity: usize, ttl: Ttl) -> Self {
        Self(Counterclock::new(capacity, ttl))
    }
}

impl<F: Form + ?Sized> Store<F> for Pinned<F> {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        self.0.add(key, n)
    }

    fn remove(&self, key: &F) {
        self.0.remove(key);
    }

    fn len(&self) -> Option<usize> {
        self.0.len()
    }

    fn waiting(&self) -> Option<usize> {
        self.0.waiting()
    }

    fn rejections(&self) -> u64 {
        self.0.rejections()
    }

    fn count(&self, keys: &[&F]) {
        for batch in keys.chunks(BATCH) {
            let pinned = self.0.0.pin();
            for &key in batch {
                black_box(pinned.increment(key));
            }
        }
    }
}
