//! What the page and `/api/snapshot` show, once a second.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use counterclock::{LaneSnapshot, Stats, Totals};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

use crate::broadcast::Broadcaster;
use crate::sse;

const EVERY: Duration = Duration::from_secs(1);
/// Five minutes.
const HISTORY: usize = 300;
const TOP: usize = 8;

/// Everything at one time, as JSON. Bytes, units and lives are since the server started.
#[derive(Debug, Serialize)]
pub struct View {
    /// Milliseconds since 1970: tells one run of the server from the next.
    started: u64,
    uptime_ms: u64,
    demo: bool,
    len: usize,
    capacity: usize,
    waiting: usize,
    idle_ttl_seconds: f64,
    /// The server's own sums, which never shrink.
    counted: PerCounter<u64>,
    /// Where each of these units is in the store.
    totals: PerCounter<Totals>,
    stats: Stats,
    top: Vec<TopView>,
    clients: usize,
    max_clients: usize,
    sessions_connected: usize,
    published: u64,
    delivered: u64,
    /// Of the whole process; null where the system does not say.
    resident_bytes: Option<u64>,
    /// An estimate.
    unbounded: UnboundedView,
}

#[derive(Debug, Serialize)]
struct PerCounter<T> {
    drops: T,
    no_client: T,
}

#[derive(Debug, Serialize)]
struct TopView {
    session: String,
    drops: u64,
    no_client: u64,
}

#[derive(Debug, Serialize)]
struct UnboundedView {
    sessions: u64,
    bytes: u64,
}

/// What the charts need of a [`View`].
#[derive(Clone, Debug, Serialize)]
struct Point {
    uptime_ms: u64,
    len: usize,
    increments: u64,
    evicted: u64,
    expired: u64,
    removed: u64,
    resident_bytes: Option<u64>,
    unbounded_bytes: u64,
}

impl View {
    fn point(&self) -> Point {
        Point {
            uptime_ms: self.uptime_ms,
            len: self.len,
            increments: self.counted.drops + self.counted.no_client,
            evicted: self.stats.evicted,
            expired: self.stats.expired,
            removed: self.stats.removed,
            resident_bytes: self.resident_bytes,
            unbounded_bytes: self.unbounded.bytes,
        }
    }
}

/// Takes views.
pub struct Observer {
    broadcaster: Arc<Broadcaster>,
    started: Instant,
    started_unix: Duration,
    idle_ttl: Duration,
    demo: bool,
}

impl Observer {
    pub fn new(broadcaster: Arc<Broadcaster>, idle_ttl: Duration, demo: bool) -> Self {
        let started_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { broadcaster, started: Instant::now(), started_unix, idle_ttl, demo }
    }

    /// O(capacity): not for an executor's thread.
    pub fn view(&self) -> View {
        let counters = self.broadcaster.counters();
        let traffic = self.broadcaster.traffic();
        let unbounded = counters.unbounded();
        // Before the statistics: it ends the idle lives that it meets.
        let snapshot = counters.snapshot();
        let [drops, no_client] = snapshot.totals();
        let all = counters.all();
        View {
            started: millis(self.started_unix),
            uptime_ms: millis(self.started.elapsed()),
            demo: self.demo,
            len: counters.len(),
            capacity: counters.capacity(),
            waiting: counters.waiting(),
            idle_ttl_seconds: self.idle_ttl.as_secs_f64(),
            counted: PerCounter { drops: all.drops, no_client: all.no_client },
            totals: PerCounter { drops, no_client },
            stats: counters.stats(),
            top: top(&snapshot),
            clients: traffic.clients,
            max_clients: traffic.max_clients,
            sessions_connected: traffic.sessions,
            published: traffic.published,
            delivered: traffic.delivered,
            resident_bytes: resident_bytes(),
            unbounded: UnboundedView { sessions: unbounded.sessions(), bytes: unbounded.bytes() },
        }
    }
}

