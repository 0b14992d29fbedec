//! Two threads play two sequences on one store; the books are balanced afterwards.
#![no_main]

use counterclock::harness::{Op, TwoSequences, play_at_once};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: TwoSequences<u8>| {
    let (config, one, two) = input;
    // Few keys, so that the threads meet.
    let keys = config.capacity + 1;
    let few = |op: Op<u8>| op.map(|key| (usize::from(key) % keys) as u8);
    let sequences = [one, two].map(|ops| ops.into_iter().map(few).collect());
    play_at_once(config, &sequences);
});
