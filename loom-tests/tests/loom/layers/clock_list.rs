// A shard's lists: one owner at a time, no entry lost, let go of twice, or while it is listed.

use std::sync::Arc;

use loom::thread;

use super::tree::cell::{Cause, State};
use super::tree::clock_list::{Gone, HEED, Lists, Roster};
use super::tree::entry::Place;
use super::tree::reclaim::pin;
use crate::explore::explore;

use published::Published;

include!("published.rs");

type Keys = Vec<usize>;

/// As an owner in the store, with chains and ledger left out; the keys of what was let go of. `None`
/// if the shard was taken.
fn own(roster: &Roster<usize>, f: impl FnOnce(&mut Lists<usize>)) -> Option<Keys> {
    let heed = |lists: &mut Lists<usize>| {
        for _ in 0..HEED {
            let Some(entry) = lists.next_departure(&pin()).map(Published::of) else { return };
            if let State::Ended(..) = entry.get().cell().read() {
                lists.bury(entry.get());
            }
        }
    };
    let ((), gone) = roster.own(|lists| {
        if lists.has_departures(roster) {
            heed(lists);
        }
        f(lists);
    })?;
    Some(let_go(gone))
}

fn let_go(mut gone: Gone<usize>) -> Keys {
    let guard = pin();
    gone.free_notes(&guard);
    let mut keys = Keys::new();
    keys.extend(std::iter::from_fn(|| gone.next_held(&guard)).map(|entry| *entry.key()));
    while let Some(entry) = gone.batch.pop() {
        // SAFETY: entries live to the end of the execution.
        keys.push(*unsafe { entry.as_ref() }.key());
        assert!(keys.len() <= 2, "let go of once");
    }
    keys
}

/// The sealer of an entry: buries it, or leaves a note.
fn bury(roster: &Roster<usize>, entry: Published) -> Keys {
    own(roster, |lists| lists.bury(entry.get())).unwrap_or_else(|| {
        roster.depart(entry.get());
        Keys::new()
    })
}

/// When all threads have been joined: owners come by until nothing is left to be done. What they
/// let go of goes to `gone`; the keys that are left in the lists are returned.
fn finish(roster: Arc<Roster<usize>>, gone: &mut Keys) -> Keys {
    for _ in 0..3 {
        gone.extend(own(&roster, |_| ()).expect("nobody has it"));
    }
    assert!(!roster.has_work(), "nothing is left to be done");
    gone.sort_unstable();
    let mut listed = Keys::new();
    let left = roster.own(|lists| {
        let len = lists.probation_len() + lists.main_len();
        for place in [Place::Probation, Place::Main] {
            let entries = std::iter::from_fn(|| lists.pop_oldest(place));
            // SAFETY: entries live to the end of the execution.
            listed.extend(entries.map(|entry| unsafe { *(*entry).key() }));
        }
        assert_eq!(len, listed.len(), "the length of the lists");
    });
    assert!(let_go(left.expect("nobody has it").1).is_empty());
    let mut roster = Arc::into_inner(roster).expect("all have been joined");
    let spares = roster.take_at_drop(|_| panic!("nothing is left over"));
    assert_eq!(spares.len(), 0, "nothing is left over");
    listed.sort_unstable();
    listed
}

pub(crate) fn arrivals_against_owners() {
    explore("clock_list, three arrivals against three owners", 3, 10_000, || {
        let roster = Arc::new(Roster::new(2, 1));
        // More than one drain, so that an owner leaves some to the next.
        let entries = [0, 1, 2].map(Published::new);
        roster.arrive(entries[0].get());
        let arrivers = [1, 2].map(|key| {
            let (roster, entry) = (Arc::clone(&roster), entries[key]);
            thread::spawn(move || {
                roster.arrive(entry.get());
                own(&roster, |_| ())
            })
        });
        let mut gone = own(&roster, |_| ()).unwrap_or_default();
        for arriver in arrivers {
            gone.extend(arriver.join().unwrap().unwrap_or_default());
        }
        assert_eq!(finish(roster, &mut gone), [0, 1, 2], "each once");
        assert!(gone.is_empty(), "all live on");
        entries.into_iter().for_each(Published::free);
    });
}

