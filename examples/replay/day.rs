//! A day of a server that sends events to browsers, and counts what it drops per session.
//!
//! This is the load that the store was made for. Two fifths of the drops fall on dashboards that
//! stay open all day, a few of them on very slow lines. The rest falls on sessions that come and
//! go along the curve of the day. Some say goodbye, and their counter is closed; most are
//! abandoned, and a map keeps their counter for ever. Now and then the network stutters, and
//! every session drops a run of events at once.

use std::f64::consts::TAU;
use std::sync::Arc;

use anyhow::Result;
use counterclock::quanta;

use crate::args::Args;
use crate::batch::{Batch, Position, Request, Source, TextBatch};
use crate::format::grouped;

const DEFAULT_EVENTS: u64 = 8_000_000;
const DEFAULT_SEED: u64 = 1;

const DAY_SECONDS: f64 = 86_400.0;
/// Each step of the day has its own rate and its own time.
const STEPS: usize = 8_640;
const STEP_NANOS: u64 = 10_000_000_000;

/// The rate at four in the morning, as a share of the busiest: so few come that keys expire.
const QUIET_RATE: f64 = 0.01;

const DASHBOARDS: usize = 3_000;
const DASHBOARD_SHARE: f64 = 0.4;
const DASHBOARD_SKEW: f64 = 0.9;

/// Sessions open at the quietest hour, and how many more at the busiest.
const SESSIONS_AT_NIGHT: f64 = 200.0;
const SESSIONS_MORE: f64 = 1_400.0;
const GOODBYE_SHARE: f64 = 0.45;

const STUTTERS: usize = 36;
const STUTTER_STEPS: usize = 3;
const STUTTER_FACTOR: f64 = 6.0;
const STUTTER_RUN: usize = 32;

/// A generator of requests; the same seed gives the same day.
pub struct Day {
    random: Random,
    seed: u64,
    /// The share of the day's requests that falls before the end of each step.
    plan: Vec<f64>,
    stutters: Vec<bool>,
    dashboards: Zipf,
    names: Vec<String>,
    sessions: Vec<Session>,
    events: u64,
    done: u64,
    step: usize,
}

/// A browser that is connected.
struct Session {
    id: String,
    /// Drops until it is gone.
    drops_left: u32,
}

impl Day {
    pub fn new(args: &Args) -> Self {
        let seed = args.seed.unwrap_or(DEFAULT_SEED);
        let mut random = Random(seed);
        let stutters = stutters(&mut random);
        Self {
            plan: plan(&stutters),
            stutters,
            dashboards: Zipf::new(DASHBOARDS, DASHBOARD_SKEW),
            names: (0..DASHBOARDS).map(|rank| format!("dashboard-{rank:04}")).collect(),
            sessions: Vec::new(),
            events: args.events.unwrap_or(DEFAULT_EVENTS),
            done: 0,
            step: 0,
            random,
            seed,
        }
    }

    /// Requests that fall before the end of the current step.
    fn due(&self) -> u64 {
        // The plan ends with exactly 1.
        (self.plan[self.step] * self.events as f64) as u64
    }

    /// Lets sessions come until there are as many as the hour wants. Those too many just go on
    /// until they are gone.
    fn welcome(&mut self) {
        let wanted = SESSIONS_AT_NIGHT + SESSIONS_MORE * activity(self.step);
        while self.sessions.len() < wanted as usize {
            self.sessions.push(Session::new(&mut self.random));
        }
    }

    /// One drop, or a run of them on one session while the network stutters.
    fn drop_events(&mut self, batch: &mut TextBatch, room: usize) {
        if self.random.unit() < DASHBOARD_SHARE {
            let rank = self.dashboards.pick(&mut self.random);
            batch.push(Request::Count, &self.names[rank]);
            return;
        }
        self.welcome();
        let at = self.random.below(self.sessions.len());
        let run = if self.stutters[self.step] { 1 + self.random.below(STUTTER_RUN) } else { 1 };
        let session = &mut self.sessions[at];
        for _ in 0..run.min(room) {
            batch.push(Request::Count, &session.id);
        }
        session.drops_left -= 1;
        if session.drops_left == 0 {
            let session = self.sessions.swap_remove(at);
            if self.random.unit() < GOODBYE_SHARE {
                batch.push(Request::Close, &session.id);
            }
        }
    }
}

impl Source for Day {
    type Key = String;
    type Batch = TextBatch;

