//! Counts values by size, exact enough for quantiles and bounded in memory; integers only.

use std::collections::BTreeMap;

/// Leading bits of a value that are kept: a quantile is at most 1/128 too high, never too low.
const BITS: u32 = 8;

/// How often values of each size occurred.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// By the largest value that the bucket holds.
    buckets: BTreeMap<u64, u64>,
    count: u64,
}

impl Histogram {
    /// Counts one value.
    pub(crate) fn add(&mut self, value: u64) {
        let dropped = (u64::BITS - value.leading_zeros()).saturating_sub(BITS);
        *self.buckets.entry(value | !(u64::MAX << dropped)).or_default() += 1;
        self.count += 1;
    }

    /// Counts what another one counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (top, count) in &other.buckets {
            *self.buckets.entry(*top).or_default() += count;
        }
        self.count += other.count;
    }

    /// How many values there are.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// The value that `per_mille` of a thousand do not exceed (nearest rank); 0 if there is none.
    pub(crate) fn quantile(&self, per_mille: u64) -> u64 {
        let rank = (self.count * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        bucket.map_or(0, |(top, _)| *top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_are_exact_and_large_ones_within_a_hundredth() {
        let mut all = Histogram::default();
        assert_eq!(all.quantile(500), 0);
        (1..=100).for_each(|value| all.add(value));
        assert_eq!([0, 10, 500, 990, 1000].map(|q| all.quantile(q)), [1, 1, 50, 99, 100]);
        for value in [255, 256, 1_000_003, u64::MAX] {
            let mut one = Histogram::default();
            one.add(value);
            let told = one.quantile(500);
            assert!(told >= value && told - value <= value / 128, "{value} is told as {told}");
        }
    }

    #[test]
    fn what_is_merged_is_counted_once() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.add(1);
        b.add(3);
        b.add(3);
        a.merge(&b);
        assert_eq!((a.count(), a.quantile(300), a.quantile(400)), (3, 1, 3));
    }
}
