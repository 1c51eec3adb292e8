//! Node references: what one person sends another so that their nodes can link (protocol §3.3).
//!
//! `warren-node:<identity>,<link key>@<host>:<port>`. The keys let the holder past the masked handshake, so a reference is all
//! that is needed to find out that Warren listens there.
//!
//! Invariant: one text for each reference; what is parsed prints as it was.

use core::{fmt, str::FromStr};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use warren_keys::{Base64Error, NodeId, NodeIdError, base64};

use super::is_dialable;

/// What references begin with.
pub const REFERENCE_SCHEME: &str = "warren-node:";
/// Longest host name, characters (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;
/// Longest part of a host name between dots.
const MAX_HOST_LABEL: usize = 63;

/// Where a node can be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host {
    /// At an address.
    Ip(IpAddr),
    /// At the addresses of a name, which the driver looks up.
    Name(String),
}

/// A way to a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeReference {
    /// Its identity.
    pub node: NodeId,
    /// Its static link key.
    pub link_key: [u8; 32],
    /// Where it is.
    pub host: Host,
    /// The port; not 0.
    pub port: u16,
}

/// Why a text is not a node reference.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReferenceError {
    /// Begins otherwise.
    #[error("a node reference begins with \"{REFERENCE_SCHEME}\"")]
    Scheme,
    /// No comma.
    #[error("a node reference has two keys with a comma between them; there is no comma")]
    Comma,
    /// No at sign.
    #[error("a node reference has an '@' and the node's address after its keys; there is no '@'")]
    At,
    /// No port.
    #[error("a node reference ends in ':' and a port; there is none")]
    NoPort,
    /// The first key.
    #[error("{0}")]
    Node(#[from] NodeIdError),
    /// The second key.
    #[error("the link key {0}")]
    LinkKey(Base64Error),
    /// The port is not a number from 1 to 65535 in its shortest form.
    #[error("{0:?} is not a port: a number from 1 to 65535")]
    Port(String),
    /// Neither an address nor a name.
    #[error(
        "{0:?} is neither an IPv4 address, nor an IPv6 address in brackets, nor a host name in lower case"
    )]
    Host(String),
    /// An address at which no node can be.
    #[error("no node can be reached at {0}")]
    Address(IpAddr),
    /// An IPv6 address in another than its one form.
    #[error("write the address as [{0}]")]
    Form(Ipv6Addr),
}

impl NodeReference {
    /// The socket address, unless a name has to be looked up first.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }
}

fn parse_host(text: &str) -> Result<Host, ReferenceError> {
    let wrong = || ReferenceError::Host(text.to_owned());
    let ip: IpAddr = if let Some(inner) = text.strip_prefix('[') {
        let ip: Ipv6Addr = inner
            .strip_suffix(']')
            .and_then(|ip| ip.parse().ok())
            .ok_or_else(wrong)?;
        if inner.strip_suffix(']') != Some(&ip.to_string()) {
            return Err(ReferenceError::Form(ip));
        }
        ip.into()
    } else if let Ok(ip) = text.parse::<Ipv4Addr>() {
        ip.into()
    } else {
        return if is_name(text) {
            Ok(Host::Name(text.to_owned()))
        } else {
            Err(wrong())
        };
    };
    if is_dialable(&SocketAddr::new(ip, 1)) {
        Ok(Host::Ip(ip))
    } else {
        Err(ReferenceError::Address(ip))
    }
}

