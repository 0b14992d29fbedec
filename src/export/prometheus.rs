//! A collector for the `prometheus-client` crate. Feature `prometheus-client`.
//!
//! ```
//! use counterclock::CounterStore;
//! use counterclock::export::Export;
//! use prometheus_client::encoding::text::encode;
//! use prometheus_client::registry::Registry;
//!
//! let drops: CounterStore<String> = CounterStore::new(2048);
//! let mut registry = Registry::default();
//! let export = Export::new(drops.clone()).prefix("drops").label("session").top(20);
//! registry.register_collector(Box::new(export.collector()?));
//!
//! let scrape = || {
//!     let mut text = String::new();
//!     encode(&mut text, &registry).expect("a String takes all");
//!     text
//! };
//! drops.add("a", 3);
//! assert!(scrape().contains("drops_total{other=\"true\"} 3\n"));
//! drops.add("a", 2); // it has a series since the first scrape
//! assert!(scrape().contains("drops_total{session=\"a\"} 2\n"));
//! # Ok::<(), counterclock::export::ExportError>(())
//! ```
//!
//! The rest is `drops_total{other="true"}`, without the key's label: so a key that is called
//! `other`, or anything else, does not collide with it.
//!
//! # Created times
//!
//! OpenMetrics has a `_created` sample for the time at which a counter started. The encoder of
//! `prometheus-client` 0.25 writes none for counters and takes none, so there is none here. Nothing
//! is lost to `rate()` and `increase()`: each series is shown at 0 first. If you want to see the
//! times, [`StoreCollector::created`] adds them as gauges.

use std::fmt::{self, Result};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::config::Checked;
use super::families::{Family, OTHER};
use super::{Export, ExportError, Source, TopSeries, Update};

impl<S: Source> Export<S>
where
    S::Key: Clone,
{
    /// A collector to be registered with a `prometheus_client` registry.
    ///
    /// # Errors
    ///
    /// If the prefix or the label is no name.
    pub fn collector(self) -> std::result::Result<StoreCollector<S>, ExportError> {
        let Checked { series, prefix, label } = self.check()?;
        Ok(StoreCollector { series: Mutex::new(series), prefix, label, created: false })
    }
}

/// A [`Collector`] over a store, made by [`Export::collector`].
///
/// Each scrape is one [`TopSeries::update`]. Scrapes of one collector wait for each other; nobody
/// who counts waits for a scrape.
pub struct StoreCollector<S: Source> {
    series: Mutex<TopSeries<S, String>>,
    prefix: String,
    label: String,
    created: bool,
}

impl<S: Source> StoreCollector<S> {
    /// Adds a gauge beside each labelled series, `<prefix>_series_created_seconds`, with the Unix
    /// time at which it started: twice as many labelled series.
    #[must_use]
    pub fn created(mut self) -> Self {
        self.created = true;
        self
    }

    fn lock(&self) -> MutexGuard<'_, TopSeries<S, String>> {
        // An update that panicked leaves the series as its documentation says.
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn encode_series(&self, to: &mut DescriptorEncoder<'_>, update: &Update<'_, String>) -> Result {
        let name = Family::SERIES.name(&self.prefix);
        let mut family =
            to.encode_descriptor(&name, Family::SERIES.help, None, MetricType::Counter)?;
        encode_counter(family.encode_family(&[(OTHER, "true")])?, update.other())?;
        for (label, series) in update.series() {
            let labels = [(self.label.as_str(), label.as_str())];
            encode_counter(family.encode_family(&labels)?, series.value())?;
        }
        Ok(())
    }

    fn encode_created(
        &self,
        to: &mut DescriptorEncoder<'_>,
        update: &Update<'_, String>,
    ) -> Result {
        let name = format!("{}_series_created_seconds", self.prefix);
        let help = "When each labelled series started, in seconds since the Unix epoch";
        let mut family = to.encode_descriptor(&name, help, None, MetricType::Gauge)?;
        for (label, series) in update.series() {
            let labels = [(self.label.as_str(), label.as_str())];
            let created = series.created().duration_since(UNIX_EPOCH).unwrap_or_default();
            family.encode_family(&labels)?.encode_gauge(&created.as_secs_f64())?;
        }
        Ok(())
    }

    fn encode_recorded(&self, to: &mut DescriptorEncoder<'_>, recorded: u64) -> Result {
        let name = Family::RECORDED.name(&self.prefix);
        let help = Family::RECORDED.help;
        encode_counter(to.encode_descriptor(&name, help, None, MetricType::Counter)?, recorded)
    }

    fn encode_events(&self, to: &mut DescriptorEncoder<'_>, source: &S) -> Result {
        for (family, values) in Family::events(&source.stats()) {
            let name = family.name(&self.prefix);
            let mut metric = to.encode_descriptor(&name, family.help, None, MetricType::Counter)?;
            match family.label {
                None => encode_counter(metric, values.iter().map(|value| value.1).sum())?,
                Some(label) => {
                    for (value, n) in values {
                        encode_counter(metric.encode_family(&[(label, value)])?, n)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn encode_gauges(&self, to: &mut DescriptorEncoder<'_>, source: &S) -> Result {
        for (family, value) in Family::gauges(source) {
            let name = family.name(&self.prefix);
            to.encode_descriptor(&name, family.help, None, MetricType::Gauge)?
                .encode_gauge(&value)?;
        }
        Ok(())
    }
}

fn encode_counter(mut encoder: MetricEncoder<'_>, value: u64) -> Result {
    encoder.encode_counter::<NoLabelSet, _, f64>(&value, None)
}

impl<S: Source> Collector for StoreCollector<S>
where
    S::Key: Clone,
{
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result {
        let to = &mut encoder;
        let mut series = self.lock();
        let update = series.update();
        self.encode_series(to, &update)?;
        if self.created {
            self.encode_created(to, &update)?;
        }
        self.encode_recorded(to, update.recorded())?;
        self.encode_events(to, series.source())?;
        self.encode_gauges(to, series.source())
    }
}

impl<S: Source> fmt::Debug for StoreCollector<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> Result {
        f.debug_struct("StoreCollector")
            .field("prefix", &self.prefix)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}
