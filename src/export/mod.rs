//! A store's counters in a metrics library, with bounded series and sums that never fall.
//!
//! Keys come and go, so they cannot each be a time series for ever. An exporter shows the top n as
//! labelled series and everything else as one, `other`. What is hard is that `rate()` reads each
//! fall of a counter as a restart, and adds the whole of what it then shows: were `other` simply
//! the rest, a key's promotion would take its count out of `other` and show as a burst that never
//! was. [`TopSeries`] has the rules by which nothing falls and each unit is in one series. The
//! exporters are thin above it, and off by default, each behind a feature of its own:
//!
//! | feature | for | made by |
//! |---|---|---|
//! | `prometheus-client` | a `Collector` of the `prometheus-client` crate | `Export::collector` |
//! | `opentelemetry` | observable instruments of a `Meter` | `Export::instruments` |
//! | `metrics` | the `metrics` facade | `Export::publisher` |
//!
//! `Export`, which is there with any of them, sets what they have in common: names, n, how a key
//! becomes a label.
//!
//! # Families
//!
//! With the prefix `drops` and the label `session`, as Prometheus shows them:
//!
//! | family | labels | what |
//! |---|---|---|
//! | `drops_total` | `session` or `other="true"` | units, by series |
//! | `drops_recorded_total` | | all units that were ever added |
//! | `drops_admissions_total` | | lives that began |
//! | `drops_removals_total` | `cause`: `capacity`, `idle`, `removed` | lives that ended |
//! | `drops_rejections_total` | `reason`: `capacity`, `memory` | calls that were rejected |
//! | `drops_keys` | | gauge: [`len`](Source::len) |
//! | `drops_capacity` | | gauge: [`capacity`](Source::capacity) |
//! | `drops_waiting` | | gauge: [`waiting`](Source::waiting) |
//!
//! A chapter with queries, recipes and the arithmetic of series is in the repository:
//! `docs/EXPORTERS.md`.

#[cfg(any(feature = "metrics", feature = "opentelemetry", feature = "prometheus-client"))]
mod config;
#[cfg(any(feature = "metrics", feature = "opentelemetry", feature = "prometheus-client"))]
mod families;
mod source;
mod top_series;

#[cfg(any(feature = "metrics", feature = "opentelemetry", feature = "prometheus-client"))]
pub use config::{Export, ExportError};
pub use source::Source;
pub use top_series::{Series, TopSeries, Update};

#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "opentelemetry")]
pub mod opentelemetry;
#[cfg(feature = "prometheus-client")]
pub mod prometheus;
