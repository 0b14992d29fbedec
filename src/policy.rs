//! Which entry goes: plain sequential code over numbers, owned by one sweeper at a time.
//!
//! A shard's entries are in two FIFO lists: *probation* for newcomers and *main*, the CLOCK list.
//! This file decides; `clock_list` moves the entries. What is decided:
//!
//! - **Newcomer.** Its fingerprint is looked up in the *ghost*, a small set of what was evicted
//!   lately. A key that the ghost knows goes to main, any other to probation. Where it had left
//!   from moves the target size of probation: a key that left probation too early makes it larger,
//!   one that left main makes it smaller. Keys that nobody knows let it drift back.
//! - **From which list** to take a victim: from main if it is larger than its share, else from
//!   probation.
//! - **Probation:** used fewer than twice since it came: out. Otherwise on to main, with credit for
//!   very frequent use.
//! - **Main** is a CLOCK with credit of several bits (GCLOCK; Smith, *ACM TODS* 3(3), 1978): each
//!   visit adds the bit length of the number of uses since the last visit and takes one away. At
//!   zero: out.
//!
//! Two FIFO lists with a ghost are from S3-FIFO (Yang et al., SOSP 2023); a target that moves with
//! hits in the ghost is from ARC (Megiddo and Modha, FAST 2003). The number of uses comes for free:
//! the counter is its own reference bit, see `cell`.
//!
//! Capacity belongs to the whole store and shards have no fixed share of it: where the policy needs
//! the capacity of its shard it takes the shard's population at that moment.

use crate::cell::USES_RANGE;
use crate::hash::KeyHash;
use crate::sync::prefetch;

/// Credit stops growing here.
const MAX_CREDIT: u8 = 63;
/// Uses that take an entry from probation to main.
const PROMOTION: u16 = 2;
/// Bits of use that a promotion is worth; only what is beyond them is credit.
const PROMOTION_BITS: u8 = 3;
/// Ways of a bucket of the ghost.
const WAYS: usize = 8;
/// Only hits in the newer half of a ghost's bucket move the target.
const FRESH_WAYS: usize = WAYS / 2;
/// The target is kept in 1/64 of an entry.
const FINE: i64 = 64;
/// The largest step of the target, as a multiple of one entry.
const MAX_STEP: i64 = 8;

/// The list that a victim left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    Probation,
    Main,
}

/// What becomes of an entry that the hand visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Out,
    /// It goes to the head of main with this credit.
    Stays {
        credit: u8,
    },
}

/// The number of bits that `uses` needs: 0, 1, 2, 2, 3, 3, 3, 3, 4, ...
fn bit_length(uses: u16) -> u8 {
    (u16::BITS - uses.leading_zeros()) as u8
}

/// Uses between two looks at a field that wraps at [`USES_RANGE`].
pub(crate) fn uses_since(snap: u16, uses: u16) -> u16 {
    uses.wrapping_sub(snap) % USES_RANGE
}

/// `uses` since an entry came, with the help of the `units` that were added: where each use added
/// one unit, both agree modulo [`USES_RANGE`], and the units say how often the field has wrapped.
/// Otherwise a heavy key could leave probation by the wrong door.
pub(crate) fn unwrapped(uses: u16, units: u64) -> u16 {
    let agree = units % u64::from(USES_RANGE) == u64::from(uses);
    if agree { units.min(u16::MAX.into()) as u16 } else { uses }
}

/// `uses` since it came.
pub(crate) fn judge_probation(uses: u16) -> Verdict {
    if uses < PROMOTION {
        return Verdict::Out;
    }
    Verdict::Stays { credit: bit_length(uses).saturating_sub(PROMOTION_BITS) }
}

/// `uses` since the last visit.
pub(crate) fn judge_main(credit: u8, uses: u16) -> Verdict {
    match (credit + bit_length(uses)).min(MAX_CREDIT) {
        0 => Verdict::Out,
        credit => Verdict::Stays { credit: credit - 1 },
    }
}

