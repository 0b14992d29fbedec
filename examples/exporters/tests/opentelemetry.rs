//! A real pipeline of the SDK, both temporalities.

#[path = "../../../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use common::traffic::{four_keys, three_places, while_adding};
use common::{Config, TTL};
use counterclock::export::Export;
use counterclock::quanta::Clock;
use counterclock::{CounterStore, LaneStore};
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, InMemoryMetricExporterBuilder, Instrument, PeriodicReader,
    SdkMeterProvider, Stream, Temporality,
};

/// Points of all instruments: by name, and by their attributes as text.
type Points = BTreeMap<String, BTreeMap<String, u64>>;

struct Pipeline {
    provider: SdkMeterProvider,
    exporter: InMemoryMetricExporter,
}

impl Pipeline {
    fn new(temporality: Temporality) -> Self {
        let exporter = InMemoryMetricExporterBuilder::new().with_temporality(temporality).build();
        // Collections happen when they are asked for.
        let reader = PeriodicReader::builder(exporter.clone());
        let reader = reader.with_interval(Duration::from_secs(24 * 60 * 60)).build();
        let provider = SdkMeterProvider::builder().with_reader(reader);
        let limit = |instrument: &Instrument| {
            let limited = instrument.name() == "limited";
            limited.then(|| Stream::builder().with_cardinality_limit(4).build().expect("a stream"))
        };
        Self { provider: provider.with_view(limit).build(), exporter }
    }

    fn collect(&self) -> Points {
        self.exporter.reset();
        self.provider.force_flush().expect("a collection");
        let mut points = Points::new();
        for metrics in self.exporter.get_finished_metrics().expect("metrics") {
            for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
                let AggregatedMetrics::U64(data) = metric.data() else { panic!("not of u64") };
                let found: Vec<_> = match data {
                    MetricData::Sum(sum) => {
                        assert!(sum.is_monotonic());
                        sum.data_points().map(|p| (text(p.attributes()), p.value())).collect()
                    }
                    MetricData::Gauge(gauge) => {
                        gauge.data_points().map(|p| (text(p.attributes()), p.value())).collect()
                    }
                    _ => panic!("neither a sum nor a gauge"),
                };
                let points = points.entry(metric.name().to_owned()).or_default();
                for (attributes, value) in found {
                    assert_eq!(points.insert(attributes, value), None, "a series twice");
                }
            }
        }
        points
    }
}

fn text<'a>(attributes: impl Iterator<Item = &'a opentelemetry::KeyValue>) -> String {
    attributes.map(|kv| format!("{}={}", kv.key, kv.value)).collect::<Vec<_>>().join(",")
}

fn map<const N: usize>(points: [(&str, u64); N]) -> BTreeMap<String, u64> {
    points.map(|(attributes, value)| (attributes.to_owned(), value)).into()
}

#[test]
fn every_instrument() {
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let pipeline = Pipeline::new(temporality);
        let store = three_places();
        let export = Export::new(store.clone()).prefix("drops").label("session").top(2);
        export.instruments(&pipeline.provider.meter("test")).expect("names");
        four_keys(&store);
        let points = pipeline.collect();
        assert_eq!(points["drops"], map([("session=a", 0), ("session=b", 0), ("other=true", 35)]));
        store.add("a", 1);
        store.add("b", 2);
        store.add("c", 3);
        store.remove("c");
        let points = pipeline.collect();
        // What was before, of which deltas are less.
        let then = |n| if temporality == Temporality::Delta { 0 } else { n };
        let shown = [("session=a", 1), ("session=b", 2), ("other=true", then(35) + 3)];
        assert_eq!(points["drops"], map(shown));
        assert_eq!(points["drops_recorded"], map([("", then(35) + 6)]));
        assert_eq!(points["drops_admissions"], map([("", then(3))]));
        let removals = [("cause=capacity", 0), ("cause=idle", 0), ("cause=removed", 1)];
        assert_eq!(points["drops_removals"], map(removals));
        let rejections = [("reason=capacity", then(1)), ("reason=memory", 0)];
        assert_eq!(points["drops_rejections"], map(rejections));
        assert_eq!(points["drops_keys"], map([("", 2)]));
        assert_eq!(points["drops_capacity"], map([("", 3)]));
        assert_eq!(points["drops_waiting"], map([("", store.waiting() as u64)]));
        assert_eq!(points.len(), 8);
    }
}

