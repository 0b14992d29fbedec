//! counterclock beside its rivals, each figure by one command.

use anyhow::Result;
use clap::{Parser, Subcommand};

use rivals::{bars, check, growth, handles, latency, memory, plot, retention, speed};

/// counterclock beside its rivals: each figure by one command, as Markdown tables and CSV files.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The bars that were set, and whether they are met
    Bars(bars::Options),
    /// Nanoseconds an operation of each store, under each workload
    Speed(speed::Options),
    /// A held `Counter` beside a bare atomic, and one key from several threads
    Handles(handles::Options),
    /// How a hit's cost grows from 2,048 to 1,048,576 entries
    Growth(growth::Options),
    /// How long single increments take under churn
    Latency(latency::Options),
    /// Bytes a counter, by the binary `memory`, which cargo builds
    Memory(memory::Options),
    /// What is still held after real traces
    Retention(retention::Options),
    /// Pictures (SVG) of the CSV files
    Plot(plot::Options),
    /// Whether each rival counts right
    Check,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Bars(options) => bars::run(options),
        Command::Speed(options) => speed::run(options),
        Command::Handles(options) => handles::run(options),
        Command::Growth(options) => growth::run(options),
        Command::Latency(options) => latency::run(options),
        Command::Memory(options) => memory::delegate(&options.to_arguments()),
        Command::Retention(options) => retention::run(options),
        Command::Plot(options) => plot::run(options),
        Command::Check => check::run(),
    }
}
