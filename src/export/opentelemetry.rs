//! Observable instruments of OpenTelemetry. Feature `opentelemetry`.
//!
//! ```
//! use counterclock::CounterStore;
//! use counterclock::export::Export;
//! use opentelemetry::global;
//!
//! let drops: CounterStore<String> = CounterStore::new(2048);
//! // Of the provider that the application has set up.
//! let meter = global::meter("sse");
//! Export::new(drops.clone()).prefix("drops").label("session").top(20).instruments(&meter)?;
//! drops.increment("a");
//! # Ok::<(), counterclock::export::ExportError>(())
//! ```
//!
//! The names are those of the table in [`export`](super) without `_total`, which exporters to
//! Prometheus append. The rest has the attribute `other = true`, and no key.
//!
//! # The two limits
//!
//! The SDK has a cardinality limit of its own, 2000 attribute sets for an instrument unless a view
//! sets another. What goes beyond it is folded into one overflow set, and of observable instruments
//! the last value there replaces the others, so what they count is lost. Stay below it: an
//! instrument here has at most 1 + n sets, and those that are final, at most n for each collection
//! while they [linger](Export::linger). The rest is observed first, so it always has a place.
//!
//! # Temporality
//!
//! Both are exact. With *cumulative* temporality a series that is gone is not exported any more,
//! and one that is back starts at 0, with the start time of the instrument, since the SDK has no
//! other: who reads it sees a restart. With *delta* temporality the SDK subtracts what it exported
//! last, and forgets a series that it did not see in one collection; so one that is back starts
//! from 0 there, too.
//!
//! Each collection by each reader is an update. With more than one reader, set
//! [`Export::linger`] to twice the longest interval: a delta reader that did not see that a
//! series was gone would subtract its old value from the new one, which is less.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::opentelemetry::KeyValue;
use ::opentelemetry::metrics::Meter;

use super::config::Checked;
use super::families::{Family, OTHER};
use super::{Export, ExportError, Source, TopSeries};
use crate::Stats;

impl<S: Source> Export<S>
where
    S::Key: Clone,
{
    /// Creates the instruments. Their callbacks live as long as the meter's provider does, and the
    /// store with them.
    ///
    /// Collections by several readers wait for each other; nobody who counts waits for one. The
    /// instruments are read one after the other, so only those of one family are of one snapshot;
    /// each by itself never falls.
    ///
    /// If the user's code panics in a collection (the function of a label, a removal listener), the
    /// panic ends there, since the SDK's thread would end with it. What was read last is exported
    /// again, and the next collection tries again.
    ///
    /// # Errors
    ///
    /// If the prefix or the label is no name.
    pub fn instruments(self, meter: &Meter) -> Result<(), ExportError> {
        let Checked { series, prefix, label } = self.check()?;
        let instruments = Instruments { meter, prefix, series: Arc::new(Mutex::new(series)) };
        instruments.series(label);
        instruments.recorded();
        instruments.events();
        instruments.gauges();
        Ok(())
    }
}

struct Instruments<'a, S: Source> {
    meter: &'a Meter,
    prefix: String,
    series: Arc<Mutex<TopSeries<S, String>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // An update that panicked leaves the series as its documentation says.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A panic of the user's code would end the SDK's thread. The last state is observed then: of what
/// is not observed at all, a delta reader forgets what it has exported.
fn caught<R>(read: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(read)).ok()
}

impl<S: Source> Instruments<'_, S>
where
    S::Key: Clone,
{
    fn series(&self, label: String) {
        let series = Arc::clone(&self.series);
        self.counter(&Family::SERIES, move |observe| {
            let mut series = lock(&series);
            caught(|| _ = series.update());
            let update = series.last();
            // First: whatever else is too much for the SDK, this is not.
            observe(update.other(), Some(KeyValue::new(OTHER, true)));
            for (value, series) in update.series() {
                observe(series.value(), Some(KeyValue::new(label.clone(), value.clone())));
            }
        });
    }

    /// From a reading of its own: where a view has dropped the series, nothing updates them.
    fn recorded(&self) {
        let series = Arc::clone(&self.series);
        let last = AtomicU64::new(0);
        self.counter(&Family::RECORDED, move |observe| {
            let series = lock(&series);
            if let Some(totals) = caught(|| series.source().totals()) {
                last.store(totals.recorded, Relaxed);
            }
            observe(last.load(Relaxed), None);
        });
    }

    fn events(&self) {
        for (i, (family, _)) in Family::events(&Stats::default()).into_iter().enumerate() {
            let series = Arc::clone(&self.series);
            self.counter(&family, move |observe| {
                let stats = lock(&series).source().stats();
                let (family, values) = &Family::events(&stats)[i];
                for &(value, n) in values {
                    observe(n, family.label.map(|label| KeyValue::new(label, value)));
                }
            });
        }
    }

    fn gauges(&self) {
        for (i, (family, _)) in Family::gauges(lock(&self.series).source()).into_iter().enumerate()
        {
            let series = Arc::clone(&self.series);
            let gauge = self.meter.u64_observable_gauge(family.name(&self.prefix));
            let gauge = gauge.with_description(family.help).with_callback(move |observer| {
                let (_, value) = Family::gauges(lock(&series).source())[i];
                observer.observe(value as u64, &[]);
            });
            gauge.build();
        }
    }

    fn counter(
        &self,
        family: &Family,
        read: impl Fn(&dyn Fn(u64, Option<KeyValue>)) + Send + Sync + 'static,
    ) {
        let counter = self.meter.u64_observable_counter(family.name(&self.prefix));
        let counter = counter.with_description(family.help).with_callback(move |observer| {
            read(&|value, attribute| observer.observe(value, attribute.as_slice()));
        });
        counter.build();
    }
}
