//! What is counted: which keys, in which order, by which thread.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use clap::ValueEnum;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};
use serde::{Deserialize, Serialize};

use crate::key::{LENGTH, Texts};

/// The skew of the keys that are asked for again.
const SKEW: f64 = 0.99;
/// Keys of fewer bytes in all stay in the caches by themselves. Of more, the texts are laid out in
/// the order in which they are used: a server has just read its key, so that fetching the text
/// must not be what is measured.
const CACHED: usize = 256 << 10;
/// Keys that are new are numbered from here on.
const FRESH: u64 = 1 << 40;
/// A session's life: it is admitted, counted so many times more, and removed.
const MORE_INCREMENTS: usize = 3;
/// Calls of a session.
pub const SESSION: usize = MORE_INCREMENTS + 2;
/// Operations that a fill plays at once.
const BATCH: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Half as many keys as the capacity, zipf 0.99.
    Hit,
    /// One key.
    One,
    /// Ten times as many keys as the capacity, zipf 0.99.
    Churn,
    /// Every key is new.
    Scan,
    /// Every key is new, is counted three times more, and is removed.
    Sessions,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Hit, Self::One, Self::Churn, Self::Scan, Self::Sessions];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::One => "one",
            Self::Churn => "churn",
            Self::Scan => "scan",
            Self::Sessions => "sessions",
        }
    }
}

/// A call of a session.
pub struct Call<'a, F: ?Sized = str> {
    pub key: &'a F,
    /// Else it is counted.
    pub remove: bool,
}

/// What one thread does in a round.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    Increments(&'a [&'a str]),
    /// So many of one key.
    Repeat(&'a str, usize),
    Calls(&'a [Call<'a>]),
}

impl Part<'_> {
    pub fn len(&self) -> usize {
        match self {
            Self::Increments(keys) => keys.len(),
            Self::Repeat(_, n) => *n,
            Self::Calls(calls) => calls.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `1 / share` of it, and at least one operation; sessions are never cut, since those
    /// that were alive would stay.
    pub fn first(self, share: usize) -> Self {
        let n = (self.len() / share).clamp(self.len().min(1), self.len());
        match self {
            Self::Increments(keys) => Self::Increments(&keys[..n]),
            Self::Repeat(key, _) => Self::Repeat(key, n),
            Self::Calls(_) => self,
        }
    }
}

/// What a thread does, by the places of its keys in a script's texts.
enum Lane {
    Increments(Vec<u32>),
    Repeat(usize),
    Calls(Vec<(u32, bool)>),
}

/// What all threads do in a round.
pub struct Script {
    texts: Arc<Texts>,
    lanes: Vec<Lane>,
}

/// A script's keys, found before the clock runs.
pub enum Lines<'a> {
    Increments(Vec<&'a str>),
    Repeat(&'a str, usize),
    Calls(Vec<Call<'a>>),
}

impl Script {
    /// Each thread's part.
    pub fn lines(&self) -> Vec<Lines<'_>> {
        let key = |at: u32| self.texts.get(at as usize);
        let line = |lane: &Lane| match lane {
            Lane::Increments(keys) => Lines::Increments(keys.iter().map(|&at| key(at)).collect()),
            Lane::Repeat(n) => Lines::Repeat(key(0), *n),
            Lane::Calls(calls) => {
                let call = |&(at, remove)| Call { key: key(at), remove };
                Lines::Calls(calls.iter().map(call).collect())
            }
        };
        self.lanes.iter().map(line).collect()
    }
}

impl Lines<'_> {
    pub fn part(&self) -> Part<'_> {
        match self {
            Self::Increments(keys) => Part::Increments(keys),
            Self::Repeat(key, n) => Part::Repeat(key, *n),
            Self::Calls(calls) => Part::Calls(calls),
        }
    }
}

/// Makes scripts. The same workload makes the same ones in the same order, on every machine.
///
/// Threads draw from one set of keys under *hit*, *one* and *churn*, each its own sequence; under
/// *scan* and *sessions* no two threads share a key, and no key comes back in a later round.
pub struct Workload {
    kind: Kind,
    capacity: usize,
    /// Keys that are asked for again and again: none under *scan* and *sessions*.
    universe: usize,
    /// Their texts, where those are few.
    table: Option<Arc<Texts>>,
    rng: SmallRng,
    next_fresh: u64,
}

impl Workload {
    pub fn new(kind: Kind, capacity: usize) -> Self {
        let universe = match kind {
            Kind::Hit => (capacity / 2).max(1),
            Kind::One => 1,
            Kind::Churn => capacity * 10,
            Kind::Scan | Kind::Sessions => 0,
        };
        Self::over(kind, capacity, universe)
    }

    /// Hits on as many keys as there are counters.
    pub fn full(capacity: usize) -> Self {
        Self::over(Kind::Hit, capacity, capacity)
    }

