//! What the pass through the store showed, as text.

use std::fmt;
use std::time::Duration;

use counterclock::{Stats, Totals};

use crate::args::{Args, Ttl};
use crate::balance::Balance;
use crate::batch::{Key, Source};
use crate::curve::Curve;
use crate::format::{bytes, grouped, key, percent, plural};
use crate::input::Input;
use crate::memory::Resident;
use crate::pass::{Pass, Tally};
use crate::sink::StoreSink;

/// Above this share of rejected calls a speed says little: rejecting is cheaper than counting.
const MANY_REJECTED_PERCENT: f64 = 0.1;

/// All that is printed of the first pass.
pub struct Report {
    input: String,
    remarks: Vec<String>,
    interrupted: bool,
    threads: usize,
    ttl: String,
    tally: Tally,
    wall: Duration,
    top: Vec<(String, u64)>,
    /// Also where no top is shown.
    live_largest: u64,
    totals: Totals,
    stats: Stats,
    /// The largest final count of evicted, expired and removed lives.
    largest: [u64; 3],
    len: usize,
    capacity: usize,
    balance: Balance,
    memory: MemoryReport,
}

struct MemoryReport {
    store_now: u64,
    store_most: u64,
    waiting: usize,
    before: Resident,
    after: Resident,
}

impl Report {
    /// Asks the store; `before` is the memory before it was built.
    pub fn gather<K: Key>(
        args: &Args,
        ttl: Ttl,
        input: &Input,
        source: &impl Source<Key = K>,
        sink: &StoreSink<K>,
        pass: &Pass,
        before: Resident,
    ) -> Self {
        let store = &sink.store;
        let memory = MemoryReport::new(&pass.curve, store.waiting(), before);
        // Before anything else is asked: asking may end idle lives.
        let largest = store.top(args.top.max(1).min(store.capacity()));
        Self {
            input: input.to_string(),
            remarks: source.remarks(),
            interrupted: pass.interrupted,
            threads: args.threads.get(),
            ttl: ttl_text(ttl, input),
            tally: pass.tally,
            wall: pass.wall,
            live_largest: largest.first().map_or(0, |(_, count)| *count),
            top: largest
                .into_iter()
                .take(args.top)
                .map(|(name, count)| (key(&name.to_string()), count))
                .collect(),
            balance: Balance::of(sink, &pass.tally),
            totals: store.totals(),
            stats: store.stats(),
            largest: [&sink.ended.evicted, &sink.ended.expired, &sink.ended.removed]
                .map(|line| line.largest()),
            len: store.len(),
            capacity: store.capacity(),
            memory,
        }
    }

    pub fn balances(&self) -> bool {
        self.balance.holds()
    }

    fn write_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.wall.as_secs_f64();
        writeln!(f, "counterclock replay: {}", self.input)?;
        if self.interrupted {
            writeln!(f, "  INTERRUPTED: this is the report so far")?;
        }
        for remark in &self.remarks {
            writeln!(f, "  {remark}")?;
        }
        write!(f, "  {}", plural(self.tally.requests, "request", "requests"))?;
        if self.tally.closes > 0 {
            write!(f, " and {}", plural(self.tally.closes, "goodbye", "goodbyes"))?;
        }
        let threads = plural(self.threads as u64, "thread", "threads");
        writeln!(f, " in {seconds:.2} s by {threads}")?;
        writeln!(
            f,
            "  {} increments/s, reading included; each kept a counting thread busy for {:.0} ns",
            grouped(rate(&self.tally, self.wall)),
            self.tally.busy.as_nanos() as f64 / self.tally.requests.max(1) as f64,
        )?;
        writeln!(
            f,
            "  {} of {} keys, {}",
            grouped(self.len as u64),
            grouped(self.capacity as u64),
            self.ttl
        )
    }

    fn write_top(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.top.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nLargest keys")?;
        for (name, count) in &self.top {
            writeln!(f, "  {:>15}  {name}", grouped(*count))?;
        }
        Ok(())
    }

    fn write_ends(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stats, totals) = (&self.stats, &self.totals);
        let [evicted, expired, removed] = self.largest;
        writeln!(f, "\nWhat ended, and why")?;
        writeln!(f, "  {:10}{:>15}{:>15}{:>15}", "", "lives", "units", "largest")?;
        for (name, lives, units, largest) in [
            ("live", self.len as u64, totals.live, self.live_largest),
            ("evicted", stats.evicted, totals.evicted, evicted),
            ("expired", stats.expired, totals.expired, expired),
            ("removed", stats.removed, totals.removed, removed),
        ] {
            let [lives, units, largest] = [lives, units, largest].map(grouped);
            writeln!(f, "  {name:10}{lives:>15}{units:>15}{largest:>15}")?;
        }
        let hits = self.tally.requests - self.tally.ones;
        let rejected = percent(stats.rejections, self.tally.requests);
        writeln!(
            f,
            "  hit ratio {:.2} %: the share of requests that found their key live",
            percent(hits, self.tally.requests)
        )?;
        writeln!(
            f,
            "  rejected {}, {rejected:.3} % of all: {}",
            plural(stats.rejections, "call", "calls"),
            plural(totals.rejected, "unit", "units"),
        )?;
        if rejected > MANY_REJECTED_PERCENT {
            writeln!(f, "  WARNING: rejecting is cheap, so the speed above says little")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_head(f)?;
        self.write_top(f)?;
        self.write_ends(f)?;
        write!(f, "\nBalance\n{}", self.balance)?;
        write!(f, "\nMemory\n{}", self.memory)
    }
}

impl MemoryReport {
    fn new(curve: &Curve, waiting: usize, before: Resident) -> Self {
        Self {
            store_now: curve.last().bytes,
            store_most: curve.most(),
            waiting,
            before,
            after: Resident::now(),
        }
    }
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  allocated by the store: {}, the most seen {}; {} not yet freed",
            bytes(self.store_now),
            bytes(self.store_most),
            plural(self.waiting as u64, "ended entry", "ended entries"),
        )?;
        match (self.after.now, self.after.peak, self.before.now) {
            (Some(now), Some(peak), Some(before)) => writeln!(
                f,
                "  resident, whole process: {}, at most {}; {} before the store",
                bytes(now),
                bytes(peak),
                bytes(before)
            ),
            _ => writeln!(f, "  resident: not available on this system"),
        }
    }
}

/// Increments a second of the whole pass.
pub fn rate(tally: &Tally, wall: Duration) -> u64 {
    (tally.requests as f64 / wall.as_secs_f64().max(1e-9)) as u64
}

fn ttl_text(ttl: Ttl, input: &Input) -> String {
    match (ttl, input) {
        (Ttl::Never, _) => "which never expire".to_owned(),
        (Ttl::After(time), Input::Day) => {
            format!("idle for {} of simulated time at most", humantime::format_duration(time))
        }
        (Ttl::After(time), _) => {
            format!("idle for {} of real time at most", humantime::format_duration(time))
        }
    }
}
