//! The hand: makes room for one newcomer by visiting entries from the old ends of the lists.
//!
//! At most [`MAX_VISITS`] live entries are visited and at most [`MAX_DEAD`] dead ones taken out.
//! When the visits are used up, the visited entry with the lowest credit goes. An entry is sealed
//! by compare-exchange from the count that it was judged by: if it was used meanwhile it stays,
//! rightly.

use crate::cell::{Cause, Seen};
use crate::clock_list::Lists;
use crate::entry::{Entry, Place, Ref, Sealed};
use crate::policy::{List, Verdict, judge_main, judge_probation, unwrapped, uses_since};
use crate::reclaim::Guard;
use crate::sync::Ordering;
use crate::tick::{Now, Timer};

/// Live entries that one sweep visits.
pub(crate) const MAX_VISITS: usize = 16;
/// Dead entries that one sweep takes out.
pub(crate) const MAX_DEAD: usize = 16;

/// The time, where there is a TTL.
pub(crate) type Time<'a> = Option<(&'a Timer, Now)>;

/// Whether the entry has been idle for longer than the TTL. `seen` was loaded before this is
/// called: the tick is at least as new as the count (an adder writes the tick first, then adds with
/// Release; `seen` was loaded with Acquire).
pub(crate) fn is_idle<K>(entry: &Entry<K>, time: Time<'_>) -> bool {
    time.is_some_and(|(timer, now)| timer.expired(entry.tick().load(Ordering::Relaxed), now))
}

/// Entries that the hand has passed, in the order of the visits, and how many dead ones it met.
struct Passed<K> {
    entries: [*mut Entry<K>; MAX_VISITS],
    credits: [u8; MAX_VISITS],
    len: usize,
    dead: usize,
}

impl<K> Passed<K> {
    const fn new() -> Self {
        let entries = [std::ptr::null_mut(); MAX_VISITS];
        Self { entries, credits: [0; MAX_VISITS], len: 0, dead: 0 }
    }

    fn push(&mut self, entry: *mut Entry<K>, credit: u8) {
        self.entries[self.len] = entry;
        self.credits[self.len] = credit;
        self.len += 1;
    }

    fn as_slice(&self) -> &[*mut Entry<K>] {
        &self.entries[..self.len]
    }

    /// The first of those with the lowest credit; `out` is not looked at again.
    fn lowest(&self, out: &[bool; MAX_VISITS]) -> Option<usize> {
        (0..self.len).filter(|&i| !out[i]).min_by_key(|&i| self.credits[i])
    }
}

impl<K> Lists<K> {
    /// Seals one entry, or none where the lists are empty or all their entries are in use right
    /// now.
    pub(crate) fn make_room<'g>(
        &mut self,
        time: Time<'_>,
        guard: &'g Guard,
    ) -> Option<Sealed<'g, K>> {
        let mut passed = Passed::new();
        let mut victim = None;
        while victim.is_none() && passed.len < MAX_VISITS && passed.dead < MAX_DEAD {
            let main = self.main_len() + passed.len;
            let list = self.policy.choose(self.probation_len(), main, self.probation_len() + main);
            let place = if list == List::Main { Place::Main } else { Place::Probation };
            let Some(entry) = self.pop_oldest(place) else {
                break;
            };
            self.steps += 1;
            victim = self.visit(entry, list, time, &mut passed, guard);
        }
        let victim = victim.or_else(|| self.lowest_credit(&mut passed, time, guard));
        for &entry in passed.as_slice() {
            if !entry.is_null() {
                self.push_newest(entry, Place::Main);
            }
        }
        victim
    }

    /// The entry as a victim, or among those passed.
    fn visit<'g>(
        &mut self,
        raw: *mut Entry<K>,
        list: List,
        time: Time<'_>,
        passed: &mut Passed<K>,
        _guard: &'g Guard,
    ) -> Option<Sealed<'g, K>> {
        // SAFETY: its hold keeps the entry alive, and from then on the guard does.
        let entry = unsafe { Ref::<'g, K>::new(raw) }?;
        loop {
            let seen = entry.cell().look();
            if seen.is_ended() {
                // Its sealer buries it.
                passed.dead += 1;
                return None;
            }
            match judge(&entry, list, seen) {
                Verdict::Out => {
                    // An entry that was used since it was judged is judged again. Lock-free, and
                    // short: two uses take it out of here.
                    if let Some(sealed) = seal(entry, seen, time) {
                        if sealed.cause() == Cause::Capacity {
                            self.policy.remember(entry.hash(), list);
                        }
                        return Some(sealed);
                    }
                }
                Verdict::Stays { .. } if is_idle(&entry, time) => {
                    if let Some(sealed) = seal(entry, seen, time) {
                        return Some(sealed);
                    }
                }
                Verdict::Stays { credit } => {
                    let uses = entry.uses(seen);
                    // SAFETY: the caller owns the lists.
                    unsafe {
                        entry.seat(|seat| {
                            seat.snap = uses;
                            seat.credit = credit;
                        });
                    }
                    passed.push(raw, credit);
                    return None;
                }
            }
        }
    }

    /// The visits are used up: the lowest credit goes, or the next lowest where that is in use.
    fn lowest_credit<'g>(
        &mut self,
        passed: &mut Passed<K>,
        time: Time<'_>,
        _guard: &'g Guard,
    ) -> Option<Sealed<'g, K>> {
        let mut tried = [false; MAX_VISITS];
        while let Some(i) = passed.lowest(&tried) {
            tried[i] = true;
            // SAFETY: its hold keeps the entry alive, and from then on the guard does.
            let entry = unsafe { Ref::<'g, K>::new(passed.entries[i]) }?;
            if let Some(sealed) = seal(entry, entry.cell().look(), time) {
                if sealed.cause() == Cause::Capacity {
                    self.policy.remember(entry.hash(), List::Main);
                }
                passed.entries[i] = std::ptr::null_mut();
                return Some(sealed);
            }
        }
        None
    }
}

fn judge<K>(entry: &Entry<K>, list: List, seen: Seen) -> Verdict {
    // SAFETY: the caller of `make_room` owns the lists.
    let (snap, credit, first) = unsafe { entry.seat(|seat| (seat.snap, seat.credit, seat.first)) };
    let uses = uses_since(snap, entry.uses(seen));
    match list {
        // What a life began with is not known exactly beyond `u16`.
        List::Probation => {
            let known = first != u16::MAX;
            let units = entry.units(seen).saturating_sub(first.into());
            let uses = if known { unwrapped(uses, units) } else { uses };
            // One that a handle has admitted came without its first use.
            judge_probation(uses.saturating_sub(u16::from(snap == 0)))
        }
        List::Main => judge_main(credit, uses),
    }
}

/// Ends the life of an entry that is out of the lists.
fn seal<'g, K>(entry: Ref<'g, K>, seen: Seen, time: Time<'_>) -> Option<Sealed<'g, K>> {
    let cause = if is_idle(&entry, time) { Cause::Idle } else { Cause::Capacity };
    let units = entry.seal_if(seen, cause).ok()?;
    Some(Sealed::new(entry, units, cause))
}
