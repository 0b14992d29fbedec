//! The public names and their exact shapes: what fails to compile here breaks a promise.

mod common;

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use common::{lock, serially};
use counterclock::{
    AtCapacity, Buffer, BuildError, Builder, Cause, Counter, CounterStore, Equivalent, Iter,
    MAX_COUNT, Pinned, RandomState, Rejected, Removal, Snapshot, Stats, Striped, ToKey, Totals,
    WeakStore, quanta,
};

#[test]
fn traits() {
    let _turn = serially();
    fn shared<T: Send + Sync + UnwindSafe + RefUnwindSafe + 'static>() {}
    fn clone<T: Clone + Debug>() {}
    fn value<T: Copy + Eq + Hash + Debug + Send + Sync + 'static>() {}
    fn error<T: Error + Clone + Eq + Send + Sync + 'static>() {}

    shared::<CounterStore<String>>();
    shared::<WeakStore<String>>();
    shared::<CounterStore<u64, std::hash::RandomState>>();
    clone::<CounterStore<String>>();
    clone::<WeakStore<String>>();
    fn handle<T: Send + UnwindSafe + RefUnwindSafe + Debug + 'static>() {}
    handle::<Counter<String>>();
    handle::<Striped<String>>();
    handle::<Buffer<String>>();
    handle::<Snapshot<String>>();
    clone::<Counter<String>>();
    clone::<Striped<String>>();
    fn shares<T: Send + Sync>() {}
    shares::<Iter<'_, String>>();
    fn also_for_keys_that_cannot_be_cloned<K: Send + Sync + 'static>() {
        shared_data::<Snapshot<K>>();
        handles::<CounterStore<K>>();
        handles::<WeakStore<K>>();
    }
    fn shared_data<T: Send + Sync + 'static>() {}
    fn handles<T: Clone + Debug + Send + Sync + 'static>() {}
    also_for_keys_that_cannot_be_cloned::<Mutex<u8>>();
    fn debug<T: Debug>() {}
    debug::<Pinned<'_, String>>();
    debug::<Snapshot<String>>();
    debug::<Iter<'_, String>>();
    debug::<Builder<String>>();
    debug::<Removal<'_, String>>();
    value::<Cause>();
    value::<AtCapacity>();
    value::<Rejected>();
    error::<Rejected>();
    error::<BuildError>();
    fn data<T: Copy + Eq + Debug + Default + Send + Sync + 'static>() {}
    data::<Totals>();
    data::<Stats>();
    fn hasher<T: BuildHasher + Clone + Default + Debug + Send + Sync + 'static>() {}
    hasher::<RandomState>();
    // A newtype of our own, not std's.
    fn default_hasher(store: CounterStore<u64>) -> CounterStore<u64, RandomState> {
        store
    }
    _ = default_hasher(CounterStore::new(1));
}

