//! Filler and padding, which are zeros and checked to be.

/// Whether all bytes are zero. Looks at all of them whatever it finds, many at a time: a nearly empty record has four thousand.
#[must_use]
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |seen, byte| seen | byte) == 0
}

#[cfg(test)]
mod tests {
    use super::is_zero;

    #[test]
    fn every_byte_counts() {
        for len in [0, 1, 15, 64, 200] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes));
            for place in 0..len {
                bytes[place] = 0x80;
                assert!(!is_zero(&bytes), "{place} of {len}");
                bytes[place] = 0;
            }
        }
    }
}
