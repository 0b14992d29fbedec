//! A load inside the process, so that a newcomer sees everything within a minute.
//!
//! Visitors come without end, each a session of its own. Events for them meet nobody, since they
//! are gone: the keys that fill a map for ever. They come in waves: at the crest more than the
//! store holds, so that it evicts; in the trough so few that idle ones expire. Listeners join a
//! session for some seconds and leave. Some of them are slow, so that events are dropped, and when
//! they leave, their session's counters are removed.

use std::f64::consts::TAU;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::broadcast::Broadcaster;
use crate::sse;

const LISTENERS: usize = 48;
/// Every third listener is slow.
const SLOW_EVERY: usize = 3;
/// What a slow one takes for an event.
const SLOW_PACE: Duration = Duration::from_millis(400);
/// A listener stays, and rests, for so many milliseconds.
const STAY: std::ops::Range<u64> = 4_000..15_000;
const REST: std::ops::Range<u64> = 100..2_000;
/// The share of the events, at the crest, that is for listeners. It does not come in waves.
const TO_LISTENERS: f64 = 0.1;
/// The share of the events for visitors that is for one who was not seen before.
const NEW: f64 = 0.6;
/// How far back the others are.
const RECENT: f64 = 4000.0;
const WAVE: Duration = Duration::from_secs(45);
const TICK: Duration = Duration::from_millis(20);

/// The sessions that have a listener, or had one a moment ago: one for each listener.
struct Stage(Vec<Mutex<String>>);

impl Stage {
    fn session(&self, slot: usize) -> String {
        self.0[slot].lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, slot: usize, session: &str) {
        session.clone_into(&mut self.0[slot].lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Starts the load; it ends at `stop`. `rate` is in events a second, at the crest.
pub fn start(broadcaster: Arc<Broadcaster>, rate: u32, stop: CancellationToken) {
    let names = (0..LISTENERS).map(|slot| Mutex::new(listener_name(slot, 0)));
    let stage = Arc::new(Stage(names.collect()));
    for slot in 0..LISTENERS {
        let listener = listen(Arc::clone(&broadcaster), Arc::clone(&stage), slot);
        tokio::spawn(stop.clone().run_until_cancelled_owned(listener));
    }
    tokio::spawn(stop.run_until_cancelled_owned(publish(broadcaster, stage, f64::from(rate))));
}

async fn listen(broadcaster: Arc<Broadcaster>, stage: Arc<Stage>, slot: usize) {
    let mut random: SmallRng = rand::make_rng();
    for turn in 0.. {
        let session = listener_name(slot, turn);
        // If all places are taken, it tries again after a rest.
        if let Ok(mut events) = broadcaster.join(&session) {
            stage.set(slot, &session);
            let stay = Duration::from_millis(random.random_range(STAY));
            let read = async {
                while events.next().await.is_some() {
                    if slot.is_multiple_of(SLOW_EVERY) {
                        sleep(SLOW_PACE).await;
                    }
                }
            };
            // It always leaves in the middle.
            let _ = timeout(stay, read).await;
        }
        sleep(Duration::from_millis(random.random_range(REST))).await;
    }
}

async fn publish(broadcaster: Arc<Broadcaster>, stage: Arc<Stage>, rate: f64) {
    let mut random: SmallRng = rand::make_rng();
    let recent = Zipf::new(RECENT, 0.9).expect("a valid distribution");
    let popular = Zipf::new(LISTENERS as f64, 0.8).expect("a valid distribution");
    let begun = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut visitors = 0_u64;
    // Events that are due, in fractions.
    let (mut for_listeners, mut for_visitors) = (0.0, 0.0);
    for number in 0_u64.. {
        ticks.tick().await;
        let event: Bytes = sse::event(&format!("demo event {number}"));
        for_listeners += rate * TO_LISTENERS * TICK.as_secs_f64();
        for_visitors += rate * (1.0 - TO_LISTENERS) * wave(begun.elapsed()) * TICK.as_secs_f64();
        while for_listeners >= 1.0 {
            for_listeners -= 1.0;
            let slot = popular.sample(&mut random) as usize - 1;
            broadcaster.publish(&stage.session(slot), &event);
        }
        while for_visitors >= 1.0 {
            for_visitors -= 1.0;
            let visitor = if random.random_bool(NEW) {
                visitors += 1;
                visitors
            } else {
                visitors.saturating_sub(recent.sample(&mut random) as u64)
            };
            broadcaster.publish(&visitor_name(visitor), &event);
        }
    }
}

/// From 1 at a crest to 0.005 in a trough, where it stays for about half of the time.
fn wave(elapsed: Duration) -> f64 {
    let turn = TAU * elapsed.as_secs_f64() / WAVE.as_secs_f64();
    0.005 + 0.995 * ((1.0 + turn.cos()) / 2.0).powi(3)
}

fn visitor_name(n: u64) -> String {
    format!("visitor-{:08x}", scatter(n))
}

fn listener_name(slot: usize, turn: u64) -> String {
    let pace = if slot.is_multiple_of(SLOW_EVERY) { "slow" } else { "fast" };
    format!("{pace}-{:08x}", scatter((slot as u64) << 32 | turn))
}

/// Names that look like what sessions are called: a different one for each `n` below 2^32.
fn scatter(n: u64) -> u32 {
    let mixed = n.wrapping_add(n >> 25).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_begin_at_the_crest_and_fall_low() {
        assert!((wave(Duration::ZERO) - 1.0).abs() < 1e-9);
        assert!((wave(WAVE / 2) - 0.005).abs() < 1e-9);
        assert!((wave(WAVE) - 1.0).abs() < 1e-9);
    }
}
