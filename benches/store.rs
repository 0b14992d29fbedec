//! The crate's own operations: `cargo bench --bench store`.
//!
//! Each figure stands beside the rejections of its store, which are asserted to be none.

use std::hint::black_box;
use std::time::Duration;

use counterclock::CounterStore;
use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

const CAPACITY: usize = 2048;
const BATCH: usize = 4096;

/// A 36-byte key like a UUID's text.
fn uuid(rng: &mut impl Rng) -> String {
    let (a, b) = (rng.random::<u64>(), rng.random::<u64>());
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}

/// `BATCH` keys out of `n`, with skew 0.99.
fn keys(n: usize) -> Vec<String> {
    let mut rng = SmallRng::seed_from_u64(1);
    let all: Vec<_> = (0..n).map(|_| uuid(&mut rng)).collect();
    let zipf = Zipf::new(n as f64, 0.99).expect("valid parameters");
    (0..BATCH * 16).map(|_| all[zipf.sample(&mut rng) as usize - 1].clone()).collect()
}

fn store(ttl: bool) -> CounterStore<String> {
    let builder = CounterStore::builder().capacity(CAPACITY);
    let builder = if ttl { builder.idle_ttl(Duration::from_secs(1800)) } else { builder };
    builder.build().expect("valid parameters")
}

/// Counts the keys, over and over, without a TTL and with one.
fn increments(group: &mut BenchmarkGroup<'_, WallTime>, names: [&str; 2], keys: &[String]) {
    for (name, ttl) in names.into_iter().zip([false, true]) {
        let store = store(ttl);
        let mut at = keys.chunks(BATCH).cycle();
        group.bench_function(name, |b| {
            b.iter(|| {
                at.next().into_iter().flatten().for_each(|key| {
                    black_box(store.increment(key.as_str()));
                })
            });
        });
        assert_eq!(store.stats().rejections, 0);
    }
}

fn hits(c: &mut Criterion) {
    let keys = keys(CAPACITY / 2);
    let mut group = c.benchmark_group("hit");
    group.throughput(Throughput::Elements(BATCH as u64));
    increments(&mut group, ["increment", "increment, TTL"], &keys);
    let store = store(false);
    let mut at = keys.chunks(BATCH).cycle();
    group.bench_function("increment under one pin", |b| {
        b.iter(|| {
            let pinned = store.pin();
            at.next().into_iter().flatten().for_each(|key| {
                black_box(pinned.increment(key.as_str()));
            });
        });
    });
    let counter = store.counter("one");
    group.bench_function("counter", |b| {
        b.iter(|| {
            (0..BATCH).for_each(|_| {
                black_box(counter.increment());
            })
        })
    });
    group.bench_function("get", |b| {
        b.iter(|| {
            at.next().into_iter().flatten().for_each(|key| {
                black_box(store.get(key.as_str()));
            })
        });
    });
    assert_eq!(store.stats().rejections, 0);
}

fn misses(c: &mut Criterion) {
    let mut rng = SmallRng::seed_from_u64(2);
    let mut group = c.benchmark_group("miss");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, full) in [("admit, not full", false), ("admit and evict", true)] {
        let store = store(false);
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    if !full {
                        store.clear();
                    }
                    (0..CAPACITY).map(|_| uuid(&mut rng)).collect::<Vec<_>>()
                },
                |keys| {
                    keys.iter().for_each(|key| {
                        black_box(store.increment(key.as_str()));
                    })
                },
                BatchSize::LargeInput,
            );
        });
        assert_eq!(store.stats().rejections, 0);
    }
    let store = store(false);
    let absent: Vec<_> = (0..BATCH).map(|_| uuid(&mut rng)).collect();
    group.bench_function("get, absent", |b| {
        b.iter(|| {
            absent.iter().for_each(|key| {
                black_box(store.get(key.as_str()));
            })
        });
    });
}

fn churn(c: &mut Criterion) {
    let keys = keys(CAPACITY * 10);
    let mut group = c.benchmark_group("churn");
    group.throughput(Throughput::Elements(BATCH as u64));
    increments(&mut group, ["ten times the capacity", "ten times the capacity, TTL"], &keys);
}

criterion_group!(benches, hits, misses, churn);
criterion_main!(benches);
