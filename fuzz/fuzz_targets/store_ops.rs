//! All operations in all configurations against a plain model.
#![no_main]

use counterclock::harness::{Config, Game, Op};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Config, Vec<Op<u8>>)| {
    let (config, ops) = input;
    let mut game = Game::<u8>::new(config);
    for op in ops {
        let op = op.map(|key| (usize::from(key) % config.keys()) as u8);
        game.play(op.as_ref());
    }
    game.finish();
});
