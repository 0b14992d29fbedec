//! `/metrics`: both counters by session, of which only the largest have a series, and what the
//! server counts of itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use counterclock::export::Export;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::broadcast::Broadcaster;
use crate::view::resident_bytes;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Sessions that have a series of their own, for each counter.
const TOP: usize = 20;

pub struct Metrics(Registry);

impl Metrics {
    /// Each of several readers that reads at least once in any `linger` sees all of a series.
    pub fn new(broadcaster: Arc<Broadcaster>, linger: Duration) -> Result<Self> {
        let mut registry = Registry::default();
        let [drops, no_client] = broadcaster.counters().lanes();
        for (prefix, lane) in [("sse_drops", drops), ("sse_no_client", no_client)] {
            let export = Export::new(lane).prefix(prefix).label("session").top(TOP).linger(linger);
            registry.register_collector(Box::new(export.collector()?));
        }
        registry.register_collector(Box::new(Own(broadcaster)));
        Ok(Self(registry))
    }

    /// O(capacity): not for an executor's thread.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.0).expect("a String takes all");
        text
    }
}

/// What the server counts of itself.
struct Own(Arc<Broadcaster>);

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Own").field(&self.0.traffic()).finish()
    }
}

impl Collector for Own {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let traffic = self.0.traffic();
        let counter = ConstCounter::<u64>::new;
        let gauge = |n: usize| ConstGauge::new(n as u64);
        one(&mut to, "sse_published", "Events published", counter(traffic.published))?;
        one(&mut to, "sse_delivered", "Events put in a buffer", counter(traffic.delivered))?;
        one(&mut to, "sse_clients", "Clients connected", gauge(traffic.clients))?;
        one(&mut to, "sse_clients_limit", "The most clients", gauge(traffic.max_clients))?;
        one(&mut to, "sse_sessions", "Sessions with a client", gauge(traffic.sessions))?;
        if let Some(bytes) = resident_bytes() {
            let (name, help) = ("process_resident_memory_bytes", "Resident memory");
            one(&mut to, name, help, ConstGauge::new(bytes))?;
        }
        Ok(())
    }
}

fn one(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: impl EncodeMetric,
) -> fmt::Result {
    metric.encode(to.encode_descriptor(name, help, None, metric.metric_type())?)
}
