//! counterclock beside its rivals: each figure by one command.
//!
//! ```sh
//! alias rivals='cargo run --release --manifest-path benches/rivals/Cargo.toml --'
//! rivals check                              # whether each rival counts right
//! rivals bars --traces DIR                  # the bars that were set, and whether they are met
//! rivals speed                              # ns an operation, all workloads; see --help
//! rivals handles                            # held handles, and one key from several threads
//! rivals growth                             # a hit from 2,048 to 1,048,576 entries
//! rivals latency                            # single increments under churn
//! rivals memory                             # bytes a counter, by the binary `memory`
//! rivals retention --results DIR/RESULTS.csv DIR/*.u64.zst
//! rivals plot                               # pictures of the CSV files
//! ```
//!
//! Tables go to standard output as Markdown, CSV files and pictures to `docs/performance`. Rounds
//! interleave the rivals; a figure is the median of its rounds, a ratio is that of two medians of
//! the same rounds with a bootstrap interval of 95 %.

pub mod bars;
pub mod check;
pub mod contest;
pub mod figure;
pub mod growth;
pub mod handles;
pub mod key;
pub mod latency;
pub mod memory;
pub mod output;
pub mod picture;
pub mod plot;
pub mod retention;
pub mod rivals;
pub mod speed;
pub mod stats;
pub mod workload;
