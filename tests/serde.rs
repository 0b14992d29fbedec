//! Snapshots, totals and statistics as data.
#![cfg(feature = "serde")]

use counterclock::{Cause, CounterStore, Stats, Totals};
use serde_json::{Value, from_value, json, to_value};

#[test]
fn a_snapshot_is_pairs_and_totals() {
    let store = CounterStore::<(u8, String)>::new(8);
    store.add(&(1, "a".to_owned()), 5);
    store.add(&(2, "b".to_owned()), 7);
    store.remove(&(2, "b".to_owned()));
    let totals = json!({
        "recorded": 12, "live": 5, "evicted": 0, "expired": 0, "removed": 7, "rejected": 0
    });
    let expected = json!({ "totals": totals, "counters": [[[1, "a"], 5]] });
    assert_eq!(to_value(store.snapshot()).expect("data"), expected);
    let empty = CounterStore::<String>::new(1).snapshot();
    assert_eq!(to_value(&empty).expect("data")["counters"], json!([]));
}

#[test]
fn totals_and_statistics_are_read_back() {
    let store = CounterStore::<u64>::new(1);
    store.add(&1, 5);
    store.add(&2, 6);
    let (totals, stats) = (store.totals(), store.stats());
    assert_ne!((totals, stats), Default::default());
    assert_eq!(from_value::<Totals>(to_value(totals).expect("data")).expect("totals"), totals);
    assert_eq!(from_value::<Stats>(to_value(stats).expect("data")).expect("stats"), stats);
    // Written by a version that knew less.
    let read: Totals = from_value(json!({ "recorded": 3 })).expect("totals");
    assert_eq!((read.recorded, read.live), (3, 0));
}

#[test]
fn causes_have_names() {
    for (cause, name) in
        [(Cause::Capacity, "capacity"), (Cause::Idle, "idle"), (Cause::Removed, "removed")]
    {
        assert_eq!(to_value(cause).expect("data"), Value::from(name));
        assert_eq!(from_value::<Cause>(Value::from(name)).expect("a cause"), cause);
    }
}
