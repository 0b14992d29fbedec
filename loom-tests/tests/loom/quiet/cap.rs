// The cap, with the real epoch collector; see `still/race.rs` for more preemptions.

use loom::thread;

use super::tree::Rejected;
use crate::explore::explore;

use kit::{balances, live, store};

include!("../kit.rs");

/// Each evicts the other, or finds all room with the other's admission: then it is rejected, and
/// says so.
pub(crate) fn two_keys_at_capacity_one() {
    explore("store, two keys at capacity 1", 1, 10_000, || {
        let (store, told) = store(1);
        let other = {
            let store = store.clone();
            thread::spawn(move || {
                let count = store.try_add(&1, 1);
                assert!(store.len() <= 1, "above the cap");
                count
            })
        };
        let count = store.try_add(&2, 2);
        assert!(store.len() <= 1, "above the cap");
        let (mut lives, mut rejected) = (vec![], 0);
        for (key, count) in [(1, other.join().unwrap()), (2, count)] {
            match count {
                Ok(count) => lives.push((key, count)),
                Err(why) => {
                    assert_eq!(why, Rejected::Capacity);
                    rejected += u64::from(key);
                }
            }
        }
        assert!(!lives.is_empty(), "one of the two has the place");
        let mut seen: Vec<_> = told.ends().iter().map(|&(key, count, _)| (key, count)).collect();
        seen.extend(live(&store));
        seen.sort_unstable();
        assert_eq!(seen, lives, "each life once, with its exact count");
        assert_eq!(lives, lives.iter().map(|&(key, _)| (key, u64::from(key))).collect::<Vec<_>>());
        assert_eq!(balances(&store, &told, 3), rejected, "each rejection is counted");
    });
}
