//! What a scrape shows, read back.
#![cfg(feature = "prometheus-client")]

mod common;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::openmetrics::{Family, Labels, parse};
use common::traffic::{four_keys, three_places, while_adding};
use common::{Config, TTL};
use counterclock::export::prometheus::StoreCollector;
use counterclock::export::{Export, ExportError};
use counterclock::quanta::Clock;
use counterclock::{CounterStore, LaneStore};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

type Families = std::collections::BTreeMap<String, Family>;

fn registry<K, S>(collector: StoreCollector<CounterStore<K, S>>) -> Registry
where
    StoreCollector<CounterStore<K, S>>: prometheus_client::collector::Collector,
    CounterStore<K, S>: counterclock::export::Source,
{
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector));
    registry
}

fn scrape(registry: &Registry) -> Families {
    let mut text = String::new();
    encode(&mut text, registry).expect("a String takes all");
    parse(&text)
}

fn labels<const N: usize>(labels: [(&str, &str); N]) -> Labels {
    labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn samples<const N: usize>(samples: [(&str, &str, u64); N]) -> Vec<(Labels, f64)> {
    let mut all: Vec<_> =
        samples.iter().map(|&(name, value, n)| (labels([(name, value)]), n as f64)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn of(families: &Families, name: &str) -> Vec<(Labels, f64)> {
    families[name].samples.clone().into_iter().collect()
}

fn single(families: &Families, name: &str) -> f64 {
    families[name].samples[&Labels::new()]
}

#[test]
fn every_family() {
    let store = three_places();
    let export = Export::new(store.clone()).prefix("drops").label("session").top(2);
    let registry = registry(export.collector().expect("names"));
    four_keys(&store);
    scrape(&registry);
    store.add("a", 1);
    store.add("b", 2);
    store.add("c", 3);
    store.remove("c");
    let families = scrape(&registry);
    let shown = samples([("session", "a", 1), ("session", "b", 2), ("other", "true", 38)]);
    assert_eq!(of(&families, "drops"), shown);
    assert_eq!(single(&families, "drops_recorded"), 41.0);
    assert_eq!(single(&families, "drops_admissions"), 3.0);
    let removals =
        samples([("cause", "capacity", 0), ("cause", "idle", 0), ("cause", "removed", 1)]);
    assert_eq!(of(&families, "drops_removals"), removals);
    let rejections = samples([("reason", "capacity", 1), ("reason", "memory", 0)]);
    assert_eq!(of(&families, "drops_rejections"), rejections);
    assert_eq!(single(&families, "drops_keys"), 2.0);
    assert_eq!(single(&families, "drops_capacity"), 3.0);
    assert_eq!(single(&families, "drops_waiting"), store.waiting() as f64);
    for (name, family) in &families {
        let gauge = ["drops_keys", "drops_capacity", "drops_waiting"].contains(&name.as_str());
        assert_eq!(family.kind, if gauge { "gauge" } else { "counter" }, "{name}");
    }
    assert_eq!(families.len(), 8);
}

/// Lanes have series of their own, and the lives of their store.
#[test]
fn lanes() {
    let store: LaneStore<String, 2> = CounterStore::builder().capacity(8).build_lanes().unwrap();
    let mut registry = Registry::default();
    for (lane, prefix) in store.lanes().into_iter().zip(["drops", "no_client"]) {
        let export = Export::new(lane).prefix(prefix).label("session");
        registry.register_collector(Box::new(export.collector().expect("names")));
    }
    store.add("a", [1, 0]);
    store.add("b", [0, 2]);
    scrape(&registry);
    store.add("a", [5, 3]);
    store.add("b", [7, 9]);
    store.remove("b");
    let families = scrape(&registry);
    assert_eq!(of(&families, "drops"), samples([("session", "a", 5), ("other", "true", 8)]));
    let no_client = samples([("session", "a", 0), ("session", "b", 9), ("other", "true", 5)]);
    assert_eq!(of(&families, "no_client"), no_client);
    for (prefix, recorded) in [("drops", 13.0), ("no_client", 14.0)] {
        assert_eq!(single(&families, &format!("{prefix}_recorded")), recorded);
        assert_eq!(single(&families, &format!("{prefix}_admissions")), 2.0);
        assert_eq!(single(&families, &format!("{prefix}_keys")), 1.0);
    }
}

#[test]
fn created_times_as_gauges() {
    let store = CounterStore::<u64>::new(8);
    let registry = registry(Export::new(store.clone()).collector().expect("names").created());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after it").as_secs_f64();
    let before = now();
    store.add(&7, 1);
    let families = scrape(&registry);
    let created = families["counterclock_series_created_seconds"].samples[&labels([("key", "7")])];
    // Two clocks, read one after the other: a step or slew of one may come between.
    assert!((before - 1.0..now() + 1.0).contains(&created), "{created}");
    assert_eq!(families["counterclock_series_created_seconds"].samples.len(), 1);
}

/// Whatever a key is, it is a label and does not collide.
#[test]
fn hostile_keys() {
    let keys = [
        "",
        "other",
        "true",
        "\"",
        "\\",
        "\n",
        "\\n",
        "a\"} 1\n# EOF\n",
        "a,b=\"c\"",
        "{",
        "}",
        "ä€😀",
        "\u{0}",
        "\r",
        "\t",
        " ",
        "\u{2028}",
        "session",
        "a\\",
        "a\\\"",
    ];
    let store = CounterStore::<String>::new(64);
    let export = Export::new(store.clone()).prefix("x").label("session").top(64);
    let mut registry = Registry::with_labels([("host".into(), "h\"1".into())].into_iter());
    registry.register_collector(Box::new(export.collector().expect("names")));
    keys.iter().for_each(|key| _ = store.increment(*key));
    scrape(&registry);
    for (i, key) in keys.iter().enumerate() {
        store.add(*key, i as u64 + 1);
    }
    let families = scrape(&registry);
    for (i, key) in keys.iter().enumerate() {
        let labels = labels([("session", key), ("host", "h\"1")]);
        assert_eq!(families["x"].samples[&labels], i as f64 + 1.0, "{key:?}");
    }
    assert_eq!(families["x"].samples.len(), keys.len() + 1);
}

#[test]
fn keys_of_one_label_are_one_series() {
    let store = CounterStore::<u64>::new(64);
    let export = Export::labelled(store.clone(), |key| format!("tenant-{}", key % 2));
    let registry = registry(export.collector().expect("names"));
    (0..10).for_each(|key| _ = store.increment(&key));
    scrape(&registry);
    (0..10).for_each(|key| _ = store.add(&key, key));
    let expected =
        samples([("key", "tenant-0", 20), ("key", "tenant-1", 25), ("other", "true", 10)]);
    assert_eq!(of(&scrape(&registry), "counterclock"), expected);
}

#[test]
fn names_are_checked() {
    let export = || Export::new(CounterStore::<u64>::new(1));
    let long = "a".repeat(201);
    for bad in ["", "1a", "_a", "a-b", "a b", "ä", "a\n", "a.b", "a:b", long.as_str()] {
        let error = export().prefix(bad).collector().expect_err(bad);
        assert_eq!(error, ExportError::Prefix { prefix: bad.to_owned() });
        assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        let error = export().label(bad).collector().expect_err(bad);
        assert_eq!(error, ExportError::Label { label: bad.to_owned() });
        assert!(error.to_string().contains(&format!("{bad:?} is no label")), "{error}");
    }
    let error = export().label("other").collector().expect_err("that of the rest");
    assert!(error.to_string().contains("the rest"), "{error}");
    assert!(export().prefix("a").label(&long[1..]).collector().is_ok());
}

#[test]
fn what_debug_shows() {
    let export = Export::new(CounterStore::<u64>::new(1)).top(2);
    let names = r#"prefix: "counterclock", label: "key", "#;
    let shown = format!("{export:?}");
    assert_eq!(shown, format!("Export {{ {names}top: 2, linger: 0ns, .. }}"));
    let shown = format!("{:?}", export.collector().expect("names"));
    assert!(shown.starts_with("StoreCollector {") && shown.contains(names), "{shown}");
}

#[test]
fn a_series_lingers() {
    let (clock, mock) = Clock::mock();
    let store = CounterStore::<u64>::new(8);
    let linger = Duration::from_secs(30);
    let export = Export::new(store.clone()).linger(linger).clock(clock);
    let registry = registry(export.collector().expect("names"));
    store.increment(&1);
    scrape(&registry);
    mock.increment(linger);
    store.add(&1, 4);
    store.remove(&1);
    for _ in 0..3 {
        assert_eq!(scrape(&registry)["counterclock"].samples[&labels([("key", "1")])], 4.0);
    }
    mock.increment(linger);
    assert_eq!(scrape(&registry)["counterclock"].samples.len(), 1);
}

/// A scrape that panics in the user's code does not spoil the next one.
#[test]
fn a_label_that_panics() {
    let panics = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&panics);
    let store = CounterStore::<u64>::new(8);
    let export = Export::labelled(store.clone(), move |key| {
        assert!(!asked.load(SeqCst), "as asked");
        key.to_string()
    });
    let registry = registry(export.collector().expect("names"));
    store.add(&1, 5);
    assert!(catch_unwind(AssertUnwindSafe(|| scrape(&registry))).is_err());
    panics.store(false, SeqCst);
    let expected = samples([("key", "1", 0), ("other", "true", 5)]);
    assert_eq!(of(&scrape(&registry), "counterclock"), expected);
}

/// What Prometheus makes of the scrapes: increases that add up to what was added, while keys come
/// and go.
#[test]
fn churn_while_it_is_scraped() {
    let config = Config { ttl: Some(TTL), ..Config::plain(64, 4) };
    let bed = &config.bed::<String>();
    let registry = registry(Export::new(bed.store.clone()).top(5).collector().expect("names"));
    let mut samples = HashMap::<Labels, f64>::new();
    let mut increase = 0.0;
    let mut restarts = 0;
    let mut look = || {
        let families = scrape(&registry);
        let family = &families["counterclock"];
        assert!(family.samples.len() <= 11);
        for (labels, &value) in &family.samples {
            let last = samples.insert(labels.clone(), value).unwrap_or(0.0);
            restarts += usize::from(value < last);
            increase += if value < last { value } else { value - last };
        }
        assert_eq!(increase, single(&families, "counterclock_recorded"));
        (increase, restarts)
    };
    // Until enough has come of the threads.
    let mut looks = 0;
    let added = while_adding(bed, 3, 200, || {
        looks += 1;
        let (_, restarts) = look();
        looks < 200 || (looks < 100_000 && restarts == 0)
    });
    let (increase, restarts) = look();
    assert_eq!(increase, added as f64);
    assert!(restarts > 0, "no series ever started again");
}
