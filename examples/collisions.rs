//! What somebody who chooses the keys can make an increment cost, and which counters survive a
//! flood. The figures of `SECURITY.md`.
//!
//! `cargo run --release --example collisions -- 64 2048 65536`; these capacities are the default.
//!
//! Rounds are interleaved, so that whatever else the machine does falls on all lines. Printed are
//! medians, medians of the paired ratios to the first line, and rejected calls. One thread, but for the
//! last table.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use clap::Parser;
use counterclock::{AtCapacity, CounterStore, RandomState};

const ROUNDS: usize = 15;
/// Operations of a line in a round; more where the store is larger than that.
const OPERATIONS: usize = 100_000;
const OPERATIONS_AN_ENTRY: usize = 4;
/// Entries that the operations of a round walk over, where all keys are in one chain.
const WALKED: usize = 1_000_000;
/// Up to here a single chain is filled in a moment.
const QUICKLY_FILLED: usize = 8192;

/// The key itself, or always the same.
#[derive(Clone, Copy)]
enum Poor {
    Identity,
    Constant,
}

struct PoorHasher {
    kind: Poor,
    hash: u64,
}

impl BuildHasher for Poor {
    type Hasher = PoorHasher;

    fn build_hasher(&self) -> PoorHasher {
        PoorHasher { kind: *self, hash: 0 }
    }
}

impl Hasher for PoorHasher {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("the keys are numbers");
    }

    fn write_u64(&mut self, n: u64) {
        self.hash = match self.kind {
            Poor::Identity => n,
            Poor::Constant => 42,
        };
    }
}

const MIX: u64 = 0xa076_1d64_78bd_642f;

/// The last step of the store's hashing, which is no secret: as in `src/hash.rs`.
fn mixed(hash: u64) -> u64 {
    let wide = u128::from(hash ^ MIX) * 0x9e37_79b9_7f4a_7c15;
    (wide >> 64) as u64 ^ wide as u64
}

/// The index of a store of this capacity has one bucket for each value of so many top bits.
fn bits(capacity: usize) -> u32 {
    (capacity + capacity / 3).next_power_of_two().ilog2()
}

fn bucket(hash: u64, bits: u32) -> usize {
    (mixed(hash) >> 1 >> (63 - bits)) as usize
}

/// Different keys, in ascending order of `key ^ MIX`, that an identity hasher puts into bucket 0
/// of 65,536, and so of fewer; of 131,072, into one of two.
///
/// For `x` below 2^48 the high half of the product has its top 16 bits clear, so `x` is one if the
/// fractional part of `x` times the golden ratio is below 2^-16. From one such `x` to the next
/// there are three gaps, two Fibonacci numbers and their sum.
fn crafted(n: usize) -> Vec<u64> {
    const GAPS: [u64; 3] = [46_368, 75_025, 121_393];
    let next = |x: &u64| GAPS.iter().map(|gap| x + gap).find(|x| bucket(x ^ MIX, 16) == 0);
    let keys: Vec<u64> = std::iter::successors(Some(0), next).map(|x| x ^ MIX).take(n).collect();
    assert_eq!(keys.len(), n, "the gaps do not lead on");
    keys
}

/// xorshift64*: different keys, in no order.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn keys(&mut self, n: usize) -> Vec<u64> {
        (0..n).map(|_| self.next()).collect()
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 32) as usize % n
    }
}

type Round = Box<dyn Fn(&[u64])>;

/// One line of the table: a full store, and the keys of each round.
struct Line {
    name: &'static str,
    /// Counts these keys; the rest is for the end.
    round: Round,
    rejections: Box<dyn Fn() -> u64>,
    rounds: Vec<Vec<u64>>,
    times: Vec<f64>,
}

