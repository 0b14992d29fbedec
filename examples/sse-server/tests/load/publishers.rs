//! Publishers: each sends an event, waits for the answer and writes it down.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::Args;
use crate::audience::Audience;
use crate::books::{Books, Outcome};
use crate::harness::Server;

const SMALL: &str = "an event of some thirty bytes";
/// Fills the buffers of those who do not read.
const LARGE: usize = 32 * 1024;
/// Sessions that met nobody a moment ago, for those who try again.
const RECENT: usize = 1000;

pub fn start(
    server: &Server,
    audience: &Arc<Audience>,
    args: &Args,
    stop: &CancellationToken,
) -> Vec<JoinHandle<Result<Books>>> {
    let pace = Duration::from_secs(1) * args.publishers / args.rate;
    let publisher = |number| {
        let publisher = Publisher {
            number,
            // Each has a connection of its own.
            http: reqwest::Client::builder().no_proxy().build().expect("a client without TLS"),
            url: server.url("/publish/"),
            audience: Arc::clone(audience),
            strangers: 0,
            recent: VecDeque::new(),
            books: Books::default(),
        };
        tokio::spawn(publisher.work(pace, stop.clone()))
    };
    (0..args.publishers).map(publisher).collect()
}

struct Publisher {
    number: u32,
    http: reqwest::Client,
    url: String,
    audience: Arc<Audience>,
    strangers: u64,
    recent: VecDeque<String>,
    books: Books,
}

impl Publisher {
    async fn work(mut self, pace: Duration, stop: CancellationToken) -> Result<Books> {
        let mut ticks = interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let kind = rand::rng().random_range(0..10);
            match kind {
                0..4 => self.to_who_reads().await?,
                4..7 => self.to_nobody().await?,
                7..9 => self.to_who_does_not_read().await?,
                _ => self.nothing().await?,
            }
        }
        Ok(self.books)
    }

    async fn to_who_reads(&mut self) -> Result<()> {
        let session = self.audience.fast();
        self.publish(&session).await?;
        Ok(())
    }

    async fn to_who_does_not_read(&mut self) -> Result<()> {
        let (session, seat) = self.audience.slow();
        if self.audience.is_full(seat) {
            self.publish(&session).await?;
            return Ok(());
        }
        let (status, body, _) = self.post(&session, vec![b'x'; LARGE]).await?;
        let outcome = outcome(status, &body)?;
        self.books.answered(outcome);
        if outcome.dropped > 0 {
            self.audience.set_full(seat);
        }
        Ok(())
    }

    /// To a session that was never there, or to one of those once more.
    async fn to_nobody(&mut self) -> Result<()> {
        let again = rand::rng().random_bool(0.4);
        let index = rand::rng().random_range(0..RECENT);
        let session = match self.recent.get(index).filter(|_| again) {
            Some(session) => session.clone(),
            None => {
                self.strangers += 1;
                let session = format!("stranger-{}-{}", self.number, self.strangers);
                self.recent.push_front(session.clone());
                self.recent.truncate(RECENT);
                session
            }
        };
        self.publish(&session).await
    }

    async fn publish(&mut self, session: &str) -> Result<()> {
        let (status, body, took) = self.post(session, SMALL).await?;
        let outcome = outcome(status, &body)?;
        self.books.answered(outcome);
        self.books.took(outcome, took);
        Ok(())
    }

    /// An empty event is refused, when all that is HTTP is done.
    async fn nothing(&mut self) -> Result<()> {
        let session = self.audience.fast();
        let (status, _, took) = self.post(&session, "").await?;
        ensure!(status == 400, "an empty event was answered {status}");
        self.books.refused(took);
        Ok(())
    }

    async fn post(
        &self,
        session: &str,
        event: impl Into<reqwest::Body>,
    ) -> Result<(u16, bytes::Bytes, Duration)> {
        let request = self.http.post(format!("{}{session}", self.url)).body(event);
        let sent = Instant::now();
        let response = request.send().await.context("an event had no answer")?;
        let status = response.status().as_u16();
        let body = response.bytes().await?;
        Ok((status, body, sent.elapsed()))
    }
}

fn outcome(status: u16, body: &[u8]) -> Result<Outcome> {
    ensure!(status == 200, "an event was answered {status}: {}", String::from_utf8_lossy(body));
    serde_json::from_slice(body).context("what became of an event")
}
