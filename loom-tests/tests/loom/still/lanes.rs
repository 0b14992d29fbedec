// Lanes against the end of their entry.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use quanta::Clock;

use super::tree::{Builder, Cause, LaneStore};
use crate::explore::explore;

use kit::{Same, Told, builder};

include!("../kit.rs");

type Lanes = LaneStore<u8, 2, Same>;

fn build(builder: Builder<u8, Same>) -> Lanes {
    builder.build_lanes().unwrap()
}

/// With nothing in flight: where each of `units` is, lane by lane.
fn balances(store: &Lanes, told: &Told, units: [u64; 2]) {
    let totals = store.totals();
    assert_eq!(totals.map(|totals| totals.recorded), units, "each unit once");
    let live = |lane: usize| store.snapshot().iter().map(|(_, counts)| counts[lane]).sum::<u64>();
    assert_eq!(totals.map(|totals| totals.live), [live(0), live(1)], "each unit once");
    let ended = totals[0].evicted + totals[0].expired + totals[0].removed;
    let told: u64 = told.ends().iter().map(|(_, count, _)| count).sum();
    assert_eq!(ended, told, "each unit once");
}

/// In each lane a unit is in the life that was removed, or in the next.
pub(crate) fn an_add_against_a_remove() {
    explore("store, an add to two lanes against a remove", 2, 1000, || {
        let (builder, told) = builder(2);
        let store = build(builder);
        store.add(&1, [1, 10]);
        let other = {
            let store = store.clone();
            thread::spawn(move || store.remove(&1))
        };
        let counts = store.add(&1, [2, 20]);
        let removed = other.join().unwrap().expect("live all along, until this");
        let next = store.get(&1).unwrap_or_default();
        assert_eq!([0, 1].map(|lane| removed[lane] + next[lane]), [3, 30], "each unit once");
        assert!([[3, 30], [3, 20], [2, 20]].contains(&counts), "each unit once: {counts:?}");
        balances(&store, &told, [3, 30]);
    });
}

/// A use of a lane, which adds nothing to the first, keeps its key or comes too late.
pub(crate) fn an_expiry_against_a_use_of_a_lane() {
    explore("store, an expiry against a use of a lane", 2, 10_000, || {
        let (clock, mock) = Clock::mock();
        let (builder, told) = builder(2);
        let store = build(builder.clock(clock).idle_ttl(Duration::from_nanos(64)));
        let [_, lane] = store.lanes();
        store.add(&1, [1, 10]);
        mock.increment(64_u64);
        let pruner = {
            let (store, mock) = (store.clone(), Arc::clone(&mock));
            thread::spawn(move || {
                mock.increment(1_u64);
                store.prune()
            })
        };
        let count = lane.add(&1, 20);
        pruner.join().unwrap();
        match count {
            30 => assert_eq!(told.ends(), [], "ended early"),
            _ => assert_eq!((count, told.ends()), (20, vec![(1, 1, Cause::Idle)]), "ended early"),
        }
        assert_eq!(lane.get(&1), Some(count), "ended early");
        balances(&store, &told, [1, 30]);
    });
}

pub(crate) fn two_snapshots_of_lanes_against_an_eviction() {
    explore("store, two snapshots of two lanes against an eviction", 2, 1000, || {
        let (builder, told) = builder(1);
        let store = build(builder);
        store.add(&1, [1, 10]);
        let other = {
            let store = store.clone();
            thread::spawn(move || store.add(&2, [2, 20]))
        };
        let recorded = || store.snapshot().totals().map(|totals| totals.recorded);
        let [first, second] = [recorded(), recorded()];
        for lane in 0..2 {
            let (some, all) = ([1, 10][lane], [3, 30][lane]);
            let sums = [first[lane], second[lane]];
            assert!(sums.iter().all(|sum| [some, all].contains(sum)), "each unit once: {sums:?}");
            assert!(sums.is_sorted(), "a sum fell: {sums:?}");
        }
        other.join().unwrap();
        balances(&store, &told, [3, 30]);
    });
}
