//! What a handle costs beside a bare atomic, and one key from several threads.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use clap::Args;
use counterclock::CounterStore;
use crossbeam_utils::CachePadded;

use crate::contest::{Contest, Contestant, Progress};
use crate::figure::Cell;
use crate::output::{Out, ROUNDS, preamble};
use crate::rivals::{Group, Rival, Store, Ttl, play};
use crate::speed::{Effort, Rows};
use crate::workload::{Kind, Part, Workload};

const CAPACITY: usize = 2048;
/// Increments a thread and round: about 50 ms of bare atomics.
const OPERATIONS: usize = 8_000_000;
/// What hashes and looks up plays this part of it.
const SHARE: usize = 8;

pub const BARE: &str = "one padded atomic";
pub const PRIVATE: &str = "a private padded atomic each";
pub const HELD: &str = "held Counter";
pub const HELD_TTL: &str = "held Counter, TTL";
pub const HELD_RECENT: &str = "held Counter, TTL, recent time";
pub const STRIPED: &str = "Striped";
pub const STRIPED_TTL: &str = "Striped, TTL";
pub const STRIPED_RECENT: &str = "Striped, TTL, recent time";
pub const BUFFER: &str = "Buffer";
pub const BUFFER_TTL: &str = "Buffer, TTL";

/// Handles of the store under test, each with a store of its own.
const WAYS: [(&str, Way, Ttl); 8] = [
    (HELD, Way::Counter, Ttl::Off),
    (HELD_TTL, Way::Counter, Ttl::On),
    (HELD_RECENT, Way::Counter, Ttl::Recent),
    (STRIPED, Way::Striped, Ttl::Off),
    (STRIPED_TTL, Way::Striped, Ttl::On),
    (STRIPED_RECENT, Way::Striped, Ttl::Recent),
    (BUFFER, Way::Buffer, Ttl::Off),
    (BUFFER_TTL, Way::Buffer, Ttl::On),
];

#[derive(Clone, Copy)]
enum Way {
    Counter,
    Striped,
    Buffer,
}

#[derive(Args)]
pub struct Options {
    /// Interleaved rounds; fewer than 15 do not count
    #[arg(long, default_value_t = ROUNDS)]
    rounds: usize,
    /// Increments a thread and round [default: enough for 50 ms of bare atomics]
    #[arg(long)]
    operations: Option<usize>,
    /// Numbers of threads that count one key
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Where the CSV files go [default: docs/performance]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// One of each per thread; the first is the shared one.
fn atomics(threads: usize) -> Vec<CachePadded<AtomicU64>> {
    (0..threads).map(|_| CachePadded::new(AtomicU64::new(0))).collect()
}

fn bare(atomic: &AtomicU64, n: usize) {
    for _ in 0..n {
        black_box(atomic.fetch_add(1, Ordering::Relaxed));
    }
}

/// Each thread makes a handle of its own, within the measured time: one hash and one search. A
/// buffer hands over its last units within it, too.
fn held<'a>(name: &'static str, way: Way, store: &'a CounterStore<String>) -> Contestant<'a> {
    let contestant = Contestant::new(name, move |part, _| {
        let Part::Repeat(key, n) = part else { unreachable!("one key is repeated") };
        match way {
            Way::Counter => {
                let counter = store.counter(key);
                (0..n).for_each(|_| _ = black_box(counter.increment()));
            }
            Way::Striped => {
                let striped = store.striped(key);
                (0..n).for_each(|_| striped.increment());
            }
            Way::Buffer => {
                let buffer = store.buffer();
                (0..n).for_each(|_| buffer.increment(black_box(key)));
            }
        }
    });
    contestant.rejecting(|| store.stats().rejections)
}

fn take_part(rival: Rival) -> bool {
    let pinned = [Rival::CounterclockPinned, Rival::CounterclockPinnedTtl].contains(&rival);
    rival.group() != Group::Floor && !pinned
}

/// One key, from all threads at once; that all was counted is checked at the end.
pub fn measure(threads: usize, effort: Effort) -> Result<Cell> {
    let rivals = Rival::ALL.into_iter().filter(|rival| take_part(*rival));
    let stores: Vec<_> = rivals.map(|rival| (rival, rival.build::<str>(CAPACITY))).collect();
    let handles = WAYS.map(|(name, way, ttl)| (name, way, ttl.store(CAPACITY)));
    let (shared, private) = (atomics(1), atomics(threads));

    let mut contestants = vec![
        Contestant::new(BARE, |part, _| bare(&shared[0], part.len())),
        Contestant::new(PRIVATE, |part, thread| bare(&private[thread], part.len())),
    ];
    contestants.extend(handles.iter().map(|(name, way, store)| held(name, *way, store)));
    contestants.extend(stores.iter().map(|(rival, store)| store_of(*rival, store.as_ref())));

    let mut workload = Workload::new(Kind::One, CAPACITY);
    let operations = effort.operations.unwrap_or(OPERATIONS);
    let mut contest = Contest::new(contestants);
    let what = format!("one key, threads: {threads}");
    let progress = Progress::new(what, effort.rounds * contest.len());
    // The first use is one thread's: of two that admit a key at once, some rivals lose one's count.
    contest.warm_up(&workload.round(1, operations / 10 + SHARE));
    for _ in 0..effort.rounds {
        contest.round(&workload.round(threads, operations), &progress);
    }
    let cell = Cell { workload: "one key", capacity: CAPACITY, threads, records: contest.finish() };

    let key = workload.round(1, 1);
    let lines = key.lines();
    let Part::Repeat(key, _) = lines[0].part() else { unreachable!("one key is repeated") };
    let sum = |atomics: &[CachePadded<AtomicU64>]| {
        atomics.iter().map(|atomic| atomic.load(Ordering::Relaxed)).sum()
    };
    check(&cell, BARE, sum(&shared))?;
    check(&cell, PRIVATE, sum(&private))?;
    for (name, _, store) in &handles {
        check(&cell, name, store.get(key).unwrap_or(0))?;
        ensure!(store.totals().recorded == store.get(key).unwrap_or(0), "{name}: totals");
    }
    for (rival, store) in &stores {
        check(&cell, rival.name(), store.add(key, 0))?;
    }
    Ok(cell)
}

fn store_of(rival: Rival, store: &dyn Store<str>) -> Contestant<'_> {
    let share = rival.share(Kind::One, CAPACITY).unwrap_or(1) * SHARE;
    let contestant = Contestant::new(rival.name(), move |part, _| play(store, part)).playing(share);
    let rejects = rival.group() == Group::Ours;
    if rejects { contestant.rejecting(|| store.rejections()) } else { contestant }
}

fn check(cell: &Cell, name: &str, counted: u64) -> Result<()> {
    let played = cell.record(name).map_or(0, |record| record.operations());
    ensure!(counted == played, "{name}: {counted} counted of {played}");
    Ok(())
}

pub fn run(options: Options) -> Result<()> {
    let Options { rounds, operations, threads, out } = options;
    let effort = Effort { rounds, operations };
    effort.check(&threads, &[])?;
    let out = Out::new(out, effort.counts())?;
    println!("{}", preamble());
    let mut rows = Rows::default();
    for threads in threads {
        let cell = measure(threads, effort)?;
        println!("{}\n{}", cell.heading(), cell.table(&[BARE, PRIVATE]));
        rows.add(&cell, PRIVATE);
        rows.write(&out, "handles")?;
    }
    Ok(())
}
