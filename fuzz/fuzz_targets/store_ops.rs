//! A sequence of public operations against a plain model, see `model.rs`.
#![no_main]

mod game;
mod model;
mod ops;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: ops::Input| game::play(input));
