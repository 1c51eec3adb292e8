//! Bytes of the frames that neighbours exchange (protocol §5.2).
//!
//! A frame is a type, a three-byte length and a body. The header alone decides whether the length is possible, before anything
//! is kept for the body.

use bytes::{Buf, BufMut, BytesMut};
use warren_keys::{BLOCK_SIZE, Block, Location};

use super::{
    Announce, Create, Created, DialResult, Frame, MAX_ANNOUNCED, MAX_DESCRIPTORS,
    codec::{Reader, WireError, block_kind},
    routed::RoutedType,
    topology::{
        ANNOUNCE_HEAD, LONG_ADDRESS, SHORT_ADDRESS, encode_address, encode_list, read_address, read_list,
    },
};
use crate::{
    descriptor::{Descriptor, MAX_DESCRIPTOR_LEN, MIN_DESCRIPTOR_LEN},
    geometry::{MAX_HOPS, PacketSize},
    ids::CircuitId,
    network::Network,
};

/// Bytes of a frame's header.
pub const FRAME_HEADER: usize = 4;
/// Body of the longest frame, bytes: one circuit packet with a block, or one routed block. Bounds what a link keeps for a frame
/// that has not arrived whole.
pub const MAX_FRAME_BODY: usize = 4 + PacketSize::Block.body();

/// Types of frames by number. Gaps are for later types of the same family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameType {
    /// [`Frame::Hello`], 0x01.
    Hello,
    /// [`Frame::Ping`], 0x02.
    Ping,
    /// [`Frame::Pong`], 0x03.
    Pong,
    /// [`Frame::AskDescriptors`], 0x04.
    AskDescriptors,
    /// [`Frame::Descriptors`], 0x05.
    Descriptors,
    /// [`Frame::Announce`], 0x06.
    Announce,
    /// [`Frame::Announced`], 0x07.
    Announced,
    /// [`Frame::Observed`], 0x08.
    Observed,
    /// [`Frame::AskDialBack`], 0x09.
    AskDialBack,
    /// [`Frame::DialedBack`], 0x0a.
    DialedBack,
    /// [`Frame::Create`], 0x10.
    Create,
    /// [`Frame::Created`], 0x11.
    Created,
    /// [`Frame::Destroy`], 0x12.
    Destroy,
    /// [`Frame::Packet`] of either size: 0x13 control, 0x14 block.
    Packet(PacketSize),
    /// [`Frame::Routed`], from 0x20.
    Routed(RoutedType),
}

const CIRCUIT: usize = 4;
const KEY: usize = 32;

impl FrameType {
    /// The type with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0x01 => Self::Hello,
            0x02 => Self::Ping,
            0x03 => Self::Pong,
            0x04 => Self::AskDescriptors,
            0x05 => Self::Descriptors,
            0x06 => Self::Announce,
            0x07 => Self::Announced,
            0x08 => Self::Observed,
            0x09 => Self::AskDialBack,
            0x0a => Self::DialedBack,
            0x10 => Self::Create,
            0x11 => Self::Created,
            0x12 => Self::Destroy,
            0x13 => Self::Packet(PacketSize::Control),
            0x14 => Self::Packet(PacketSize::Block),
            _ => Self::Routed(RoutedType::from_u8(number)?),
        })
    }

    /// The number on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::Hello => 0x01,
            Self::Ping => 0x02,
            Self::Pong => 0x03,
            Self::AskDescriptors => 0x04,
            Self::Descriptors => 0x05,
            Self::Announce => 0x06,
            Self::Announced => 0x07,
            Self::Observed => 0x08,
            Self::AskDialBack => 0x09,
            Self::DialedBack => 0x0a,
            Self::Create => 0x10,
            Self::Created => 0x11,
            Self::Destroy => 0x12,
            Self::Packet(PacketSize::Control) => 0x13,
            Self::Packet(PacketSize::Block) => 0x14,
            Self::Routed(routed) => routed.as_u8(),
        }
    }

    /// Whether a body of this type can have `len` bytes.
    #[must_use]
    pub fn admits(self, len: usize) -> bool {
        match self {
            Self::Hello => (MIN_DESCRIPTOR_LEN..=MAX_DESCRIPTOR_LEN).contains(&len),
            Self::Ping | Self::Pong | Self::AskDescriptors => len == 8,
            Self::Descriptors => (1..=1 + MAX_DESCRIPTORS * MAX_DESCRIPTOR_LEN).contains(&len),
            Self::Announce => {
                (ANNOUNCE_HEAD + MIN_DESCRIPTOR_LEN..=ANNOUNCE_HEAD + MAX_DESCRIPTOR_LEN).contains(&len)
            }
            Self::Announced => (9..=9 + MAX_ANNOUNCED * MAX_DESCRIPTOR_LEN).contains(&len),
            Self::Observed => len == SHORT_ADDRESS || len == LONG_ADDRESS,
            Self::AskDialBack => len == 2,
            Self::DialedBack => len == 1,
            Self::Create => len == CIRCUIT + 1 + KEY,
            Self::Created => len == CIRCUIT + 2 * KEY,
            Self::Destroy => len == CIRCUIT,
            Self::Packet(size) => len == CIRCUIT + size.body(),
            Self::Routed(routed) => routed.admits(len),
        }
    }
}

