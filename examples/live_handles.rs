//! A handle that is held for long does not go silent when its key was idle for too long.
//!
//! ```sh
//! cargo run --example live_handles --features prometheus-client
//! ```

use std::time::Duration;

use anyhow::Result;
use counterclock::export::Export;
use counterclock::{CounterStore, quanta};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

fn main() -> Result<()> {
    let (clock, mock) = quanta::Clock::mock();
    let bytes: CounterStore<String> = CounterStore::builder()
        .capacity(100)
        .idle_ttl(Duration::from_secs(30 * 60))
        .clock(clock)
        .on_removal(|end| println!("  ({} ended with {}: {:?})", end.key, end.count, end.cause))
        .build()?;
    let mut registry = Registry::default();
    let export = Export::new(bytes.clone()).prefix("bytes").label("stream");
    registry.register_collector(Box::new(export.collector()?));

    let stream = bytes.counter("a");
    stream.add(100);
    show("a client connects", &registry, Some(0), 100)?;
    stream.add(1500);
    show("data arrives", &registry, Some(1500), 100)?;
    mock.increment(Duration::from_secs(90 * 60));
    show("quiet for 90 minutes: the series is shown once more", &registry, Some(1500), 100)?;
    show("and is gone", &registry, None, 100)?;
    stream.add(700);
    show("data again, by the same handle: a new series, from 0", &registry, Some(0), 800)?;
    stream.add(300);
    show("which grows", &registry, Some(300), 800)?;
    assert_eq!(bytes.totals().recorded, 2600);
    Ok(())
}

fn show(what: &str, registry: &Registry, series: Option<u64>, other: u64) -> Result<()> {
    println!("{what}");
    let mut text = String::new();
    encode(&mut text, registry)?;
    let shown: Vec<_> = text.lines().filter(|line| line.starts_with("bytes_total")).collect();
    shown.iter().for_each(|line| println!("  {line}"));
    let mut expected = vec![format!("bytes_total{{other=\"true\"}} {other}")];
    expected.extend(series.map(|n| format!("bytes_total{{stream=\"a\"}} {n}")));
    assert_eq!(shown, expected);
    Ok(())
}
