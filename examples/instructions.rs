//! A fixed amount of work, to be counted by callgrind: see `.ci/instructions`.
//!
//! `instructions WORK TIMES` does `WORK` so many times. Hashes are not seeded, so that each run does
//! the same.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, bail};
use counterclock::{CounterStore, quanta};
use foldhash::fast::FixedState;

const CAPACITY: usize = 2048;

fn store(work: &str) -> anyhow::Result<CounterStore<String, FixedState>> {
    let (ttl, recent) = (work.ends_with("-ttl"), work.ends_with("-recent"));
    let builder = CounterStore::builder().capacity(CAPACITY).shards(8).recent_time(recent);
    let builder = if ttl || recent { builder.idle_ttl(Duration::from_secs(1800)) } else { builder };
    let store = builder.hasher(FixedState::with_seed(7)).build()?;
    if recent {
        quanta::set_recent(quanta::Instant::now());
    }
    Ok(store)
}

/// 36 bytes, as a UUID's text.
fn key(n: usize) -> String {
    format!("{n:08x}-0000-4000-8000-{n:012x}")
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let work = args.next().context("usage: instructions WORK TIMES")?;
    let times: usize = args.next().context("usage: instructions WORK TIMES")?.parse()?;
    let store = store(&work)?;
    let few: Vec<_> = (0..CAPACITY / 2).map(key).collect();
    for key in &few {
        store.increment(key.as_str());
    }
    let hits = || few.iter().map(String::as_str).cycle().take(times);
    match work.trim_end_matches("-ttl").trim_end_matches("-recent") {
        "hit" => hits().for_each(|key| _ = black_box(store.increment(key))),
        "hit-pinned" => {
            let pinned = store.pin();
            hits().for_each(|key| _ = black_box(pinned.increment(key)));
        }
        "get" => hits().for_each(|key| _ = black_box(store.get(key))),
        "counter" => {
            let counter = store.counter("one");
            (0..times).for_each(|_| _ = black_box(counter.increment()));
        }
        "striped" => {
            let striped = store.striped("one");
            (0..times).for_each(|_| striped.increment());
        }
        "buffer" => {
            let buffer = store.buffer();
            (0..times).for_each(|_| buffer.increment(black_box("one")));
        }
        "evict" => {
            // Each key is new, and made outside of what differs between two amounts of work.
            let many: Vec<_> = (0..200_000).map(|n| key(n + CAPACITY)).collect();
            (0..times).for_each(|n| _ = black_box(store.increment(many[n].as_str())));
        }
        "remove" => hits().for_each(|key| {
            black_box(store.remove(key));
            black_box(store.increment(key));
        }),
        other => bail!("no such work: {other}"),
    }
    Ok(())
}
