//! Whether bytes look random. Bounds are far out: a fair stream of bytes fails a test about once in 10^9 runs.

/// How often each byte occurs.
#[derive(Clone)]
pub struct Histogram {
    counts: [u64; 256],
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; 256],
            total: 0,
        }
    }
}

/// Standard deviations of the chi-square statistic that random bytes stay within, over the thousands of statistics that one run takes.
const DEVIATIONS: f64 = 8.0;

/// Fewest bytes for which chi-square says anything: five expected in each of 256 classes.
const FEWEST: u64 = 5 * 256;

impl Histogram {
    /// Counts bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.counts[usize::from(*byte)] += 1;
        }
        self.total += bytes.len() as u64;
    }

    /// Bytes counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Chi-square against evenly distributed bytes, as standard deviations from what is expected.
    ///
    /// # Panics
    /// When there are too few.
    #[must_use]
    pub fn deviations(&self) -> f64 {
        assert!(self.total >= FEWEST, "{} bytes say nothing", self.total);
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let (total, count) = (self.total as f64, |n: u64| n as f64);
        let expected = total / 256.0;
        let chi: f64 = self
            .counts
            .iter()
            .map(|n| (count(*n) - expected).powi(2) / expected)
            .sum();
        (chi - 255.0) / (2.0 * 255.0_f64).sqrt()
    }

    /// Whether the bytes can have been random.
    #[must_use]
    pub fn is_random(&self) -> bool {
        self.deviations().abs() < DEVIATIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::data::RandomFile;

    fn of(bytes: &[u8]) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.add(bytes);
        histogram
    }

    #[test]
    fn tells_random_bytes_from_others() {
        let random = RandomFile::new(3, 1 << 16).bytes();
        assert!(of(&random).is_random());
        // One bit that is never set.
        let masked: Vec<u8> = random.iter().map(|byte| byte & 0x7f).collect();
        assert!(!of(&masked).is_random());
        // One byte in sixteen is constant.
        let mut striped = random.clone();
        striped.iter_mut().step_by(16).for_each(|byte| *byte = 9);
        assert!(!of(&striped).is_random());
        // Too even to be random.
        let even: Vec<u8> = (0..1 << 16).map(|n: u32| n.to_le_bytes()[0]).collect();
        assert!(!of(&even).is_random());
    }
}
