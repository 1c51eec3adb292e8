//! What a node says of itself, signed (protocol §3.2).
//!
//! Invariant: a [`Descriptor`] value has a valid signature, made for the network in which it was read. Whether it is recent
//! enough to act on is asked apart, with [`Descriptor::is_current`], because only that needs the time.

use core::{fmt, ops::Deref, time::Duration};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use bytes::{BufMut, BytesMut};
use warren_keys::{IdentityKey, Location, NodeId, SIGNATURE_SIZE, labels};

use crate::{
    network::Network,
    time::WallTime,
    wire::{Reader, WireError, encode_address},
};

mod reference;
mod secrets;

pub use reference::{Host, NodeReference, REFERENCE_SCHEME, ReferenceError};
pub use secrets::NodeSecrets;

/// The most addresses of one node: two of each family.
pub const MAX_ADDRESSES: usize = 4;
/// A descriptor older than this is forgotten. Nodes sign a new one each [`DESCRIPTOR_RENEWAL`], so it belongs to a node that has
/// been away for days.
pub const DESCRIPTOR_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often a node signs a new descriptor although nothing in it changed.
pub const DESCRIPTOR_RENEWAL: Duration = Duration::from_secs(24 * 3600);
/// How far ahead of our clock a descriptor may be dated: clocks may disagree by a day, and two hours are for the road.
pub const DESCRIPTOR_MAX_LEAD: Duration = Duration::from_secs(26 * 3600);

/// Whether a node whose latest descriptor is dated `published` signs a new one: the old one is a renewal old, or its date is so far ahead
/// that nobody uses it (this node's clock was wrong when it was signed).
#[must_use]
pub const fn is_due(now: WallTime, published: u64) -> bool {
    now.0 >= published.saturating_add(DESCRIPTOR_RENEWAL.as_secs())
        || published > now.0.saturating_add(DESCRIPTOR_MAX_LEAD.as_secs())
}

/// The date of a node's next descriptor when the latest is dated `published`: now, but later than the latest, which others would keep
/// otherwise; unless they do not use that one because its date is too far ahead.
#[must_use]
pub const fn next_date(now: WallTime, published: u64) -> u64 {
    let unused = published > now.0.saturating_add(DESCRIPTOR_MAX_LEAD.as_secs());
    if published < now.0 || unused {
        now.0
    } else {
        published.saturating_add(1)
    }
}

/// The only version so far.
const VERSION: u8 = 1;
/// Version, three keys, services, time, number of addresses.
const FIXED_LEN: usize = 1 + 3 * 32 + 1 + 8 + 1;
/// Family, IPv6 address, port.
const MAX_ADDRESS_LEN: usize = 1 + 16 + 2;
/// Bytes of the shortest descriptor, which has no address.
pub const MIN_DESCRIPTOR_LEN: usize = FIXED_LEN + SIGNATURE_SIZE;
/// Bytes of the longest.
pub const MAX_DESCRIPTOR_LEN: usize = MIN_DESCRIPTOR_LEN + MAX_ADDRESSES * MAX_ADDRESS_LEN;

/// Why bytes are not a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DescriptorError {
    /// Of another version.
    #[error("version {0} is not known")]
    Version(u8),
    /// The identity is not a key.
    #[error("the identity is not a public key")]
    Identity,
    /// Says that it offers a service that this version does not have.
    #[error("unknown services {0:#04x}")]
    Services(u8),
    /// More addresses than allowed.
    #[error("{0} addresses, at most {MAX_ADDRESSES} allowed")]
    TooManyAddresses(usize),
    /// An address family other than 4 and 6.
    #[error("unknown address family {0}")]
    Family(u8),
    /// Nobody can dial this address: port 0, unspecified, multicast, or an IPv4 address in IPv6 clothes.
    #[error("an address that cannot be dialled")]
    Address,
    /// Not signed by the identity, or not for this network.
    #[error("the signature does not hold in this network")]
    Signature,
}

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    /// Identity key; the node's place on the ring follows from it.
    pub identity: NodeId,
    /// Static X25519 key of its link handshakes.
    pub link_key: [u8; 32],
    /// X25519 key of its circuit handshakes.
    pub onion_key: [u8; 32],
    /// Where it listens, best first; empty when nobody can dial it. At most [`MAX_ADDRESSES`].
    pub addresses: Vec<SocketAddr>,
    /// What it offers.
    pub services: Services,
    /// When it was signed, seconds since the Unix epoch.
    pub published: u64,
}

/// A node's signed description of itself. Reads like the [`Statement`] in it. Clones share one copy by reference count, so
/// that many tables, and in tests many nodes, can hold the same descriptor.
#[derive(Clone, PartialEq, Eq)]
pub struct Descriptor(Arc<Signed>);

#[derive(PartialEq, Eq)]
struct Signed {
    statement: Statement,
    signature: [u8; SIGNATURE_SIZE],
    /// Follows from the identity; kept because everybody asks for it and it costs a hash.
    location: Location,
}

/// What a node offers to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Services {
    /// Carries circuits.
    pub relay: bool,
    /// Routes requests for circuits that end at it.
    pub exit: bool,
    /// Keeps blocks.
    pub store: bool,
}

impl Services {
    /// All of them.
    pub const ALL: Self = Self {
        relay: true,
        exit: true,
        store: true,
    };

