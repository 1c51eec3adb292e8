//! What a circuit packet carries inside all its layers (protocol §6.4, §6.5).
//!
//! A command, the length of its data, the data, and zeros up to the end. The zeros are checked: a packet has one encoding,
//! and nobody can hide a mark in it.

use bytes::{Buf, BufMut, BytesMut};
use warren_keys::Block;

use super::{
    Create, Created, ExitOp, ExitReply, ExitRequest, ExitResult,
    codec::{Reader, WireError},
    frame::{BLOCK_FIELD, decode_block},
};
use crate::{
    descriptor::{Descriptor, MAX_DESCRIPTOR_LEN},
    geometry::PacketSize,
    network::Network,
};

/// The content of a circuit packet.
#[derive(Clone, Debug)]
pub enum OnionMessage {
    /// Client to last hop: extend the circuit.
    Extend {
        /// To whom.
        target: Box<Descriptor>,
        /// The handshake to pass on.
        create: Create,
    },
    /// Last hop to client: extended.
    Extended(Created),
    /// Client to exit.
    Request(ExitRequest),
    /// Exit to client.
    Reply(ExitReply),
    /// Nothing: cover traffic, of either size.
    Drop(PacketSize),
}

/// Command and length of the data.
const HEADER: usize = 1 + 2;
/// Number of a request.
const ID: usize = 4;

/// The longest messages of the two sizes fit.
const _: () = assert!(HEADER + 1 + 32 + MAX_DESCRIPTOR_LEN <= PacketSize::Control.payload());
const _: () = assert!(HEADER + ID + BLOCK_FIELD <= PacketSize::Block.payload());

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Command {
    Drop = 0,
    Extend = 1,
    Extended = 2,
    Fetch = 3,
    Insert = 4,
    Found = 5,
    NotFound = 6,
    Stored = 7,
    Collision = 8,
    Busy = 9,
    Failed = 10,
    Await = 11,
    Waiting = 12,
}

impl Command {
    fn from_u8(number: u8) -> Result<Self, WireError> {
        Ok(match number {
            0 => Self::Drop,
            1 => Self::Extend,
            2 => Self::Extended,
            3 => Self::Fetch,
            4 => Self::Insert,
            5 => Self::Found,
            6 => Self::NotFound,
            7 => Self::Stored,
            8 => Self::Collision,
            9 => Self::Busy,
            10 => Self::Failed,
            11 => Self::Await,
            12 => Self::Waiting,
            other => return Err(WireError::UnknownType(other)),
        })
    }

    /// The packet that carries it; `None` when both do.
    const fn size(self) -> Option<PacketSize> {
        match self {
            Self::Drop => None,
            Self::Insert | Self::Found | Self::Collision => Some(PacketSize::Block),
            _ => Some(PacketSize::Control),
        }
    }
}

impl OnionMessage {
    /// Whether it goes from the client towards the exit. Cover traffic goes either way.
    #[must_use]
    pub const fn is_forward(&self) -> Option<bool> {
        match self {
            Self::Extend { .. } | Self::Request(_) => Some(true),
            Self::Extended(_) | Self::Reply(_) => Some(false),
            Self::Drop(_) => None,
        }
    }

    /// The packet that it needs.
    #[must_use]
    pub const fn size(&self) -> PacketSize {
        match self {
            Self::Request(ExitRequest {
                op: ExitOp::Insert(_),
                ..
            })
            | Self::Reply(ExitReply {
                result: ExitResult::Found(_) | ExitResult::Collision(_),
                ..
            }) => PacketSize::Block,
            Self::Drop(size) => *size,
            _ => PacketSize::Control,
        }
    }