/// Each name with the type of all that it takes and returns.
#[test]
fn names() -> Result<(), Box<dyn Error>> {
    let _turn = serially();
    let (clock, mock): (quanta::Clock, Arc<quanta::Mock>) = quanta::Clock::mock();
    let builder: Builder<String> = CounterStore::<String>::builder();
    let builder: Builder<String, std::hash::RandomState> = builder
        .capacity(2)
        .idle_ttl(Duration::from_secs(1))
        .shards(1)
        .slack(64)
        .clock(clock)
        .at_capacity(AtCapacity::Reject)
        .on_removal(|removal: &Removal<'_, String>| {
            let Removal { key, count, cause, .. } = removal;
            let _: (&String, u64, Cause) = (key, *count, *cause);
        })
        .hasher(std::hash::RandomState::new());
    let built: Result<CounterStore<String, std::hash::RandomState>, BuildError> = builder.build();
    let store = built?;

    let count: u64 = store.increment("a");
    assert_eq!((count, store.add("a", 4_u64)), (1, 5));
    let tried: Result<u64, Rejected> = store.try_increment("a");
    assert_eq!((tried, store.try_add("a", 0)), (Ok(6), Ok(6)));
    assert_eq!(store.increment_owned("b".to_owned()), 1);
    assert_eq!(store.try_increment("c"), Err(Rejected::Capacity));
    let got: Option<u64> = store.get("a");
    assert_eq!((got, store.contains("c")), (Some(6), false));
    let removed: Option<u64> = store.remove("b");
    assert_eq!(removed, Some(1));
    let sizes: (usize, bool, usize, usize) =
        (store.len(), store.is_empty(), store.capacity(), store.waiting());
    assert_eq!((sizes.0, sizes.1, sizes.2), (1, false, 2));

    let counter: Counter<String, _> = store.counter("a");
    let of_counter: (u64, u64, Option<u64>, &String) =
        (counter.increment(), counter.add(3), counter.get(), counter.key());
    assert_eq!(of_counter, (7, 10, Some(10), &"a".to_owned()));
    let pinned: Pinned<'_, String, _> = store.pin();
    assert_eq!((pinned.increment("a"), pinned.add("a", 1), pinned.get("a")), (11, 12, Some(12)));
    drop(pinned);

    let snapshot: Snapshot<String> = store.snapshot();
    let iter: Iter<'_, String> = snapshot.iter();
    let shown: Vec<(&String, u64)> = iter.collect();
    assert_eq!(shown, [(&"a".to_owned(), 12)]);
    assert_eq!((snapshot.len(), snapshot.is_empty(), snapshot.get("a")), (1, false, Some(12)));
    let top: Vec<(&String, u64)> = snapshot.top(1);
    assert_eq!(top, shown);
    let owned: Vec<(String, u64)> = store.top(1);
    assert_eq!(owned, [("a".to_owned(), 12)]);

    let Totals { recorded, live, evicted, expired, removed, rejected, .. } = snapshot.totals();
    assert_eq!([recorded, live, evicted, expired, removed, rejected], [14, 12, 0, 0, 1, 1]);
    assert_eq!(store.totals(), snapshot.totals());
    let Stats { admitted, evicted, expired, removed, rejections, .. } = store.stats();
    assert_eq!([admitted, evicted, expired, removed, rejections], [2, 0, 0, 1, 1]);
    assert_eq!((store.stats().rejections_capacity, store.stats().rejections_memory), (1, 0));

    mock.increment(Duration::from_secs(2));
    let pruned: usize = store.prune();
    assert_eq!(pruned, 1);
    store.clear();
    let weak: WeakStore<String, _> = store.downgrade();
    assert!(weak.clone().upgrade().is_some());
    let _: u64 = MAX_COUNT;
    assert_eq!([Cause::Capacity, Cause::Idle, Cause::Removed].len(), 3);
    assert_eq!(AtCapacity::default(), AtCapacity::Evict);
    Ok(())
}

#[test]
fn the_default_is_the_originals() {
    let _turn = serially();
    let store = CounterStore::<u64>::default();
    assert_eq!((store.capacity(), store.len()), (2048, 0));
    let shown = format!("{store:?}");
    assert!(shown.contains("2048") && shown.contains("idle_ttl: Some(1800s)"), "{shown}");
}

/// `borrowed` admits, counts and finds what `owned` does.
fn form<K, Q>(borrowed: &Q, owned: K)
where
    K: Hash + Eq + Clone + Debug + Send + Sync + 'static,
    Q: ToKey<K> + ?Sized,
{
    let store = CounterStore::<K>::new(4);
    assert_eq!((store.increment(borrowed), store.increment(&owned)), (1, 2));
    assert_eq!((store.get(borrowed), store.get(&owned)), (Some(2), Some(2)));
    assert_eq!(store.increment_owned(owned.clone()), 3);
    assert_eq!((store.add(borrowed, 2), store.try_increment(borrowed)), (5, Ok(6)));
    assert_eq!(store.try_add(borrowed, 2), Ok(8));
    assert_eq!(store.counter(borrowed).increment(), 9);
    assert_eq!(store.pin().add(borrowed, 1), 10);
    assert_eq!((store.pin().get(borrowed), store.contains(borrowed)), (Some(10), true));
    assert_eq!(store.snapshot().get(borrowed), Some(10));
    assert_eq!(store.top(2), [(owned, 10)]);
    assert_eq!((store.len(), store.remove(borrowed)), (1, Some(10)));
}

#[test]
fn borrowed_forms() {
    let _turn = serially();
    form("a", "a".to_owned());
    form::<Box<str>, str>("a", "a".into());
    form::<Arc<str>, str>("a", "a".into());
    form::<Cow<'static, str>, str>("a", "a".into());
    form::<Vec<u8>, [u8]>(b"ab", b"ab".to_vec());
    form::<Box<[u8]>, [u8]>(b"ab", b"ab"[..].into());
    form::<Arc<[u8]>, [u8]>(b"ab", b"ab"[..].into());
    form::<PathBuf, Path>(Path::new("/a"), "/a".into());
    form::<Box<Path>, Path>(Path::new("/a"), Path::new("/a").into());
    form::<OsString, OsStr>(OsStr::new("a"), "a".into());
    form::<CString, CStr>(c"a", c"a".to_owned());
    form(&7_u64, 7_u64);
    form(&7_u8, 7_u8);
    form(&-7_i128, -7_i128);
    form(&7_usize, 7_usize);
    form(&'a', 'a');
    form(&"a", "a");
    form(&(1_u8, "a".to_owned()), (1_u8, "a".to_owned()));
    form(&[1_u8, 2], [1_u8, 2]);
    form(&(), ());
}

