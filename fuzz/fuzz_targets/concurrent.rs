//! Two threads play two sequences on one store; the books are balanced afterwards.
#![no_main]

use counterclock::harness::{Config, Op, play_at_once};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Config, [Vec<Op<u8>>; 2])| {
    let (config, sequences) = input;
    // Few keys, so that the threads meet.
    let keys = config.capacity + 1;
    let few = |op: Op<u8>| op.map(|key| (usize::from(key) % keys) as u8);
    play_at_once(config, &sequences.map(|ops| ops.into_iter().map(few).collect()));
});
