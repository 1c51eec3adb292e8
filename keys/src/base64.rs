//! Freenet's base64: `A-Z a-z 0-9 ~ -`, no padding (`keys §3.2`).
//!
//! Invariant: decoding accepts exactly what encoding prints, one text for each value. Only the lengths that URIs
//! use are offered; errors say which character is wrong, and [`crate::UriError`] says in which part.

/// The alphabet: `~` is 62 and `-` is 63.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789~-";

/// Why a text is not base64 of the expected length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Base64Error {
    /// Another number of characters than the length of the value needs.
    #[error("has {found} characters, {expected} expected")]
    Length {
        /// Characters that the value needs.
        expected: usize,
        /// Characters that are there.
        found: usize,
    },
    /// A character outside the alphabet.
    #[error("has {found:?} as its character {position}, which is not base64 (A-Z a-z 0-9 ~ -)")]
    Character {
        /// The character.
        found: char,
        /// Its place, counted from 1.
        position: usize,
    },
    /// The bits left over in the last character are not zero.
    #[error("ends in a character with stray bits")]
    TrailingBits,
}

/// Number of characters that print `bytes` bytes.
pub const fn encoded_len(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// Prints `bytes`.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(encoded_len(bytes.len()));
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let six = group >> (18 - 6 * place) & 63;
            text.push(char::from(ALPHABET[six as usize]));
        }
    }
    text
}

/// Reads exactly `N` bytes.
///
/// # Errors
/// Wrong number of characters, a character outside the alphabet, or stray bits at the end.
pub fn decode<const N: usize>(text: &str) -> Result<[u8; N], Base64Error> {
    for (index, found) in text.chars().enumerate() {
        if value(found).is_none() {
            return Err(Base64Error::Character {
                found,
                position: index + 1,
            });
        }
    }
    let expected = encoded_len(N);
    if text.len() != expected {
        return Err(Base64Error::Length {
            expected,
            found: text.len(),
        });
    }
    let mut bytes = [0; N];
    let mut filled = 0;
    let (mut group, mut bits) = (0u32, 0);
    for six in text.chars().filter_map(value) {
        group = group << 6 | six;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes[filled] = (group >> bits & 0xff) as u8;
            filled += 1;
        }
    }
    match group & ((1 << bits) - 1) {
        0 => Ok(bytes),
        _ => Err(Base64Error::TrailingBits),
    }
}

fn value(c: char) -> Option<u32> {
    let c = u32::from(c);
    match c {
        0x41..=0x5a => Some(c - 0x41),
        0x61..=0x7a => Some(c - 0x61 + 26),
        0x30..=0x39 => Some(c - 0x30 + 52),
        0x7e => Some(62),
        0x2d => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        assert_eq!(encode(&[1, 0, 2, 0, 1]), "AQACAAE");
        assert_eq!(encode(&[1, 1, 2, 0, 1]), "AQECAAE");
        assert_eq!(encode(&[0xff; 3]), "----");
        assert_eq!(encode(&[0xfb, 0xef, 0xbe]), "~~~~");
        assert_eq!(encode(&[]), "");
        assert_eq!(encode(&[0; 32]).len(), 43);
    }

    #[test]
    fn errors_name_the_fault() {
        assert_eq!(
            decode::<5>("AQACAA"),
            Err(Base64Error::Length {
                expected: 7,
                found: 6
            })
        );
        assert_eq!(
            decode::<5>("AQ+CAAE"),
            Err(Base64Error::Character {
                found: '+',
                position: 3
            })
        );
        assert_eq!(
            decode::<5>("AQACAAé"),
            Err(Base64Error::Character {
                found: 'é',
                position: 7
            })
        );
        assert_eq!(decode::<5>("AQACAAF"), Err(Base64Error::TrailingBits));
    }

    proptest! {
        #[test]
        fn round_trip(bytes in any::<[u8; 32]>(), five in any::<[u8; 5]>()) {
            prop_assert_eq!(decode::<32>(&encode(&bytes)), Ok(bytes));
            prop_assert_eq!(decode::<5>(&encode(&five)), Ok(five));
        }

        #[test]
        fn one_text_for_each_value(text in "[A-Za-z0-9~-]{7}") {
            if let Ok(bytes) = decode::<5>(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