/// Neither `Clone` nor `Debug`, and looked for by a form of its own.
#[derive(PartialEq, Eq, Hash)]
struct Endpoint {
    host: String,
    port: u16,
}

#[derive(Hash)]
struct EndpointRef<'a> {
    host: &'a str,
    port: u16,
}

impl Equivalent<Endpoint> for EndpointRef<'_> {
    fn equivalent(&self, key: &Endpoint) -> bool {
        self.host == key.host && self.port == key.port
    }
}

/// Only `Hash + Equivalent`: enough to look and to remove.
#[derive(Hash)]
struct Look<'a>(&'a str, u16);

impl Equivalent<Endpoint> for Look<'_> {
    fn equivalent(&self, key: &Endpoint) -> bool {
        self.0 == key.host && self.1 == key.port
    }
}

static CONVERTED: AtomicU64 = AtomicU64::new(0);

impl ToKey<Endpoint> for EndpointRef<'_> {
    fn to_key(&self) -> Endpoint {
        CONVERTED.fetch_add(1, Relaxed);
        Endpoint { host: self.host.to_owned(), port: self.port }
    }
}

#[test]
fn forms_of_the_users_own() {
    let _turn = serially();
    let store = CounterStore::<Endpoint>::new(2);
    let endpoint = |host, port| EndpointRef { host, port };
    assert_eq!(store.increment(&endpoint("a", 1)), 1);
    assert_eq!(store.add(&endpoint("a", 1), 4), 5);
    assert_eq!(store.pin().increment(&endpoint("a", 1)), 6);
    assert_eq!(store.increment(&endpoint("a", 2)), 1);
    assert_eq!(CONVERTED.load(Relaxed), 2, "once for each new key");
    let owned = Endpoint { host: "a".to_owned(), port: 2 };
    assert_eq!(store.increment_owned(owned), 2);
    assert_eq!(store.get(&Look("a", 1)), Some(6));
    assert!(store.contains(&Look("a", 2)) && !store.contains(&Look("b", 2)));
    assert_eq!(store.pin().get(&Look("a", 1)), Some(6));
    assert_eq!(store.snapshot().get(&Look("a", 1)), Some(6));
    assert_eq!(store.remove(&Look("a", 1)), Some(6));
    let keys: HashMap<(String, u16), u64> =
        store.snapshot().iter().map(|(key, count)| ((key.host.clone(), key.port), count)).collect();
    assert_eq!(keys, HashMap::from([(("a".to_owned(), 2), 2)]));
}

/// The listener counts what ended in the same store, and looks and removes there.
#[test]
fn a_listener_may_call_the_store() {
    let _turn = serially();
    static STORE: OnceLock<WeakStore<String>> = OnceLock::new();
    let told = Arc::new(AtomicU64::new(0));
    let books = Arc::clone(&told);
    let store = CounterStore::<String>::builder()
        .capacity(8)
        .slack(64)
        .on_removal(move |removal| {
            books.fetch_add(1, Relaxed);
            let store = STORE.get().and_then(WeakStore::upgrade).expect("it lives");
            assert!(store.len() <= store.capacity());
            assert!(!store.contains(removal.key), "it has ended");
            assert_eq!(store.totals().recorded, store.snapshot().totals().recorded);
            // Admits at the cap and so recurses; that ends where `ended-` keys themselves end.
            if !removal.key.starts_with("ended-") {
                store.increment(&format!("ended-{:?}", removal.cause)[..]);
                store.remove("ended-Removed");
            }
        })
        .build()
        .expect("a store");
    assert!(STORE.set(store.downgrade()).is_ok());
    for i in 0..2_000 {
        assert_eq!(store.try_increment(&format!("key-{i}")), Ok(1));
        if i % 5 == 0 {
            store.remove(&format!("key-{i}"));
        }
    }
    let (totals, stats) = (store.totals(), store.stats());
    assert_eq!(stats.rejections, 0);
    assert!(stats.evicted > 1_000 && stats.removed > 400);
    assert_eq!(told.load(Relaxed), stats.evicted + stats.removed);
    assert_eq!(totals.recorded, totals.live + totals.evicted + totals.removed);
}

