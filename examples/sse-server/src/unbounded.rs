//! What a map that never forgets would hold by now: the system that ran out of memory.
//!
//! An estimate, and the page says so. The number of distinct sessions is a HyperLogLog's, in
//! 16 KiB and with a standard error of 0.8 %; the bytes are those of a
//! `HashMap<String, [u64; 2]>` with so many names of the mean length.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hyperloglockless::AtomicHyperLogLog;

/// 2^14 registers: an error of 1.04 / 2^7.
const PRECISION: u8 = 14;

pub struct Unbounded {
    sessions: AtomicHyperLogLog,
    /// Lives of counters that began, and the bytes of their names: for the mean.
    lives: AtomicU64,
    name_bytes: AtomicU64,
}

impl Default for Unbounded {
    fn default() -> Self {
        Self {
            sessions: AtomicHyperLogLog::new(PRECISION),
            lives: AtomicU64::new(0),
            name_bytes: AtomicU64::new(0),
        }
    }
}

impl Unbounded {
    /// A session was counted: its count after it, or nothing if that was rejected. Only the
    /// first of a life can be a session that was not seen before; the others cost nothing here.
    pub fn see(&self, session: &str, count: Option<u64>) {
        if count.is_none_or(|count| count == 1) {
            self.sessions.insert(session);
            self.lives.fetch_add(1, Relaxed);
            self.name_bytes.fetch_add(session.len() as u64, Relaxed);
        }
    }

    /// Distinct sessions that were ever counted.
    pub fn sessions(&self) -> u64 {
        self.sessions.raw_count().round() as u64
    }

    /// What the map would have on the heap.
    pub fn bytes(&self) -> u64 {
        let sessions = self.sessions();
        let mean = self.name_bytes.load(Relaxed) / self.lives.load(Relaxed).max(1);
        buckets(sessions) * BUCKET + sessions * chunk(mean)
    }
}

/// A name, two counts and the table's byte of control.
const BUCKET: u64 = size_of::<(String, [u64; 2])>() as u64 + 1;

/// The standard library's table is full at 7/8, and a power of two.
fn buckets(entries: u64) -> u64 {
    match entries {
        0 => 0,
        1..4 => 4,
        4..8 => 8,
        _ => (entries * 8 / 7).next_power_of_two(),
    }
}

/// What malloc takes for so many bytes: with a word of its own, in steps of 16, 32 at least
/// (glibc on 64 bits).
fn chunk(bytes: u64) -> u64 {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn buckets_are_those_of_the_standard_map() {
        let mut map = HashMap::new();
        for entries in 1..10_000_u64 {
            map.insert(entries, ());
            // What it can hold is 7/8 of the buckets; of 4 and 8, all but one.
            let capacity = map.capacity() as u64;
            let expected = if capacity < 8 { capacity + 1 } else { capacity / 7 * 8 };
            assert_eq!(buckets(entries), expected, "{entries}");
        }
    }

    #[test]
    fn sessions_are_counted_once_and_within_the_error() {
        let unbounded = Unbounded::default();
        for _round in 0..3 {
            for n in 0..100_000 {
                unbounded.see(&format!("session-{n}"), Some(1));
            }
        }
        // Five standard errors.
        assert!(unbounded.sessions().abs_diff(100_000) < 4100, "{}", unbounded.sessions());
    }

    #[test]
    fn later_counts_are_not_looked_at() {
        let unbounded = Unbounded::default();
        unbounded.see("a", Some(2));
        assert_eq!((unbounded.sessions(), unbounded.bytes()), (0, 0));
        unbounded.see("rejected", None);
        assert_eq!(unbounded.sessions(), 1);
        assert_eq!(unbounded.bytes(), 4 * 41 + 32);
    }
}
