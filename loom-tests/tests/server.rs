//! An example to copy: a small server that counts with `counterclock`, and a loom model of it.
//!
//! The server is written as ever. Under `--cfg crossbeam_loom` the store runs on loom's atomics,
//! and loom plays every execution up to a bound on preemptions: the threads are stopped everywhere
//! in the store too. The store's figures are held against a tally of the server's own.
#![cfg(crossbeam_loom)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use counterclock::{Cause, CounterStore};
use loom::thread;

type Session = u32;

/// Counts for each session the messages that found its queue full.
struct Server {
    drops: CounterStore<Session>,
    /// What a real server would write to its log: how each counter ended.
    log: Arc<Mutex<Vec<(Session, u64, Cause)>>>,
}

impl Server {
    fn new(counters: usize) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let drops = CounterStore::builder()
            .capacity(counters)
            .on_removal(move |end| lines.lock().unwrap().push((*end.key, end.count, end.cause)))
            .build()
            .expect("a small capacity");
        Self { drops, log }
    }
}

/// One session, which its own thread serves.
struct Connection {
    server: Arc<Server>,
    session: Session,
    queue: Vec<&'static str>,
    dropped: u64,
}

impl Connection {
    /// Messages that wait for the client at most.
    const ROOM: usize = 1;

    fn new(server: &Arc<Server>, session: Session) -> Self {
        Self { server: Arc::clone(server), session, queue: Vec::new(), dropped: 0 }
    }

    fn publish(&mut self, message: &'static str) {
        if self.queue.len() < Self::ROOM {
            return self.queue.push(message);
        }
        self.dropped += 1;
        self.server.drops.increment(&self.session);
    }

    /// The session is over: its last figure goes to the log.
    fn close(self) -> u64 {
        self.server.drops.remove(&self.session);
        self.dropped
    }
}

/// Explores every execution with at most `preemptions` preemptions; at least `at_least`, since a
/// model without a race in it passes as well.
fn explore(preemptions: usize, at_least: u64, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    // loom's own limits pass silently, and its default of branches is too small.
    (builder.max_branches, builder.max_duration, builder.max_permutations) = (50_000, None, None);
    builder.check(move || {
        count.fetch_add(1, Relaxed);
        model();
    });
    let executions = executions.load(Relaxed);
    println!("loom: a server, preemption bound {preemptions}: {executions} executions");
    assert!(executions >= at_least, "only {executions} executions");
}

/// No drop is missing in the figures, and none is there twice.
#[test]
fn every_drop_is_in_the_figures() {
    explore(1, 1000, || {
        // Two counters for three sessions: they evict each other.
        let server = Arc::new(Server::new(2));
        let mut earlier = Connection::new(&server, 3);
        ["a", "b"].into_iter().for_each(|message| earlier.publish(message));
        let closing = {
            let mut connection = Connection::new(&server, 1);
            thread::spawn(move || {
                ["a", "b"].into_iter().for_each(|message| connection.publish(message));
                connection.close()
            })
        };
        // The model's own thread is the other connection: each thread more costs a lot.
        let mut staying = Connection::new(&server, 2);
        ["a", "b"].into_iter().for_each(|message| staying.publish(message));
        assert!(server.drops.len() <= server.drops.capacity(), "above the cap");
        let dropped = closing.join().unwrap() + staying.dropped + earlier.dropped;

        let totals = server.drops.totals();
        let of_closed = server.drops.get(&1);
        let logged: u64 = server.log.lock().unwrap().iter().map(|(_, count, _)| count).sum();
        assert_eq!(totals.recorded, dropped, "what the connections dropped");
        // What is in the log, what is live and what was rejected: that is all of it.
        assert_eq!(logged + totals.live + totals.rejected, dropped, "what the log says");
        assert_eq!(of_closed, None, "a closed session has no counter");
    });
}

/// A model that cannot fail shows nothing. Here a server keeps a sum beside the store, which it
/// reads and then writes: there must be executions in which a drop is lost.
///
/// They are counted and not asserted: a panic in a model says what failed, and then the process
/// aborts, since what loom drops on the way out needs loom.
#[test]
fn a_sum_that_is_read_and_then_written_loses_a_drop() {
    let wrong = Arc::new(AtomicU64::new(0));
    let found = Arc::clone(&wrong);
    explore(1, 1000, move || {
        let server = Arc::new(Server::new(2));
        let sum = Arc::new(loom::sync::atomic::AtomicU64::new(0));
        let serve = |session, server: &Arc<Server>, sum: &loom::sync::atomic::AtomicU64| {
            let mut connection = Connection::new(server, session);
            for message in ["a", "b"] {
                let before = connection.dropped;
                connection.publish(message);
                let dropped = connection.dropped - before;
                sum.store(sum.load(Relaxed) + dropped, Relaxed);
            }
        };
        let other = {
            let (server, sum) = (Arc::clone(&server), Arc::clone(&sum));
            thread::spawn(move || serve(1, &server, &sum))
        };
        serve(2, &server, &sum);
        other.join().unwrap();
        if sum.load(Relaxed) != server.drops.totals().recorded {
            found.fetch_add(1, Relaxed);
        }
    });
    assert_ne!(wrong.load(Relaxed), 0, "no execution in which a drop is lost");
}
