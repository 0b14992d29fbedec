//! Through the facade, with a recorder that keeps what it is told.

#[path = "../../../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::traffic::{four_keys, three_places};
use counterclock::CounterStore;
use counterclock::export::Export;
use counterclock::quanta::Clock;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

/// What was told since the last time, by name and labels.
fn told(recorder: &DebuggingRecorder) -> BTreeMap<String, u64> {
    let mut told = BTreeMap::new();
    for (key, _, help, value) in recorder.snapshotter().snapshot().into_vec() {
        assert!(help.is_some_and(|help| !help.is_empty()), "{key:?} is not described");
        let labels: String =
            key.key().labels().map(|label| format!(" {}={}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(n) => n,
            DebugValue::Gauge(n) => n.into_inner() as u64,
            DebugValue::Histogram(_) => panic!("no histograms"),
        };
        assert_eq!(told.insert(format!("{}{labels}", key.key().name()), value), None);
    }
    told
}

#[test]
fn all_of_it() {
    let recorder = DebuggingRecorder::new();
    let store = three_places();
    let export = Export::new(store.clone()).prefix("drops").label("session").top(2);
    let mut publisher = export.publisher().expect("names");
    let mut publish = || {
        metrics::with_local_recorder(&recorder, || publisher.publish());
        told(&recorder)
    };
    four_keys(&store);
    let first = publish();
    let expected = [
        ("drops_total other=true", 35),
        ("drops_total session=a", 0),
        ("drops_total session=b", 0),
        ("drops_recorded_total", 35),
        ("drops_admissions_total", 3),
        ("drops_removals_total cause=capacity", 0),
        ("drops_removals_total cause=idle", 0),
        ("drops_removals_total cause=removed", 0),
        ("drops_rejections_total reason=capacity", 1),
        ("drops_rejections_total reason=memory", 0),
        ("drops_keys", 3),
        ("drops_capacity", 3),
        ("drops_waiting", 0),
    ];
    assert_eq!(first, expected.map(|(name, n)| (name.to_owned(), n)).into());

    store.add("a", 1);
    store.add("b", 2);
    store.add("c", 3);
    store.remove("c");
    let next = publish();
    let named = |names: [&str; 8]| names.map(|name| next[name]);
    let grown = named([
        "drops_total other=true",
        "drops_total session=a",
        "drops_total session=b",
        "drops_recorded_total",
        "drops_admissions_total",
        "drops_removals_total cause=removed",
        "drops_rejections_total reason=capacity",
        "drops_keys",
    ]);
    assert_eq!(grown, [3, 1, 2, 6, 0, 1, 0, 2]);
}

/// A series that starts again goes on growing in the recorder, and all of it adds up.
#[test]
fn a_series_that_starts_again() {
    let recorder = DebuggingRecorder::new();
    let store = CounterStore::<u64>::new(8);
    let mut publisher = Export::new(store.clone()).top(1).publisher().expect("names");
    let mut publish = || {
        metrics::with_local_recorder(&recorder, || publisher.publish());
        let told = told(&recorder);
        [told["counterclock_total key=1"], told["counterclock_total other=true"]]
    };
    store.add(&1, 5);
    assert_eq!(publish(), [0, 5]);
    store.add(&1, 100);
    store.remove(&1);
    assert_eq!(publish(), [100, 0]);
    assert_eq!(publish(), [0, 0]);
    store.add(&1, 6);
    assert_eq!(publish(), [0, 6]);
    store.add(&1, 7);
    assert_eq!(publish(), [7, 0]);
}

/// In a recorder that keeps its counters, as all do but the one above: what is added is the growth.
#[test]
fn counters_add_up() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let store = CounterStore::<u64>::new(8);
    let mut publisher = Export::new(store.clone()).top(1).publisher().expect("names");
    let mut shows = |expected: [u64; 3]| {
        metrics::with_local_recorder(&recorder, || publisher.publish());
        let text = recorder.handle().render();
        let names = ["_total{key=\"1\"}", "_total{other=\"true\"}", "_recorded_total"];
        for (name, n) in names.into_iter().zip(expected) {
            let line = format!("counterclock{name} {n}");
            assert!(text.lines().any(|shown| shown == line), "no {line} in\n{text}");
        }
    };
    store.add(&1, 50);
    shows([0, 50, 50]);
    store.add(&1, 20);
    shows([20, 50, 70]);
    store.add(&1, 20);
    store.remove(&1);
    shows([40, 50, 90]);
    shows([40, 50, 90]);
    // Started again at 0: an absolute value would stand still until it is above 40.
    store.add(&1, 1);
    shows([40, 51, 91]);
    store.add(&1, 3);
    shows([43, 51, 94]);
}

/// Panics when it is asked for a labelled series.
struct Panicking(DebuggingRecorder);

impl Recorder for Panicking {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.0.describe_counter(name, unit, help);
    }
    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.0.describe_gauge(name, unit, help);
    }
    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.0.describe_histogram(name, unit, help);
    }
    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        assert!(key.labels().all(|label| label.key() != "key"), "as asked");
        self.0.register_counter(key, metadata)
    }
    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.0.register_gauge(key, metadata)
    }
    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.0.register_histogram(key, metadata)
    }
}

/// What a recorder was told before it panicked is not told again.
#[test]
fn a_recorder_that_panics() {
    let recorder = Panicking(DebuggingRecorder::new());
    let store = CounterStore::<u64>::new(8);
    let mut publisher = Export::new(store.clone()).publisher().expect("names");
    store.add(&1, 10);
    let publish = AssertUnwindSafe(|| {
        metrics::with_local_recorder(&recorder, || publisher.publish());
    });
    assert!(catch_unwind(publish).is_err());
    assert_eq!(told(&recorder.0)["counterclock_total other=true"], 10);
    let Panicking(recorder) = recorder;
    metrics::with_local_recorder(&recorder, || publisher.publish());
    assert_eq!(told(&recorder)["counterclock_total other=true"], 0);
}

/// A recorder's idle timeout forgets a series that lingers at its final value.
#[test]
fn what_does_not_change_any_more_is_not_told() {
    let recorder = DebuggingRecorder::new();
    let store = CounterStore::<u64>::new(8);
    let linger = Duration::from_secs(3600);
    let (clock, mock) = Clock::mock();
    let export = Export::new(store.clone()).linger(linger).clock(clock);
    let mut publisher = export.publisher().expect("names");
    store.add(&1, 10);
    metrics::with_local_recorder(&recorder, || publisher.publish());
    mock.increment(linger);
    store.add(&1, 5);
    store.remove(&1);
    metrics::with_local_recorder(&recorder, || publisher.publish());
    assert_eq!(told(&recorder)["counterclock_total key=1"], 5);
    // It panics if it is asked for the series.
    metrics::with_local_recorder(&Panicking(recorder), || publisher.publish());
    assert_eq!(
        format!("{publisher:?}"),
        r#"Publisher { prefix: "counterclock", label: "key", .. }"#
    );
}

#[test]
fn names_are_checked() {
    let export = Export::new(CounterStore::<u64>::new(1)).label("other");
    assert!(export.publisher().is_err());
}