/// The sessions with the most drops; of equals, by name, so that the list keeps its order.
fn top(snapshot: &LaneSnapshot<String, 2>) -> Vec<TopView> {
    let mut top: Vec<_> = snapshot.iter().filter(|&(_, [drops, _])| drops > 0).collect();
    top.sort_unstable_by_key(|&(session, [drops, _])| (Reverse(drops), session));
    let top = top.into_iter().take(TOP);
    top.map(|(session, [drops, no_client])| {
        let session = session.clone();
        TopView { session, drops, no_client }
    })
    .collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Linux; elsewhere there is no such file.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The last five minutes, and a message a second to whoever watches.
pub struct Feed {
    history: Mutex<VecDeque<Point>>,
    latest: watch::Sender<Bytes>,
}

impl Feed {
    /// Looks once a second, until `stop`.
    pub fn start(observer: Arc<Observer>, stop: CancellationToken) -> Arc<Self> {
        let feed = Arc::new(Self {
            history: Mutex::new(VecDeque::with_capacity(HISTORY)),
            latest: watch::Sender::new(Bytes::new()),
        });
        let filled = Arc::clone(&feed);
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let observer = Arc::clone(&observer);
                // The runtime is going down if this fails.
                let Ok(view) = tokio::task::spawn_blocking(move || observer.view()).await else {
                    return;
                };
                filled.add(&view);
            }
        }));
        feed
    }

    fn add(&self, view: &View) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(view.point());
        drop(history);
        self.latest.send_replace(sse::named("view", &json(view)));
    }

    /// The history, the latest view, and then each one. A watcher that is slow misses views, and no
    /// more. A view that is taken meanwhile may also be in the history.
    pub fn watch(&self) -> impl Stream<Item = Bytes> + Send + 'static {
        let views = WatchStream::new(self.latest.subscribe());
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let history = sse::named("history", &json(&*history));
        stream::iter([history]).chain(views).filter(|frame| {
            // Before the first view there is none.
            std::future::ready(!frame.is_empty())
        })
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers and strings are JSON")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::counters::Counters;

    fn observer() -> Observer {
        let counters = Counters::new(64, Duration::from_secs(60)).unwrap();
        Observer::new(Broadcaster::new(counters, 1, 8), Duration::from_secs(60), false)
    }

    #[test]
    fn the_top_is_by_drops_then_by_name_and_has_none_without() {
        let observer = observer();
        let counters = observer.broadcaster.counters();
        counters.met_nobody("quiet");
        for n in 0..30 {
            counters.dropped("very-loud");
            counters.dropped(&format!("soft-{n:02}"));
        }
        counters.met_nobody("soft-00");
        let top = observer.view().top;
        let top: Vec<_> = top.iter().map(|t| (t.session.as_str(), t.drops, t.no_client)).collect();
        assert_eq!(top.len(), TOP);
        assert_eq!(top[..3], [("very-loud", 30, 0), ("soft-00", 1, 1), ("soft-01", 1, 0)]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn resident_memory_is_known_here() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn history_is_bounded_and_goes_before_the_latest() {
        let feed = Feed { history: Mutex::default(), latest: watch::Sender::new(Bytes::new()) };
        let observer = observer();
        let mut early = Box::pin(feed.watch());
        assert_eq!(early.next().now_or_never(), Some(Some(sse::named("history", "[]"))));
        assert_eq!(early.next().now_or_never(), None);
        for uptime_ms in 0..HISTORY as u64 + 5 {
            feed.add(&View { uptime_ms, ..observer.view() });
        }
        let mut watcher = Box::pin(feed.watch());
        let mut frame = || watcher.next().now_or_never().flatten().unwrap();
        let history = String::from_utf8(frame().to_vec()).unwrap();
        let json = history.strip_prefix("event: history\ndata: ").unwrap();
        let points: Vec<serde_json::Value> = serde_json::from_str(json.trim()).unwrap();
        assert_eq!(points.len(), HISTORY);
        assert_eq!(points[0]["uptime_ms"], 5);
        assert!(frame().starts_with(b"event: view\n"));
    }
}
