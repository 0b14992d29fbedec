//! Memory over the requests of a pass.

use crate::batch::BATCH;
use crate::memory;

/// Metered bytes against requests.
///
/// How long an input is, is not known before its end; so a point is taken at every stride, and
/// when there are too many, every second one is dropped and the stride doubles.
#[derive(Clone, Debug)]
pub struct Curve {
    points: Vec<Point>,
    base: i64,
    stride: u64,
    requests: u64,
    most: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    pub requests: u64,
    pub bytes: u64,
}

impl Curve {
    const MOST_POINTS: usize = 400;

    /// Begins at no requests; `base` is what was metered before.
    pub fn begin(base: i64) -> Self {
        let mut curve = Self {
            points: Vec::with_capacity(Self::MOST_POINTS + 1),
            base,
            stride: BATCH as u64 / 8,
            requests: 0,
            most: 0,
        };
        let point = curve.point();
        curve.points.push(point);
        curve
    }

    /// So many requests more have been counted.
    pub fn advance(&mut self, requests: u64) {
        self.requests += requests;
        let point = self.point();
        if self.requests - self.last().requests >= self.stride {
            self.points.push(point);
        }
        if self.points.len() > Self::MOST_POINTS {
            self.thin();
        }
    }

    /// Adds the end, wherever the last stride ended.
    pub fn finish(mut self) -> Self {
        let point = self.point();
        if self.last().requests == point.requests {
            self.points.pop();
        }
        self.points.push(point);
        self
    }

    pub fn points(&self) -> &[Point] {
        &self.points
    }

    pub fn last(&self) -> Point {
        self.points.last().copied().unwrap_or_default()
    }

    /// The most bytes that any batch left behind.
    pub fn most(&self) -> u64 {
        self.most
    }

    fn point(&mut self) -> Point {
        // Below zero only when more was freed than allocated: nothing is held then.
        let bytes = u64::try_from(memory::metered_bytes() - self.base).unwrap_or(0);
        self.most = self.most.max(bytes);
        Point { requests: self.requests, bytes }
    }

    fn thin(&mut self) {
        let mut keep = false;
        self.points.retain(|_| {
            keep = !keep;
            keep
        });
        self.stride *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_pass_keeps_both_ends_and_not_too_many_points() {
        let mut curve = Curve::begin(0);
        for _ in 0..100_000 {
            curve.advance(1_000);
        }
        let curve = curve.finish();
        let points = curve.points();
        assert!(points.len() > Curve::MOST_POINTS / 3);
        assert!(points.len() <= Curve::MOST_POINTS + 1);
        assert_eq!(points[0].requests, 0);
        assert_eq!(curve.last().requests, 100_000_000);
        assert!(points.is_sorted_by(|a, b| a.requests < b.requests));
    }
}
