//! A label that grows without bound, bounded: versions of clients, of which each rollout brings new
//! ones and nobody removes the old.
//!
//! ```sh
//! cargo run --example bounded_labels --features prometheus-client
//! ```

use std::time::Duration;

use anyhow::Result;
use counterclock::export::Export;
use counterclock::{CounterStore, quanta};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

const ROLLOUTS: u64 = 100;
const VERSIONS: u64 = 50;
const SCRAPES: usize = 6;

fn main() -> Result<()> {
    // An hour passes at will.
    let (clock, mock) = quanta::Clock::mock();
    let requests: CounterStore<String> = CounterStore::builder()
        .capacity(200)
        .idle_ttl(Duration::from_secs(60 * 60))
        .clock(clock)
        .build()?;
    let mut registry = Registry::default();
    let export = Export::new(requests.clone()).prefix("requests").label("version").top(3);
    registry.register_collector(Box::new(export.collector()?));

    let mut sent = 0;
    for rollout in 0..ROLLOUTS {
        let mut text = String::new();
        for _ in 0..SCRAPES {
            for version in 0..VERSIONS {
                let n = 1 + 1000 / (1 + version);
                requests.add(&format!("{rollout}.{version}"), n);
                sent += n;
            }
            mock.increment(Duration::from_secs(5 * 60));
            text = scrape(&registry)?;
            assert!(series(&text).len() <= 7);
        }
        if rollout % 25 == 0 {
            println!("after rollout {rollout}:\n  {}", series(&text).join("\n  "));
        }
    }
    println!("{} versions were seen, {} are held", ROLLOUTS * VERSIONS, requests.len());
    println!("{sent} requests were sent, {} are recorded", requests.totals().recorded);
    assert_eq!(requests.totals().recorded, sent);
    Ok(())
}

fn scrape(registry: &Registry) -> Result<String> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}

fn series(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("requests_total")).collect()
}
