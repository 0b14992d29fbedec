// Striped handles against the end of their entry.

use loom::sync::{Arc, Mutex};
use loom::thread;

use super::tree::Cause;
use crate::explore::explore;

use kit::{Store, balances, live, store};

include!("../kit.rs");

/// A unit is in the life that was removed, or in the next.
pub(crate) fn a_striped_handle_against_a_remove() {
    explore("store, a striped handle against a remove", 3, 10_000, || {
        let (store, told) = store(2);
        let striped = store.striped(&1);
        striped.add(1);
        let other = {
            let store = store.clone();
            thread::spawn(move || store.remove(&1))
        };
        striped.add(2);
        striped.add(4);
        let removed = other.join().unwrap().expect("live all along, until this");
        assert!([1, 3, 7].contains(&removed), "each unit once: {removed}");
        assert_eq!(told.ends(), [(1, removed, Cause::Removed)]);
        let next = 7 - removed;
        assert_eq!(striped.get(), (next > 0).then_some(next), "each unit once");
        assert_eq!(live(&store), if next > 0 { vec![(1, next)] } else { vec![] });
        assert_eq!(balances(&store, &told, 7), 0);
    });
}

/// Whoever seals the cell on which the handle has counted a use sees its stripes.
pub(crate) fn a_handle_that_is_striped_during_a_remove() {
    explore("store, a handle that is striped during a remove", 2, 5000, || {
        let (store, told) = store(2);
        store.add(&1, 1);
        let other = {
            let store = store.clone();
            thread::spawn(move || store.remove(&1))
        };
        let striped = store.striped(&1);
        striped.add(2);
        let removed = other.join().unwrap().expect("live all along, until this");
        assert!([0, 1, 3].contains(&removed), "each unit once: {removed}");
        assert_eq!(balances(&store, &told, 3), 0);
    });
}

/// The next life begins when all stripes of this one are sealed: who was told that a key has begun
/// again does not see the old life go on. Here the increment finds the entry that has ended, and puts
/// in the next one without a second search.
pub(crate) fn a_next_life_against_a_striped_handle() {
    explore("store, a remove and a next life against a striped handle", 2, 10_000, || {
        let (store, told) = store(2);
        let striped = store.striped(&1);
        striped.add(8);
        let other = {
            let store = store.clone();
            thread::spawn(move || store.remove(&1))
        };
        let count = store.increment_owned(1);
        striped.add(2);
        let removed = other.join().unwrap().expect("live all along, until this");
        let overlap = format!("the lives overlap: {removed} were removed, and then {count}");
        assert!([(8, 1), (9, 9), (11, 9)].contains(&(removed, count)), "{overlap}");
        assert_eq!(balances(&store, &told, 11), 0);
    });
}

/// As above, where the first search finds nothing: the life that ends began after it.
fn a_next_life_after_one_that_came_between(name: &str, begin: fn(&Store) -> u64) {
    explore(name, 2, 10_000, move || {
        let (store, told) = store(2);
        let striped = Arc::new(Mutex::new(None));
        let other = {
            let (store, striped) = (store.clone(), Arc::clone(&striped));
            thread::spawn(move || {
                *striped.lock().unwrap() = Some(store.striped(&1));
                store.remove(&1)
            })
        };
        assert_eq!(begin(&store), 1, "the only units, as yet");
        let striped = striped.lock().unwrap().take();
        if let Some(striped) = &striped {
            striped.add(2);
        }
        let removed = other.join().unwrap().expect("live since it is striped");
        // With 1 in it the life that was removed is the one that this thread has counted in, and
        // otherwise it was over when that began.
        assert!([0, 1, 3].contains(&removed), "the lives overlap: {removed} were removed");
        let units = if striped.is_some() { 3 } else { 1 };
        assert_eq!(balances(&store, &told, units), 0);
    });
}

/// The key is borrowed, and has to be converted: there is a second search.
pub(crate) fn a_next_life_that_is_searched_for_again() {
    let name = "store, a next life that is searched for again against a striped handle";
    a_next_life_after_one_that_came_between(name, |store| store.add(&1, 1));
}

/// The key is owned: publishing fails, and the admission goes on step by step.
pub(crate) fn a_next_life_step_by_step() {
    let name = "store, a next life step by step against a striped handle";
    a_next_life_after_one_that_came_between(name, |store| store.increment_owned(1));
}
