//! Clients. Each has a seat: it comes under a new session, stays for some time and leaves, and the
//! next one comes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::Args;

/// A client that reads has this much room at once; one that does not read has it in the kernel.
const READ: usize = 4096;
/// Connections that are being made at once: the listener's backlog is 1024.
const ARRIVING: usize = 256;
/// After a client left.
const REST: std::ops::Range<u64> = 0..200;
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Audience {
    address: SocketAddr,
    seats: Vec<Seat>,
    slow_every: usize,
    stay: Duration,
    arriving: Semaphore,
    joined: AtomicU64,
    seated: AtomicUsize,
    /// What went wrong: how often, and how it went last.
    failures: Mutex<(u64, String)>,
}

/// Who sits here now is told by the number of those who came.
#[derive(Default)]
struct Seat {
    turn: AtomicU64,
    /// Its buffers are full: each event is dropped.
    full: AtomicBool,
}

impl Audience {
    pub fn new(address: SocketAddr, args: &Args) -> Arc<Self> {
        Arc::new(Self {
            address,
            seats: (0..args.clients).map(|_| Seat::default()).collect(),
            slow_every: args.slow_every,
            stay: Duration::from_secs(args.stay),
            arriving: Semaphore::new(ARRIVING),
            joined: AtomicU64::new(0),
            seated: AtomicUsize::new(0),
            failures: Mutex::default(),
        })
    }

    /// Clients come to all seats, until `stop`.
    pub fn open(self: &Arc<Self>, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
        let seat = |seat| {
            let audience = Arc::clone(self);
            let stop = stop.clone();
            tokio::spawn(async move {
                stop.run_until_cancelled(audience.occupy(seat)).await;
            })
        };
        (0..self.seats.len()).map(seat).collect()
    }

    pub async fn until_full(&self) -> Result<()> {
        let begun = Instant::now();
        while self.seated.load(Relaxed) < self.seats.len() {
            self.undisturbed()?;
            let seated = self.seated.load(Relaxed);
            ensure!(begun.elapsed() < PATIENCE, "only {seated} clients have a seat");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The session at any seat of those who read.
    pub fn fast(&self) -> String {
        loop {
            let seat = rand::rng().random_range(0..self.seats.len());
            if !self.is_slow(seat) {
                return self.session(seat);
            }
        }
    }

    /// The session at any seat of those who do not read, and the seat.
    pub fn slow(&self) -> (String, usize) {
        let slow = self.seats.len().div_ceil(self.slow_every);
        let seat = rand::rng().random_range(0..slow) * self.slow_every;
        (self.session(seat), seat)
    }

    pub fn is_full(&self, seat: usize) -> bool {
        self.seats[seat].full.load(Relaxed)
    }

    /// A hint: who sits there may have left just now.
    pub fn set_full(&self, seat: usize) {
        self.seats[seat].full.store(true, Relaxed);
    }

    pub fn summary(&self) -> String {
        let joined = self.joined.load(Relaxed);
        format!("sessions: {joined} came, at {} seats", self.seats.len())
    }

    /// Every client had its place, and kept it for as long as it wanted.
    pub fn undisturbed(&self) -> Result<()> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(failures.0 == 0, "{} clients failed, and the last so: {}", failures.0, failures.1);
        Ok(())
    }

    fn is_slow(&self, seat: usize) -> bool {
        seat.is_multiple_of(self.slow_every)
    }

    fn session(&self, seat: usize) -> String {
        name(seat, self.seats[seat].turn.load(Relaxed))
    }

    async fn occupy(&self, seat: usize) {
        for turn in 0.. {
            if let Err(error) = self.client(seat, turn).await {
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                *failures = (failures.0 + 1, format!("{error:#}"));
            }
            let rest = rand::rng().random_range(REST);
            sleep(Duration::from_millis(rest)).await;
        }
    }

    async fn client(&self, seat: usize, turn: u64) -> Result<()> {
        let mut stream = self.join(&name(seat, turn), self.is_slow(seat)).await?;
        self.seats[seat].full.store(false, Relaxed);
        self.seats[seat].turn.store(turn, Relaxed);
        self.joined.fetch_add(1, Relaxed);
        if turn == 0 {
            self.seated.fetch_add(1, Relaxed);
        }
        // From the first on they leave one by one, and not all at the same time.
        let stay = self.stay.mul_f64(2.0 * rand::rng().random::<f64>());
        if self.is_slow(seat) {
            sleep(stay).await;
        } else if let Ok(ended) = timeout(stay, read(&mut stream)).await {
            ended.context("while reading")?;
            bail!("the server ended the stream");
        }
        Ok(())
    }

    async fn join(&self, session: &str, slow: bool) -> Result<TcpStream> {
        let _arriving = self.arriving.acquire().await?;
        let socket = TcpSocket::new_v4()?;
        if slow {
            socket.set_recv_buffer_size(READ as u32)?;
        }
        let mut stream = socket.connect(self.address).await.context("to connect")?;
        let request = format!("GET /events/{session} HTTP/1.1\r\nhost: load\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            let read = stream.read_buf(&mut head).await.context("the head of the answer")?;
            ensure!(read > 0 && head.len() < READ, "no head of an answer");
        }
        let ok = head.starts_with(b"HTTP/1.1 200 ");
        ensure!(ok, "answered {}", String::from_utf8_lossy(&head));
        Ok(stream)
    }
}

fn name(seat: usize, turn: u64) -> String {
    format!("session-{seat}-{turn}")
}

async fn read(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; READ];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}
