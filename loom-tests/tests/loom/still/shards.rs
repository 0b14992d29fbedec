// Two shards: an admission takes its room from the larger one.

use std::hash::{BuildHasher, Hasher};

use loom::thread;

use super::tree::CounterStore;
use super::tree::hash::KeyHash;
use crate::explore::explore;

const SMALLER: u8 = 100;

/// Keys from [`SMALLER`] on go to the second of two shards, others to the first.
#[derive(Clone, Copy)]
struct ByKey;

struct Of(u64);

impl BuildHasher for ByKey {
    type Hasher = Of;

    fn build_hasher(&self) -> Of {
        Of(0)
    }
}

impl Hasher for Of {
    fn write(&mut self, bytes: &[u8]) {
        let shard = usize::from(bytes[0] >= SMALLER);
        self.0 = (0..).find(|&hash| KeyHash::mixed(hash).top(1) == shard).unwrap();
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The key's own shard has none, the other has more than its share, and is owned by a removal.
pub(crate) fn room_from_a_larger_shard() {
    explore("store, room from a larger shard against a remove", 3, 1000, || {
        let store = CounterStore::<u8>::builder().capacity(2).shards(2).slack(32).hasher(ByKey);
        let store = store.build().unwrap();
        store.add(&1, 1);
        store.add(&2, 2);
        let other = {
            let store = store.clone();
            thread::spawn(move || store.remove(&1))
        };
        assert_eq!(store.try_add(&SMALLER, 4), Ok(4), "there was a visible entry");
        assert!(store.len() <= 2, "above the cap");
        let removed = other.join().unwrap();
        let (first, second) = (store.get(&1), store.get(&2));
        assert_eq!(store.get(&SMALLER), Some(4));
        let totals = store.totals();
        assert_eq!(first, None, "removed or evicted");
        assert_eq!(totals.removed, removed.unwrap_or(0), "each unit once");
        assert_eq!(totals.live, 4 + second.unwrap_or(0), "each unit once");
        assert_eq!(totals.recorded, 7, "each unit once");
        let stats = store.stats();
        let live = stats.admitted - stats.evicted - stats.removed;
        assert_eq!(live, store.len() as u64, "a permit for each live key");
    });
}