/// Reads a frame's header: its type and the length of its body.
///
/// # Errors
/// An unknown type, or a length that this type cannot have.
pub fn decode_header(header: [u8; FRAME_HEADER]) -> Result<(FrameType, usize), WireError> {
    let [number, a, b, c] = header;
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    let kind = FrameType::from_u8(number).ok_or(WireError::UnknownType(number))?;
    if !kind.admits(len) {
        return Err(WireError::Length { kind: number, len });
    }
    Ok((kind, len))
}

impl Frame {
    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> FrameType {
        match self {
            Self::Hello(_) => FrameType::Hello,
            Self::Ping(_) => FrameType::Ping,
            Self::Pong(_) => FrameType::Pong,
            Self::AskDescriptors { .. } => FrameType::AskDescriptors,
            Self::Descriptors(_) => FrameType::Descriptors,
            Self::Announce(_) => FrameType::Announce,
            Self::Announced { .. } => FrameType::Announced,
            Self::Observed(_) => FrameType::Observed,
            Self::AskDialBack { .. } => FrameType::AskDialBack,
            Self::DialedBack(_) => FrameType::DialedBack,
            Self::Create { .. } => FrameType::Create,
            Self::Created { .. } => FrameType::Created,
            Self::Destroy(_) => FrameType::Destroy,
            Self::Packet { size, .. } => FrameType::Packet(*size),
            Self::Routed(routed) => FrameType::Routed(routed.kind()),
        }
    }

    /// Appends the frame, header included.
    pub fn encode_into(&self, out: &mut BytesMut) {
        let tail = self.encode_head(out);
        out.extend_from_slice(tail);
    }

    /// Appends the frame without its last part, which is returned: the bytes of a block or a packet, so that the caller can
    /// put them where they belong in one copy.
    ///
    /// Descriptors beyond [`MAX_DESCRIPTORS`] or [`MAX_ANNOUNCED`] are left out.
    #[must_use]
    pub fn encode_head(&self, out: &mut BytesMut) -> &[u8] {
        let start = out.len();
        out.put_slice(&[self.kind().as_u8(), 0, 0, 0]);
        let tail: &[u8] = match self {
            Self::Hello(descriptor) => {
                descriptor.encode_into(out);
                &[]
            }
            Self::Ping(number) | Self::Pong(number) => {
                out.put_u64(*number);
                &[]
            }
            Self::AskDescriptors { near } => {
                out.put_u64(near.as_u64());
                &[]
            }
            Self::Descriptors(list) => {
                encode_list(list, MAX_DESCRIPTORS, out);
                &[]
            }
            Self::Announce(announce) => {
                announce.encode_into(out);
                &[]
            }
            Self::Announced { id, descriptors } => {
                out.put_u64(*id);
                encode_list(descriptors, MAX_ANNOUNCED, out);
                &[]
            }
            Self::Observed(address) => {
                encode_address(*address, out);
                &[]
            }
            Self::AskDialBack { port } => {
                out.put_u16(*port);
                &[]
            }
            Self::DialedBack(result) => {
                out.put_u8(result.as_u8());
                &[]
            }
            Self::Create { circuit, create } => {
                out.put_u32(circuit.0);
                create.encode_into(out);
                &[]
            }
            Self::Created { circuit, created } => {
                out.put_u32(circuit.0);
                created.encode_into(out);
                &[]
            }
            Self::Destroy(circuit) => {
                out.put_u32(circuit.0);
                &[]
            }
            Self::Packet { circuit, body, .. } => {
                out.put_u32(circuit.0);
                body
            }
            Self::Routed(routed) => routed.encode_head(out),
        };
        let len = out.len() - start - FRAME_HEADER + tail.len();
        #[expect(clippy::cast_possible_truncation, reason = "no frame reaches 2^24 bytes")]
        let [_, a, b, c] = (len as u32).to_be_bytes();
        out[start + 1..start + FRAME_HEADER].copy_from_slice(&[a, b, c]);
        tail
    }