impl Line {
    /// The store is filled with `first`, then counts each of `rounds`.
    fn new<S: BuildHasher + 'static>(
        name: &'static str,
        store: CounterStore<u64, S>,
        first: &[u64],
        rounds: Vec<Vec<u64>>,
    ) -> Self {
        let store = Arc::new(store);
        let own = Arc::clone(&store);
        let round = move |keys: &[u64]| {
            for key in keys {
                black_box(own.increment(key));
            }
        };
        round(first);
        assert_eq!(store.len(), store.capacity(), "{name} is not full");
        let before = store.stats().rejections;
        let rejections = move || store.stats().rejections - before;
        let (round, rejections) = (Box::new(round), Box::new(rejections));
        Self { name, round, rejections, rounds, times: Vec::new() }
    }

    /// The median of a hundred parts: where others use the processor too, they fall on a few.
    fn measure(&mut self, n: usize) {
        let parts = self.rounds[n].chunks((self.rounds[n].len() / 100).max(1)).map(|keys| {
            let start = Instant::now();
            (self.round)(keys);
            start.elapsed().as_nanos() as f64 / keys.len() as f64
        });
        let figure = median(parts.collect());
        self.times.push(figure);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn split(keys: &[u64]) -> Vec<Vec<u64>> {
    keys.chunks(keys.len() / (ROUNDS + 1)).map(<[u64]>::to_vec).collect()
}

fn lines(capacity: usize) -> Vec<Line> {
    let mut random = Random(0x5eed ^ capacity as u64);
    let rounds = ROUNDS + 1;
    let operations = OPERATIONS.max(OPERATIONS_AN_ENTRY * capacity);
    let known = random.keys(capacity);
    let chosen = |n: usize, of: &[u64], random: &mut Random| -> Vec<u64> {
        (0..n * rounds).map(|_| of[random.below(of.len())]).collect()
    };
    let hits = split(&chosen(operations, &known, &mut random));
    let flood = split(&random.keys(operations * rounds));
    let few = (WALKED / capacity).min(operations);
    let crafted = crafted(capacity + operations * rounds);
    let (aimed, more) = crafted.split_at(capacity);
    let aimed_flood = split(more);
    let few_aimed = split(&more[..few * rounds]);
    let few_hits = split(&chosen(few, &known, &mut random));
    let few_new = split(&random.keys(few * rounds));

    let of = || CounterStore::<u64>::builder().capacity(capacity);
    let plain = || CounterStore::<u64>::new(capacity);
    let sip = || of().hasher(std::hash::RandomState::new()).build().expect("valid");
    let poor = |kind| of().hasher(kind).build().expect("valid");
    let ended = AtomicU64::new(0);
    let count = move |_: &counterclock::Removal<'_, u64>| _ = ended.fetch_add(1, Relaxed);
    let heard = of().on_removal(count).build().expect("valid");
    let strict = of().at_capacity(AtCapacity::Reject).build().expect("valid");
    let mut lines = vec![
        Line::new("hits on known keys", plain(), &known, hits.clone()),
        Line::new("flood of new random keys", plain(), &known, flood.clone()),
        Line::new("flood of keys crafted for an identity hasher", plain(), aimed, aimed_flood),
        Line::new("flood, and a listener that counts", heard, &known, flood.clone()),
        Line::new("flood of a full store that rejects", strict, &known, flood.clone()),
        Line::new("hits, SipHash", sip(), &known, hits),
        Line::new("flood, SipHash", sip(), &known, flood),
        Line::new("all keys collide: hits", poor(Poor::Constant), &known, few_hits),
        Line::new("all keys collide: flood", poor(Poor::Constant), &known, few_new),
    ];
    // Each more fills another store through one chain; larger ones cost what the last two cost.
    if capacity <= QUICKLY_FILLED {
        let aimed_store = poor(Poor::Identity);
        let name = "identity hasher, crafted keys: flood";
        lines.push(Line::new(name, aimed_store, aimed, few_aimed));
    }
    lines
}

fn costs(capacity: usize) {
    let mut lines = lines(capacity);
    // The last of them warms up.
    lines.iter_mut().for_each(|line| line.measure(ROUNDS));
    lines.iter_mut().for_each(|line| line.times.clear());
    for n in 0..ROUNDS {
        for i in 0..lines.len() {
            // Each goes first in turn.
            let i = (i + n) % lines.len();
            lines[i].measure(n);
        }
    }
    for line in &lines {
        let ratios = line.times.iter().zip(&lines[0].times).map(|(own, hits)| own / hits).collect();
        println!(
            "| {capacity} | {} | {:.1} | {:.2} | {} |",
            line.name,
            median(line.times.clone()),
            median(ratios),
            (line.rejections)()
        );
    }
}

/// The longest chain of a full store with the default hasher, over many stores.
fn chains(capacity: usize) {
    const STORES: usize = 100;
    let mut random = Random(7);
    let mut longest: Vec<f64> = (0..STORES)
        .map(|_| {
            let (hasher, mut chains) = (RandomState::new(), vec![0; 1 << bits(capacity)]);
            for key in random.keys(capacity) {
                chains[bucket(hasher.hash_one(key), bits(capacity))] += 1;
            }
            f64::from(*chains.iter().max().expect("there are buckets"))
        })
        .collect();
    longest.sort_by(f64::total_cmp);
    println!("| {capacity} | {} | {} |", median(longest.clone()), longest[STORES - 1]);
}

/// What a flood does to known keys that fill half the store and were counted 20 times each.
///
/// `uses`: how often the attacker counts each new key. `own`: increments of known keys, one after
/// another, for each hundred of the attacker's.
fn survival(capacity: usize, uses: usize, own: usize) {
    let store = CounterStore::<u64>::new(capacity);
    let mut random = Random(11);
    let known = random.keys(capacity / 2);
    for _ in 0..20 {
        known.iter().for_each(|key| _ = store.increment(key));
    }
    let mut turn = known.iter().cycle();
    let (mut hits, mut asked) = (0, 0);
    for n in 0..100 * capacity / uses {
        let key = random.next();
        for _ in 0..uses {
            store.increment(&key);
        }
        let due = (n + 1) * uses * own / 100 - asked;
        for key in turn.by_ref().take(due) {
            hits += usize::from(store.contains(key));
            store.increment(key);
        }
        asked += due;
    }
    let live: HashSet<u64> = store.snapshot().iter().map(|(&key, _)| key).collect();
    let left = known.iter().filter(|key| live.contains(key)).count();
    let percent = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
    let hits = if asked == 0 { "-".to_owned() } else { format!("{:.1} %", percent(hits, asked)) };
    println!(
        "| {capacity} | {uses} | {own} | {:.1} % | {hits} | {} |",
        percent(left, known.len()),
        store.stats().rejections
    );
}

/// What chosen keys cost, and which counters survive a flood
#[derive(Parser)]
struct Args {
    /// Capacities; one beyond 65,536 takes minutes to fill with keys that all collide
    #[arg(default_values_t = [64, 2048, 65_536])]
    capacities: Vec<usize>,
}

/// New keys only, from so many threads at once: how many are rejected, since a thread that is
/// preempted while it is pinned stops all frees.
fn floods_at_once(threads: u64) {
    const EACH: u64 = 1_000_000;
    let rejected = [2048, 65_536].map(|capacity| {
        let store = CounterStore::<u64>::new(capacity);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let store = &store;
                scope.spawn(move || {
                    for key in 0..EACH {
                        black_box(store.increment(&(thread * EACH + key)));
                    }
                });
            }
        });
        let stats = store.stats();
        assert_eq!(store.totals().recorded, threads * EACH);
        100.0 * stats.rejections as f64 / (threads * EACH) as f64
    });
    println!("| {threads} | {:.3} % | {:.3} % |", rejected[0], rejected[1]);
}

fn main() {
    let Args { capacities } = Args::parse();
    println!("| capacity | what | ns an increment | ratio to hits | rejected |");
    println!("|--:|---|--:|--:|--:|");
    for &capacity in &capacities {
        costs(capacity);
    }
    println!("\nThe longest chain of a full store, default hasher, 100 stores\n");
    println!("| capacity | median | longest |\n|--:|--:|--:|");
    for &capacity in &capacities {
        chains(capacity);
    }
    println!("\nAfter a flood of increments, 100 times the capacity\n");
    println!(
        "| capacity | uses of each new key | increments of known keys per 100 of the flood | \
         known keys still live | of their increments, hits | rejected |"
    );
    println!("|--:|--:|--:|--:|--:|--:|");
    for (uses, own) in [(1, 0), (1, 1), (1, 10), (1, 100), (3, 0), (3, 10), (3, 100), (50, 10)] {
        survival(2048, uses, own);
    }
    println!("\nA flood of new keys from many threads, default slack, twice over: rejected\n");
    println!("| threads | capacity 2048 | capacity 65,536 |\n|--:|--:|--:|");
    for threads in [1, 2, 4, 8, 1, 2, 4, 8] {
        floods_at_once(threads);
    }
}
