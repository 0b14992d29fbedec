//! loom models of the store and of its layers; they live in `tests/loom`.
//!
//! ```text
//! RUSTFLAGS="--cfg crossbeam_loom" CARGO_TARGET_DIR=target/loom \
//!     cargo test -p loom-tests --profile loom -- --nocapture
//! ```
//!
//! `build.rs` copies the store's sources, on the real epoch collector or a stub of it, once as they
//! are and once for each entry of `mutations.rs`, with one ordering weakened or one check left out.
//! Each model is run on the true copy, and each mutation must be caught by the model that it is
//! written for. `tests/server.rs` is a user's model, of the crate as it is.
