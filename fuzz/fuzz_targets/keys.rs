//! Arbitrary bytes as keys of many types, called with each of their forms, under poor hashers.
#![no_main]

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arbitrary::Arbitrary;
use counterclock::harness::{Config, Game, Op, validate};
use counterclock::{CounterStore, Equivalent, ToKey};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    kind: Kind,
    config: Config,
    /// Whether each key has its place.
    roomy: bool,
    keys: [Vec<u8>; 4],
    calls: Vec<Call>,
}

#[derive(Arbitrary, Debug)]
enum Kind {
    String,
    BoxStr,
    ArcStr,
    Bytes,
    ArcBytes,
    AnyCase,
}

/// The key is one of the input's, or one of them and a byte.
#[derive(Arbitrary, Debug)]
struct Call {
    owned: bool,
    op: Op<(u8, Option<u8>)>,
}

/// A type of key, and what it is called with.
trait Key: Clone + Hash + Eq + Debug + Send + Sync + 'static {
    type Form: ToKey<Self> + ?Sized;
    type Raw: Borrow<Self::Form>;

    fn raw(bytes: Vec<u8>) -> Self::Raw;
}

macro_rules! keys {
    ($($key:ty: $form:ty, $raw:ty, $from:expr;)+) => {$(
        impl Key for $key {
            type Form = $form;
            type Raw = $raw;

            fn raw(bytes: Vec<u8>) -> $raw {
                $from(bytes)
            }
        }
    )+};
}

keys! {
    String: str, String, text;
    Box<str>: str, String, text;
    Arc<str>: str, String, text;
    Vec<u8>: [u8], Vec<u8>, std::convert::identity;
    Arc<[u8]>: [u8], Vec<u8>, std::convert::identity;
    Lower: AnyCase, AnyCase, AnyCase;
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A name in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lower(Vec<u8>);

/// A name in any case: many forms of one key.
#[derive(Debug)]
struct AnyCase(Vec<u8>);

impl Hash for AnyCase {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_key().hash(state);
    }
}

impl Equivalent<Lower> for AnyCase {
    fn equivalent(&self, key: &Lower) -> bool {
        self.0.eq_ignore_ascii_case(&key.0)
    }
}

impl ToKey<Lower> for AnyCase {
    fn to_key(&self) -> Lower {
        Lower(self.0.to_ascii_lowercase())
    }
}

fuzz_target!(|input: Input| {
    match input.kind {
        Kind::String => play::<String>(input),
        Kind::BoxStr => play::<Box<str>>(input),
        Kind::ArcStr => play::<Arc<str>>(input),
        Kind::Bytes => play::<Vec<u8>>(input),
        Kind::ArcBytes => play::<Arc<[u8]>>(input),
        Kind::AnyCase => play::<Lower>(input),
    }
});

/// Against the model, which knows of evictions, expiry and removals; and the adds alone against a
/// plain map, in a store that has room for all.
fn play<K: Key>(input: Input) {
    let Input { mut config, roomy, keys, calls, .. } = input;
    if roomy {
        config.capacity = 1 + calls.len();
    }
    let bytes = |(nth, last): (u8, Option<u8>)| {
        let key = &keys[usize::from(nth) % keys.len()];
        K::raw(key.iter().copied().chain(last).collect())
    };
    let mut game = Game::<K>::new(config);
    let (builder, _) = config.builder::<K>();
    let plain = builder.capacity(1 + calls.len()).build().expect("a sane configuration");
    let mut map = HashMap::new();
    for Call { owned, op } in calls {
        let op = op.map(bytes);
        if let Op::Add { key, units, .. } = &op {
            // So that no count saturates.
            add(&plain, &mut map, key.borrow(), units.get() % (1 << 36));
        }
        if owned {
            game.play(op.map(|raw| raw.borrow().to_key()).as_ref());
        } else {
            game.play(op.as_ref().map(Borrow::borrow));
        }
    }
    game.finish();
    validate(&plain);
    assert_eq!(plain.len(), map.len());
    for (key, count) in &plain.snapshot() {
        assert_eq!(map.get(key), Some(&count));
    }
}

fn add<K, S>(store: &CounterStore<K, S>, map: &mut HashMap<K, u64>, key: &K::Form, n: u64)
where
    K: Key,
    S: std::hash::BuildHasher,
{
    let count = map.entry(key.to_key()).or_insert(0);
    *count += n;
    assert_eq!(store.try_add(key, n), Ok(*count));
    assert_eq!(store.get(key), Some(*count));
}
