//! `Histogram`: how often a number came, in buckets that grow with the number (after HdrHistogram by Gil Tene).
//!
//! What must hold: a quantile is never below the true one and at most 1/256 above it; the greatest number is exact.

/// Buckets in each doubling of the number, as a power of two.
const STEP_BITS: u32 = 8;
const STEPS: u64 = 1 << STEP_BITS;
/// Doublings of a number of 64 bits, and the first one, in which each number has a bucket of its own.
const BUCKETS: usize = (64 - STEP_BITS as usize + 1) << STEP_BITS;

/// Counts of numbers.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    highest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, highest: 0 }
    }
}

impl Histogram {
    /// Counts a number.
    pub fn record(&mut self, number: u64) {
        self.counts[bucket_of(number)] += 1;
        self.total += 1;
        self.highest = self.highest.max(number);
    }

    /// How many numbers were counted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The greatest number; 0 of none.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// The number that a share (0 to 1) of all numbers does not pass; 0 of none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        // The count is far below 2^52, and the share is none of the program's outside.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 0 and the count")]
        let wanted = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return highest_of(bucket).min(self.highest);
            }
        }
        self.highest
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.highest = self.highest.max(other.highest);
    }
}

fn bucket_of(number: u64) -> usize {
    let doubling = (64 - STEP_BITS).saturating_sub(number.leading_zeros());
    // Within a doubling, the bits behind the first one choose the bucket.
    let step = (number >> doubling.saturating_sub(1)) & (STEPS - 1);
    ((doubling as usize) << STEP_BITS) | usize::try_from(step).expect("it is below the steps of a doubling")
}

fn highest_of(bucket: usize) -> u64 {
    let (doubling, step) = (bucket >> STEP_BITS, bucket as u64 & (STEPS - 1));
    if doubling == 0 {
        return step;
    }
    let shift = doubling - 1;
    ((STEPS | step) << shift) | ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_the_numbers_that_it_says() {
        for number in (0..5_000).chain([1 << 20, (1 << 40) + 12_345, u64::MAX / 3, u64::MAX]) {
            let highest = highest_of(bucket_of(number));
            assert!(highest >= number, "{number} is above its bucket's {highest}");
            assert!(highest - number <= number / STEPS, "{number} is far below its bucket's {highest}");
        }
    }

    #[test]
    fn quantiles_are_close_and_the_highest_is_exact() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile(0.5), histogram.highest()), (0, 0));
        (1..=100_000).for_each(|number| histogram.record(number));
        for (share, true_one) in [(0.5, 50_000), (0.99, 99_000), (0.999, 99_900), (1.0, 100_000)] {
            let told = histogram.quantile(share);
            assert!((true_one..=true_one + true_one / STEPS).contains(&told), "{share}: {told}");
        }
        let mut other = Histogram::default();
        other.record(7_000_000);
        histogram.add(&other);
        assert_eq!((histogram.total(), histogram.highest()), (100_001, 7_000_000));
    }
}
