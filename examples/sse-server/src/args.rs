//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedI64ValueParser;

const IDLE_TTL: Duration = Duration::from_secs(30 * 60);
/// So that lives are seen to expire within seconds.
const DEMO_IDLE_TTL: Duration = Duration::from_secs(10);

/// A Server-Sent-Events broadcaster that counts what it drops per session, in bounded memory.
///
/// GET / shows it at work; `--demo` gives it something to do.
#[derive(Debug, Parser)]
#[command(name = "sse-server")]
pub struct Args {
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    pub port: u16,

    /// Address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub bind: IpAddr,

    /// Sessions that are counted at once, at most
    #[arg(long, default_value = "2048", value_name = "SESSIONS")]
    pub capacity: NonZeroUsize,

    /// Counters that are idle for longer than this end, such as 90s or 30m [default: 30m, and 10s
    /// with --demo]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub idle_ttl: Option<Duration>,

    /// Events that wait for one client, at most; any more are dropped
    #[arg(long, default_value_t = 32, value_name = "EVENTS", value_parser = from_1_to(65_536))]
    pub buffer: u32,

    /// Bytes of one event, at most, as it goes out: "data: " before each line, line feeds after
    #[arg(
        long, default_value_t = 16 * 1024, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(64..=1024 * 1024)
    )]
    pub max_event: u32,

    /// Clients at once, at most; any more get 503
    #[arg(
        long, default_value_t = 10_000, value_name = "CLIENTS", value_parser = from_1_to(1_000_000)
    )]
    pub max_clients: u32,

    /// Each reader of /metrics reads at least once in any period of this length: for so long a
    /// new series stays at 0, and one that goes is shown. 0s is enough for a single reader
    // Twice the 15 s of Prometheus' example. Whoever looks with curl is a second reader.
    #[arg(
        long, default_value = "30s", value_name = "DURATION",
        value_parser = humantime::parse_duration
    )]
    pub linger: Duration,

    /// Run a load inside: sessions that come and go, slow clients, publishers
    #[arg(long)]
    pub demo: bool,

    /// Events a second that the demo publishes, at its peak
    #[arg(long, default_value = "10000", value_name = "EVENTS", requires = "demo")]
    pub demo_rate: NonZeroU32,
}

fn from_1_to(most: i64) -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=most)
}

impl Args {
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }

    pub fn idle_ttl(&self) -> Duration {
        self.idle_ttl.unwrap_or(if self.demo { DEMO_IDLE_TTL } else { IDLE_TTL })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_well_formed() {
        Args::command().debug_assert();
    }

    /// A second reader must be harmless unasked.
    #[test]
    fn series_linger_by_default() {
        assert_eq!(Args::parse_from(["sse-server"]).linger.as_secs(), 30);
    }

    #[test]
    fn the_demo_expires_sooner_unless_told() {
        let ttl = |line: &str| Args::parse_from(line.split(' ')).idle_ttl().as_secs();
        assert_eq!(ttl("sse-server"), 1800);
        assert_eq!(ttl("sse-server --demo"), 10);
        assert_eq!(ttl("sse-server --demo --idle-ttl 1m"), 60);
    }
}
