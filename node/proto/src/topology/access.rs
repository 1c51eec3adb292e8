//! Whom the operator lets in: allow and deny lists of address ranges and identities.
//!
//! A deny entry wins over everything. With any allow entry, only who matches one is let in. The lists concern neighbours: whom
//! this node dials, for whomever, and whose links it accepts. They say nothing about who may be a hop farther on, whom this node
//! never speaks to.

use core::{fmt, net::IpAddr, str::FromStr};

use warren_keys::NodeId;

/// A range of addresses of one family, in CIDR notation: `192.0.2.0/24`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressRange {
    base: IpAddr,
    bits: u8,
}

/// Text that is no [`AddressRange`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressRangeError {
    /// What stands before the slash.
    #[error("not an IP address")]
    Address,
    /// What stands behind it.
    #[error("the number behind the slash is 0 to 32 for IPv4, 0 to 128 for IPv6")]
    Bits,
    /// Most likely a slip of the pen: bits behind the prefix are set.
    #[error("the address has bits behind the prefix")]
    Host,
}

impl AddressRange {
    /// Whether the address is within. An IPv4 address in IPv6 clothes counts as IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                prefix(base.to_bits().into(), 32, self.bits) == prefix(ip.to_bits().into(), 32, self.bits)
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                prefix(base.to_bits(), 128, self.bits) == prefix(ip.to_bits(), 128, self.bits)
            }
            _ => false,
        }
    }

    const fn width(ip: IpAddr) -> u8 {
        match ip {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }
}

/// The first `bits` of a number that is `width` bits wide.
fn prefix(number: u128, width: u8, bits: u8) -> u128 {
    number
        .checked_shr(u32::from(width.saturating_sub(bits)))
        .unwrap_or(0)
}

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| AddressRangeError::Address)?;
        let width = Self::width(base);
        let bits = match bits {
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= width)
                .ok_or(AddressRangeError::Bits)?,
            None => width,
        };
        let number = match base {
            IpAddr::V4(ip) => ip.to_bits().into(),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let rest = u32::from(width - bits);
        if prefix(number, width, bits).checked_shl(rest).unwrap_or(0) != number {
            return Err(AddressRangeError::Host);
        }
        Ok(Self { base, bits })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bits == Self::width(self.base) {
            self.base.fmt(f)
        } else {
            write!(f, "{}/{}", self.base, self.bits)
        }
    }
}

/// One entry of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessRule {
    /// Everybody at these addresses.
    Addresses(AddressRange),
    /// This node, wherever it is.
    Node(NodeId),
}

/// Whom the operator lets in. The default lets everybody in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// With any, only who matches one is let in.
    pub allow: Vec<AccessRule>,
    /// Who matches one is not let in.
    pub deny: Vec<AccessRule>,
}

impl Access {
    /// Whether this node may be a neighbour at this address. Without an address only identities count.
    #[must_use]
    pub fn admits(&self, node: &NodeId, address: Option<IpAddr>) -> bool {
        let matches = |rule: &AccessRule| match rule {
            AccessRule::Addresses(range) => address.is_some_and(|address| range.contains(address)),
            AccessRule::Node(named) => named == node,
        };
        !self.deny.iter().any(matches) && (self.allow.is_empty() || self.allow.iter().any(matches))
    }

    /// Whether somebody who comes from this address may prove who it is. For listeners: most of who is unwelcome goes before the
    /// cost of a handshake.
    #[must_use]
    pub fn may_knock(&self, address: IpAddr) -> bool {
        let within =
            |rule: &AccessRule| matches!(rule, AccessRule::Addresses(range) if range.contains(address));
        let named = |rule: &AccessRule| matches!(rule, AccessRule::Node(_));
        !self.deny.iter().any(within)
            && (self.allow.is_empty() || self.allow.iter().any(|rule| named(rule) || within(rule)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::fixtures;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_hold_what_their_prefix_says() {
        for (text, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ffff::", "1.2.3.4"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("2001:db8::1/128", "2001:db8::1", "2001:db8::2"),
            ("192.0.2.0/24", "::ffff:192.0.2.1", "::ffff:192.0.3.1"),
        ] {
            assert!(range(text).contains(ip(inside)), "{text} {inside}");
            assert!(!range(text).contains(ip(outside)), "{text} {outside}");
            assert_eq!(range(&range(text).to_string()), range(text));
        }
    }

    #[test]
    fn slips_of_the_pen_are_refused() {
        for (text, error) in [
            ("", AddressRangeError::Address),
            ("example.com", AddressRangeError::Address),
            ("10.0.0.0/", AddressRangeError::Bits),
            ("10.0.0.0/33", AddressRangeError::Bits),
            ("::/129", AddressRangeError::Bits),
            ("10.0.0.0/-1", AddressRangeError::Bits),
            ("10.0.0.1/8", AddressRangeError::Host),
            ("2001:db8::1/64", AddressRangeError::Host),
        ] {
            assert_eq!(text.parse::<AddressRange>(), Err(error), "{text}");
        }
    }

    #[test]
    fn deny_wins_and_allow_excludes_the_rest() {
        let (a, b) = (fixtures::node(1).identity, fixtures::node(2).identity);
        let (near, far) = (Some(ip("192.0.2.1")), Some(ip("198.51.100.1")));
        let everybody = Access::default();
        assert!(everybody.admits(&a, near) && everybody.admits(&a, None) && everybody.may_knock(ip("::1")));
        let denied = Access {
            allow: Vec::new(),
            deny: vec![
                AccessRule::Node(a),
                AccessRule::Addresses(range("198.51.100.0/24")),
            ],
        };
        assert!(!denied.admits(&a, near) && denied.admits(&b, near) && !denied.admits(&b, far));
        assert!(denied.may_knock(ip("192.0.2.1")) && !denied.may_knock(ip("198.51.100.9")));
        let mut allowed = Access {
            allow: vec![AccessRule::Addresses(range("192.0.2.0/24"))],
            deny: vec![AccessRule::Node(a)],
        };
        assert!(!allowed.admits(&a, near) && allowed.admits(&b, near));
        assert!(!allowed.admits(&b, far) && !allowed.admits(&b, None));
        assert!(!allowed.may_knock(ip("198.51.100.1")));
        allowed.allow.push(AccessRule::Node(b));
        assert!(allowed.admits(&b, far) && allowed.may_knock(ip("198.51.100.1")));
    }
}
