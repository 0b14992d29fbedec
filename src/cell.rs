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
#[cfg_attr(
    feature = "serde",
    derive(::serde::Serialize, ::serde::Deserialize),
    serde(rename_all = "snake_case")
)]
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

    #[inline]
    pub(crate) fn of_index(index: usize) -> Self {
        match index {
            0 => Cause::Capacity,
            1 => Cause::Idle,
            _ => Cause::Removed,
        }
    }

    fn bits(self) -> u64 {
        (self.index() as u64 + 1) << CAUSE_SHIFT
    }

    fn from_bits(word: u64) -> Option<Self> {
        let bits = (word & CAUSE) >> CAUSE_SHIFT;
        Some(Self::of_index(bits.checked_sub(1)? as usize))
    }
}

/// The life has ended: nothing was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

/// What is added at once: units, and how often the key was used for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) units: u64,
    /// Below [`USES_RANGE`].
    pub(crate) uses: u16,
}

impl Amount {
    pub(crate) const NOTHING: Self = Self { units: 0, uses: 0 };

    #[inline]
    pub(crate) const fn once(units: u64) -> Self {
        Self { units, uses: 1 }
    }
}

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
    #[inline]
    pub(crate) fn units(self) -> u64 {
        clamp(self.0 & UNITS)
    }

    /// Modulo [`USES_RANGE`].
    pub(crate) fn uses(self) -> u16 {
        (self.0 >> USES_SHIFT) as u16
    }
}

/// An overshoot that was not yet taken back does not show.
#[inline]
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
    #[inline]
    pub(crate) fn new(n: u64) -> Self {
        // Announced already: a life that ends as it began is sealed by one exchange.
        Self { word: AtomicU64::new(USE | clamp(n)), last: AtomicU64::new(clamp(n)) }
    }

    /// Nothing was counted yet.
    pub(crate) fn unused() -> Self {
        Self { word: AtomicU64::new(0), last: AtomicU64::new(0) }
    }

    /// Sets what the life begins with, before the cell is shared.
    #[inline]
    pub(crate) fn restart(&mut self, amount: Amount) {
        let units = clamp(amount.units);
        let word = u64::from(amount.uses) << USES_SHIFT | units;
        *self = Self { word: AtomicU64::new(word), last: AtomicU64::new(units) };
    }

    /// Counts one use of `n` units and returns the count after it. What does not fit is dropped.
    #[inline]
    pub(crate) fn add(&self, n: u64) -> Result<u64, Ended> {
        self.add_amount(Amount::once(n))
    }

    /// As [`add`](Self::add), for several uses at once.
    #[inline]
    pub(crate) fn add_amount(&self, Amount { units: n, uses }: Amount) -> Result<u64, Ended> {
        debug_assert!(uses < USES_RANGE, "more uses than a word tells apart");
        let uses = u64::from(uses) << USES_SHIFT;
        if n > SMALL {
            return self.add_large(n, uses);
        }
        let old = self.word.fetch_add(uses + n, Ordering::Release);
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
    fn add_large(&self, n: u64, uses: u64) -> Result<u64, Ended> {
        let mut old = self.word.load(Ordering::Relaxed);
        loop {
            if old & CAUSE != 0 {
                return Err(Ended);
            }
            let units = old & UNITS;
            let fits = n.min(MAX_COUNT.saturating_sub(units));
            let new = old.wrapping_add(uses) + fits;
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

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;
    use crate::stop::bounded;

    const CAUSES: [Cause; 3] = [Cause::Capacity, Cause::Idle, Cause::Removed];

    #[test]
    fn a_sealed_life_keeps_its_count_and_its_cause() {
        for cause in CAUSES {
            for units in [0, 1, 5, MAX_COUNT] {
                let cell = Cell::new(units);
                assert_eq!(cell.seal(cause), Some(units));
                assert_eq!(cell.add(1), Err(Ended));
                assert_eq!(cell.add(SMALL + 1), Err(Ended));
                assert_eq!(cell.read(), State::Ended(cause, units));
                for other in CAUSES {
                    assert_eq!(cell.seal(other), None);
                    assert!(cell.seal_if(cell.look(), other).is_err(), "sealed twice");
                }
                assert_eq!(cell.read(), State::Ended(cause, units));
                cell.validate();
            }
        }
    }

    #[test]
    fn the_top_is_the_documented_one() {
        assert_eq!(MAX_COUNT, (1_u64 << 51) - 1);
        for (start, n) in
            [(MAX_COUNT - 1, 1), (MAX_COUNT - 1, 2), (MAX_COUNT, SMALL), (1, u64::MAX)]
        {
            let cell = Cell::new(start);
            assert_eq!(cell.add(n), Ok(MAX_COUNT));
            assert_eq!(cell.read(), State::Live(MAX_COUNT));
            cell.validate();
        }
        assert_eq!(Cell::new(MAX_COUNT - SMALL - 2).add(SMALL + 1), Ok(MAX_COUNT - 1));
    }

    /// A judge that was overtaken neither seals nor announces.
    #[test]
    fn what_was_seen_before_an_add_seals_nothing() {
        let cell = Cell::new(1);
        let seen = cell.look();
        assert_eq!(cell.add(1), Ok(2));
        assert_eq!(cell.seal_if(seen, Cause::Idle), Err(cell.look()));
        assert_eq!(cell.last.load(Ordering::Relaxed), 1, "announced what is over");
        assert_eq!(cell.read(), State::Live(2));
        assert_eq!(cell.seal_if(cell.look(), Cause::Idle), Ok(2));
    }

    #[test]
    fn uses_are_counted_with_the_units() {
        let cell = Cell::new(7);
        assert_eq!((cell.look().units(), cell.look().uses()), (7, 1));
        assert_eq!((cell.add(0), cell.add(SMALL + 1)), (Ok(7), Ok(SMALL + 8)));
        assert_eq!(cell.look().uses(), 3);
        for _ in 3..USES_RANGE {
            assert!(cell.add(1).is_ok());
        }
        assert_eq!(cell.look().uses(), 0, "modulo the range");
        assert_eq!(cell.look().units(), SMALL + 8 + u64::from(USES_RANGE) - 3);
        assert!(!cell.look().is_ended());
    }

    /// What makes a hit wait-free: one operation, up to [`SMALL`].
    #[test]
    fn a_small_add_is_one_step() {
        let cell = Cell::new(0);
        for n in [0, 1, SMALL - 1, SMALL] {
            assert_eq!(bounded(100, || cell.add(n)).1, 1, "{n}");
        }
        assert_eq!(bounded(100, || cell.add(SMALL + 1)).1, 2);
    }
}
