//! Keys to count: 36-byte UUID texts with a skew of 0.99.

use clap::ValueEnum;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Half as many keys as the capacity.
    Hit,
    /// Ten times as many.
    Churn,
    /// Nearly all new.
    Scan,
}

pub struct Workload {
    keys: Vec<String>,
    order: Vec<usize>,
}

fn uuid(rng: &mut impl Rng) -> String {
    let (a, b) = (rng.random::<u64>(), rng.random::<u64>());
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}

impl Workload {
    pub fn new(kind: Kind, capacity: usize, operations: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(42);
        let n = match kind {
            Kind::Hit => (capacity / 2).max(1),
            Kind::Churn => capacity * 10,
            Kind::Scan => operations,
        };
        let keys = (0..n).map(|_| uuid(&mut rng)).collect();
        let order = match kind {
            Kind::Scan => (0..operations).collect(),
            Kind::Hit | Kind::Churn => {
                let zipf = Zipf::new(n as f64, 0.99).expect("valid parameters");
                (0..operations).map(|_| zipf.sample(&mut rng) as usize - 1).collect()
            }
        };
        Self { keys, order }
    }

    pub fn parts(&self, threads: usize) -> Vec<Vec<&str>> {
        let part = self.order.len() / threads;
        let keys = |part: &[usize]| part.iter().map(|&at| self.keys[at].as_str()).collect();
        self.order.chunks_exact(part).map(keys).collect()
    }
}
