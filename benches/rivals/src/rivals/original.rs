//! What the crate's origin did, once it had been repaired.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use counterclock::RandomState;

use super::Store;
use crate::key::Form;

const IDLE: Duration = Duration::from_secs(30 * 60);
/// Increments between two looks for idle keys.
const PRUNE_EVERY: u64 = 256;

/// A port of its behaviour: one mutex, one map, 30 minutes without use end a key; idle keys are
/// looked for at every 256th increment; a new key past the cap has the whole map sorted by the time
/// of last use, and the oldest go. Kinder than the original in that the keys are not cloned for the
/// sort, and in its hasher.
pub struct Original<F: Form + ?Sized> {
    state: Mutex<State<F>>,
    capacity: usize,
}

struct State<F: Form + ?Sized> {
    counters: HashMap<F::Owned, Counter, RandomState>,
    increments: u64,
}

struct Counter {
    count: u64,
    used: Instant,
}

impl<F: Form + ?Sized> Original<F> {
    pub fn new(capacity: usize) -> Self {
        // One more: the new key comes in before the oldest goes.
        let counters = HashMap::with_capacity_and_hasher(capacity + 1, RandomState::new());
        Self { state: Mutex::new(State { counters, increments: 0 }), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, State<F>> {
        self.state.lock().expect("nobody panics under it")
    }

    #[inline]
    fn add_at(&self, now: Instant, key: &F, n: u64) -> u64 {
        let state = &mut *self.lock();
        state.increments += 1;
        if state.increments.is_multiple_of(PRUNE_EVERY) {
            state.prune(now);
        }
        if let Some(counter) = state.counters.get_mut(key) {
            counter.count += n;
            counter.used = now;
            return counter.count;
        }
        state.counters.insert(key.to_owned(), Counter { count: n, used: now });
        if state.counters.len() > self.capacity {
            state.drop_oldest(self.capacity);
        }
        n
    }
}

impl<F: Form + ?Sized> State<F> {
    fn prune(&mut self, now: Instant) {
        self.counters.retain(|_, counter| now.duration_since(counter.used) <= IDLE);
    }

    fn drop_oldest(&mut self, capacity: usize) {
        let mut by_use: Vec<_> =
            self.counters.iter().map(|(key, counter)| (counter.used, key)).collect();
        by_use.sort_by_key(|(used, _)| *used);
        let surplus = by_use.len().saturating_sub(capacity);
        let oldest: Vec<_> = by_use[..surplus].iter().map(|(_, key)| (*key).clone()).collect();
        for key in oldest {
            self.counters.remove(key.borrow());
        }
    }
}

impl<F: Form + ?Sized> Store<F> for Original<F> {
    #[inline]
    fn add(&self, key: &F, n: u64) -> u64 {
        self.add_at(Instant::now(), key, n)
    }

    fn remove(&self, key: &F) {
        self.lock().counters.remove(key);
    }

    fn len(&self) -> Option<usize> {
        Some(self.lock().counters.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(store: &Original<u64>) -> Vec<u64> {
        let mut keys: Vec<_> = store.lock().counters.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn past_the_cap_the_one_used_longest_ago_goes() {
        let store = Original::<u64>::new(3);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for key in 1..=3 {
            assert_eq!(store.add_at(at(key), &key, 1), 1);
        }
        assert_eq!(store.add_at(at(4), &1, 5), 6);
        assert_eq!(store.add_at(at(5), &4, 1), 1);
        assert_eq!(keys(&store), [1, 3, 4]);
        // The 2 begins again.
        assert_eq!(store.add_at(at(6), &2, 1), 1);
        assert_eq!(keys(&store), [1, 2, 4]);
    }

    #[test]
    fn idle_keys_go_at_every_256th_increment() {
        let store = Original::<u64>::new(100);
        let start = Instant::now();
        store.add_at(start, &1, 1);
        let late = start + IDLE + Duration::from_secs(1);
        // Until then it is counted on, however long ago its last use was.
        for _ in 2..PRUNE_EVERY {
            store.add_at(late, &2, 1);
        }
        assert_eq!(keys(&store), [1, 2]);
        store.add_at(late, &2, 1);
        assert_eq!(keys(&store), [2]);
    }
}
