//! Many clients at once, who come and go; publishers who keep books of what they were answered; and
//! at the end the server's counters must be what the books say.
//!
//! ```sh
//! cargo test --release -p sse-server --test load -- --clients 10000 --seconds 600
//! ```

#![cfg(unix)]

#[path = "../harness/mod.rs"]
#[allow(dead_code, reason = "the tests beside this one need the rest")]
mod harness;

mod audience;
mod books;
mod memory;
mod publishers;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::audience::Audience;
use crate::books::Books;
use crate::harness::Server;
use crate::memory::Memory;

/// Files that each of the two processes has open beside its clients.
const OTHER_FILES: u64 = 128;

/// Clients who come and go, publishers, and their books against the server's.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Clients at once
    #[arg(long, default_value_t = 200)]
    clients: usize,

    /// How long it lasts, from when all clients are there
    #[arg(long, default_value_t = 5)]
    seconds: u64,

    /// Events a second, at most
    #[arg(long, default_value_t = 1000)]
    rate: u32,

    /// Publishers; each waits for its answer
    #[arg(long, default_value_t = 8)]
    publishers: u32,

    /// The mean time that a client stays, in seconds; it is twice that at most
    #[arg(long, default_value_t = 60)]
    stay: u64,

    /// Every so many-th client does not read
    #[arg(long, default_value_t = 200)]
    slow_every: usize,

    /// The server's
    #[arg(long, default_value_t = 2048)]
    capacity: usize,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: &Args) -> Result<()> {
    raise_file_limit(args.clients as u64 + OTHER_FILES)?;
    // A place is free again only when the server has seen that its client left.
    let places = (args.clients + args.clients / 4 + 16).to_string();
    let capacity = args.capacity.to_string();
    let server = Server::start(
        &[
            ["--max-clients", &places],
            ["--capacity", &capacity],
            ["--idle-ttl", "60s"],
            ["--max-event", "65536"],
        ]
        .concat(),
    );
    let mut memory = Memory::new(&server.snapshot().await);

    let stop = CancellationToken::new();
    let audience = Audience::new(server.address, args);
    let seats = audience.open(&stop);
    audience.until_full().await?;
    println!("{} clients are there", args.clients);

    let publishers = publishers::start(&server, &audience, args, &stop);
    for _ in 0..args.seconds {
        memory.see(&server.snapshot().await);
        sleep(Duration::from_secs(1)).await;
    }
    memory.see(&server.snapshot().await);
    stop.cancel();
    let mut books = Books::default();
    for publisher in publishers {
        books.add(publisher.await??);
    }
    for seat in seats {
        seat.await?;
    }
    let last = server.until(|now| now.at("clients") == 0).await;
    server.stop().await;

    println!("{memory}\n{books}\n{}", audience.summary());
    books.balance(&last)?;
    audience.undisturbed()
}

fn raise_file_limit(files: u64) -> Result<()> {
    let limit = rlimit::increase_nofile_limit(files)?;
    ensure!(
        limit >= files,
        "so many clients need {files} open files in each process, and the limit is {limit}: raise \
         the hard limit (ulimit -Hn), or ask for fewer --clients"
    );
    Ok(())
}
