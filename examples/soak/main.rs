//! Threads that do everything at once, for as long as you like, and books that must balance.
//!
//! ```text
//! cargo run --release --example soak -- --seconds 1800
//! cargo run --release --example soak -- --operations 1000000 --threads 4 --seed 7
//! ```
//!
//! A soak is many *rounds*. Each has a store of its own, in a configuration drawn from the seed,
//! and beside it one *lasting* store is used by all rounds. Threads mix all operations, exit and
//! are replaced. Each keeps its own tally outside the stores. A round ends by joining all threads
//! and checking that every unit is where the tallies say, that what has ended is freed, and that no
//! key is alive when the store is gone.
//!
//! Exit codes: 0 when all is well, 1 when something does not balance, 2 when an argument is wrong
//! or the output cannot be written.

mod bed;
mod books;
mod key;
mod memory;
mod plan;
mod report;
mod round;
mod worker;

use std::io::{self, IsTerminal, Write};
use std::num::NonZero;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;

use plan::Plan;
use report::Report;
use round::{Lasting, Limits};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

const AFTER_HELP: &str = "\
Without --seconds and --operations it runs for 10 s. Memory checkers make it slow, not wrong.

Exit codes:
  0 all is well, 1 something does not balance, 2 wrong arguments, or no output";

/// Uses stores from many threads in every way, and checks that nothing is lost or leaked
#[derive(Debug, Parser)]
#[command(name = "soak", version, after_help = AFTER_HELP)]
struct Args {
    /// Stop after so many seconds
    #[arg(short, long, value_name = "S")]
    seconds: Option<u64>,

    /// Stop when each thread has done so many operations
    #[arg(short, long, value_name = "N")]
    operations: Option<u64>,

    /// Operations of each thread in a round, at most; shorter rounds show more configurations
    #[arg(long, value_name = "N")]
    round: Option<u64>,

    /// Threads that are at work at any time
    #[arg(short, long, value_name = "N", default_value = "4", value_parser = parse_threads)]
    threads: NonZero<usize>,

    /// Draws the configurations and the operations; what threads do to each other differs by run
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Seconds between two lines; 0 prints one for each round
    #[arg(long, value_name = "S", default_value_t = 60)]
    every: u64,

    /// Show on stderr which round it is, also off a terminal
    #[arg(long)]
    progress: bool,
}

/// More threads than this help nobody, and may be more than the system starts.
fn parse_threads(text: &str) -> Result<NonZero<usize>, String> {
    match text.parse::<NonZero<usize>>() {
        Ok(n) if n.get() <= 256 => Ok(n),
        _ => Err("a number from 1 to 256 is needed".to_owned()),
    }
}

impl Args {
    fn duration(&self) -> Option<Duration> {
        let forever = self.seconds.is_none() && self.operations.is_none();
        self.seconds.or(forever.then_some(10)).map(Duration::from_secs)
    }
}

fn main() -> ExitCode {
    match soak(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let output = error.chain().any(|cause| cause.is::<io::Error>());
            // Nothing useful is left to do when stderr is closed as well.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(if output { 2 } else { 1 })
        }
    }
}

fn soak(args: &Args) -> Result<()> {
    let start = Instant::now();
    let until = args.duration().map(|time| start + time);
    let mut left = args.operations.unwrap_or(u64::MAX);
    // The collector exists before any thread does.
    key::turn_over();
    let mut lasting = Lasting::new()?;
    let mut report = Report::new(start, Duration::from_secs(args.every));
    let shows_progress = args.progress || io::stderr().is_terminal();
    let mut number = 0;
    while left > 0 && until.is_none_or(|until| Instant::now() < until) {
        number += 1;
        let mut plan = Plan::draw(args.seed, number);
        plan.operations = plan.operations.min(left).min(args.round.unwrap_or(u64::MAX).max(1));
        left -= plan.operations;
        if shows_progress {
            let _ = write!(io::stderr(), "\rround {number}, {} s ", start.elapsed().as_secs());
        }
        let limits = Limits { threads: args.threads.get(), until, seed: plan.seed };
        let result = round::run(&plan, &mut lasting, limits)
            .with_context(|| format!("round {number} of --seed {}: {plan:?}", args.seed))?;
        report.round(&result)?;
    }
    if shows_progress {
        let _ = writeln!(io::stderr());
    }
    let last = lasting.end().context("the lasting store")?;
    report.end(&last)
}
