//! Bytes of what neighbours tell each other about the network (protocol §5.2, types 0x04 to 0x0a): questions for descriptors,
//! announcements, and what one end sees of the other's address.

use bytes::{BufMut, BytesMut};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use warren_keys::Location;

use super::{
    Announce, DialResult,
    codec::{Reader, WireError},
};
use crate::{descriptor::Descriptor, network::Network};

/// Number, target and hops of an announcement, before its descriptor.
pub(super) const ANNOUNCE_HEAD: usize = 8 + 8 + 1;
/// Bytes of an IPv4 address with its family and port.
pub(super) const SHORT_ADDRESS: usize = 1 + 4 + 2;
/// Bytes of an IPv6 address with its family and port.
pub(super) const LONG_ADDRESS: usize = 1 + 16 + 2;

impl Announce {
    pub(super) fn encode_into(&self, out: &mut BytesMut) {
        out.put_u64(self.id);
        out.put_u64(self.target.as_u64());
        out.put_u8(self.htl);
        self.descriptor.encode_into(out);
    }

    pub(super) fn read(reader: &mut Reader<'_>, network: &Network) -> Result<Self, WireError> {
        Ok(Self {
            id: reader.u64()?,
            target: Location::new(reader.u64()?),
            htl: reader.u8()?,
            descriptor: Descriptor::read(reader, network)?,
        })
    }
}

impl DialResult {
    pub(super) const fn as_u8(self) -> u8 {
        match self {
            Self::Failed => 0,
            Self::Reached => 1,
            Self::NotTried => 2,
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match reader.u8()? {
            0 => Ok(Self::Failed),
            1 => Ok(Self::Reached),
            2 => Ok(Self::NotTried),
            other => Err(WireError::Value {
                field: "result of a dial",
                value: other.into(),
            }),
        }
    }
}

/// Appends the number of descriptors, and them; those beyond `most`, which is at most 255, are left out.
pub(super) fn encode_list(list: &[Descriptor], most: usize, out: &mut BytesMut) {
    let list = &list[..list.len().min(most)];
    #[expect(clippy::cast_possible_truncation, reason = "`most` is at most 255")]
    out.put_u8(list.len() as u8);
    list.iter().for_each(|descriptor| descriptor.encode_into(out));
}

/// Reads at most `most` descriptors and checks their signatures.
pub(super) fn read_list(
    reader: &mut Reader<'_>,
    most: usize,
    network: &Network,
) -> Result<Vec<Descriptor>, WireError> {
    let count = usize::from(reader.u8()?);
    if count > most {
        return Err(WireError::Value {
            field: "number of descriptors",
            value: count as u64,
        });
    }
    (0..count).map(|_| Descriptor::read(reader, network)).collect()
}

/// Appends family, address and port.
pub(crate) fn encode_address(address: SocketAddr, out: &mut BytesMut) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16(address.port());
}

/// Reads family, address and port; any address will do.
pub(super) fn read_address(reader: &mut Reader<'_>) -> Result<SocketAddr, WireError> {
    let ip: IpAddr = match reader.u8()? {
        4 => Ipv4Addr::from(reader.array::<4>()?).into(),
        6 => Ipv6Addr::from(reader.array::<16>()?).into(),
        other => {
            return Err(WireError::Value {
                field: "address family",
                value: other.into(),
            });
        }
    };
    Ok(SocketAddr::new(ip, reader.u16()?))
}