    /// A batch never spans two steps, so that its requests share a time.
    fn next_batch(&mut self, room: usize) -> Result<Option<TextBatch>> {
        while self.step < STEPS && self.due() <= self.done {
            self.step += 1;
        }
        if self.step == STEPS {
            return Ok(None);
        }
        let begin = if self.step == 0 { 0.0 } else { self.plan[self.step - 1] };
        let share = self.done as f64 / self.events as f64 - begin;
        let part = (share / (self.plan[self.step] - begin)).clamp(0.0, 1.0);
        let at = self.step as u64 * STEP_NANOS + (part * STEP_NANOS as f64) as u64;
        let mut batch = TextBatch::timed(at);
        let room = room.min(usize::try_from(self.due() - self.done).unwrap_or(room));
        while batch.counted() < room {
            let left = room - batch.counted();
            self.drop_events(&mut batch, left);
        }
        self.done += batch.counted() as u64;
        Ok(Some(batch))
    }

    fn progress(&self) -> Position {
        Position { done: self.done, total: Some(self.events) }
    }

    fn clock(&self) -> Option<(quanta::Clock, Arc<quanta::Mock>)> {
        Some(quanta::Clock::mock())
    }

    fn remarks(&self) -> Vec<String> {
        vec![format!(
            "seed {}, {} requests a day; sessions say goodbye or are abandoned",
            self.seed,
            grouped(self.events)
        )]
    }
}

impl Session {
    fn new(random: &mut Random) -> Self {
        let (high, low) = (random.next(), random.next());
        let id = format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            0x8000 | low >> 48 & 0x3fff,
            low & 0xffff_ffff_ffff
        );
        // Pareto: half of the sessions drop once, a few drop hundreds of times.
        let drops = (1.0 - random.unit()).powf(-1.0 / 1.2);
        Self { id, drops_left: drops.min(500.0) as u32 }
    }
}

/// How busy a step of the day is, from 0 at four in the morning to 1 at four in the afternoon.
fn activity(step: usize) -> f64 {
    let hour = step as f64 / STEPS as f64 * DAY_SECONDS / 3600.0;
    let wave = (1.0 - (TAU * (hour - 4.0) / 24.0).cos()) / 2.0;
    wave.powf(1.5)
}

fn stutters(random: &mut Random) -> Vec<bool> {
    let mut stutters = vec![false; STEPS];
    for _ in 0..STUTTERS {
        let begin = random.below(STEPS - STUTTER_STEPS);
        stutters[begin..begin + STUTTER_STEPS].fill(true);
    }
    stutters
}

/// Adds up the rates of all steps, scaled so that the last sum is 1.
fn plan(stutters: &[bool]) -> Vec<f64> {
    let mut sum = 0.0;
    let mut plan: Vec<f64> = (0..STEPS)
        .map(|step| {
            let rate = QUIET_RATE + (1.0 - QUIET_RATE) * activity(step);
            sum += if stutters[step] { rate * STUTTER_FACTOR } else { rate };
            sum
        })
        .collect();
    for share in &mut plan {
        *share /= sum;
    }
    plan
}

/// Ranks from 0, each chosen about in proportion to `1 / (rank + 1)^skew`.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(ranks: usize, skew: f64) -> Self {
        let mut sum = 0.0;
        Self(
            (1..=ranks)
                .map(|rank| {
                    sum += (rank as f64).powf(-skew);
                    sum
                })
                .collect(),
        )
    }

    fn pick(&self, random: &mut Random) -> usize {
        let sum = self.0.last().copied().unwrap_or(0.0);
        let point = random.unit() * sum;
        self.0.partition_point(|&upto| upto <= point)
    }
}

/// SplitMix64: small, fast, and good enough for a load.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, not including, 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 up to, not including, `n`.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BATCH;
    use clap::Parser;

    fn keys(events: u64, seed: u64) -> (u64, Vec<String>, u64) {
        let args = Args::parse_from([
            "replay",
            "--events",
            &events.to_string(),
            "--seed",
            &seed.to_string(),
        ]);
        let mut day = Day::new(&args);
        let (mut counted, mut keys, mut last) = (0, Vec::new(), 0);
        while let Ok(Some(batch)) = day.next_batch(BATCH) {
            counted += batch.counted() as u64;
            batch.each(|_, key| keys.push(key.to_owned()));
            assert!(batch.at() >= Some(last), "time runs forward");
            last = batch.at().unwrap_or(0);
        }
        (counted, keys, last)
    }

    #[test]
    fn a_day_has_the_requests_asked_for_whatever_the_seed() {
        for events in [0, 1, 999, 20_000] {
            for seed in [0, 1, u64::MAX] {
                let (counted, _, last) = keys(events, seed);
                assert_eq!(counted, events);
                assert!(last < STEPS as u64 * STEP_NANOS);
            }
        }
    }

    #[test]
    fn a_seed_gives_one_day() {
        assert_eq!(keys(5_000, 7), keys(5_000, 7));
        assert_ne!(keys(5_000, 7), keys(5_000, 8));
    }
}
