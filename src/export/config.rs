//! What is set for all exporters alike, and checked.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use quanta::Clock;

use super::families::OTHER;
use super::top_series::Label;
use super::{Source, TopSeries};

/// Labelled series by default.
const TOP: usize = 20;
/// OpenTelemetry allows names of 255 bytes; the longest suffix takes some of them.
const MAX_NAME: usize = 200;
/// How a store is exported; the parts that all exporters have in common.
///
/// It is finished by the method of the exporter, each behind its feature: see the table in
/// [`export`](super).
///
/// An exporter holds a lock while it reads. Within it the function of a
/// [label](Self::labelled) and the store's removal listener are called, the latter for the lives
/// that the reading finds to have ended. Neither may scrape the same exporter: that is a deadlock.
#[must_use = "finish it with `collector`, `instruments` or `publisher`"]
pub struct Export<S: Source> {
    source: S,
    prefix: String,
    label: String,
    value: Label<S::Key, String>,
    top: usize,
    linger: Duration,
    clock: Option<Clock>,
}

impl<S: Source> Export<S> {
    /// Of a store whose keys are labels as they are displayed. The store is kept alive by what is
    /// made of this.
    pub fn new(source: S) -> Self
    where
        S::Key: fmt::Display,
    {
        Self::labelled(source, S::Key::to_string)
    }

    /// Of a store whose keys become labels by a function. Keys of one label share one series.
    ///
    /// It is called when a key is promoted to the top, under the exporter's lock. If it panics, so
    /// does the scrape, and the next one tries again. With OpenTelemetry, whose thread would end
    /// with it, a collection shows the last state instead.
    pub fn labelled(source: S, value: impl Fn(&S::Key) -> String + Send + Sync + 'static) -> Self {
        Self {
            source,
            prefix: "counterclock".to_owned(),
            label: "key".to_owned(),
            value: Box::new(value),
            top: TOP,
            linger: Duration::ZERO,
            clock: None,
        }
    }

    /// What the names of all families begin with; `counterclock` by default.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The name of the label that has the key; `key` by default.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The most keys that are shown each by itself; 20 by default.
    pub fn top(mut self, n: usize) -> Self {
        self.top = n;
        self
    }

    /// For several readers, or readers that may miss one: as [`TopSeries::linger`].
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Another clock for [`linger`](Self::linger), such as quanta's mock in tests.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }
}

impl<S: Source> Export<S>
where
    S::Key: Clone,
{
    pub(super) fn check(self) -> Result<Checked<S>, ExportError> {
        let Self { source, prefix, label, value, top, linger, clock } = self;
        if !is_name(&prefix) {
            return Err(ExportError::Prefix { prefix });
        }
        if !is_name(&label) || label == OTHER {
            return Err(ExportError::Label { label });
        }
        let series = TopSeries::labelled(source, top, value).linger(linger);
        let series = match clock {
            Some(clock) => series.clock(clock),
            None => series,
        };
        Ok(Checked { series, prefix, label })
    }
}

/// An [`Export`] whose names are good everywhere.
pub(super) struct Checked<S: Source> {
    pub(super) series: TopSeries<S, String>,
    pub(super) prefix: String,
    pub(super) label: String,
}

/// Good in Prometheus, where a leading underscore is reserved in part, and in OpenTelemetry.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl<S: Source> fmt::Debug for Export<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("prefix", &self.prefix)
            .field("label", &self.label)
            .field("top", &self.top)
            .field("linger", &self.linger)
            .finish_non_exhaustive()
    }
}

/// Why an [`Export`] cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportError {
    /// The prefix is no name.
    Prefix {
        /// What was asked for.
        prefix: String,
    },
    /// The label is no name, or it is `other`, which is the label of the rest.
    Label {
        /// What was asked for.
        label: String,
    },
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = "ASCII letters, digits and underscores, a letter first";
        match self {
            Self::Prefix { prefix } => {
                write!(f, "{prefix:?} is no prefix: at most {MAX_NAME} {rule}")
            }
            Self::Label { label } if label == OTHER => {
                write!(f, "the label {OTHER:?} is that of the rest: choose another")
            }
            Self::Label { label } => write!(f, "{label:?} is no label: at most {MAX_NAME} {rule}"),
        }
    }
}

impl Error for ExportError {}