    fn over(kind: Kind, capacity: usize, universe: usize) -> Self {
        let few = (1..=CACHED / LENGTH).contains(&universe);
        let table = few.then(|| Arc::new((0..universe as u64).collect()));
        let seed = BuildHasherDefault::<DefaultHasher>::default().hash_one((kind, capacity));
        let rng = SmallRng::seed_from_u64(seed);
        Self { kind, capacity, universe, table, rng, next_fresh: FRESH }
    }

    /// Plays what brings a store into the state in which it is measured: every key once for *hit*
    /// and *one*; ten times the capacity's draws for *churn*; twice the capacity's keys for *scan*.
    pub fn fill(&mut self, mut play: impl FnMut(Part<'_>)) {
        let total = self.fill_operations();
        for start in (0..total).step_by(BATCH) {
            let n = BATCH.min(total - start);
            let texts: Texts = match self.kind {
                Kind::Churn => self.drawn(n).into_iter().map(u64::from).collect(),
                Kind::Scan => self.fresh(n).collect(),
                _ => (start as u64..(start + n) as u64).collect(),
            };
            let keys: Vec<&str> = (0..n).map(|at| texts.get(at)).collect();
            play(Part::Increments(&keys));
        }
    }

    /// How many batches a fill plays.
    pub fn fill_batches(&self) -> usize {
        self.fill_operations().div_ceil(BATCH)
    }

    fn fill_operations(&self) -> usize {
        match self.kind {
            Kind::Hit | Kind::One | Kind::Churn => self.universe,
            Kind::Scan => self.capacity * 2,
            Kind::Sessions => 0,
        }
    }

    /// The next round's script, with about so many operations a thread.
    pub fn round(&mut self, threads: usize, operations: usize) -> Script {
        match self.kind {
            Kind::One => {
                let lanes = (0..threads).map(|_| Lane::Repeat(operations)).collect();
                Script { texts: self.table.clone().unwrap_or_default(), lanes }
            }
            Kind::Hit | Kind::Churn => self.draw(threads, operations),
            Kind::Scan => {
                let texts = self.fresh(threads * operations).collect();
                Script { texts: Arc::new(texts), lanes: in_order(threads, operations) }
            }
            Kind::Sessions => self.sessions(threads, operations),
        }
    }

    fn draw(&mut self, threads: usize, operations: usize) -> Script {
        let drawn: Vec<_> = (0..threads).map(|_| self.drawn(operations)).collect();
        match &self.table {
            Some(table) => {
                let lanes = drawn.into_iter().map(Lane::Increments).collect();
                Script { texts: Arc::clone(table), lanes }
            }
            None => {
                let mut texts = Texts::with_capacity(threads * operations);
                drawn.iter().flatten().for_each(|&id| texts.push(u64::from(id)));
                Script { texts: Arc::new(texts), lanes: in_order(threads, operations) }
            }
        }
    }

    /// Each session is counted again after a quarter, a half and three quarters of its life. Half
    /// the capacity is alive at once, or a quarter of the round's sessions if those are fewer; at
    /// the end of a round none is.
    fn sessions(&mut self, threads: usize, operations: usize) -> Script {
        let sessions = (operations / SESSION).max(1);
        let alive = (self.capacity / 2 / threads).min(sessions / 4).max(1);
        let texts = self.fresh(threads * sessions).collect();
        let lane = |thread: usize| {
            let mut calls = Vec::with_capacity(sessions * SESSION);
            for step in 0..sessions + alive {
                for age in 0..SESSION {
                    let born = step.checked_sub(age * alive / (SESSION - 1));
                    if let Some(session) = born.filter(|born| *born < sessions) {
                        let at = (thread * sessions + session) as u32;
                        calls.push((at, age == SESSION - 1));
                    }
                }
            }
            Lane::Calls(calls)
        };
        Script { texts: Arc::new(texts), lanes: (0..threads).map(lane).collect() }
    }

    fn drawn(&mut self, n: usize) -> Vec<u32> {
        let zipf = Zipf::new(self.universe as f64, SKEW).expect("a skew above 0, and some keys");
        // The ranks begin with 1.
        zipf.sample_iter(&mut self.rng).take(n).map(|rank: f64| rank as u32 - 1).collect()
    }

    fn fresh(&mut self, n: usize) -> impl Iterator<Item = u64> + use<> {
        let first = self.next_fresh;
        self.next_fresh += n as u64;
        first..self.next_fresh
    }
}

/// Each thread plays its stretch of the texts.
fn in_order(threads: usize, operations: usize) -> Vec<Lane> {
    let lane = |thread| {
        let first = (thread * operations) as u32;
        Lane::Increments((first..first + operations as u32).collect())
    };
    (0..threads).map(lane).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn keys<'a>(lines: &'a Lines<'a>) -> Vec<&'a str> {
        match lines.part() {
            Part::Increments(keys) => keys.to_vec(),
            Part::Repeat(key, n) => vec![key; n],
            Part::Calls(calls) => calls.iter().map(|call| call.key).collect(),
        }
    }

    #[test]
    fn draws_are_of_the_universe_and_skewed() {
        // One whose texts are in a table, and one whose are not.
        for (kind, capacity, universe) in [(Kind::Hit, 2048, 1024), (Kind::Churn, 2048, 20_480)] {
            let mut workload = Workload::new(kind, capacity);
            assert_eq!(workload.table.is_some(), kind == Kind::Hit);
            let known: Texts = (0..universe).collect();
            let known: HashMap<_, _> =
                (0..known.len()).map(|at| (known.get(at).to_owned(), at)).collect();
            let script = workload.round(2, 100_000);
            let mut times = vec![0; universe as usize];
            for lines in script.lines() {
                assert_eq!(lines.part().len(), 100_000);
                keys(&lines).into_iter().for_each(|key| times[known[key]] += 1);
            }
            // Zipf: the first is asked for twice as often as the second, four times as often as the
            // fourth, and its share is one in the harmonic number.
            let share = f64::from(times[0]) / 200_000.0;
            let harmonic: f64 = (1..=universe).map(|rank| (rank as f64).powf(-SKEW)).sum();
            assert!((share * harmonic - 1.0).abs() < 0.05, "{share} {harmonic}");
            let ratio = f64::from(times[0]) / f64::from(times[3]);
            assert!((3.6..4.3).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn threads_and_rounds_draw_different_sequences() {
        let mut workload = Workload::new(Kind::Hit, 2048);
        let (first, second) = (workload.round(2, 1000), workload.round(2, 1000));
        let lines = [first.lines(), second.lines()];
        assert_ne!(keys(&lines[0][0]), keys(&lines[0][1]));
        assert_ne!(keys(&lines[0][0]), keys(&lines[1][0]));
        // And the same again in the next run.
        let again = Workload::new(Kind::Hit, 2048).round(2, 1000);
        assert_eq!(keys(&lines[0][0]), keys(&again.lines()[0]));
    }

    #[test]
    fn scans_never_see_a_key_again() {
        let mut workload = Workload::new(Kind::Scan, 100);
        let mut seen = HashSet::new();
        workload.fill(|part| {
            let Part::Increments(keys) = part else { unreachable!("a fill only counts") };
            keys.iter().for_each(|key| assert!(seen.insert((*key).to_owned())));
        });
        assert_eq!(seen.len(), 200);
        for _ in 0..3 {
            let script = workload.round(2, 500);
            for lines in script.lines() {
                keys(&lines).into_iter().for_each(|key| assert!(seen.insert(key.to_owned())));
            }
        }
        assert_eq!(seen.len(), 200 + 3 * 2 * 500);
    }

    #[test]
    fn sessions_are_whole_and_of_one_thread() {
        let mut workload = Workload::new(Kind::Sessions, 2048);
        let mut ended = HashSet::new();
        for _ in 0..2 {
            let script = workload.round(2, 50_000);
            for lines in script.lines() {
                let Lines::Calls(calls) = &lines else { unreachable!("sessions are calls") };
                assert_eq!(calls.len(), 50_000);
                let (mut alive, mut most) = (HashMap::new(), 0);
                for call in calls {
                    if call.remove {
                        assert_eq!(alive.remove(call.key), Some(1 + MORE_INCREMENTS));
                        assert!(ended.insert(call.key.to_owned()));
                    } else {
                        *alive.entry(call.key).or_insert(0) += 1;
                        most = most.max(alive.len());
                    }
                }
                assert!(alive.is_empty());
                // Half the capacity, of two threads; and the one that is admitted.
                assert_eq!(most, 513);
            }
        }
        assert_eq!(ended.len(), 2 * 2 * 10_000);
    }

    #[test]
    fn fills_reach_every_key_of_a_hit() {
        let mut workload = Workload::new(Kind::Hit, 200_000);
        let mut seen = HashSet::new();
        workload.fill(|part| {
            let Part::Increments(keys) = part else { unreachable!("a fill only counts") };
            seen.extend(keys.iter().map(|key| (*key).to_owned()));
        });
        let script = workload.round(1, 10_000);
        assert_eq!(seen.len(), 100_000);
        assert!(keys(&script.lines()[0]).into_iter().all(|key| seen.contains(key)));
    }

    #[test]
    fn a_share_is_at_least_one_operation() {
        assert_eq!(Part::Repeat("a", 1000).first(4).len(), 250);
        assert_eq!(Part::Repeat("a", 10).first(256).len(), 1);
        assert_eq!(Part::Increments(&[]).first(4).len(), 0);
    }
}