/// A host name of RFC 1123, in lower case, whose last part is not a number (that would be an IPv4 address with a fault).
fn is_name(text: &str) -> bool {
    let label = |part: &str| {
        (1..=MAX_HOST_LABEL).contains(&part.len())
            && part
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let numeric = |part: &str| part.bytes().all(|c| c.is_ascii_digit());
    text.len() <= MAX_HOST && text.split('.').all(label) && !text.rsplit('.').next().is_some_and(numeric)
}

fn parse_port(text: &str) -> Option<u16> {
    let port = text.parse().ok().filter(|port| *port != 0)?;
    (u16::to_string(&port) == text).then_some(port)
}

impl FromStr for NodeReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let rest = text
            .strip_prefix(REFERENCE_SCHEME)
            .ok_or(ReferenceError::Scheme)?;
        let (keys, place) = rest.split_once('@').ok_or(ReferenceError::At)?;
        let (node, link_key) = keys.split_once(',').ok_or(ReferenceError::Comma)?;
        let (host, port) = place.rsplit_once(':').ok_or(ReferenceError::NoPort)?;
        Ok(Self {
            node: node.parse()?,
            link_key: base64::decode(link_key).map_err(ReferenceError::LinkKey)?,
            host: parse_host(host)?,
            port: parse_port(port).ok_or_else(|| ReferenceError::Port(port.to_owned()))?,
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for NodeReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (node, link_key) = (self.node, base64::encode(&self.link_key));
        write!(
            f,
            "{REFERENCE_SCHEME}{node},{link_key}@{}:{}",
            self.host, self.port
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::descriptor::fixtures::key;

    fn reference(host: &str, port: &str) -> String {
        format!(
            "warren-node:{},{}@{host}:{port}",
            key(1).id(),
            base64::encode(&[7; 32])
        )
    }

    fn fault(text: &str) -> ReferenceError {
        text.parse::<NodeReference>().unwrap_err()
    }

    #[test]
    fn round_trip() {
        let hosts = [
            "192.0.2.7",
            "[2001:db8::7]",
            "[::1]",
            "node.example",
            "localhost",
            "1a",
            "a-b.c0",
            "127.0.0.1",
        ];
        for host in hosts {
            for port in ["1", "9440", "65535"] {
                let text = reference(host, port);
                let parsed: NodeReference = text.parse().unwrap_or_else(|fault| panic!("{text}: {fault}"));
                assert_eq!(parsed.to_string(), text);
                assert_eq!((parsed.node, parsed.link_key), (key(1).id(), [7; 32]));
                assert_eq!(parsed.address().is_none(), matches!(parsed.host, Host::Name(_)));
            }
        }
    }

    #[test]
    fn faults_are_named() {
        let good = reference("192.0.2.7", "9440");
        assert_eq!(fault(""), ReferenceError::Scheme);
        assert_eq!(fault(&good.replacen("node", "nodE", 1)), ReferenceError::Scheme);
        assert_eq!(fault(&good.replacen(',', ";", 1)), ReferenceError::Comma);
        assert_eq!(fault(&good.replacen('@', "#", 1)), ReferenceError::At);
        assert_eq!(fault(&good.replacen(":9440", "", 1)), ReferenceError::NoPort);
        assert!(matches!(
            fault(&good.replacen(":", ":A", 1)),
            ReferenceError::Node(_)
        ));
        assert!(matches!(
            fault(&good.replacen(',', ",A", 1)),
            ReferenceError::LinkKey(Base64Error::Length { .. })
        ));
        for port in ["0", "09440", "65536", "", "+1", " 1", "x"] {
            assert_eq!(
                fault(&reference("192.0.2.7", port)),
                ReferenceError::Port(port.to_owned()),
                "{port}"
            );
        }
        for host in [
            "",
            "256.1.1.1",
            "1.2.3",
            "Node.example",
            "a..b",
            "-a",
            "a-",
            "a b",
            "[::1",
            "::1",
            "[x]",
            "ä.de",
        ] {
            assert_eq!(
                fault(&reference(host, "1")),
                ReferenceError::Host(host.to_owned()),
                "{host}"
            );
        }
        for host in ["0.0.0.0", "[::]", "224.0.0.1", "[::ffff:192.0.2.1]"] {
            assert!(
                matches!(fault(&reference(host, "1")), ReferenceError::Address(_)),
                "{host}"
            );
        }
        assert_eq!(
            fault(&reference("[2001:DB8::1]", "1")).to_string(),
            "write the address as [2001:db8::1]"
        );
        assert!(
            fault(&reference(&"a".repeat(64), "1"))
                .to_string()
                .contains("host name")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_reference_that_prints_the_same_or_an_error(host in "\\PC{0,20}", port in "\\PC{0,6}") {
            let text = reference(&host, &port);
            if let Ok(parsed) = text.parse::<NodeReference>() {
                prop_assert_eq!(parsed.to_string(), text);
            }
        }
    }
}
