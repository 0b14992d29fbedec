//! Who listens: the clients of each session, each with a bounded buffer.
//!
//! An event that finds a buffer full is dropped for that client and counted; nobody waits for a
//! slow one. A session is here while it has a client, so that the registry is bounded by what is
//! connected. Joining and leaving lock a session's shard, and publishing reads under the same
//! lock: whoever counts a drop has a client before it, and what the last client's leaving clears
//! stays cleared.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use futures_util::Stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::warn;

use crate::counters::{Counters, Milestone};

/// The name that an empty or missing one counts under.
pub const MISSING: &str = "__missing__";

pub struct Broadcaster {
    sessions: DashMap<Arc<str>, Clients>,
    counters: Counters,
    /// Events that wait for one client at most.
    buffer: usize,
    max_clients: usize,
    places: Arc<Semaphore>,
    joined: AtomicU64,
    published: AtomicU64,
    delivered: AtomicU64,
}

/// The buffers of a session's clients, by their ids: one leaves without a search for it.
type Clients = HashMap<u64, mpsc::Sender<Bytes>>;

/// What became of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Clients in whose buffers it was put.
    pub delivered: u64,
    /// Clients whose buffers were full.
    pub dropped: u64,
    /// 1 if nobody listened, else 0.
    pub no_client: u64,
}

/// All places for clients are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Who is connected, and what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    pub clients: usize,
    pub max_clients: usize,
    pub sessions: usize,
    pub published: u64,
    pub delivered: u64,
}

impl Broadcaster {
    pub fn new(counters: Counters, buffer: usize, max_clients: usize) -> Arc<Self> {
        Arc::new(Self {
            sessions: DashMap::new(),
            counters,
            buffer,
            max_clients,
            places: Arc::new(Semaphore::new(max_clients)),
            joined: AtomicU64::new(0),
            published: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
        })
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A client of the session. It leaves when the subscription is dropped.
    pub fn join(self: &Arc<Self>, session: &str) -> Result<Subscription, Full> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Full)?;
        let (buffer, events) = mpsc::channel(self.buffer);
        let id = self.joined.fetch_add(1, Relaxed);
        let session: Arc<str> = session.into();
        self.sessions.entry(Arc::clone(&session)).or_default().insert(id, buffer);
        Ok(Subscription { broadcaster: Arc::clone(self), session, id, events, _place: place })
    }

    /// The last client's leaving ends the session and its counters, in one step for all who join or
    /// publish.
    fn leave(&self, session: &Arc<str>, id: u64) {
        if let Entry::Occupied(mut clients) = self.sessions.entry(Arc::clone(session)) {
            clients.get_mut().remove(&id);
            if clients.get().is_empty() {
                self.counters.forget(session);
                clients.remove();
            }
        }
    }

    /// Offers the event to each client of the session.
    pub fn publish(&self, session: &str, event: &Bytes) -> Outcome {
        let mut milestones = Vec::new();
        let outcome = match self.sessions.get(session) {
            Some(clients) => self.offer(session, &clients, event, &mut milestones),
            None => self.nobody(session),
        };
        self.published.fetch_add(1, Relaxed);
        self.delivered.fetch_add(outcome.delivered, Relaxed);
        // The log may be slow: no session is locked any more.
        milestones.into_iter().for_each(|milestone| log(session, milestone));
        outcome
    }

    /// Offers the event to every client. When nobody listens at all, that counts under
    /// [`MISSING`].
    pub fn publish_to_all(&self, event: &Bytes) -> Outcome {
        let mut logged = Vec::new();
        let mut sum = Outcome::default();
        for entry in &self.sessions {
            let mut milestones = Vec::new();
            let outcome = self.offer(entry.key(), entry.value(), event, &mut milestones);
            sum.delivered += outcome.delivered;
            sum.dropped += outcome.dropped;
            logged.extend(milestones.into_iter().map(|one| (Arc::clone(entry.key()), one)));
        }
        if sum == Outcome::default() {
            sum = self.nobody(MISSING);
        }
        self.published.fetch_add(1, Relaxed);
        self.delivered.fetch_add(sum.delivered, Relaxed);
        logged.into_iter().for_each(|(session, milestone)| log(&session, milestone));
        sum
    }

    fn offer(
        &self,
        session: &str,
        clients: &Clients,
        event: &Bytes,
        milestones: &mut Vec<Milestone>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        for buffer in clients.values() {
            if buffer.try_send(event.clone()).is_ok() {
                outcome.delivered += 1;
            } else {
                outcome.dropped += 1;
                milestones.extend(self.counters.dropped(session));
            }
        }
        outcome
    }

    fn nobody(&self, session: &str) -> Outcome {
        self.counters.met_nobody(session);
        Outcome { no_client: 1, ..Outcome::default() }
    }

    pub fn traffic(&self) -> Traffic {
        Traffic {
            clients: self.max_clients - self.places.available_permits(),
            max_clients: self.max_clients,
            sessions: self.sessions.len(),
            published: self.published.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
        }
    }
}

