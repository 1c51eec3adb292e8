//! The log policy in types: what would betray somebody prints redacted, whatever the level.
//!
//! The policy itself is `docs/log-policy.md`. Events of the daemon name peers only as [`PeerAddr`], and hold anything of a
//! request only as [`Redacted`].

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// A value that may be carried about but is never printed: routing keys, URIs, file names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Redacted<T>(pub T);

impl<T> fmt::Display for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Another node's or a stranger's address: prints only its network (IPv4 /16, IPv6 /32), which is enough to see a pattern and
/// too little to name a household. Loopback prints in full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.ip().to_canonical() {
            ip if ip.is_loopback() => write!(f, "{}", self.0),
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                write!(f, "{a}.{b}.x.x")
            }
            IpAddr::V6(ip) => {
                let [a, b, ..] = ip.segments();
                write!(f, "{a:x}:{b:x}:x")
            }
        }
    }
}

impl fmt::Debug for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_their_network_only() {
        let shown = |text: &str| format!("{:?} {0}", PeerAddr(text.parse().unwrap()));
        assert_eq!(shown("198.51.100.7:4433"), "198.51.x.x 198.51.x.x");
        assert_eq!(shown("[2001:db8:aaaa::7]:4433"), "2001:db8:x 2001:db8:x");
        assert_eq!(shown("[::ffff:198.51.100.7]:4433"), "198.51.x.x 198.51.x.x");
        assert_eq!(shown("127.0.0.1:4433"), "127.0.0.1:4433 127.0.0.1:4433");
    }

    #[test]
    fn redacted_values_never_print() {
        assert_eq!(
            format!("{0} {0:?}", Redacted("KSK@secret plan")),
            "[redacted] [redacted]"
        );
    }
}
