//! A key that knows how many of its kind are alive.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use counterclock::{CounterStore, Equivalent, ToKey};

/// Whose keys are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    Round,
    Lasting,
}

/// Relaxed, so that no thread is ordered after another by it: it would hide races.
static ALIVE: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

impl Pool {
    /// Keys that exist.
    pub fn alive(self) -> usize {
        ALIVE[self as usize].load(Relaxed)
    }
}

/// Has its number on the heap, where a sanitizer sees each use after it was freed.
#[derive(Debug)]
pub struct Key {
    number: Box<u64>,
    pool: Pool,
}

impl Key {
    pub fn number(&self) -> u64 {
        *self.number
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        Name { number: self.number(), pool: self.pool }.to_key()
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        ALIVE[self.pool as usize].fetch_sub(1, Relaxed);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

/// The borrowed form.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    pub number: u64,
    pub pool: Pool,
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl Equivalent<Key> for Name {
    fn equivalent(&self, key: &Key) -> bool {
        self.number == key.number()
    }
}

impl ToKey<Key> for Name {
    fn to_key(&self) -> Key {
        ALIVE[self.pool as usize].fetch_add(1, Relaxed);
        Key { number: Box::new(self.number), pool: self.pool }
    }
}

/// Moves the process's collector on by a grace period, when nobody is pinned.
pub fn turn_over() {
    let store = CounterStore::<u64>::new(1);
    store.increment(&0);
    store.prune();
}
