#![doc = include_str!("../README.md")]
// Which feature an item needs is shown with it.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(docsrs, doc(auto_cfg(hide(crossbeam_loom, test))))]
//!
//! # Where to begin
//!
//! [`CounterStore`], and what is set when it is built: [`Builder`]. Handles: [`Counter`] for who
//! counts under one key for long, [`Striped`] for several threads under one key, [`Buffer`] for one
//! thread under few keys, [`Pinned`] for a batch. Several counters per key: [`LaneStore`]. Keys:
//! [`ToKey`]. What it tells: [`Snapshot`], [`Totals`], [`Stats`], [`Removal`]. (The picture above,
//! and what links to `docs/` and `SECURITY.md`, are in the repository.)

#[cfg(not(all(target_pointer_width = "64", target_has_atomic = "64")))]
compile_error!(
    "counterclock needs a target with 64-bit pointers and 64-bit atomics: its counts are 64-bit \
     words, and its lock-free lists rest on version numbers that a 32-bit word would wrap"
);

mod admit;
mod budget;
mod buffer;
mod builder;
mod cell;
mod clock_list;
mod counter;
mod deltas;
mod engine;
mod entry;
mod error;
mod expiry;
#[cfg(not(crossbeam_loom))]
pub mod export;
mod groups;
#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
pub mod harness;
mod hash;
mod index;
mod key;
mod lanes;
mod ledger;
mod limbo;
#[cfg(all(test, not(crossbeam_loom)))]
mod overtaken;
mod pinned;
mod policy;
mod reclaim;
mod removal;
#[cfg(feature = "serde")]
mod serde;
mod shard;
mod snapshot;
mod spare;
#[cfg(all(test, not(crossbeam_loom)))]
mod stop;
#[cfg(all(test, not(crossbeam_loom)))]
mod stopped;
mod store;
mod striped;
mod stripes;
mod sweep;
mod sync;
#[cfg(all(test, not(crossbeam_loom)))]
mod taken;
mod tick;
#[cfg(all(test, not(crossbeam_loom)))]
mod twin;

pub use buffer::Buffer;
pub use builder::Builder;
pub use cell::{Cause, MAX_COUNT};
pub use counter::Counter;
pub use deltas::Deltas;
pub use engine::AtCapacity;
pub use error::{BuildError, Rejected, SinceError};
pub use hash::RandomState;
pub use key::ToKey;
pub use lanes::{Lane, LaneCounter, LaneSnapshot, LaneStore, WeakLaneStore};
pub use pinned::Pinned;
pub use removal::Removal;
pub use shard::Stats;
pub use snapshot::{Iter, Life, Snapshot, Totals};
pub use store::{CounterStore, WeakStore};
pub use striped::Striped;

pub use equivalent::Equivalent;
pub use quanta;