/// Outside any pin of ours: what it ends is freed while it runs, so little slack is enough.
#[test]
fn a_listener_runs_outside_pins() {
    let _turn = serially();
    let other = CounterStore::<u64>::builder().capacity(2).slack(64).build();
    let other = Arc::new(other.expect("a store"));
    let (churned, calls) = (Arc::clone(&other), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&calls);
    let (clock, mock) = quanta::Clock::mock();
    let store = CounterStore::<u64>::builder()
        .capacity(4)
        .clock(clock)
        .idle_ttl(common::TTL)
        .on_removal(move |_| {
            for _ in 0..1_000 {
                let key = counted.fetch_add(1, Relaxed);
                assert_eq!(churned.try_increment(&key), Ok(1), "pinned");
            }
        })
        .build()
        .expect("a store");
    type Step<'a> = &'a dyn Fn(&CounterStore<u64>);
    let steps: [Step<'_>; 12] = [
        &|store| (10..20).for_each(|key| _ = store.increment(&key)),
        &|store| (20..30).for_each(|key| _ = store.increment_owned(key)),
        &|store| (30..40).for_each(|key| _ = store.counter(&key)),
        &|store| (30..40).for_each(|key| _ = store.remove(&key)),
        &|store| store.clear(),
        &|store| _ = store.prune(),
        &|store| _ = store.get(&1),
        &|store| _ = store.increment(&1),
        &|store| _ = store.snapshot(),
        &|store| _ = store.totals(),
        &|store| _ = store.top(1),
        &|store| _ = store.counter(&1).get(),
    ];
    for (i, step) in steps.into_iter().enumerate() {
        for key in 0..4 {
            store.increment(&key);
        }
        mock.increment(2 * common::TTL);
        let before = calls.load(Relaxed);
        step(&store);
        assert!(calls.load(Relaxed) > before, "step {i} ended nothing");
    }
    assert_eq!(other.stats().rejections, 0);
}

#[test]
fn a_weak_store_keeps_nothing_alive() {
    let _turn = serially();
    let store = CounterStore::<u64>::new(3);
    let clone = store.clone();
    assert_eq!((store.increment(&1), clone.increment(&1)), (1, 2));
    let weak = store.downgrade();
    drop(store);
    assert_eq!(weak.upgrade().map(|store| store.len()), Some(1));
    drop(clone);
    assert!(weak.upgrade().is_none());
    assert!(format!("{weak:?}").contains("None"));
}

#[test]
fn what_is_shown_for_debugging() {
    let _turn = serially();
    let store = CounterStore::<u64>::new(3);
    store.add(&7, 40);
    let shown = format!("{store:?}");
    assert!(shown.contains("len: 1") && shown.contains("capacity: 3"), "{shown}");
    assert_eq!(format!("{:?}", store.snapshot()), "{7: 40}");
    assert!(format!("{:?}", store.pin()).contains("Pinned"));
    assert!(format!("{:?}", store.snapshot().iter()).contains('1'));
    assert!(format!("{:?}", CounterStore::<u64>::builder()).contains("Builder"));
    let hasher = format!("{:?}", RandomState::new());
    assert!(hasher.contains("RandomState") && !hasher.contains(char::is_numeric), "{hasher}");
    let (counter, striped) = (store.counter(&7), store.striped(&7));
    assert!(format!("{counter:?}").contains("Counter { key: 7"), "{counter:?}");
    assert!(format!("{striped:?}").contains("Striped"), "{striped:?}");
    let buffer = store.buffer();
    buffer.add(&7, 3);
    assert!(format!("{buffer:?}").contains("held: 3"), "{buffer:?}");
    buffer.flush();
    let snapshot = store.snapshot();
    let mut iter = snapshot.iter();
    assert_eq!((iter.size_hint(), iter.len()), ((1, Some(1)), 1));
    iter.next();
    assert_eq!((iter.size_hint(), iter.next()), ((0, Some(0)), None));
    let told = Arc::new(Mutex::new(String::new()));
    let books = Arc::clone(&told);
    let store = CounterStore::<u64>::builder()
        .capacity(1)
        .on_removal(move |removal| *lock(&books) = format!("{removal:?}"))
        .build()
        .expect("a store");
    store.add(&7, 40);
    store.remove(&7);
    assert_eq!(
        *lock(&told),
        "Removal { key: 7, count: 40, cause: Removed, lanes: [40], created: None, last_used: None }"
    );
}
