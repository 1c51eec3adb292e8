//! Which network a node belongs to.
//!
//! A network is its name. The name is never sent: it is hashed into the link handshake and into what nodes sign, so that
//! nodes of two networks cannot link to each other nor carry each other's descriptors, by accident or on purpose.

use core::{fmt, str::FromStr};

use warren_keys::labels;

/// Longest name of a network, bytes; what fits on a line of a configuration file.
pub const MAX_NETWORK_NAME: usize = 64;

/// A network, known by the hash of its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network([u8; 32]);

/// Why a text does not name a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NetworkNameError {
    /// Empty or too long.
    #[error("a network's name has 1 to {MAX_NETWORK_NAME} characters, this one has {0}")]
    Length(usize),
    /// Something that two people could type in two ways.
    #[error("a network's name has only a-z, 0-9, '-' and '.', not {0:?}")]
    Character(char),
}

impl Network {
    /// Name of the network that everybody joins unless told otherwise.
    pub const MAIN: &str = "main";

    /// 32 bytes that stand for the network.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Network {
    type Err = NetworkNameError;

    fn from_str(name: &str) -> Result<Self, NetworkNameError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if let Some(wrong) = name.chars().find(|c| !allowed(*c)) {
            return Err(NetworkNameError::Character(wrong));
        }
        if !(1..=MAX_NETWORK_NAME).contains(&name.len()) {
            return Err(NetworkNameError::Length(name.len()));
        }
        Ok(Self(labels::NETWORK.derive(&[name.as_bytes()])))
    }
}

// The hash is not a secret, but whoever has it can test guesses of a private network's name.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let main: Network = Network::MAIN.parse().unwrap();
        assert_ne!(main, "main2".parse().unwrap());
        assert_eq!(main, "main".parse().unwrap());
        assert!("demo-10.example".parse::<Network>().is_ok());
        assert_eq!("".parse::<Network>(), Err(NetworkNameError::Length(0)));
        assert_eq!(
            "x".repeat(65).parse::<Network>(),
            Err(NetworkNameError::Length(65))
        );
        assert_eq!("Main".parse::<Network>(), Err(NetworkNameError::Character('M')));
        assert_eq!("mäin".parse::<Network>(), Err(NetworkNameError::Character('ä')));
    }
}
