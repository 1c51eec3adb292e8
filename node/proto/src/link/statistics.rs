//! What the tests mean by "looks random".

use core::ops::Range;

/// Chi-square of 255 degrees of freedom lies here in all but about one of 10^5 runs with uniform bytes (mean 255, standard
/// deviation 22.6). The tests' seeds are fixed, so they pass or fail once and for all.
pub(crate) const UNIFORM: Range<f64> = 165.0..365.0;

/// Chi-square of the frequencies of the 256 byte values against the uniform distribution.
pub(crate) fn chi_square(bytes: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let expected = bytes.len() as f64 / 256.0;
    counts
        .iter()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum()
}
