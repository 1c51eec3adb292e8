//! Every length on the wire, from one place (protocol §2).

use warren_keys::BLOCK_SIZE;

/// Length of an AEAD tag, bytes.
pub const TAG_LEN: usize = 16;
/// Length of a link record on the wire, bytes: the only length that an observer of a link sees after the handshake.
/// One page: large enough that the AEAD runs near its full speed, small enough to pad an idle message cheaply.
pub const RECORD_LEN: usize = 4096;
/// Bytes of frame stream that one record carries: what is left after the tag and a two-byte count of used bytes.
pub const RECORD_PAYLOAD: usize = RECORD_LEN - TAG_LEN - 2;
/// The most hops that a circuit may have.
pub const MAX_HOPS: usize = 5;
/// Body of a control packet on the wire, bytes.
pub const CONTROL_BODY: usize = 1024;
/// Body of a block packet on the wire, bytes: one block, five tags, and a command header.
pub const BLOCK_BODY: usize = BLOCK_SIZE + 256;

/// The two sizes that circuit packets have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PacketSize {
    /// 1 KiB: handshakes, requests, short answers.
    Control,
    /// Room for one block.
    Block,
}

impl PacketSize {
    /// Bytes of the body on the wire, the same at every hop.
    #[must_use]
    pub const fn body(self) -> usize {
        match self {
            Self::Control => CONTROL_BODY,
            Self::Block => BLOCK_BODY,
        }
    }

    /// Bytes that the layer of hop `layer` (0 is the entry) covers, tag included: each hop nearer to the client adds one tag.
    #[must_use]
    pub const fn layer(self, layer: usize) -> usize {
        self.body() - layer * TAG_LEN
    }

    /// Bytes of payload that the innermost layer carries, whatever the number of hops.
    #[must_use]
    pub const fn payload(self) -> usize {
        self.body() - MAX_HOPS * TAG_LEN
    }
}
