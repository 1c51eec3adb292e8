//! Records: the only thing that an observer of an established link sees (protocol §5.1).
//!
//! A record is [`RECORD_LEN`] bytes, always: [`RECORD_PAYLOAD`] bytes of the frame stream and of zeros, a count of the used
//! ones, and a tag. The count stands last, so that a run of records can be opened in place and their contents pushed
//! together into one contiguous stream without a further copy.
//!
//! Invariants: a record is opened only under the counter that follows the last one's, so a replayed, reordered or dropped
//! record ends the link; after an error a half stays unusable. Both halves change their key every [`REKEY_INTERVAL`]
//! records, at the same record.
//!
//! Frames and their limits are not known here; nor when to flush, which is the link's decision.

use bytes::{Buf, BytesMut};
use zeroize::Zeroizing;

use crate::{
    crypto::{Aead, Cipher},
    geometry::{RECORD_LEN, RECORD_PAYLOAD, TAG_LEN},
    zeros::is_zero,
};

/// Records under one key: 256 MiB, a few seconds of a fast link. What an attacker who steals a node's memory can read of a
/// recording is bounded by it. AES-GCM would need it only after 2^24.5 records of four times the length (RFC 8446 §5.5): after
/// 2^24 AES blocks, an attacker's advantage is 2^-81.
pub const REKEY_INTERVAL: u64 = 1 << 16;

/// Spare room to read into that [`Opener::buffer`] grants at least: several records a system call.
const READ_LEAST: usize = 16 * 1024;
/// Room that it makes when it has to make some. A block that is cut out of a buffer keeps all of it alive, so it should not
/// be much larger than a block; the part of a block that has arrived when a buffer is full moves to the next, so it should not be
/// much smaller than some blocks either.
const READ_ROOM: usize = 128 * 1024;
/// The widest gap that stays open between the frame stream and bytes not yet opened. Full records leave 18 bytes each; a peer
/// that sends nearly empty ones must not make this node keep the difference.
const WIDEST_GAP: usize = 16 * 1024;
/// Where the count of used bytes stands in a record.
const COUNT_AT: usize = RECORD_PAYLOAD;

/// Why received records are refused. Each ends the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// Changed, replayed, reordered, or after a gap.
    #[error("a record does not authenticate")]
    Unauthenticated,
    /// Says that it uses more bytes than it has.
    #[error("a record of {0} used bytes")]
    Overfull(u16),
    /// Unused bytes are not zero.
    #[error("a record with data in its padding")]
    Padding,
    /// A record was refused before; the stream cannot be taken up again.
    #[error("records after one that was refused")]
    Ended,
}

/// One direction's cipher and its place in the sequence.
struct Sequence<A> {
    cipher: Cipher,
    key: A,
    next: u64,
}

impl<A: Aead> Sequence<A> {
    fn new(cipher: Cipher, key: &[u8; 32]) -> Self {
        Self {
            cipher,
            key: A::with(cipher, key),
            next: 0,
        }
    }

    /// Steps to the next record. The counter goes on over a change of keys, as in Noise §11.3; it would take 2^64 records to
    /// use it up.
    fn advance(&mut self) {
        self.next += 1;
        if self.next.is_multiple_of(REKEY_INTERVAL) {
            let key: Zeroizing<[u8; 32]> = self.key.next_key();
            self.key = A::with(self.cipher, &key);
        }
    }
}

/// The sending half: packs the frame stream into records.
pub struct Sealer<A> {
    sequence: Sequence<A>,
    /// Sealed records, then the used part of the one being filled.
    out: BytesMut,
    /// Length of the sealed part of `out`.
    sealed: usize,
}

impl<A: Aead> Sealer<A> {
    /// Starts with a key of the handshake.
    #[must_use]
    pub fn new(cipher: Cipher, key: &[u8; 32]) -> Self {
        Self {
            sequence: Sequence::new(cipher, key),
            out: BytesMut::new(),
            sealed: 0,
        }
    }

    /// Appends bytes to the frame stream. Records that they fill are sealed.
    pub fn write(&mut self, mut stream: &[u8]) {
        if stream.is_empty() {
            return;
        }
        let records = (self.filled() + stream.len()).div_ceil(RECORD_PAYLOAD);
        self.out
            .reserve((records * RECORD_LEN).saturating_sub(self.filled()));
        while let Some((now, later)) = stream.split_at_checked(self.room()) {
            self.out.extend_from_slice(now);
            self.seal();
            stream = later;
        }
        self.out.extend_from_slice(stream);
    }

    /// Bytes that still fit into the record being filled; a multiple of whole records less when none is.
    #[must_use]
    pub fn room(&self) -> usize {
        RECORD_PAYLOAD - self.filled()
    }