fn log(session: &str, Milestone(drops): Milestone) {
    warn!(drops, ?session, "a client of this session is too slow");
}

/// A client's place and its events, in order.
pub struct Subscription {
    broadcaster: Arc<Broadcaster>,
    session: Arc<str>,
    id: u64,
    events: mpsc::Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Stream for Subscription {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.events.poll_recv(context)
    }
}

impl Drop for Subscription {
    /// However the connection ended: the response's body is dropped with it.
    fn drop(&mut self) {
        self.broadcaster.leave(&self.session, self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio_stream::StreamExt;

    use super::*;

    const EVENT: Bytes = Bytes::from_static(b"data: x\n\n");

    fn broadcaster(buffer: usize, max_clients: usize) -> Arc<Broadcaster> {
        let counters = Counters::new(64, Duration::from_secs(1800)).unwrap();
        Broadcaster::new(counters, buffer, max_clients)
    }

    /// What is in the buffer now.
    fn drain(client: &mut Subscription) -> usize {
        std::iter::from_fn(|| client.next().now_or_never().flatten()).count()
    }

    #[test]
    fn a_full_buffer_drops_and_each_drop_is_counted() {
        let server = broadcaster(4, 10);
        let mut slow = server.join("a").unwrap();
        let mut fast = server.join("a").unwrap();
        let mut fast_had = 0;
        for n in 0..10 {
            let outcome = server.publish("a", &EVENT);
            let dropped = u64::from(n >= 4);
            assert_eq!(outcome, Outcome { delivered: 2 - dropped, dropped, no_client: 0 });
            fast_had += drain(&mut fast);
        }
        assert_eq!((drain(&mut slow), fast_had), (4, 10));
        assert_eq!(server.counters().get("a"), Some([6, 0]));
        // Room again.
        assert_eq!(server.publish("a", &EVENT).dropped, 0);
        let traffic = server.traffic();
        assert_eq!((traffic.published, traffic.delivered), (11, 16));
    }

    #[test]
    fn only_the_last_leaving_clears_the_counters() {
        let server = broadcaster(1, 10);
        let first = server.join("a").unwrap();
        let second = server.join("a").unwrap();
        for _ in 0..3 {
            server.publish("a", &EVENT);
        }
        assert_eq!(server.counters().get("a"), Some([4, 0]));
        drop(first);
        assert_eq!(server.counters().get("a"), Some([4, 0]));
        assert_eq!(server.traffic().sessions, 1);
        drop(second);
        assert_eq!(server.counters().get("a"), None);
        assert_eq!(server.traffic().sessions, 0);
        assert_eq!(server.counters().snapshot().totals().map(|totals| totals.removed), [4, 0]);
        assert_eq!(server.counters().all().drops, 4);
    }

    #[test]
    fn nobody_listens() {
        let server = broadcaster(1, 10);
        let nobody = Outcome { no_client: 1, ..Outcome::default() };
        assert_eq!(server.publish("a", &EVENT), nobody);
        assert_eq!(server.publish("a", &EVENT), nobody);
        assert_eq!(server.publish_to_all(&EVENT), nobody);
        assert_eq!(server.counters().get("a"), Some([0, 2]));
        assert_eq!(server.counters().get(MISSING), Some([0, 1]));
    }

    #[test]
    fn an_event_for_all_reaches_every_session() {
        let server = broadcaster(1, 200);
        let mut clients: Vec<_> =
            (0..100).map(|n| server.join(&format!("s{}", n % 50)).unwrap()).collect();
        assert_eq!(server.publish_to_all(&EVENT).delivered, 100);
        assert!(clients.iter_mut().all(|client| drain(client) == 1));
        server.publish_to_all(&EVENT);
        assert_eq!(server.publish_to_all(&EVENT).dropped, 100);
        assert!((0..50).all(|n| server.counters().get(&format!("s{n}")) == Some([2, 0])));
    }

    #[test]
    fn places_are_limited_and_come_back() {
        let server = broadcaster(1, 2);
        let first = server.join("a").unwrap();
        let _second = server.join("b").unwrap();
        assert_eq!(server.join("c").err(), Some(Full));
        assert_eq!(server.traffic().sessions, 2);
        drop(first);
        assert!(server.join("c").is_ok());
    }

    /// Sessions that are joined and left all the time while others publish to them. Wherever the
    /// races fall: nothing stays behind, and each unit is where the publishers say.
    #[test]
    fn joining_while_the_last_one_leaves() {
        const SESSIONS: [&str; 2] = ["a", "b"];
        let server = broadcaster(1, 64);
        let tallies: Vec<Outcome> = std::thread::scope(|scope| {
            for n in 0..4 {
                let server = &server;
                scope.spawn(move || {
                    (0..3000).for_each(|m| drop(server.join(SESSIONS[(n + m) % 2])));
                });
            }
            let publishers: Vec<_> = (0..2)
                .map(|n| {
                    let server = &server;
                    scope.spawn(move || {
                        let mut tally = Outcome::default();
                        for m in 0..3000 {
                            let one = server.publish(SESSIONS[(n + m) % 2], &EVENT);
                            tally.dropped += one.dropped;
                            tally.no_client += one.no_client;
                        }
                        tally
                    })
                })
                .collect();
            publishers.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let traffic = server.traffic();
        assert_eq!((traffic.sessions, traffic.clients), (0, 0));
        // A drop needs a client, and the last one has cleared it.
        assert!(SESSIONS.iter().all(|name| server.counters().get(name).is_none_or(|c| c[0] == 0)));
        let [drops, no_client] =
            server.counters().snapshot().totals().map(|totals| totals.recorded);
        assert_eq!(drops, tallies.iter().map(|tally| tally.dropped).sum::<u64>());
        assert_eq!(no_client, tallies.iter().map(|tally| tally.no_client).sum::<u64>());
    }
    /// Another client of the session is the last to leave, again and again: never the last one
    /// while this one is there.
    #[test]
    fn what_a_client_misses_stays_counted_while_it_is_there() {
        let server = broadcaster(1, 2);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    drop(server.join("a"));
                }
            });
            for _ in 0..20_000 {
                let client = server.join("a").unwrap();
                server.publish("a", &EVENT);
                assert!(server.publish("a", &EVENT).dropped > 0);
                let counted = server.counters().get("a");
                done.fetch_or(counted.is_none_or(|[drops, _]| drops == 0), Relaxed);
                assert!(!done.load(Relaxed), "{counted:?}");
                drop(client);
            }
            done.store(true, Relaxed);
        });
    }
}