/// Whoever finds the shard taken leaves a note, and the next owner heeds it.
pub(crate) fn notes_against_owners() {
    explore("clock_list, two ends against owners", 3, 10_000, || {
        let roster = Arc::new(Roster::new(2, 1));
        let entries = [0, 1].map(Published::new);
        roster.arrive(entries[0].get());
        assert_eq!(own(&roster, |_| ()), Some(vec![]));
        let enders = [0, 1].map(|key| {
            let (roster, entry) = (Arc::clone(&roster), entries[key]);
            thread::spawn(move || {
                entry.get().cell().seal(Cause::Removed).expect("the only sealer");
                // The other one is on its way still.
                if key == 1 {
                    roster.arrive(entry.get());
                }
                bury(&roster, entry)
            })
        });
        let mut gone = own(&roster, |_| ()).unwrap_or_default();
        gone.extend(enders.map(|ender| ender.join().unwrap()).concat());
        assert_eq!(finish(roster, &mut gone), [], "left the lists");
        assert_eq!(gone, [0, 1], "let go of once");
        entries.into_iter().for_each(Published::free);
    });
}

/// It ends, and is buried, before the thread that has published it hands it to the lists.
pub(crate) fn an_arrival_that_is_over() {
    explore("clock_list, an arrival against its end", 3, 10_000, || {
        let roster = Arc::new(Roster::new(2, 1));
        let entry = Published::new(0);
        let ender = {
            let roster = Arc::clone(&roster);
            thread::spawn(move || {
                entry.get().cell().seal(Cause::Removed).expect("the only sealer");
                bury(&roster, entry)
            })
        };
        let arriver = {
            let roster = Arc::clone(&roster);
            thread::spawn(move || {
                roster.arrive(entry.get());
                own(&roster, |_| ()).unwrap_or_default()
            })
        };
        let mut gone = own(&roster, |_| ()).unwrap_or_default();
        gone.extend(ender.join().unwrap());
        gone.extend(arriver.join().unwrap());
        assert_eq!(finish(roster, &mut gone), [], "left the lists");
        assert_eq!(gone, [0], "let go of once");
        entry.free();
    });
}

/// An owner that makes room may meet a dead entry before its sealer comes by, or seal it itself.
pub(crate) fn a_swept_dead_entry() {
    explore("clock_list, a sweep against the end of an entry", 8, 5000, || {
        let roster = Arc::new(Roster::new(2, 1));
        let entries = [0, 1].map(Published::new);
        entries.iter().for_each(|entry| roster.arrive(entry.get()));
        assert_eq!(own(&roster, |_| ()), Some(vec![]));
        let ender = {
            let (roster, entry) = (Arc::clone(&roster), entries[0]);
            thread::spawn(move || match entry.get().cell().seal(Cause::Removed) {
                Some(_) => (vec![0], bury(&roster, entry)),
                None => (vec![], vec![]),
            })
        };
        let mut ended = Keys::new();
        let sweep = |lists: &mut Lists<usize>| {
            let guard = pin();
            let Some(victim) = lists.make_room(None, &guard) else { return };
            ended.push(*victim.entry.key());
            lists.bury(victim.entry);
        };
        let mut gone = own(&roster, sweep).unwrap_or_default();
        let (by_ender, let_go) = ender.join().unwrap();
        ended.extend(by_ender);
        gone.extend(let_go);
        let listed = finish(roster, &mut gone);
        ended.sort_unstable();
        assert_eq!(gone, ended, "let go of once");
        let live: Keys = [0, 1].into_iter().filter(|key| !ended.contains(key)).collect();
        assert_eq!(listed, live, "the living stay in the lists");
        entries.into_iter().for_each(Published::free);
    });
}
