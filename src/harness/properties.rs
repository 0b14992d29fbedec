//! The matrix of configurations against the model, with inputs that shrink.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Config, Duel, FewBits, Game, Op, Units, Way, play_at_once};
use crate::AtCapacity;

/// Keys are drawn from here and taken modulo [`Config::keys`].
type Key = u8;

fn config() -> impl Strategy<Value = Config> {
    let capacity = prop_oneof![3 => 1..=8_usize, 1 => 9..=64_usize];
    let ttl = option::of(select(vec![1000_u64, 1, 63, 64, 1 << 20]));
    let at_capacity = prop_oneof![3 => Just(AtCapacity::Evict), 1 => Just(AtCapacity::Reject)];
    let slack = select(vec![1 << 14, 16, 4, 1, 0_usize]);
    let mask = select(vec![u64::MAX, 0, 1, 3, 0xf0]);
    (capacity, 0..=4_u32, slack, ttl, at_capacity, mask).prop_map(
        |(capacity, shard_bits, slack, ttl, at_capacity, mask)| Config {
            capacity,
            shards: 1 << shard_bits,
            slack,
            idle_ttl: ttl.map(Duration::from_nanos),
            at_capacity,
            hasher: FewBits::new(mask),
        },
    )
}

fn way() -> impl Strategy<Value = Way> {
    select(vec![Way::Store, Way::Try, Way::Owned, Way::Pinned, Way::Counter])
}

fn units() -> impl Strategy<Value = Units> {
    prop_oneof![
        6 => Just(Units::One),
        2 => any::<u8>().prop_map(Units::Few),
        1 => any::<i8>().prop_map(Units::AboutMax),
        1 => any::<u64>().prop_map(Units::Any),
    ]
}

fn op() -> impl Strategy<Value = Op<Key>> {
    let key = any::<Key>;
    prop_oneof![
        24 => (way(), key(), units()).prop_map(|(way, key, units)| Op::Add { way, key, units }),
        3 => (way(), key()).prop_map(|(way, key)| Op::Get { way, key }),
        1 => key().prop_map(|key| Op::Contains { key }),
        4 => key().prop_map(|key| Op::Remove { key }),
        1 => vec((key(), units()), 0..6).prop_map(|parts| Op::Batch { parts }),
        2 => key().prop_map(|key| Op::Counter { key }),
        1 => select(vec![Op::CloneCounter, Op::DropCounter]),
        1 => select(vec![Op::Pin, Op::Unpin]),
        2 => select(vec![Op::KeepSnapshot, Op::DropSnapshot]),
        1 => (0..5_u8).prop_map(|n| Op::Top { n }),
        1 => select(vec![Op::Totals, Op::Clear, Op::Prune]),
        2 => any::<u16>().prop_map(|by| Op::Advance { by }),
        1 => (-9..=9_i8).prop_map(|by| Op::Outlast { by }),
    ]
}

fn fewer_keys(config: &Config, op: Op<Key>) -> Op<Key> {
    op.map(|key| (usize::from(key) % config.keys()) as Key)
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn every_answer_is_one_that_the_model_allows(config in config(), ops in vec(op(), 0..150)) {
        let mut game = Game::<Key>::new(config);
        for op in ops {
            game.play(fewer_keys(&config, op).as_ref());
        }
        game.finish();
    }

    #[test]
    fn victims_are_those_of_the_twin(
        capacity in 1..=64_usize,
        steps in vec((any::<u64>(), 1..8_u8, 0..8_u8), 0..400),
    ) {
        let mut duel = Duel::new(capacity);
        for (key, times, kind) in steps {
            let key = key % (3 * capacity as u64);
            match kind {
                0 => duel.remove(key),
                _ => (0..times).for_each(|_| duel.increment(key)),
            }
        }
        duel.check();
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn the_books_balance_with_two_threads(
        config in config(),
        sequences in [vec(op(), 0..100), vec(op(), 0..100)],
    ) {
        let fewer = |ops: Vec<_>| ops.into_iter().map(|op| fewer_keys(&config, op)).collect();
        play_at_once(config, &sequences.map(fewer));
    }
}
