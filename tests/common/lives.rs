//! Every life of every key, as the listener and the caller of a single thread know them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use counterclock::quanta::Mock;
use counterclock::{CounterStore, Snapshot};

use super::{Config, TTL, TestState, lock};

/// What can be done to a store.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Add(u64, u64),
    Remove(u64),
    Clear,
    Prune,
    Advance(u32),
}

/// Which life a key has, and what it counts: by their number in [`Lives`].
pub type Shown = HashMap<u64, (usize, u64)>;

pub struct Lives {
    pub store: CounterStore<u64, TestState>,
    pub mock: Option<Arc<Mock>>,
    heard: Arc<Mutex<Vec<(u64, u64)>>>,
    /// Counts, final where the life has ended.
    pub counts: Vec<u64>,
    live: HashMap<u64, usize>,
    /// Units of all calls.
    pub recorded: u64,
}

impl Lives {
    pub fn new(config: Config) -> Self {
        let (builder, mock) = config.builder::<u64>();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&heard);
        let builder = builder.on_removal(move |end| lock(&to).push((*end.key, end.count)));
        let store = builder.build().expect("a valid configuration");
        Self { store, mock, heard, counts: vec![], live: HashMap::new(), recorded: 0 }
    }

    pub fn play(&mut self, step: Step) {
        match step {
            Step::Add(key, n) => self.add(key, n),
            Step::Remove(key) => _ = self.store.remove(&key),
            Step::Clear => self.store.clear(),
            Step::Prune => _ = self.store.prune(),
            Step::Advance(eighths) => {
                if let Some(mock) = &self.mock {
                    mock.increment(TTL * eighths / 8);
                }
            }
        }
        self.hear();
    }

    fn add(&mut self, key: u64, n: u64) {
        let counted = self.store.try_add(&key, n);
        self.hear();
        self.recorded += n;
        if let Ok(count) = counted {
            let life = *self.live.entry(key).or_insert_with(|| {
                self.counts.push(0);
                self.counts.len() - 1
            });
            self.counts[life] += n;
            assert_eq!(self.counts[life], count, "{key}");
        }
    }

    fn hear(&mut self) {
        for (key, count) in lock(&self.heard).drain(..) {
            let life = self.live.remove(&key).expect("a life that ends had begun");
            assert_eq!(self.counts[life], count, "{key}");
        }
    }

    /// The lives that a snapshot which was just taken should show; it has ended the idle ones.
    pub fn shown(&mut self, snapshot: &Snapshot<u64>) -> Shown {
        self.hear();
        let shown: Shown =
            self.live.iter().map(|(&key, &life)| (key, (life, self.counts[life]))).collect();
        let counts: HashMap<u64, u64> = shown.iter().map(|(&key, &(_, n))| (key, n)).collect();
        assert_eq!(super::live(snapshot), counts);
        shown
    }
}
