//! The count word: units, uses and how the life ended, in one atomic.
//!
//! ```text
//!  63      54 53 52 51                                            0
//! +----------+-----+-----------------------------------------------+
//! |   uses   |cause|  units                                        |
//! +----------+-----+-----------------------------------------------+
//! ```
//!
//! - `units`: what was added. Bit 51 is headroom: a count saturates at [`MAX_COUNT`], and an adder
//!   that overshoots takes back its own excess. Set by adders.
//! - `cause`: 0 while the life lasts, then why it ended. Set once, by the one sealer that wins.
//! - `uses`: how many adds there were, modulo 1024; wraps off the top of the word harmlessly. The
//!   eviction policy compares it with what it saw last: the counter is its own reference bit.
//!
//! # Why there is a second word
//!
//! An adder does not look before it adds, so an add can land on a word that is sealed already. It
//! sees that in what `fetch_add` returns, takes its units back and goes elsewhere; in between the
//! units of a sealed word are not to be trusted. The sealer knows the exact count from its
//! compare-exchange, but a reader must be able to know it too, even when the sealer was stopped
//! right after it. So a sealer first announces the units it is about to seal in `last`, then seals
//! the word by compare-exchange from exactly that count.
//!
//! `last` never falls: who writes it has loaded `last` first (Acquire) and `word` after that, and
//! units of an unsealed word never fall below what an earlier announcer saw. So when a sealer's
//! compare-exchange on `word` succeeds, `last` holds the sealed units, and nobody replaces them:
//! another announcer either saw the word at the same units, or sees the seal.
//!
//! # Orderings
//!
//! - `add` is Release: pairs with the Acquire load in `look`. What the adder wrote before (the tick
//!   of last use) is seen by whoever judges the count.
//! - The sealing compare-exchange is AcqRel: Release pairs with the Acquire load in `read`, which
//!   makes `last` visible; Acquire pairs with `add`.
//! - `last` is loaded Acquire and replaced AcqRel: an announcer that sees another's announcement
//!   sees the word at least as new as that one did.

use crate::sync::{AtomicU64, Ordering};

/// The largest count: 2^51 - 1. Counts saturate here and never wrap.
pub const MAX_COUNT: u64 = (1 << 51) - 1;

const UNITS: u64 = (1 << 52) - 1;
const HEADROOM: u64 = 1 << 51;
const CAUSE_SHIFT: u32 = 52;
const CAUSE: u64 = 0b11 << CAUSE_SHIFT;
const USES_SHIFT: u32 = 54;
const USE: u64 = 1 << USES_SHIFT;

/// Adds up to this size use `fetch_add`. 2^19 of them may overshoot at once before they fill the
/// headroom, which is more threads than an address space has room for stacks.
const SMALL: u64 = 1 << 32;

/// Uses are counted modulo this.
pub(crate) const USES_RANGE: u16 = 1 << 10;

/// Why the life of a key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Evicted: the store was full and another key needed the room.
    Capacity,
    /// Idle for longer than the TTL.
    Idle,
    /// Removed by [`remove`](crate::CounterStore::remove) or [`clear`](crate::CounterStore::clear).
    Removed,
}

impl Cause {
    /// Where the ledger and the statistics keep this cause.
    pub(crate) fn index(self) -> usize {
        match self {
            Cause::Capacity => 0,
            Cause::Idle => 1,
            Cause::Removed => 2,
        }
    }

    fn bits(self) -> u64 {
        (self.index() as u64 + 1) << CAUSE_SHIFT
    }

    fn from_bits(word: u64) -> Option<Self> {
        match (word & CAUSE) >> CAUSE_SHIFT {
            0 => None,
            1 => Some(Cause::Capacity),
            2 => Some(Cause::Idle),
            _ => Some(Cause::Removed),
        }
    }
}

/// The life has ended: nothing was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Live(u64),
    /// The exact final count.
    Ended(Cause, u64),
}

/// The word as somebody saw it; the ticket for [`Cell::seal_if`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen(u64);

impl Seen {
    pub(crate) fn is_ended(self) -> bool {
        self.0 & CAUSE != 0
    }

    /// Meaningful while the life lasts.
    pub(crate) fn units(self) -> u64 {
        clamp(self.0 & UNITS)
    }

    /// Modulo [`USES_RANGE`].
    pub(crate) fn uses(self) -> u16 {
        (self.0 >> USES_SHIFT) as u16
    }
}

