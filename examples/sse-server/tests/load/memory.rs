//! The server's resident memory over time.

use std::fmt;

use crate::harness::Snapshot;

/// One line of the report for so many seconds.
const LINE: usize = 60;

pub struct Memory {
    /// Before the first client.
    empty: u64,
    /// When all clients were there, and each second from then on.
    seen: Vec<u64>,
}

impl Memory {
    /// `now` is taken before any client came.
    pub fn new(now: &Snapshot) -> Self {
        Self { empty: now.at("resident_bytes"), seen: Vec::new() }
    }

    pub fn see(&mut self, now: &Snapshot) {
        self.seen.push(now.at("resident_bytes"));
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let first = self.seen.first().copied().unwrap_or_default();
        let last = self.seen.last().copied().unwrap_or_default();
        let highest = self.seen.iter().max().copied().unwrap_or_default();
        writeln!(
            f,
            "the server's resident memory, in MiB: empty {:.1}; with all clients {:.1}; highest \
             {:.1}; last {:.1}",
            mib(self.empty),
            mib(first),
            mib(highest),
            mib(last)
        )?;
        for (minute, seen) in self.seen.chunks(LINE).enumerate() {
            let (low, high) = (seen.iter().min(), seen.iter().max());
            let [low, high] = [low, high].map(|bytes| mib(bytes.copied().unwrap_or_default()));
            writeln!(f, "  minute {:3}: {low:.1} to {high:.1}", minute + 1)?;
        }
        Ok(())
    }
}
