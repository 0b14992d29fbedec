//! The families that all exporters show, their names and values.

use super::Source;
use crate::Stats;

/// The label that the rest has, alone.
pub(super) const OTHER: &str = "other";

/// A family of metrics beside others of the same prefix.
#[derive(Debug)]
pub(super) struct Family {
    suffix: &'static str,
    pub(super) help: &'static str,
    /// The name of its label, if it has one.
    pub(super) label: Option<&'static str>,
}

const fn family(suffix: &'static str, help: &'static str) -> Family {
    Family { suffix, help, label: None }
}

impl Family {
    pub(super) const SERIES: Self =
        family("", "Units by key: the top keys each, and all else with other=true");
    pub(super) const RECORDED: Self = family("_recorded", "All units that were ever added");
    const ADMISSIONS: Self = family("_admissions", "Lives of keys that began");
    const REMOVALS: Self =
        Self { label: Some("cause"), ..family("_removals", "Lives of keys that ended, by cause") };
    const REJECTIONS: Self = Self {
        label: Some("reason"),
        ..family("_rejections", "Calls that were rejected, by reason")
    };
    const KEYS: Self = family("_keys", "Keys that are counted now");
    const CAPACITY: Self = family("_capacity", "The most keys that are counted at once");
    const WAITING: Self = family("_waiting", "Ended entries that were not freed yet");

    pub(super) fn name(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.suffix)
    }

    /// Counters of lives and calls, each by the value of its family's label.
    pub(super) fn events(stats: &Stats) -> [(Self, Vec<(&'static str, u64)>); 3] {
        let removals =
            vec![("capacity", stats.evicted), ("idle", stats.expired), ("removed", stats.removed)];
        let rejections =
            vec![("capacity", stats.rejections_capacity), ("memory", stats.rejections_memory)];
        [
            (Self::ADMISSIONS, vec![("", stats.admitted)]),
            (Self::REMOVALS, removals),
            (Self::REJECTIONS, rejections),
        ]
    }

    pub(super) fn gauges(source: &impl Source) -> [(Self, usize); 3] {
        [
            (Self::KEYS, source.len()),
            (Self::CAPACITY, source.capacity()),
            (Self::WAITING, source.waiting()),
        ]
    }
}