#[derive(Debug)]
pub(crate) struct Policy {
    /// Entries that probation should have, in 1/64; `None` until the first eviction.
    target: Option<i64>,
    ghost: Ghost,
}

/// The bounds of the target for a population, in 1/64 of an entry.
struct Bounds {
    start: i64,
    min: i64,
    max: i64,
}

impl Bounds {
    fn of(population: usize) -> Self {
        let fine = population as i64 * FINE;
        Self { start: fine * 10 / 100, min: (fine / 100).max(FINE), max: fine * 75 / 100 }
    }
}

impl Policy {
    /// `share`: how many entries the shard will have if keys are spread evenly.
    pub(crate) fn new(share: usize) -> Self {
        Self { target: None, ghost: Ghost::new(share) }
    }

    /// A newcomer: `true` if it goes to main. `population`: the shard's entries, `None` while the
    /// store is not full.
    pub(crate) fn recall(&mut self, hash: KeyHash, population: Option<usize>) -> bool {
        let hit = self.ghost.take(hash);
        if let Some(population) = population {
            self.learn(hit, population);
        }
        hit.is_some()
    }

    /// Moves the target.
    fn learn(&mut self, hit: Option<(List, usize)>, population: usize) {
        let bounds = Bounds::of(population);
        let target = self.target.get_or_insert(bounds.start);
        let Some((list, way)) = hit else {
            if *target > bounds.start {
                *target -= 1;
            }
            return;
        };
        if way >= FRESH_WAYS {
            return;
        }
        // Counted without the word that was just taken, and plus one each.
        let [probation, main] = self.ghost.live.map(|n| i64::from(n) + 1);
        let step = |of: i64, against: i64| (FINE * of / against).clamp(FINE, MAX_STEP * FINE);
        *target = match list {
            List::Probation => (*target + step(main, probation)).min(bounds.max),
            List::Main => (*target - step(probation, main)).max(bounds.min),
        };
    }

    /// The list to take the next victim from; `population`: both together.
    pub(crate) fn choose(&self, probation: usize, main: usize, population: usize) -> List {
        let bounds = Bounds::of(population);
        // The population may have been larger when the target was set.
        let target = self.target.unwrap_or(bounds.start).min(bounds.max) / FINE;
        if probation == 0 || main as i64 > population as i64 - target {
            List::Main
        } else {
            List::Probation
        }
    }

    /// Asks for what is known of a key.
    #[inline]
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        prefetch(&self.ghost.buckets[self.ghost.at(hash)]);
    }

    /// An eviction.
    pub(crate) fn remember(&mut self, hash: KeyHash, left: List) {
        self.ghost.put(hash, left);
    }

    #[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
    pub(crate) fn validate(&self) {
        assert!(self.target.is_none_or(|target| target >= 0), "the target: {:?}", self.target);
        self.ghost.validate();
    }
}

/// Fingerprints of what was evicted lately: buckets of eight words, the newest lowest; a word is 15
/// bits of fingerprint and one for the list that the key left. 0 is no key.
#[derive(Debug)]
struct Ghost {
    /// Zeros from the allocator (`vec!` knows that only of std's types): pages that nobody touched
    /// cost nothing.
    buckets: Box<[u128]>,
    /// Live words, by list.
    live: [u32; 2],
}

/// Eight words in one, so that they are compared and shifted at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket(u128);

impl Bucket {
    const WORD: u32 = u16::BITS;
    /// 1 in each word.
    const ONES: u128 = u128::MAX / 0xffff;

    fn word(self, way: usize) -> u16 {
        (self.0 >> (way as u32 * Self::WORD)) as u16
    }

    /// The newest word with this fingerprint. (Which of several words is 0: Knuth, *The Art of
    /// Computer Programming*, 7.1.3.)
    fn find(self, fingerprint: u16) -> Option<usize> {
        let same = Self::ONES * u128::from(fingerprint << 1);
        let other = (self.0 ^ same) & !Self::ONES;
        let equal = other.wrapping_sub(Self::ONES) & !other & Self::ONES << (Self::WORD - 1);
        (equal != 0).then(|| (equal.trailing_zeros() / Self::WORD) as usize)
    }

