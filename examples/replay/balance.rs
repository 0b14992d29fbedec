//! The books of the store, held against books that were kept outside it.

use std::fmt;

use counterclock::{Stats, Totals};

use crate::batch::Key;
use crate::format::grouped;
use crate::pass::Tally;
use crate::sink::{Ended, Line, StoreSink};

/// Sums that must agree, once nothing is in flight.
#[derive(Debug)]
pub struct Balance(Vec<Check>);

/// Says what agrees, and holds the numbers that should.
#[derive(Debug)]
struct Check {
    says: String,
    pairs: Vec<(u64, u64)>,
}

impl Balance {
    pub fn of<K: Key>(sink: &StoreSink<K>, tally: &Tally) -> Self {
        let (totals, stats) = (sink.store.totals(), sink.store.stats());
        let mut balance = Self::compare(&totals, &stats, sink.store.len() as u64, tally);
        balance.0.push(heard(&totals, &stats, &sink.ended));
        let (len, capacity) = (sink.store.len(), sink.store.capacity());
        balance.0.push(Check::new(
            "no more keys than the capacity",
            [(len.max(capacity) as u64, capacity as u64)],
        ));
        balance
    }

    fn compare(totals: &Totals, stats: &Stats, len: u64, tally: &Tally) -> Self {
        // Totals are modulo 2^64, and so are their sums.
        let parts = [totals.live, totals.evicted, totals.expired, totals.removed, totals.rejected];
        let sum = parts.into_iter().fold(0, u64::wrapping_add);
        let lives = len + stats.evicted + stats.expired + stats.removed;
        Self(vec![
            Check::new(
                &format!(
                    "recorded {} = live {} + evicted {} + expired {} + removed {} + rejected {}",
                    grouped(totals.recorded),
                    grouped(totals.live),
                    grouped(totals.evicted),
                    grouped(totals.expired),
                    grouped(totals.removed),
                    grouped(totals.rejected),
                ),
                [(totals.recorded, sum)],
            ),
            Check::new(
                &format!("recorded = {} counted outside", grouped(tally.requests)),
                [(totals.recorded, tally.requests)],
            ),
            Check::new(
                &format!(
                    "lives begun {} = live {} + ended {}",
                    grouped(stats.admitted),
                    grouped(len),
                    grouped(lives - len)
                ),
                [(stats.admitted, lives)],
            ),
            Check::new(
                &format!("answers of 1 outside {} = begun + rejected", grouped(tally.ones)),
                [(stats.admitted + stats.rejections, tally.ones)],
            ),
        ])
    }

    pub fn holds(&self) -> bool {
        self.0.iter().all(|check| check.wrong().is_none())
    }
}

/// The listener was told each ended life once, with its final value and its cause.
fn heard(totals: &Totals, stats: &Stats, ended: &Ended) -> Check {
    let books = [
        (&ended.evicted, stats.evicted, totals.evicted),
        (&ended.expired, stats.expired, totals.expired),
        (&ended.removed, stats.removed, totals.removed),
    ];
    let pairs = books.into_iter().flat_map(|(line, lives, units): (&Line, _, _)| {
        [(lives, line.lives()), (units, line.units())]
    });
    Check::new("the listener heard of each ended life and unit", pairs)
}

impl Check {
    fn new(says: &str, pairs: impl IntoIterator<Item = (u64, u64)>) -> Self {
        Self { says: says.to_owned(), pairs: pairs.into_iter().collect() }
    }

    fn wrong(&self) -> Option<(u64, u64)> {
        self.pairs.iter().copied().find(|(left, right)| left != right)
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.0 {
            match check.wrong() {
                None => writeln!(f, "  ok     {}", check.says)?,
                Some((left, right)) => writeln!(
                    f,
                    "  WRONG  {}: {} against {}",
                    check.says,
                    grouped(left),
                    grouped(right)
                )?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Sink;
    use clap::Parser;

    /// A store of two keys that has counted `a`, `b` and `c` twice each, in turn.
    fn counted() -> (StoreSink<String>, Tally) {
        let args = crate::args::Args::parse_from(["replay", "--capacity", "2"]);
        let sink = StoreSink::build(&args, crate::args::Ttl::Never, None).expect("a store");
        let mut tally = Tally::default();
        for key in ["a", "a", "b", "b", "c", "c"] {
            tally.requests += 1;
            tally.ones += u64::from(Sink::<String>::increment(&sink, key) == 1);
        }
        (sink, tally)
    }

    #[test]
    fn true_books_balance() {
        let (sink, tally) = counted();
        let balance = Balance::of(&sink, &tally);
        assert!(balance.holds(), "{balance}");
    }

    #[test]
    fn a_unit_or_a_life_too_many_is_seen() {
        let (sink, tally) = counted();
        let requests = tally.requests + 1;
        let ones = tally.ones + 1;
        for wrong in [Tally { requests, ..tally }, Tally { ones, ..tally }] {
            let balance = Balance::of(&sink, &wrong);
            assert!(!balance.holds());
            assert!(balance.to_string().contains("WRONG"));
        }
        sink.ended.evicted.add(1);
        assert!(!Balance::of(&sink, &tally).holds(), "the listener's books count");
    }
}
