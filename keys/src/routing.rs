//! Routing keys and points on the ring.
//!
//! Invariant: routing keys print redacted, so that no log line can carry one by accident (log policy). What a
//! location means for routing is not decided here.

use core::fmt;

/// The 32 bytes by which the network finds a block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutingKey([u8; 32]);

impl RoutingKey {
    /// Takes the 32 bytes as they are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Where on the ring the block belongs.
    pub fn location(&self) -> Location {
        Location::from_hash(&self.0)
    }
}

impl fmt::Debug for RoutingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoutingKey(..)")
    }
}

/// A point on the ring of 2^64 places.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(u64);

impl Location {
    /// The point with this number.
    pub const fn new(point: u64) -> Self {
        Self(point)
    }

    /// The first eight bytes, big-endian, of a hash.
    pub fn from_hash(hash: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *hash;
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// The number of the point.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Steps to `other` by the shorter way round: 0 to 2^63.
    pub const fn distance(self, other: Self) -> u64 {
        let clockwise = other.0.wrapping_sub(self.0);
        let anticlockwise = self.0.wrapping_sub(other.0);
        if clockwise < anticlockwise {
            clockwise
        } else {
            anticlockwise
        }
    }

    /// Steps to `other` going up: 0 to 2^64 − 1.
    pub const fn clockwise(self, other: Self) -> u64 {
        other.0.wrapping_sub(self.0)
    }
}

// A full location would betray the first eight bytes of a routing key; three hexadecimal digits do not.
impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({:03x}..)", self.0 >> 52)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn distance_wraps() {
        let near_end = Location::new(u64::MAX - 1);
        assert_eq!(near_end.distance(Location::new(3)), 5);
        assert_eq!(Location::new(3).distance(near_end), 5);
        assert_eq!(Location::new(0).distance(Location::new(1 << 63)), 1 << 63);
        assert_eq!(Location::new(5).distance(Location::new(5)), 0);
        assert_eq!(near_end.clockwise(Location::new(3)), 5);
    }

    #[test]
    fn debug_is_redacted() {
        let key = RoutingKey::from_bytes([0xab; 32]);
        assert_eq!(
            format!("{key:?} {:?}", key.location()),
            "RoutingKey(..) Location(aba..)"
        );
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_shortest(a: u64, b: u64) {
            let (a, b) = (Location::new(a), Location::new(b));
            prop_assert_eq!(a.distance(b), b.distance(a));
            prop_assert_eq!(a.distance(b), a.clockwise(b).min(b.clockwise(a)));
        }
    }
}