    /// Whether a record has been begun and not sealed.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.filled() > 0
    }

    /// Pads and seals the record being filled, if there is one.
    pub fn flush(&mut self) {
        if self.is_partial() {
            self.seal();
        }
    }

    /// Seals the record being filled or, if there is none, an empty one: cover traffic.
    pub fn cover(&mut self) {
        self.seal();
    }

    /// Bytes of sealed records that wait to be taken.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.sealed
    }

    /// The sealed records, for the wire: a whole number of them.
    pub fn take(&mut self) -> BytesMut {
        let taken = self.out.split_to(self.sealed);
        self.sealed = 0;
        taken
    }

    fn filled(&self) -> usize {
        self.out.len() - self.sealed
    }

    fn seal(&mut self) {
        let used = self.filled();
        self.out.resize(self.sealed + RECORD_LEN, 0);
        let record = &mut self.out[self.sealed..];
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most RECORD_PAYLOAD, which fits"
        )]
        record[COUNT_AT..COUNT_AT + 2].copy_from_slice(&(used as u16).to_be_bytes());
        self.sequence.key.seal(self.sequence.next, &[], record);
        self.sequence.advance();
        self.sealed += RECORD_LEN;
    }
}

const _: () = assert!(RECORD_PAYLOAD + 2 + TAG_LEN == RECORD_LEN && RECORD_PAYLOAD <= u16::MAX as usize);

/// The receiving half: opens records in the buffer into which the driver reads, and gives out the frame stream.
pub struct Opener<A> {
    /// `None` after an error.
    sequence: Option<Sequence<A>>,
    /// Frame stream, a gap, bytes not yet opened.
    buf: BytesMut,
    /// Where the frame stream ends.
    plain: usize,
    /// Where the bytes not yet opened start.
    cipher: usize,
}

impl<A: Aead> Opener<A> {
    /// Starts with a key of the handshake and the bytes that were received behind it.
    #[must_use]
    pub fn new(cipher: Cipher, key: &[u8; 32], received: BytesMut) -> Self {
        Self {
            sequence: Some(Sequence::new(cipher, key)),
            buf: received,
            plain: 0,
            cipher: 0,
        }
    }

    /// Where to append received bytes; has spare room to read into. Call [`Opener::open`] afterwards. What was in it must
    /// stay.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if self.buf.capacity() - self.buf.len() < READ_LEAST {
            self.buf.reserve(READ_ROOM);
        }
        &mut self.buf
    }

    /// Opens all records that have arrived whole.
    ///
    /// # Errors
    /// The first record that is refused ends the stream: the half can only be dropped.
    pub fn open(&mut self) -> Result<(), RecordError> {
        let mut sequence = self.sequence.take().ok_or(RecordError::Ended)?;
        // A caller that cut the buffer short has lost bytes of the stream.
        if self.cipher > self.buf.len() {
            return Err(RecordError::Ended);
        }
        while self.buf.len() - self.cipher >= RECORD_LEN {
            let end = self.cipher + RECORD_LEN;
            // The plaintext moves down to where the frame stream ends.
            let place = &mut self.buf[self.plain..end];
            let len = sequence
                .key
                .open(sequence.next, &[], place, self.cipher - self.plain)
                .map_err(|_| RecordError::Unauthenticated)?;
            sequence.advance();
            self.plain += used(&place[..len])?;
            self.cipher = end;
        }
        self.close_gap();
        self.sequence = Some(sequence);
        Ok(())
    }

    /// The frame stream that has arrived and was not yet taken.
    #[must_use]
    pub fn stream(&self) -> &[u8] {
        &self.buf[..self.plain.min(self.buf.len())]
    }

    /// Cuts `len` bytes off the start of the frame stream, without a copy; fewer when there are fewer.
    pub fn take(&mut self, len: usize) -> BytesMut {
        let len = len.min(self.stream().len());
        let taken = self.buf.split_to(len);
        self.moved_down(len);
        taken
    }

    /// Drops `len` bytes at the start of the frame stream; fewer when there are fewer.
    pub fn skip(&mut self, len: usize) {
        let len = len.min(self.stream().len());
        self.buf.advance(len);
        self.moved_down(len);
    }

    fn moved_down(&mut self, len: usize) {
        self.plain -= len;
        self.cipher -= len;
        self.close_gap();
    }

    /// Closes the gap where that costs nothing, because nothing lies on one of its sides, and where it has become wide: then
    /// part of a record moves.
    fn close_gap(&mut self) {
        if self.cipher >= self.buf.len() {
            self.buf.truncate(self.plain);
            self.cipher = self.plain;
        } else if self.plain == 0 {
            self.buf.advance(self.cipher);
            self.cipher = 0;
        } else if self.cipher - self.plain > WIDEST_GAP {
            let moved = self.buf.len() - self.cipher;
            self.buf.copy_within(self.cipher.., self.plain);
            self.buf.truncate(self.plain + moved);
            self.cipher = self.plain;
        }
    }
}

/// Checks an opened record and counts its used bytes.
fn used(record: &[u8]) -> Result<usize, RecordError> {
    let (payload, count) = record
        .split_last_chunk::<2>()
        .ok_or(RecordError::Unauthenticated)?;
    let count = u16::from_be_bytes(*count);
    let padding = payload
        .get(usize::from(count)..)
        .ok_or(RecordError::Overfull(count))?;
    if !is_zero(padding) {
        return Err(RecordError::Padding);
    }
    Ok(usize::from(count))
}

#[cfg(test)]
mod tests;
