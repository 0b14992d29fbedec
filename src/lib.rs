#![doc = include_str!("../README.md")]

mod admit;
mod budget;
mod builder;
mod cell;
mod clock_list;
mod counter;
mod engine;
mod entry;
mod error;
mod expiry;
mod groups;
mod hash;
mod index;
mod key;
mod ledger;
mod limbo;
mod pinned;
mod policy;
mod reclaim;
mod removal;
mod shard;
mod snapshot;
mod spare;
mod store;
mod sweep;
mod sync;
#[cfg(all(test, not(crossbeam_loom)))]
mod taken;
mod tick;
#[cfg(all(test, not(crossbeam_loom)))]
mod twin;

pub use builder::Builder;
pub use cell::{Cause, MAX_COUNT};
pub use counter::Counter;
pub use engine::AtCapacity;
pub use error::{BuildError, Rejected};
pub use hash::RandomState;
pub use key::ToKey;
pub use pinned::Pinned;
pub use removal::Removal;
pub use shard::Stats;
pub use snapshot::{Iter, Snapshot, Totals};
pub use store::{CounterStore, WeakStore};

pub use equivalent::Equivalent;
pub use quanta;