/// Lanes have series and sums of their own, and the lives of their store.
#[test]
fn lanes() {
    let pipeline = Pipeline::new(Temporality::Cumulative);
    let store: LaneStore<String, 2> = CounterStore::builder().capacity(8).build_lanes().unwrap();
    for (lane, prefix) in store.lanes().into_iter().zip(["requests", "bytes"]) {
        let export = Export::new(lane).prefix(prefix);
        export.instruments(&pipeline.provider.meter("test")).expect("names");
    }
    store.add("a", [1, 1500]);
    pipeline.collect();
    store.add("a", [1, 40]);
    let points = pipeline.collect();
    assert_eq!(points["requests"], map([("key=a", 1), ("other=true", 1)]));
    assert_eq!(points["bytes"], map([("key=a", 40), ("other=true", 1500)]));
    assert_eq!(points["requests_recorded"], map([("", 2)]));
    assert_eq!(points["bytes_recorded"], map([("", 1540)]));
    assert_eq!(points["bytes_admissions"], map([("", 1)]));
}

/// Shown once more, gone, and back from 0: nothing wraps, and deltas add up.
#[test]
fn a_series_that_goes_and_comes_back() {
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let pipeline = Pipeline::new(temporality);
        let store = CounterStore::<u64>::new(64);
        let export = Export::new(store.clone()).prefix("drops").top(1);
        export.instruments(&pipeline.provider.meter("test")).expect("names");
        let delta = temporality == Temporality::Delta;
        let expect = |series: Option<u64>, other: u64| {
            let mut expected = map([("other=true", other)]);
            expected.extend(series.map(|value| ("key=1".to_owned(), value)));
            assert_eq!(pipeline.collect()["drops"], expected, "{temporality:?}");
        };
        store.add(&1, 10);
        expect(Some(0), 10);
        store.add(&1, 7);
        expect(Some(7), if delta { 0 } else { 10 });
        store.add(&1, 5);
        store.remove(&1);
        expect(Some(if delta { 5 } else { 12 }), if delta { 0 } else { 10 });
        expect(None, if delta { 0 } else { 10 });
        store.add(&1, 3);
        expect(Some(0), if delta { 3 } else { 13 });
        store.add(&1, 2);
        expect(Some(2), if delta { 0 } else { 13 });
    }
}

/// The rest is observed first: the SDK's limit folds others.
#[test]
fn the_rest_is_below_the_limit() {
    let pipeline = Pipeline::new(Temporality::Cumulative);
    let store = CounterStore::<u64>::new(64);
    let export = Export::new(store.clone()).prefix("limited").top(20);
    export.instruments(&pipeline.provider.meter("test")).expect("names");
    (0..20).for_each(|key| _ = store.increment(&key));
    for _ in 0..20 {
        let points = pipeline.collect();
        assert_eq!(points["limited"]["other=true"], 20);
        assert!(points["limited"].contains_key("otel.metric.overflow=true"), "{points:?}");
    }
}

/// A panic of the user's code would end the SDK's thread, and all exports with it. The last state
/// is exported instead: a delta reader that saw nothing would export it all once more.
#[test]
fn a_label_that_panics() {
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let pipeline = Pipeline::new(temporality);
        let store = CounterStore::<u64>::new(64);
        let panics = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&panics);
        let export = Export::labelled(store.clone(), move |key| {
            assert!(!asked.load(SeqCst), "as asked");
            key.to_string()
        });
        let meter = pipeline.provider.meter("test");
        export.prefix("drops").top(1).instruments(&meter).expect("names");
        let then = |n| if temporality == Temporality::Delta { 0 } else { n };
        store.add(&1, 10);
        assert_eq!(pipeline.collect()["drops"], map([("key=1", 0), ("other=true", 10)]));
        store.add(&1, 7);
        assert_eq!(pipeline.collect()["drops"], map([("key=1", 7), ("other=true", then(10))]));
        store.add(&1, 1);
        store.add(&2, 100);
        panics.store(true, SeqCst);
        let shown = map([("key=1", then(7) + 1), ("other=true", then(10) + 100)]);
        assert_eq!(pipeline.collect()["drops"], shown);
        store.add(&2, 2);
        let shown = map([("key=1", then(8)), ("other=true", then(110) + 2)]);
        let points = pipeline.collect();
        assert_eq!(points["drops"], shown);
        assert_eq!(points["drops_recorded"], map([("", then(118) + 2)]));
        panics.store(false, SeqCst);
        let shown = map([("key=1", then(8)), ("key=2", 0), ("other=true", then(112))]);
        assert_eq!(pipeline.collect()["drops"], shown);
    }
}