/// An overshoot that was not yet taken back does not show.
fn clamp(units: u64) -> u64 {
    units.min(MAX_COUNT)
}

#[derive(Debug)]
pub(crate) struct Cell {
    word: AtomicU64,
    last: AtomicU64,
}

impl Cell {
    /// A life that begins with one use of `n` units.
    pub(crate) fn new(n: u64) -> Self {
        Self { word: AtomicU64::new(USE | clamp(n)), last: AtomicU64::new(0) }
    }

    /// Sets what the life begins with, before the cell is shared.
    pub(crate) fn restart(&mut self, n: u64) {
        *self = Self::new(n);
    }

    /// Counts one use of `n` units and returns the count after it. What does not fit is dropped.
    #[inline]
    pub(crate) fn add(&self, n: u64) -> Result<u64, Ended> {
        if n > SMALL {
            return self.add_large(n);
        }
        let old = self.word.fetch_add(USE + n, Ordering::Release);
        let after = (old & UNITS) + n;
        if (old & CAUSE) | (after & HEADROOM) != 0 {
            return self.take_back(old, n);
        }
        Ok(after)
    }

    /// The add landed on a sealed word, or went past the top.
    #[cold]
    fn take_back(&self, old: u64, n: u64) -> Result<u64, Ended> {
        // Relaxed: only the units change, back to what they were or to no less than `MAX_COUNT`.
        if old & CAUSE != 0 {
            self.word.fetch_sub(n, Ordering::Relaxed);
            return Err(Ended);
        }
        let before = old & UNITS;
        let excess = before + n - before.max(MAX_COUNT);
        self.word.fetch_sub(excess, Ordering::Relaxed);
        Ok(MAX_COUNT)
    }

    /// Large amounts would use up the headroom, so they are clamped before they are added.
    #[cold]
    fn add_large(&self, n: u64) -> Result<u64, Ended> {
        let mut old = self.word.load(Ordering::Relaxed);
        loop {
            if old & CAUSE != 0 {
                return Err(Ended);
            }
            let units = old & UNITS;
            let fits = n.min(MAX_COUNT.saturating_sub(units));
            let new = old.wrapping_add(USE) + fits;
            match self.word.compare_exchange_weak(old, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Ok(clamp(units + fits)),
                Err(now) => old = now,
            }
        }
    }

    #[inline]
    pub(crate) fn look(&self) -> Seen {
        Seen(self.word.load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn read(&self) -> State {
        let word = self.word.load(Ordering::Acquire);
        match Cause::from_bits(word) {
            None => State::Live(clamp(word & UNITS)),
            // Relaxed: the Acquire load above saw the seal, and `last` is final before it.
            Some(cause) => State::Ended(cause, self.last.load(Ordering::Relaxed)),
        }
    }

    /// Ends the life if it has not changed since `seen`; returns the exact final count.
    ///
    /// Both outcomes of a race with an adder:
    /// - the add comes first: the word has changed, and nothing is sealed;
    /// - the seal comes first: the adder sees it in the word that its `fetch_add` returns.
    pub(crate) fn seal_if(&self, seen: Seen, cause: Cause) -> Result<u64, Seen> {
        // Acquire, and before `word`: see the module's documentation.
        let last = self.last.load(Ordering::Acquire);
        let now = self.look();
        if now != seen || seen.is_ended() {
            return Err(now);
        }
        let units = seen.units();
        if last != units
            && self.last.compare_exchange(last, units, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            return Err(self.look());
        }
        let sealed = seen.0 | cause.bits();
        match self.word.compare_exchange(seen.0, sealed, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(units),
            Err(now) => Err(Seen(now)),
        }
    }

    /// Ends the life whatever its count is; `None` if it had ended. Lock-free: it starts again only
    /// when somebody else's add or seal went through.
    pub(crate) fn seal(&self, cause: Cause) -> Option<u64> {
        let mut seen = self.look();
        loop {
            if seen.is_ended() {
                return None;
            }
            match self.seal_if(seen, cause) {
                Ok(units) => return Some(units),
                Err(now) => seen = now,
            }
        }
    }
}

#[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
impl Cell {
    /// With nothing in flight: late adds were taken back, and the announcement is the sealed count.
    pub(crate) fn validate(&self) {
        let units = self.word.load(Ordering::Acquire) & UNITS;
        assert!(units <= MAX_COUNT, "an overshoot of {units} was not taken back");
        if let State::Ended(_, count) = self.read() {
            assert_eq!(units, count, "the sealed units and the final count");
        }
    }
}
