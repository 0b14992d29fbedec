//! Fuzzing the store, and what is built on it. With the feature `arbitrary`.
//!
//! Everything here is made for a fuzzer that draws its input by `arbitrary`, and works as well with
//! proptest or a seeded generator: each piece checks by panicking.
//!
//! - [`Config`] draws a small store, in any configuration, with a clock that stands still.
//! - [`Op`] is one call of the store. [`Game`] plays them in sequence and holds each answer against
//!   a model.
//! - [`Audit`] keeps books outside the store, for calls from many threads at once: what callers
//!   added and were told, and what the listener heard. [`Audit::check`] balances them.
//!   [`play_at_once`] does that for sequences of [`Op`].
//! - [`validate`] looks at the insides of the store.
//!
//! This module is for test code, and exempt from semantic versioning: any release may change it.
//!
//! # Your own type
//!
//! A type that wraps a store is fuzzed through its own interface. It takes the builder that a
//! [`Config`] makes, with a listener that tells the [`Audit`]:
//!
//! ```
//! use arbitrary::Arbitrary;
//! use counterclock::harness::{Audit, Config, FewBits};
//! use counterclock::{Builder, CounterStore, Rejected};
//!
//! /// What is fuzzed: an admission control that lets through so many requests a client.
//! struct Gate {
//!     requests: CounterStore<u8, FewBits>,
//! }
//!
//! impl Gate {
//!     fn new(builder: Builder<u8, FewBits>) -> Self {
//!         Self { requests: builder.build().expect("a sane configuration") }
//!     }
//!
//!     fn admit(&self, client: u8) -> Result<u64, Rejected> {
//!         self.requests.try_increment(&client)
//!     }
//! }
//!
//! #[derive(Arbitrary, Debug)]
//! enum Call {
//!     Admit { client: u8 },
//!     Forget { client: u8 },
//!     Wait { nanos: u16 },
//!     Report,
//! }
//!
//! /// The body of a target: `fuzz_target!(|input: (Config, Vec<Call>)| play(input.0, input.1));`
//! fn play(config: Config, calls: Vec<Call>) {
//!     let audit = Audit::new();
//!     let (builder, time) = config.builder();
//!     let heard = audit.clone();
//!     let gate = Gate::new(builder.on_removal(move |end| heard.ended(end)));
//!     for call in calls {
//!         match call {
//!             Call::Admit { client } => drop(audit.add(&client, 1, || gate.admit(client))),
//!             Call::Forget { client } => {
//!                 audit.remove(&client, || gate.requests.remove(&client));
//!             }
//!             Call::Wait { nanos } => time.increment(u64::from(nanos)),
//!             Call::Report => drop(audit.totals(|| gate.requests.totals())),
//!         }
//!         audit.check(&gate.requests);
//!     }
//! }
//!
//! let bytes: Vec<u8> = (0..=255).collect();
//! let mut source = arbitrary::Unstructured::new(&bytes);
//! play(Config::arbitrary(&mut source)?, Vec::arbitrary(&mut source)?);
//! # Ok::<(), arbitrary::Error>(())
//! ```
//!
//! With threads it is the same; then check when all have been joined.

mod audit;
mod config;
mod duel;
mod game;
mod model;
mod op;
mod player;
#[cfg(test)]
mod properties;

pub use audit::{Answer, Audit};
pub use config::{Config, FewBits, FewBitsHasher};
pub use duel::Duel;
pub use game::Game;
pub use op::{Op, Units, Way};
pub use player::{TwoSequences, play_at_once};

use std::hash::{BuildHasher, Hash};

use crate::CounterStore;
use crate::reclaim::pin;

/// Looks at every layer of a store and panics if one is not whole or two disagree: chains, lists,
/// ledger, permits, and what waits to be freed. O(capacity).
///
/// Nothing may be in flight: no other thread is inside a call of this store, and this is not called
/// from its listener. Handles, snapshots and pins may be held. It changes nothing.
///
/// # Panics
///
/// If something is wrong. That is a bug of this crate, or of a key whose `Eq` or `Hash` changes.
pub fn validate<K, S>(store: &CounterStore<K, S>)
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher,
{
    let engine = &store.inner.engine;
    engine.validate();
    let guard = pin();
    for entry in (0..engine.index.len()).flat_map(|bucket| engine.index.walk(bucket, &guard)) {
        assert_eq!(entry.hash(), store.hash(entry.key()), "a key hashes differently now");
    }
}

/// Tries until something that waits for grace periods is done; `false` if that takes for ever: other
/// threads of the process pin, too, and may be preempted while they do.
pub(crate) fn eventually(mut is_done: impl FnMut() -> bool) -> bool {
    #[cfg(test)]
    let _turn = crate::stop::turn();
    (0..100_000).any(|n| {
        if n < 1000 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        is_done()
    })
}
