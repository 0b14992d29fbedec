//! Medians, quantiles, and how sure a ratio of medians is.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const RESAMPLES: usize = 10_000;
/// The same figures give the same interval.
const SEED: u64 = 0x636f_756e_7465_7263;

/// The `q`-quantile, interpolated between neighbours; not a number if there are no values.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = last as f64 * q;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

pub fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut n) = (0.0, 0.0);
    for value in values {
        sum += value;
        n += 1.0;
    }
    sum / n
}

/// A figure with the interval in which it lies with 95 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimate {
    /// A figure that is not taken from rounds.
    pub fn exact(value: f64) -> Self {
        Self { value, low: value, high: value }
    }
}

/// What `statistic` is over rounds `0..rounds`, and the interval in which it lies for 95 % of the
/// lists of as many rounds that are drawn from them with replacement. It is given the numbers of
/// the rounds, so that what was measured in one round stays together: ratios are paired.
pub fn bootstrap(rounds: usize, statistic: impl Fn(&[usize]) -> f64) -> Estimate {
    let mut drawn: Vec<usize> = (0..rounds).collect();
    let value = statistic(&drawn);
    let mut rng = SmallRng::seed_from_u64(SEED);
    let resampled: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            drawn.iter_mut().for_each(|round| *round = rng.random_range(0..rounds));
            statistic(&drawn)
        })
        .collect();
    Estimate { value, low: quantile(&resampled, 0.025), high: quantile(&resampled, 0.975) }
}

/// The median of those rounds.
pub fn median_of(values: &[f64], rounds: &[usize]) -> f64 {
    let chosen: Vec<f64> = rounds.iter().map(|&round| values[round]).collect();
    median(&chosen)
}

/// The median of `a` over that of `b`, where `a[n]` and `b[n]` were measured in one round.
pub fn ratio_of_medians(a: &[f64], b: &[f64]) -> Estimate {
    assert_eq!(a.len(), b.len(), "paired by round");
    bootstrap(a.len(), |rounds| median_of(a, rounds) / median_of(b, rounds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&values, 0.0), 1.0);
        assert_eq!(median(&values), 2.5);
        assert_eq!(quantile(&values, 0.75), 3.25);
        assert_eq!(quantile(&values, 1.0), 4.0);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_ratio_without_spread_has_an_interval_without_width() {
        let ratio = ratio_of_medians(&[2.0; 15], &[4.0; 15]);
        assert_eq!(ratio, Estimate::exact(0.5));
    }

    #[test]
    fn pairs_stay_together() {
        // Noise that falls on both alike is gone from the ratio.
        let noise: Vec<f64> = (1..=15).map(|n| f64::from(n * n)).collect();
        let twice: Vec<f64> = noise.iter().map(|n| n * 2.0).collect();
        let ratio = ratio_of_medians(&twice, &noise);
        assert_eq!(ratio, Estimate::exact(2.0));
    }

    #[test]
    fn the_interval_is_that_of_the_theory() {
        // The median of a resample of 0..15 is at most 3 if at least 8 of 15 draws are: in 2.5 % of
        // them, by the binomial distribution. So 2.5 % of them end at 3 or 4; likewise above.
        let values: Vec<f64> = (0..15).map(f64::from).collect();
        let estimate = bootstrap(15, |rounds| median_of(&values, rounds));
        assert_eq!(estimate.value, 7.0);
        assert!((3.0..=4.0).contains(&estimate.low), "{estimate:?}");
        assert!((10.0..=11.0).contains(&estimate.high), "{estimate:?}");
    }

    #[test]
    fn the_same_figures_give_the_same_interval() {
        let (a, b) = ([3.0, 1.0, 2.0, 5.0], [2.0, 2.5, 1.5, 1.0]);
        assert_eq!(ratio_of_medians(&a, &b), ratio_of_medians(&a, &b));
    }
}
