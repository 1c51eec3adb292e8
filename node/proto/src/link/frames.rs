//! The frame stream over records: the sending and the receiving half of an established link.
//!
//! Invariants: a frame's header is judged before its body is waited for, so an unfinished frame holds at most
//! [`MAX_FRAME_BODY`] bytes; after an error the receiving half gives nothing more. A block or a block packet that arrived is a
//! slice of the buffer that the socket was read into: it was not copied, except in part when that buffer had to grow.
//!
//! Which frame goes first, and when to flush, is the link's decision.

use bytes::BytesMut;

use super::record::{Opener, RecordError, Sealer};
use crate::{
    crypto::Aead,
    network::Network,
    wire::{FRAME_HEADER, Frame, MAX_FRAME_BODY, WireError, decode_header},
};

/// Bodies up to this are moved out of the receive buffer, so that a queued small packet does not keep a large buffer alive;
/// longer ones (blocks) stay where they are.
const COPIED_BODY: usize = 2048;

/// Why a link's input is refused. Always the peer's fault; each ends the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StreamError {
    /// A record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A frame in a record that was sealed by the peer itself.
    #[error(transparent)]
    Frame(#[from] WireError),
}

/// The sending half.
pub struct FrameSender<A> {
    sealer: Sealer<A>,
    /// Reused for all but blocks and packets.
    head: BytesMut,
}

impl<A: Aead> FrameSender<A> {
    /// Sends through `sealer`.
    #[must_use]
    pub fn new(sealer: Sealer<A>) -> Self {
        Self {
            sealer,
            head: BytesMut::new(),
        }
    }

    /// Packs a frame into records. A block or a packet is copied once, to where it is encrypted.
    pub fn send(&mut self, frame: &Frame) {
        self.head.clear();
        let tail = frame.encode_head(&mut self.head);
        self.sealer.write(&self.head);
        self.sealer.write(tail);
    }

    /// Bytes that fit into the record being filled before another is begun.
    #[must_use]
    pub fn room(&self) -> usize {
        self.sealer.room()
    }

    /// Pads and seals what was sent, so that it can go.
    pub fn flush(&mut self) {
        self.sealer.flush();
    }

    /// Seals a record even when there is nothing to send: cover traffic.
    pub fn cover(&mut self) {
        self.sealer.cover();
    }

    /// Bytes of whole records that wait to be taken.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.sealer.pending()
    }

    /// Whole records, for the wire.
    pub fn take(&mut self) -> BytesMut {
        self.sealer.take()
    }
}

/// The receiving half.
pub struct FrameReceiver<A> {
    opener: Opener<A>,
    network: Network,
    failed: bool,
}

impl<A: Aead> FrameReceiver<A> {
    /// Receives through `opener`, as a node of `network`.
    #[must_use]
    pub const fn new(opener: Opener<A>, network: Network) -> Self {
        Self {
            opener,
            network,
            failed: false,
        }
    }

    /// Where to append received bytes; has spare room to read into. Call [`FrameReceiver::open`] afterwards.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.opener.buffer()
    }

    /// Opens the records that have arrived. Then [`FrameReceiver::next`] gives the frames in them.
    ///
    /// # Errors
    /// A record that is refused ends the link.
    pub fn open(&mut self) -> Result<(), RecordError> {
        self.opener.open().inspect_err(|_| self.failed = true)
    }

    /// The next frame; `None` until more bytes arrive.
    ///
    /// # Errors
    /// A frame that is refused ends the link.
    // It is no iterator: after `None` it goes on when bytes arrive.
    #[expect(clippy::should_implement_trait, reason = "fallible, and resumes after None")]
    pub fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        if self.failed {
            return Err(RecordError::Ended.into());
        }
        self.parse().map_err(|fault| {
            self.failed = true;
            fault.into()
        })
    }

    fn parse(&mut self) -> Result<Option<Frame>, WireError> {
        let Some((header, rest)) = self.opener.stream().split_first_chunk::<FRAME_HEADER>() else {
            return Ok(None);
        };
        let (kind, len) = decode_header(*header)?;
        let Some(body) = rest.get(..len) else {
            return Ok(None);
        };
        let body = if len <= COPIED_BODY {
            let body = BytesMut::from(body);
            self.opener.skip(FRAME_HEADER + len);
            body
        } else {
            self.opener.skip(FRAME_HEADER);
            self.opener.take(len)
        };
        Frame::decode(kind, body, &self.network).map(Some)
    }
}

const _: () = assert!(MAX_FRAME_BODY < 1 << 24);

#[cfg(test)]
mod tests;
