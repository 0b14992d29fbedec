//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, builder::RangedU64ValueParser};

const AFTER_HELP: &str = "\
Input:
  FILES are logs with one key a line (or the key in --field), or binary traces by their name:
  *.u64 and *.u64.zst hold one little-endian u64 a request. A log may be *.zst too.
  Without FILES a pipe on standard input is read (`-` names it), and without a pipe a day of
  Server-Sent-Events sessions is simulated.
  Blank lines are skipped. Bytes that are not UTF-8 become U+FFFD. Both are counted and reported.

Time:
  The simulated day runs on simulated time, and so does its --ttl. Logs and traces carry no time
  that is read: their --ttl runs on the real clock, while they are replayed.

Memory:
  The memory of the store and of the map is what each asked of the allocator, exact to the byte;
  resident memory is what the system gave to the whole process.

Exit codes:
  0 all is well, 1 the books do not balance, 2 wrong arguments or input, 130 interrupted";

/// Counts the keys of a log under a cap, and shows that nothing was lost
#[derive(Debug, Parser)]
#[command(name = "replay", version, after_help = AFTER_HELP)]
pub struct Args {
    /// Logs or traces; `-` is standard input
    #[arg(value_name = "FILES")]
    pub files: Vec<PathBuf>,

    /// How many keys the store holds at most
    #[arg(short, long, value_name = "KEYS", default_value_t = 2048)]
    pub capacity: usize,

    /// A key idle for longer is gone: `30m`, `90s`, `none` [default: 30m for the day, else none]
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub ttl: Option<Ttl>,

    /// Threads that count; with more than one, another thread reads
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = parse_threads)]
    pub threads: NonZeroUsize,

    /// How many of the largest keys to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// Shards of the store [default: the store's own choice]
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,

    /// The key is the N-th field of each line, from 1
    #[arg(short, long, value_name = "N")]
    pub field: Option<NonZeroUsize>,

    /// What parts the fields [default: whitespace]
    #[arg(short, long, value_name = "CHAR", requires = "field", value_parser = parse_delimiter)]
    pub delimiter: Option<char>,

    /// Count lines without the field, instead of stopping at the first
    #[arg(long, requires = "field")]
    pub skip_missing: bool,

    /// Stop after so many requests
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,

    /// Simulate a day from this seed [default: 1]
    #[arg(long, value_name = "N", conflicts_with_all = ["files", "field"])]
    pub seed: Option<u64>,

    /// Simulate a day of so many requests [default: 8000000]
    #[arg(long, value_name = "N", conflicts_with_all = ["files", "field"], value_parser = parse_events())]
    pub events: Option<u64>,

    /// Replay through an unbounded map as well: its memory, and what the store still knows of it
    #[arg(long)]
    pub compare: bool,

    /// Draw both memories over the requests (implies --compare)
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    /// No progress bar (there is none off a terminal)
    #[arg(long)]
    pub no_progress: bool,
}

/// How long an idle key lives.
#[derive(Clone, Copy, Debug)]
pub enum Ttl {
    Never,
    After(Duration),
}

impl Ttl {
    /// That of the server whose day is simulated.
    pub const DAY: Self = Self::After(Duration::from_secs(30 * 60));
}

fn parse_ttl(text: &str) -> Result<Ttl, String> {
    if text == "none" {
        return Ok(Ttl::Never);
    }
    match humantime::parse_duration(text) {
        Ok(time) => Ok(Ttl::After(time)),
        Err(error) => Err(format!("{error}; write 30m, 90s, 1h30m or none")),
    }
}

/// More threads than this help nobody, and may be more than the system starts.
fn parse_threads(text: &str) -> Result<NonZeroUsize, String> {
    match text.parse::<NonZeroUsize>() {
        Ok(n) if n.get() <= 256 => Ok(n),
        _ => Err("a number from 1 to 256 is needed".to_owned()),
    }
}

fn parse_delimiter(text: &str) -> Result<char, String> {
    let mut chars = text.chars();
    match (text, chars.next(), chars.next()) {
        (r"\t", ..) => Ok('\t'),
        (_, Some(one), None) => Ok(one),
        _ => Err(r"one character is needed, or \t".to_owned()),
    }
}

/// A float holds each number up to this exactly; the day is planned in floats.
fn parse_events() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(..=1 << 50)
}