/// How many hashes of [`Fused`] keys are left before one panics.
static FUSE: AtomicU64 = AtomicU64::new(u64::MAX);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fused(u64);

impl Hash for Fused {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert_ne!(FUSE.fetch_sub(1, SeqCst), 0, "as asked");
        self.0.hash(state);
    }
}

/// Wherever an update panics, the state that is exported adds up.
#[test]
fn a_hash_that_panics() {
    let blown = (0..).take_while(|&hashes| {
        let pipeline = Pipeline::new(Temporality::Cumulative);
        let store = CounterStore::<Fused>::new(64);
        let export = Export::labelled(store.clone(), |key: &Fused| key.0.to_string());
        let meter = pipeline.provider.meter("test");
        export.prefix("drops").top(3).instruments(&meter).expect("names");
        let add = || (1..4).for_each(|key| _ = store.add(&Fused(key), 10 * key));
        add();
        pipeline.collect();
        add();
        FUSE.store(hashes, SeqCst);
        let points = pipeline.collect();
        let blown = FUSE.swap(u64::MAX, SeqCst) > hashes;
        let shown: u64 = points["drops"].values().sum();
        assert_eq!((shown, points["drops_recorded"][""]), (120, 120), "after {hashes}");
        assert!(points["drops"]["other=true"] >= 60);
        blown
    });
    assert!(blown.count() > 0);
}

/// Whichever instrument's reading ends the lives.
#[test]
fn a_listener_that_panics() {
    let pipeline = Pipeline::new(Temporality::Cumulative);
    let (clock, mock) = Clock::mock();
    let store = CounterStore::<u64>::builder()
        .capacity(100)
        .shards(8)
        .idle_ttl(Duration::from_secs(60))
        .clock(clock)
        .on_removal(|_| panic!("as asked"))
        .build()
        .expect("a store");
    for prefix in ["drops", "again"] {
        let export = Export::new(store.clone()).prefix(prefix);
        export.instruments(&pipeline.provider.meter("test")).expect("names");
    }
    (0..100).for_each(|key| _ = store.increment(&key));
    let mut recorded = vec![pipeline.collect()["drops_recorded"][""]];
    store.add(&0, 5);
    mock.increment(Duration::from_secs(600));
    // Each panic ends the reading of one shard, and its lives have ended.
    for _ in 0..8 {
        let points = pipeline.collect();
        assert_eq!(points.len(), 16);
        recorded.push(points["drops_recorded"][""]);
    }
    assert_eq!((recorded[1], recorded[8]), (100, 105), "{recorded:?}");
    assert!(recorded.is_sorted(), "{recorded:?}");
}

#[test]
fn names_are_checked() {
    let provider = SdkMeterProvider::default();
    let export = Export::new(CounterStore::<u64>::new(1)).prefix("a-b");
    assert!(export.instruments(&provider.meter("test")).is_err());
}

#[test]
fn churn_while_it_is_collected() {
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let config = Config { ttl: Some(TTL), ..Config::plain(64, 4) };
        let bed = &config.bed::<u64>();
        let pipeline = Pipeline::new(temporality);
        let export = Export::new(bed.store.clone()).prefix("drops").top(5);
        export.instruments(&pipeline.provider.meter("test")).expect("names");
        let (mut last, mut sum) = (BTreeMap::new(), 0);
        let mut look = || {
            let points = pipeline.collect();
            assert!(points["drops"].len() <= 11);
            for (attributes, &value) in &points["drops"] {
                assert!(value < 1 << 60, "it has wrapped: {value}");
                sum += match temporality {
                    Temporality::Delta => value,
                    _ => match last.insert(attributes.clone(), value) {
                        Some(last) if last <= value => value - last,
                        _ => value,
                    },
                };
            }
            sum
        };
        let mut looks = 0;
        let added = while_adding(bed, 2, 200, || {
            looks += 1;
            look();
            looks < 100
        });
        assert_eq!(look(), added, "{temporality:?}");
    }
}
