//! Counts the keys of a real log, or of a simulated day, in a bounded store, and then shows its
//! books: what is live, what ended and why, and that nothing was lost.
//!
//! ```text
//! cargo run --release --example replay                              # a simulated day
//! cargo run --release --example replay -- --field 1 access.log      # clients of an access log
//! cargo run --release --example replay -- --plot memory.svg trace.u64.zst
//! ```
//!
//! Exit codes: 0 when all is well, 1 when the books do not balance, 2 when an argument or the
//! input is wrong, 130 when interrupted.

mod args;
mod balance;
mod batch;
mod compare;
mod curve;
mod day;
mod format;
mod input;
mod interrupt;
mod memory;
mod pass;
mod plot;
mod progress;
mod report;
mod sink;
mod text;
mod trace;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use args::{Args, Ttl};
use batch::Source;
use compare::Comparison;
use input::Input;
use pass::Limits;
use plot::PlotFile;
use progress::Progress;
use report::Report;
use sink::{MapSink, StoreSink};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// What the process says with its exit code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Fine = 0,
    Unbalanced = 1,
    WrongInput = 2,
    Interrupted = 130,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let status = match run(&args) {
        Ok((text, status)) => match print(&text) {
            Ok(()) => status,
            Err(error) => complain(&anyhow::Error::new(error).context("standard output")),
        },
        Err(error) => complain(&error),
    };
    ExitCode::from(status as u8)
}

/// Names the error and its causes on stderr.
fn complain(error: &anyhow::Error) -> Status {
    // Nothing useful is left to do when stderr is closed as well.
    let _ = writeln!(io::stderr(), "error: {error:#}");
    Status::WrongInput
}

/// Prints the report. A reader that went away (`| head -1`) has seen what it wanted.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn run(args: &Args) -> Result<(String, Status)> {
    interrupt::listen();
    let input = Input::choose(args)?;
    match &input {
        Input::Day => replay(args, &input, || Ok(day::Day::new(args))),
        Input::Text(origins) => replay(args, &input, || text::Text::open(args, origins)),
        Input::Trace(origins) => replay(args, &input, || trace::Trace::open(origins)),
    }
}

/// Replays one input: through the store, and when asked through the map as well.
///
/// `open` begins the input anew, since a comparison reads it twice.
fn replay<S: Source>(
    args: &Args,
    input: &Input,
    open: impl Fn() -> Result<S>,
) -> Result<(String, Status)> {
    let wants_map = args.compare || args.plot.is_some();
    ensure!(
        !wants_map || input.can_be_read_twice(),
        "--compare and --plot read the input twice, and a pipe can be read only once: \
         write it to a file first"
    );
    let plot_file = args.plot.as_deref().map(PlotFile::open).transpose()?;
    let ttl = args.ttl.unwrap_or(match input {
        Input::Day => Ttl::DAY,
        _ => Ttl::Never,
    });

    let mut source = open()?;
    let base = memory::Resident::now();
    let metered = memory::metered_bytes();
    let sink = memory::metered(|| StoreSink::<S::Key>::build(args, ttl, source.clock()))?;
    let limits = Limits::new(args.threads.get(), args.limit);
    let progress = Progress::new("store", source.progress(), shows_progress(args));
    let pass = pass::run(&mut source, &sink, limits, metered, progress)?;
    let report = Report::gather(args, ttl, input, &source, &sink, &pass, base);
    drop(source);

    let mut text = report.to_string();
    let mut status = match (report.balances(), pass.interrupted) {
        (false, _) => Status::Unbalanced,
        (true, true) => Status::Interrupted,
        (true, false) => Status::Fine,
    };
    if wants_map && pass.interrupted {
        text.push_str("\nNo comparison with a map: interrupted\n");
    } else if wants_map {
        let comparison = run_map(args, open()?, &sink, pass)?;
        if comparison.interrupted() && status == Status::Fine {
            status = Status::Interrupted;
        }
        text.push_str(&comparison.to_string());
        if let Some(file) = plot_file.filter(|_| !comparison.interrupted()) {
            text.push_str(&file.draw(&comparison, input)?);
        }
    }
    if status == Status::Unbalanced {
        complain(&anyhow::anyhow!("the books do not balance: see the lines marked WRONG"));
    }
    Ok((text, status))
}

/// The second pass: exactly the requests of the first, through a map that evicts nothing.
fn run_map<S: Source>(
    args: &Args,
    mut source: S,
    store: &StoreSink<S::Key>,
    first: pass::Pass,
) -> Result<Comparison> {
    let before = memory::Resident::now();
    let map = MapSink::<S::Key>::default();
    let limits = Limits::new(args.threads.get(), Some(first.tally.requests));
    let progress = Progress::new("map", source.progress(), shows_progress(args));
    let metered = memory::metered_bytes();
    let second = pass::run(&mut source, &map, limits, metered, progress)
        .context("reading the input again for the map")?;
    ensure!(
        second.interrupted || second.tally.requests == first.tally.requests,
        "the input changed between the two passes: {} requests, then {}",
        first.tally.requests,
        second.tally.requests,
    );
    Ok(Comparison::gather(args, store, map, first, second, before))
}

fn shows_progress(args: &Args) -> bool {
    !args.no_progress && io::stderr().is_terminal()
}
