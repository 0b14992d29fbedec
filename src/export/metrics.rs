//! The `metrics` facade. Feature `metrics`.
//!
//! ```
//! use counterclock::CounterStore;
//! use counterclock::export::Export;
//!
//! let drops: CounterStore<String> = CounterStore::new(2048);
//! let export = Export::new(drops.clone()).prefix("drops").label("session").top(20);
//! let mut publisher = export.publisher()?;
//!
//! // Now and then, on a timer of yours: to the recorder that is installed.
//! drops.increment("a");
//! publisher.publish();
//! # Ok::<(), counterclock::export::ExportError>(())
//! ```
//!
//! # What recorders keep
//!
//! Recorders keep each series that they ever saw, unless they have an idle timeout. So the series
//! of this exporter are bounded at each publication, and those of the recorder are not: each key
//! that was ever among the top stays. With `metrics-exporter-prometheus`, set
//! `PrometheusBuilder::idle_timeout(MetricKindMask::COUNTER, Some(timeout))`, with a timeout of
//! several intervals of publication and of scrapes. A key among the top is touched at each
//! publication, also when nothing was added to it, so the timeout takes only those that went.
//!
//! # When a scrape is not a publication
//!
//! A reader sees what was last published. For it to see each series at 0 before it grows, set
//! [`Export::linger`] to the longest interval between two scrapes and one between two publications.

use std::fmt;

use ::metrics::{counter, describe_counter, describe_gauge, gauge};

use super::config::Checked;
use super::families::{Family, OTHER};
use super::{Export, ExportError, Source, TopSeries, Update};
use crate::Stats;

impl<S: Source> Export<S>
where
    S::Key: Clone,
{
    /// What publishes to the recorder that is installed.
    ///
    /// # Errors
    ///
    /// If the prefix or the label is no name.
    pub fn publisher(self) -> Result<Publisher<S>, ExportError> {
        let Checked { series, prefix, label } = self.check()?;
        Ok(Publisher { series, names: Names { prefix, label }, last: None })
    }
}

/// Publishes a store through the `metrics` facade, made by [`Export::publisher`].
///
/// No thread is started: call [`publish`](Self::publish) on a timer.
///
/// Make one for each store and recorder of a process, and keep it when the task that calls it is
/// restarted: another one of the same names does not know what the recorder was told, and adds
/// everything again.
pub struct Publisher<S: Source> {
    series: TopSeries<S, String>,
    names: Names,
    last: Option<Published>,
}

/// What the recorder has been told.
#[derive(Clone, Copy, Default)]
struct Published {
    other: u64,
    recorded: u64,
    stats: Stats,
}

struct Names {
    prefix: String,
    label: String,
}

impl<S: Source> Publisher<S>
where
    S::Key: Clone,
{
    /// Adds what was counted since the last call to the recorder's counters, and sets its gauges.
    ///
    /// One [`TopSeries::update`]. The first call describes the metrics, so a recorder should be
    /// installed by then; what is published without one is lost. So is what a recorder that panics
    /// was not told up to then.
    pub fn publish(&mut self) {
        let last = self.last.unwrap_or_else(|| {
            self.names.describe(self.series.source());
            Published::default()
        });
        self.series.update();
        let stats = self.series.source().stats();
        let update = self.series.last();
        let (other, recorded) = (update.other(), update.recorded());
        // First, for the sake of a recorder that panics: it is told nothing twice.
        self.last = Some(Published { other, recorded, stats });

        self.names.publish_series(&update, other.wrapping_sub(last.other));
        let growth = recorded.wrapping_sub(last.recorded);
        counter!(self.names.counter(&Family::RECORDED)).increment(growth);
        self.names.publish_events(&stats, &last.stats);
        for (family, value) in Family::gauges(self.series.source()) {
            gauge!(family.name(&self.names.prefix)).set(value as f64);
        }
    }
}

/// Counters are told what to add, not what they are: of an absolute value recorders keep the
/// largest that they ever saw, so a series that starts again at 0 would stand still.
impl Names {
    fn counter(&self, family: &Family) -> String {
        format!("{}_total", family.name(&self.prefix))
    }

    fn describe(&self, source: &impl Source) {
        let events = Family::events(&Stats::default()).map(|(family, _)| family);
        for family in [Family::SERIES, Family::RECORDED].iter().chain(&events) {
            describe_counter!(self.counter(family), family.help);
        }
        for (family, _) in Family::gauges(source) {
            describe_gauge!(family.name(&self.prefix), family.help);
        }
    }

    fn publish_series(&self, update: &Update<'_, String>, other: u64) {
        let name = self.counter(&Family::SERIES);
        counter!(name.clone(), OTHER => "true").increment(other);
        for (label, series) in update.series() {
            // By zero, too: that keeps it from a recorder's idle timeout, which is for those that
            // went.
            if !series.is_final() || series.growth() > 0 {
                let growth = series.growth();
                counter!(name.clone(), self.label.clone() => label.clone()).increment(growth);
            }
        }
    }

    fn publish_events(&self, stats: &Stats, last: &Stats) {
        let events = Family::events(stats).into_iter().zip(Family::events(last));
        for ((family, values), (_, last)) in events {
            let name = self.counter(&family);
            for ((value, n), (_, last)) in values.into_iter().zip(last) {
                let counter = match family.label {
                    None => counter!(name.clone()),
                    Some(label) => counter!(name.clone(), label => value),
                };
                counter.increment(n.wrapping_sub(last));
            }
        }
    }
}

impl<S: Source> fmt::Debug for Publisher<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("prefix", &self.names.prefix)
            .field("label", &self.names.label)
            .finish_non_exhaustive()
    }
}