    /// The packet body before any layer is put on: the message, and zeros up to [`PacketSize::body`] bytes. The layers' tags
    /// go to its end, so the body never moves again.
    #[must_use]
    pub fn encode(&self) -> BytesMut {
        let size = self.size();
        let mut out = BytesMut::with_capacity(size.body());
        out.put_bytes(0, HEADER);
        let command = match self {
            Self::Extend { target, create } => {
                create.encode_into(&mut out);
                target.encode_into(&mut out);
                Command::Extend
            }
            Self::Extended(created) => {
                created.encode_into(&mut out);
                Command::Extended
            }
            Self::Request(request) => encode_request(request, &mut out),
            Self::Reply(reply) => encode_reply(reply, &mut out),
            Self::Drop(_) => Command::Drop,
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the longest is asserted above to fit its packet"
        )]
        let [a, b] = ((out.len() - HEADER) as u16).to_be_bytes();
        out[..HEADER].copy_from_slice(&[command as u8, a, b]);
        out.resize(size.body(), 0);
        out
    }

    /// Reads what is left of a packet once all its layers are off. A block keeps the packet's buffer; blocks and descriptors
    /// are verified.
    ///
    /// # Errors
    /// Not a message in a packet of its size.
    pub fn decode(size: PacketSize, mut packet: BytesMut, network: &Network) -> Result<Self, WireError> {
        let mut reader = Reader::new(&packet);
        let number = reader.u8()?;
        let command = Command::from_u8(number)?;
        let len = usize::from(reader.u16()?);
        if command.size().is_some_and(|needed| needed != size) || packet.len() > size.body() {
            return Err(WireError::Length {
                kind: number,
                len: packet.len(),
            });
        }
        let mut data = Reader::new(reader.take(len)?);
        reader.finish_padding()?;
        let message = match command {
            Command::Drop => Self::Drop(size),
            Command::Extend => {
                let create = Create::read(&mut data)?;
                Self::Extend {
                    create,
                    target: Box::new(Descriptor::read(&mut data, network)?),
                }
            }
            Command::Extended => Self::Extended(Created::read(&mut data)?),
            Command::Fetch | Command::Await => {
                let id = data.u32()?;
                let op = ExitOp::Fetch {
                    branches: data.u8()?,
                    block: data.block_id()?,
                    wait: command == Command::Await,
                };
                Self::Request(ExitRequest { id, op })
            }
            Command::NotFound => reply(data.u32()?, ExitResult::NotFound),
            Command::Waiting => reply(data.u32()?, ExitResult::Waiting),
            Command::Stored => reply(data.u32()?, ExitResult::Stored(data.u8()?)),
            Command::Busy => reply(data.u32()?, ExitResult::Busy),
            Command::Failed => reply(data.u32()?, ExitResult::Failed),
            Command::Insert | Command::Found | Command::Collision => {
                let id = data.u32()?;
                packet.truncate(HEADER + len);
                packet.advance(HEADER + ID);
                let block = decode_block(packet)?;
                return Ok(match command {
                    Command::Insert => Self::Request(ExitRequest {
                        id,
                        op: ExitOp::Insert(block),
                    }),
                    Command::Found => reply(id, ExitResult::Found(block)),
                    _ => reply(id, ExitResult::Collision(block)),
                });
            }
        };
        data.finish()?;
        Ok(message)
    }
}

const fn reply(id: u32, result: ExitResult) -> OnionMessage {
    OnionMessage::Reply(ExitReply { id, result })
}

fn encode_request(request: &ExitRequest, out: &mut BytesMut) -> Command {
    out.put_u32(request.id);
    match &request.op {
        ExitOp::Fetch {
            block,
            branches,
            wait,
        } => {
            out.put_u8(*branches);
            out.put_u8(block.kind.as_u8());
            out.put_slice(block.key.as_bytes());
            if *wait { Command::Await } else { Command::Fetch }
        }
        ExitOp::Insert(block) => {
            encode_block(block, out);
            Command::Insert
        }
    }
}

fn encode_reply(reply: &ExitReply, out: &mut BytesMut) -> Command {
    out.put_u32(reply.id);
    match &reply.result {
        ExitResult::Found(block) => {
            encode_block(block, out);
            Command::Found
        }
        ExitResult::NotFound => Command::NotFound,
        ExitResult::Waiting => Command::Waiting,
        ExitResult::Stored(copies) => {
            out.put_u8(*copies);
            Command::Stored
        }
        ExitResult::Collision(block) => {
            encode_block(block, out);
            Command::Collision
        }
        ExitResult::Busy => Command::Busy,
        ExitResult::Failed => Command::Failed,
    }
}

fn encode_block(block: &Block, out: &mut BytesMut) {
    out.put_u8(block.id().kind.as_u8());
    out.put_slice(block.bytes());
}

#[cfg(test)]
mod tests;
