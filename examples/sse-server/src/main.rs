//! A Server-Sent-Events broadcaster that counts what it drops per session, in bounded memory. See
//! the README beside it.

mod app;
mod args;
mod broadcast;
mod counters;
mod demo;
mod metrics;
mod page;
mod serve;
mod sse;
mod unbounded;
mod view;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::{CommandFactory, Parser};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use tracing_subscriber::EnvFilter;

use crate::app::App;
use crate::args::Args;
use crate::broadcast::Broadcaster;
use crate::counters::Counters;

/// The pages of clients who have left are used again. glibc's arenas have grown all the time; see the
/// README.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections beside the clients: who publishes, reads `/metrics`, or looks at the page.
const OTHER_CONNECTIONS: u32 = 448;
/// Open beside the clients: those, the listener, the runtime's own.
const OTHER_FILES: u64 = OTHER_CONNECTIONS as u64 + 64;

fn main() -> ExitCode {
    let args = Args::parse();
    log_to_stderr(&args);
    let counters = match Counters::new(args.capacity.get(), args.idle_ttl()) {
        Ok(counters) => counters,
        // What the flags ask for cannot be had: exits with 2, as for any bad flag.
        Err(error) => Args::command().error(clap::error::ErrorKind::ValueValidation, error).exit(),
    };
    match run(&args, counters) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If nobody reads it, the exit code still tells.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `RUST_LOG` decides. By default the demo, whose slow clients are on purpose, does not warn of
/// them.
fn log_to_stderr(args: &Args) {
    let default = if args.demo { "info,sse_server::broadcast=error" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}

#[tokio::main]
async fn run(args: &Args, counters: Counters) -> Result<()> {
    let stop = CancellationToken::new();
    allow_files(args);
    let listener = listen(args).await?;
    let address = listener.local_addr().context("the address that was bound")?;
    let broadcaster = Broadcaster::new(counters, args.buffer as usize, args.max_clients as usize);
    stop_on_signal(stop.clone()).context("cannot listen for signals")?;
    let app = App::start(broadcaster.clone(), args, stop.clone())?;
    if args.demo {
        demo::start(broadcaster, args.demo_rate.get(), stop.clone());
    }
    // Whoever started it may not read this.
    let _ = writeln!(io::stdout(), "listening on http://{address}");
    let connections = args.max_clients + OTHER_CONNECTIONS;
    serve::serve(listener, app::router(app), connections as usize, stop).await;
    Ok(())
}

async fn listen(args: &Args) -> Result<TcpListener> {
    let address = args.address();
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => anyhow!(
            "port {} of {} is taken by another program: choose another with --port, or 0 for any",
            args.port,
            args.bind
        ),
        ErrorKind::PermissionDenied => {
            anyhow!(
                "port {} is for privileged programs only: choose another with --port",
                args.port
            )
        }
        ErrorKind::AddrNotAvailable => {
            anyhow!("this machine does not have the address {}: see --bind", args.bind)
        }
        _ => anyhow::Error::new(error).context(format!("cannot listen on {address}")),
    })
}

/// Each client is an open file, and many systems allow 1024 until a process asks for more. Where
/// fewer are to be had, clients beyond them wait to be accepted, and are not told that it is full.
fn allow_files(args: &Args) {
    let files = u64::from(args.max_clients) + OTHER_FILES;
    match rlimit::increase_nofile_limit(files) {
        Ok(limit) if limit < files => {
            warn!(limit, "fewer open files than --max-clients needs: raise ulimit -Hn");
        }
        Ok(_) => {}
        Err(error) => warn!(%error, "cannot ask for more open files"),
    }
}

/// The first signal ends the streams and lets requests finish; the second ends the process.
fn stop_on_signal(stop: CancellationToken) -> io::Result<()> {
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("stopping: once more to stop at once");
        stop.cancel();
        signals.next().await;
        std::process::exit(130);
    });
    Ok(())
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let [interrupt, terminate] = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        Ok(Self { interrupt: interrupt?, terminate: terminate? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