    /// Takes a word out; older ones move up.
    fn take(&mut self, way: usize) {
        let newer = (1 << (way as u32 * Self::WORD)) - 1;
        self.0 = self.0 & newer | self.0 >> Self::WORD & !newer;
    }

    /// Puts a word in and returns the oldest.
    fn push(&mut self, word: u16) -> u16 {
        let oldest = self.word(WAYS - 1);
        self.0 = self.0 << Self::WORD | u128::from(word);
        oldest
    }
}

impl Ghost {
    fn new(share: usize) -> Self {
        Self { buckets: vec![0; (share / WAYS).max(1)].into(), live: [0; 2] }
    }

    fn at(&self, hash: KeyHash) -> usize {
        hash.below(self.buckets.len())
    }

    /// Forgets the key; says from which list it had left, and its place in the bucket.
    fn take(&mut self, hash: KeyHash) -> Option<(List, usize)> {
        let at = self.at(hash);
        let mut bucket = Bucket(self.buckets[at]);
        let way = bucket.find(hash.fingerprint())?;
        let list = usize::from(bucket.word(way) & 1);
        bucket.take(way);
        self.buckets[at] = bucket.0;
        self.live[list] -= 1;
        Some(([List::Probation, List::Main][list], way))
    }

    /// The oldest word of a full bucket goes.
    fn put(&mut self, hash: KeyHash, left: List) {
        let at = self.at(hash);
        let mut bucket = Bucket(self.buckets[at]);
        let forgotten = bucket.push(hash.fingerprint() << 1 | left as u16);
        self.buckets[at] = bucket.0;
        if forgotten != 0 {
            self.live[usize::from(forgotten & 1)] -= 1;
        }
        self.live[left as usize] += 1;
    }

    /// Words are counted by list, none is a fingerprint of 0, and the free ones come last.
    #[cfg(all(any(test, feature = "arbitrary"), not(crossbeam_loom)))]
    fn validate(&self) {
        let words = |bucket: Bucket| (0..WAYS).map(move |way| bucket.word(way));
        for bucket in self.buckets.iter().copied().map(Bucket) {
            let used = words(bucket).take_while(|&word| word != 0).count();
            assert!(words(bucket).skip(used).all(|word| word == 0), "a gap in {bucket:?}");
            assert!(words(bucket).take(used).all(|word| word >> 1 != 0), "key 0 in {bucket:?}");
        }
        let words =
            || self.buckets.iter().copied().map(Bucket).flat_map(words).filter(|&word| word != 0);
        let main = words().filter(|word| word & 1 == 1).count();
        assert_eq!(self.live, [words().count() - main, main].map(|n| n as u32));
    }
}

#[cfg(all(test, not(crossbeam_loom)))]
mod tests {
    use super::*;

    fn words(bucket: Bucket) -> [u16; WAYS] {
        std::array::from_fn(|way| bucket.word(way))
    }

    /// Beside the same on an array, for words that are neighbours in value as well.
    #[test]
    fn a_bucket_is_eight_words() {
        let (mut bucket, mut array) = (Bucket(0), [0_u16; WAYS]);
        let mut rng = 1_u32;
        for _ in 0..100_000 {
            rng = rng.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let fingerprint =
                [1, 2, 3, 0x3fff, 0x4000, 0x4001, 0x7ffe, 0x7fff][(rng >> 29) as usize];
            let found = array.iter().position(|&word| word >> 1 == fingerprint);
            assert_eq!(bucket.find(fingerprint), found, "{fingerprint} in {array:?}");
            match found {
                Some(way) if rng >> 28 & 1 == 0 => {
                    bucket.take(way);
                    array[way..].rotate_left(1);
                    array[WAYS - 1] = 0;
                }
                _ => {
                    let word = fingerprint << 1 | (rng >> 27 & 1) as u16;
                    array.rotate_right(1);
                    assert_eq!(bucket.push(word), std::mem::replace(&mut array[0], word));
                }
            }
            assert_eq!(words(bucket), array);
        }
    }
}