    fn to_bits(self) -> u8 {
        u8::from(self.relay) | u8::from(self.exit) << 1 | u8::from(self.store) << 2
    }

    fn from_bits(bits: u8) -> Result<Self, DescriptorError> {
        if bits > Self::ALL.to_bits() {
            return Err(DescriptorError::Services(bits));
        }
        Ok(Self {
            relay: bits & 1 != 0,
            exit: bits & 2 != 0,
            store: bits & 4 != 0,
        })
    }
}

/// Whether an address can stand in a descriptor: somebody could dial it.
#[must_use]
pub fn is_dialable(address: &SocketAddr) -> bool {
    let ip = address.ip();
    let mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !mapped
}

impl Statement {
    fn encode(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(MAX_DESCRIPTOR_LEN);
        out.put_u8(VERSION);
        out.put_slice(self.identity.as_bytes());
        out.put_slice(&self.link_key);
        out.put_slice(&self.onion_key);
        out.put_u8(self.services.to_bits());
        out.put_u64(self.published);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "MAX_ADDRESSES at most, by construction"
        )]
        out.put_u8(self.addresses.len() as u8);
        for address in &self.addresses {
            encode_address(*address, &mut out);
        }
        out
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DescriptorError::Version(version).into());
        }
        let identity = NodeId::from_bytes(&reader.array()?).map_err(|_| DescriptorError::Identity)?;
        let (link_key, onion_key) = (reader.array()?, reader.array()?);
        let services = Services::from_bits(reader.u8()?)?;
        let published = reader.u64()?;
        let count = usize::from(reader.u8()?);
        if count > MAX_ADDRESSES {
            return Err(DescriptorError::TooManyAddresses(count).into());
        }
        let addresses = (0..count)
            .map(|_| read_address(reader))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            identity,
            link_key,
            onion_key,
            addresses,
            services,
            published,
        })
    }
}

fn read_address(reader: &mut Reader<'_>) -> Result<SocketAddr, WireError> {
    let ip: IpAddr = match reader.u8()? {
        4 => Ipv4Addr::from(reader.array::<4>()?).into(),
        6 => Ipv6Addr::from(reader.array::<16>()?).into(),
        other => return Err(DescriptorError::Family(other).into()),
    };
    let address = SocketAddr::new(ip, reader.u16()?);
    if !is_dialable(&address) {
        return Err(DescriptorError::Address.into());
    }
    Ok(address)
}

/// What is signed: the network, then the statement's bytes.
fn signed_bytes(network: &Network, statement: &[u8]) -> Vec<u8> {
    [network.as_bytes(), statement].concat()
}

impl Descriptor {
    /// Signs what a node says of itself. Addresses that nobody could dial, and those beyond [`MAX_ADDRESSES`], are left out; the
    /// identity becomes that of `key`.
    #[must_use]
    pub fn sign(key: &IdentityKey, mut statement: Statement, network: &Network) -> Self {
        statement.identity = key.id();
        // A flow label or a scope means something only on this machine and does not travel.
        statement.addresses = statement
            .addresses
            .iter()
            .map(|a| SocketAddr::new(a.ip(), a.port()))
            .collect();
        statement.addresses.retain(is_dialable);
        statement.addresses.truncate(MAX_ADDRESSES);
        let signature = key.sign(labels::DESCRIPTOR, &signed_bytes(network, &statement.encode()));
        Self::new(statement, signature)
    }

    fn new(statement: Statement, signature: [u8; SIGNATURE_SIZE]) -> Self {
        let location = statement.identity.location();
        Self(Arc::new(Signed {
            statement,
            signature,
            location,
        }))
    }

    /// Appends its bytes.
    pub fn encode_into(&self, out: &mut BytesMut) {
        out.put_slice(&self.0.statement.encode());
        out.put_slice(&self.0.signature);
    }

    /// Reads a descriptor that is all of `bytes`.
    ///
    /// # Errors
    /// Not the one encoding of a descriptor, or not signed by its node for `network`.
    pub fn decode(bytes: &[u8], network: &Network) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let descriptor = Self::read(&mut reader, network)?;
        reader.finish()?;
        Ok(descriptor)
    }

    /// Reads a descriptor from the front.
    pub(crate) fn read(reader: &mut Reader<'_>, network: &Network) -> Result<Self, WireError> {
        let start = reader.rest();
        let statement = Statement::read(reader)?;
        let bytes = &start[..start.len() - reader.rest().len()];
        let signature = reader.array()?;
        statement
            .identity
            .verify(labels::DESCRIPTOR, &signed_bytes(network, bytes), &signature)
            .map_err(|_| DescriptorError::Signature)?;
        Ok(Self::new(statement, signature))
    }

    /// The node's place on the ring.
    #[must_use]
    pub fn location(&self) -> Location {
        self.0.location
    }

    /// Whether it was signed within [`DESCRIPTOR_MAX_AGE`], and not in the future by more than [`DESCRIPTOR_MAX_LEAD`].
    #[must_use]
    pub fn is_current(&self, now: WallTime) -> bool {
        let published = self.published;
        published.saturating_add(DESCRIPTOR_MAX_AGE.as_secs()) >= now.0
            && published <= now.0.saturating_add(DESCRIPTOR_MAX_LEAD.as_secs())
    }
}

impl Deref for Descriptor {
    type Target = Statement;

    fn deref(&self) -> &Statement {
        &self.0.statement
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Descriptor").field(&self.0.statement).finish()
    }
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
