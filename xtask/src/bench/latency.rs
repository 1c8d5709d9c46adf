//! A histogram of durations that costs a few instructions for each value.

use std::time::Duration;

/// Steps within a power of two: 32 of them keep every value within 3 %.
const FINE: u32 = 5;
const BUCKETS: usize = 64 << FINE;

/// Counts durations by size.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    counts: Vec<u32>,
    all: u64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], all: 0 }
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.all += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.all += other.all;
    }

    pub(crate) fn count(&self) -> u64 {
        self.all
    }

    /// The duration in microseconds that `part` (0 to 1) of all stay below.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let rank = (self.all as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank.max(1) {
                return middle(at) / 1e3;
            }
        }
        f64::NAN
    }
}

fn bucket(nanos: u64) -> usize {
    let value = nanos.max(1 << FINE);
    let power = 63 - value.leading_zeros();
    let step = (value >> (power - FINE)) as usize & ((1 << FINE) - 1);
    (((power - FINE) as usize) << FINE) + step
}

fn middle(bucket: usize) -> f64 {
    let power = (bucket >> FINE) as u32;
    let step = (bucket & ((1 << FINE) - 1)) as u64;
    let low = ((1 << FINE) + step) << power;
    low as f64 + (1u64 << power) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_within_three_percent() {
        for nanos in [40, 999, 12_345, 1_000_000, 7_654_321_000] {
            let found = middle(bucket(nanos));
            assert!((found / nanos as f64 - 1.0).abs() < 0.032, "{nanos} became {found}");
        }
    }

    #[test]
    fn quantiles_are_ranks() {
        let mut all = Latencies::new();
        (1..=1000).for_each(|micros| all.add(Duration::from_micros(micros)));
        assert!((all.quantile(0.5) / 500.0 - 1.0).abs() < 0.04);
        assert!((all.quantile(0.99) / 990.0 - 1.0).abs() < 0.04);
        let mut both = Latencies::new();
        both.merge(&all);
        both.merge(&all);
        assert_eq!((both.count(), both.quantile(0.5)), (2000, all.quantile(0.5)));
    }
}
