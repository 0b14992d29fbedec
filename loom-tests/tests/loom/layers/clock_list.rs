// The shard's lists: one owner at a time, no entry lost or there twice.

use std::sync::Arc;

use loom::thread;

use super::tree::cell::Cause;
use super::tree::clock_list::Roster;
use super::tree::entry::{Entry, ROSTER, Ref};
use super::tree::hash::KeyHash;
use super::tree::reclaim::pin;
use crate::explore::explore;

type Keys = Vec<usize>;

/// A published entry, which only the lists hold.
#[derive(Clone, Copy)]
struct Published(*mut Entry<usize>);

// SAFETY: entries are there to be shared, and these live to the end of the execution.
unsafe impl Send for Published {}

impl Published {
    fn new(key: usize) -> Self {
        let hash = KeyHash::mixed(key as u64);
        let mut entry = Box::new(Entry::new(hash, key, ROSTER));
        entry.prepare(1, 0, None);
        Self(Box::into_raw(entry))
    }

    fn get(self) -> Ref<'static, usize> {
        // SAFETY: made by `Box`, and lives to the end of the execution.
        unsafe { Ref::new(self.0) }.unwrap()
    }

    fn free(self) {
        // SAFETY: as above, and its last holder calls this.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// Takes the lists if they are free; the keys of the entries that left them.
fn own(roster: &Roster<usize>) -> Option<Keys> {
    let ((), gone) = roster.own(|_| ())?;
    Some(gone.drain(&pin()).map(|entry| *entry.key()).collect())
}

/// Ends a life as the store does; the keys of the entries that left the lists on this thread.
fn end(roster: &Roster<usize>, entry: Ref<'_, usize>) -> Keys {
    entry.cell().seal(Cause::Removed).expect("the only sealer");
    let Some((departed, gone)) = roster.own(|lists| lists.depart(&entry)) else {
        roster.depart(entry);
        return Keys::new();
    };
    let own = departed.then_some(*entry.key());
    gone.drain(&pin()).map(|entry| *entry.key()).chain(own).collect()
}

pub(crate) fn arrivals_against_owners() {
    explore("clock_list, two arrivals against three owners", 2, 1000, || {
        let roster = Arc::new(Roster::new(2));
        let arrivers = [0, 1].map(|key| {
            let roster = Arc::clone(&roster);
            thread::spawn(move || {
                let entry = Published::new(key);
                roster.arrive(entry.get());
                (entry, own(&roster))
            })
        });
        let mut gone = own(&roster).unwrap_or_default();
        let arrived = arrivers.map(|arriver| arriver.join().unwrap());
        gone.extend(arrived.iter().flat_map(|(_, gone)| gone).flatten());
        assert!(gone.is_empty(), "all live on");

        let (len, gone) = roster.own(|lists| lists.probation_len() + lists.main_len()).unwrap();
        assert_eq!(gone.drain(&pin()).count(), 0);
        assert_eq!(len, 2, "each once");
        let mut roster = Arc::into_inner(roster).expect("all have been joined");
        let listed = roster.take_at_drop();
        let mut keys: Keys = listed.drain(&pin()).map(|entry| *entry.key()).collect();
        keys.sort_unstable();
        assert_eq!(keys, [0, 1], "each once");
        arrived.into_iter().for_each(|(entry, _)| entry.free());
    });
}

/// Whoever finds the lists taken leaves a note, and later owners heed it.
pub(crate) fn a_dead_entry_leaves() {
    explore("clock_list, two ends against an owner", 2, 1000, || {
        let roster = Arc::new(Roster::new(2));
        let entries = [0, 1].map(Published::new);
        roster.arrive(entries[0].get());
        assert_eq!(own(&roster), Some(vec![]));
        let enders = [0, 1].map(|key| {
            let roster = Arc::clone(&roster);
            let entry = entries[key];
            thread::spawn(move || {
                let entry = { entry }.get();
                // The other one is on its way still.
                if key == 1 {
                    roster.arrive(entry);
                }
                end(&roster, entry)
            })
        });
        let mut gone = Keys::new();
        for _ in 0..2 {
            gone.extend(own(&roster).into_iter().flatten());
        }
        gone.extend(enders.map(|ender| ender.join().unwrap()).concat());
        for _ in 0..3 {
            gone.extend(own(&roster).expect("nobody else is left"));
        }
        gone.sort_unstable();
        assert_eq!(gone, [0, 1], "each left the lists, once");
        entries.into_iter().for_each(Published::free);
    });
}
