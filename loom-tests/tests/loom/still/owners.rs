// What a sealer leaves behind where the shard is taken, the next owner does.

use loom::thread;

use super::tree::reclaim::pin;
use crate::explore::explore;

use kit::{Store, balances, live, store};

include!("../kit.rs");

/// With nothing in flight: what has ended is credited and unlinked, and nothing is left to be done.
fn is_settled(store: &Store) {
    let (engine, guard) = (store.engine(), pin());
    let ended = [0; 3];
    let credited = (0..engine.groups()).fold(ended, |sum, group| {
        let units = engine.ledger.read(group, &guard).units;
        [0, 1, 2].map(|i| sum[i] + units[i])
    });
    let totals = store.totals();
    assert_eq!(credited, [totals.evicted, totals.expired, totals.removed], "it is credited");
    let chains = (0..engine.index.len()).flat_map(|bucket| engine.index.walk(bucket, &guard));
    assert_eq!(chains.count(), store.len(), "what has ended is unlinked");
    for shard in &engine.shards {
        let lens =
            engine.own_lists(shard, &guard, |lists| lists.probation_len() + lists.main_len());
        assert_eq!(lens, Some(store.len()), "what has ended has left the lists");
        assert!(!shard.roster.has_work(), "nothing is left to be done");
    }
}

pub(crate) fn two_removes_and_the_next_owner() {
    explore("store, two removes and the next owner", 6, 5000, || {
        let (store, told) = store(2);
        store.add(&1, 1);
        store.add(&2, 2);
        let other = {
            let store = store.clone();
            thread::spawn(move || store.remove(&1))
        };
        assert_eq!(store.remove(&2), Some(2));
        assert_eq!(other.join().unwrap(), Some(1));
        // Whoever left a note, this owner heeds it.
        assert_eq!(store.try_add(&3, 4), Ok(4));
        is_settled(&store);
        assert_eq!(live(&store), [(3, 4)]);
        assert_eq!(balances(&store, &told, 7), 0);
    });
}

/// An admission as the owner, which evicts, while its victim or its neighbour is removed.
pub(crate) fn an_admission_against_a_remove() {
    explore("store, an admission that evicts against a remove", 3, 10_000, || {
        let (store, told) = store(2);
        store.add(&1, 1);
        store.add(&2, 2);
        let other = {
            let store = store.clone();
            thread::spawn(move || store.remove(&1))
        };
        assert_eq!(store.try_add(&3, 4), Ok(4), "there was a visible entry");
        let removed = other.join().unwrap();
        store.prune();
        is_settled(&store);
        assert_eq!(store.get(&1), None);
        assert!(removed.is_none_or(|count| count == 1));
        assert_eq!(balances(&store, &told, 7), 0);
    });
}
