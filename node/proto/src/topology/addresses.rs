//! Which addresses a node dials because a stranger named them.
//!
//! Descriptors are signed by whoever made them, so anybody can name any address. A node that dialled private ranges for
//! strangers would let them knock at the doors of its own local network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whether an address is reachable from the public internet.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    let shared = a == 100 && b & 0xc0 == 64;
    let benchmark = a == 198 && b & 0xfe == 18;
    let reserved = a == 0 || a >= 224;
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || shared
        || benchmark
        || reserved)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    let documentation = first == 0x2001 && second == 0xdb8;
    // Only 2000::/3 is given out. What embeds an IPv4 address there (6to4, Teredo) is a way round the IPv4 rules.
    first & 0xe000 == 0x2000 && !documentation && first != 0x2002 && !(first == 0x2001 && second == 0)
}

/// A /16 of IPv4 or a /32 of IPv6: nodes in one may well have one operator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Group(u8, u32);

/// The group that an address is in. Loopback and private addresses are in none, because many nodes of a home, a test or a lab
/// share them without sharing an operator; unless `strict_private`.
pub(crate) fn group(address: IpAddr, strict_private: bool) -> Option<Group> {
    let address = address.to_canonical();
    if !strict_private && is_private(address) {
        return None;
    }
    match address {
        IpAddr::V4(v4) => Some(Group(4, v4.to_bits() >> 16)),
        IpAddr::V6(v6) => u32::try_from(v6.to_bits() >> 96).ok().map(|bits| Group(6, bits)),
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => {
            v6 == Ipv6Addr::LOCALHOST
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
        }
    }
}

/// The addresses among `named` that may be dialled.
pub(super) fn diallable(named: &[SocketAddr], allow_private: bool) -> impl Iterator<Item = SocketAddr> {
    let may = move |address: &SocketAddr| address.port() != 0 && (allow_private || is_public(address.ip()));
    named.iter().copied().filter(may)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_ranges_are_public() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "198.20.0.1",
            "2606:4700::1",
            "2a00:1450::5",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn private_ones_are_dialled_only_where_allowed() {
        let named = ["1.1.1.1:1", "10.0.0.1:2", "1.1.1.1:0"].map(|text| text.parse().unwrap());
        assert_eq!(diallable(&named, false).collect::<Vec<_>>(), named[..1]);
        assert_eq!(diallable(&named, true).collect::<Vec<_>>(), named[..2]);
    }
}