    /// Reads a frame's body. Bodies of packets and blocks keep the buffer that they arrived in; blocks and descriptors are
    /// verified.
    ///
    /// # Errors
    /// The body is not a frame of this type of this network.
    pub fn decode(kind: FrameType, mut body: BytesMut, network: &Network) -> Result<Self, WireError> {
        if !kind.admits(body.len()) {
            return Err(WireError::Length {
                kind: kind.as_u8(),
                len: body.len(),
            });
        }
        let mut reader = Reader::new(&body);
        let frame = match kind {
            FrameType::Hello => {
                return Ok(Self::Hello(Box::new(Descriptor::decode(reader.rest(), network)?)));
            }
            FrameType::Ping => Self::Ping(reader.u64()?),
            FrameType::Pong => Self::Pong(reader.u64()?),
            FrameType::AskDescriptors => Self::AskDescriptors {
                near: Location::new(reader.u64()?),
            },
            FrameType::Descriptors => Self::Descriptors(read_list(&mut reader, MAX_DESCRIPTORS, network)?),
            FrameType::Announce => Self::Announce(Box::new(Announce::read(&mut reader, network)?)),
            FrameType::Announced => Self::Announced {
                id: reader.u64()?,
                descriptors: read_list(&mut reader, MAX_ANNOUNCED, network)?,
            },
            FrameType::Observed => Self::Observed(read_address(&mut reader)?),
            FrameType::AskDialBack => Self::AskDialBack { port: reader.u16()? },
            FrameType::DialedBack => Self::DialedBack(DialResult::read(&mut reader)?),
            FrameType::Create => Self::Create {
                circuit: CircuitId(reader.u32()?),
                create: Create::read(&mut reader)?,
            },
            FrameType::Created => Self::Created {
                circuit: CircuitId(reader.u32()?),
                created: Created::read(&mut reader)?,
            },
            FrameType::Destroy => Self::Destroy(CircuitId(reader.u32()?)),
            FrameType::Packet(size) => {
                let circuit = CircuitId(reader.u32()?);
                body.advance(CIRCUIT);
                return Ok(Self::Packet { circuit, size, body });
            }
            FrameType::Routed(kind) => return super::Routed::decode(kind, body).map(Self::Routed),
        };
        reader.finish()?;
        Ok(frame)
    }
}

impl Create {
    pub(crate) fn encode_into(&self, out: &mut BytesMut) {
        out.put_u8(self.layer);
        out.put_slice(&self.ephemeral);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let layer = reader.u8()?;
        if usize::from(layer) >= MAX_HOPS {
            return Err(WireError::Value {
                field: "layer",
                value: layer.into(),
            });
        }
        Ok(Self {
            layer,
            ephemeral: reader.array()?,
        })
    }
}

impl Created {
    pub(crate) fn encode_into(&self, out: &mut BytesMut) {
        out.put_slice(&self.ephemeral);
        out.put_slice(&self.auth);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            ephemeral: reader.array()?,
            auth: reader.array()?,
        })
    }
}

/// Bytes of a block in a message: its kind and itself.
pub(crate) const BLOCK_FIELD: usize = 1 + BLOCK_SIZE;

/// Reads a block that fills the rest of `bytes`, and verifies it. The block keeps the buffer.
pub(crate) fn decode_block(mut bytes: BytesMut) -> Result<Block, WireError> {
    let kind = block_kind(bytes.try_get_u8().map_err(|_| WireError::Truncated)?)?;
    Ok(Block::identify(kind, bytes.freeze())?)
}

#[cfg(test)]
mod tests;
