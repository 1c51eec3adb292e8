//! One segment to blocks and back (`keys §6.2`): Reed–Solomon over the plaintext, then encryption block by block.
//!
//! Invariant: [`Coder::decode`] gives out only bytes whose blocks have the routing keys that were asked for;
//! reconstructed blocks are encrypted again and compared. The work is all processor time: a full segment takes
//! milliseconds, so callers run it away from the thread that owns the network.

use super::{FileKey, Segment};
use crate::{BLOCK_SIZE, Block, BlockId, RoutingKey, cipher, content};
use bytes::{Bytes, BytesMut};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

/// Working memory of the erasure code (a few MiB), kept from segment to segment. One for each worker thread.
#[derive(Default)]
pub struct Coder {
    encoder: Option<ReedSolomonEncoder>,
    decoder: Option<ReedSolomonDecoder>,
}

/// The caller mixed up its arguments, or the erasure code failed on arguments that it supports: a bug.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum CodingError {
    /// Not the bytes, keys or blocks that the segment has.
    #[error("{found} items for a segment of {expected}")]
    Count {
        /// What the segment has.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// A block that is not under its key.
    #[error("block {0} is not the one that its key names")]
    OtherBlock(u16),
    /// The erasure code refused.
    #[error("the erasure code refused: {0}")]
    Code(#[from] reed_solomon_simd::Error),
}

/// Why a segment cannot be put together.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Fewer blocks than data blocks.
    #[error("{found} blocks of the {needed} that are needed")]
    TooFew {
        /// As many blocks give the segment.
        needed: u16,
        /// Blocks that are there.
        found: u16,
    },
    /// A reconstructed block is not the one that its key names: the publisher made parity that does not fit.
    /// With this data block itself, instead of parity, the segment may yet be read.
    #[error("data block {0} does not fit the parity; the file was inserted wrongly")]
    Inconsistent(u16),
    /// The caller's mistake.
    #[error(transparent)]
    Coding(#[from] CodingError),
}

/// A segment put together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecodedSegment {
    /// The bytes of stream, without padding.
    pub data: Bytes,
    /// The data blocks that were missing and are now known, to be inserted again.
    pub recovered: Vec<Block>,
}

impl Coder {
    /// Takes no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// All blocks of a segment, data before parity.
    ///
    /// # Errors
    /// `data` is not as long as the segment.
    pub fn encode(
        &mut self,
        key: &FileKey,
        segment: &Segment,
        data: &[u8],
    ) -> Result<Vec<Block>, CodingError> {
        let owned = data.chunks(BLOCK_SIZE).map(|chunk| {
            let mut buffer = BytesMut::with_capacity(BLOCK_SIZE);
            buffer.extend_from_slice(chunk);
            buffer
        });
        self.encode_blocks(key, segment, owned.collect())
    }

    /// As [`Coder::encode`], of data in blocks, which are padded and encrypted where they lie.
    ///
    /// # Errors
    /// `data` is not as long as the segment.
    pub(super) fn encode_blocks(
        &mut self,
        key: &FileKey,
        segment: &Segment,
        data: Vec<BytesMut>,
    ) -> Result<Vec<Block>, CodingError> {
        expect_count(usize::from(segment.data()), data.len())?;
        expect_count(segment.bytes(), data.iter().map(BytesMut::len).sum())?;
        let code = encoder(&mut self.encoder, segment)?;
        let mut blocks = Vec::with_capacity(usize::from(segment.blocks()));
        for (index, mut buffer) in (0..).zip(data) {
            buffer.resize(BLOCK_SIZE, 0);
            code.add_original_shard(&buffer)?;
            blocks.push(seal(key, segment, index, buffer));
        }
        let parity = code.encode()?;
        for (index, shard) in (segment.data()..).zip(parity.recovery_iter()) {
            blocks.push(seal(key, segment, index, BytesMut::from(shard)));
        }
        Ok(blocks)
    }

    /// The bytes of a segment from any `segment.data()` of its blocks. `keys` and `blocks` list all places, data
    /// before parity. When all data blocks are there, no erasure code is computed.
    ///
    /// # Errors
    /// Too few blocks, or parity that does not fit the data; or a mistake of the caller.
    pub fn decode(
        &mut self,
        key: &FileKey,
        segment: &Segment,
        keys: &[RoutingKey],
        blocks: &[Option<Block>],
    ) -> Result<DecodedSegment, DecodeError> {
        check(segment, keys, blocks)?;
        let (data, parity) = blocks.split_at(usize::from(segment.data()));
        let mut plain = BytesMut::zeroed(usize::from(segment.data()) * BLOCK_SIZE);
        for ((index, chunk), block) in (0..).zip(plain.chunks_exact_mut(BLOCK_SIZE)).zip(data) {
            if let Some(block) = block {
                cipher::apply_into(
                    &key.block(segment.level(), segment.index(), index),
                    block.bytes(),
                    chunk,
                );
            }
        }
        let mut recovered = Vec::new();
        if data.iter().any(Option::is_none) {
            let code = decoder(&mut self.decoder, segment)?;
            for ((index, chunk), _) in plain
                .chunks_exact(BLOCK_SIZE)
                .enumerate()
                .zip(data)
                .filter(|(_, block)| block.is_some())
            {
                code.add_original_shard(index, chunk).map_err(CodingError::from)?;
            }
            // The code takes no more than it needs, which spares decrypting the rest.
            let missing = data.iter().filter(|block| block.is_none()).count();
            let present = (0..)
                .zip(parity)
                .filter_map(|(index, block)| Some((index, block.as_ref()?)));
            for (index, block) in present.take(missing) {
                let shard = open(key, segment, segment.data() + index, block);
                code.add_recovery_shard(usize::from(index), shard)
                    .map_err(CodingError::from)?;
            }
            let result = code.decode().map_err(CodingError::from)?;
            for (index, shard) in result.restored_original_iter() {
                let place = u16::try_from(index).unwrap_or(u16::MAX);
                let block = seal(key, segment, place, BytesMut::from(shard));
                if keys.get(index) != Some(&block.key()) {
                    return Err(DecodeError::Inconsistent(place));
                }
                plain[index * BLOCK_SIZE..][..BLOCK_SIZE].copy_from_slice(shard);
                recovered.push(block);
            }
        }
        plain.truncate(segment.bytes());
        Ok(DecodedSegment {
            data: plain.freeze(),
            recovered,
        })
    }

    /// The bytes of stream in one data block, without its siblings and without padding.
    ///
    /// # Errors
    /// `key_of_block` names another block, or `index` is not a data block: a mistake of the caller.
    pub fn open_block(
        key: &FileKey,
        segment: &Segment,
        index: u16,
        key_of_block: RoutingKey,
        block: &Block,
    ) -> Result<Bytes, CodingError> {
        if block.id() != BlockId::content(key_of_block) || index >= segment.data() {
            return Err(CodingError::OtherBlock(index));
        }
        let mut plain = open(key, segment, index, block);
        plain.truncate(segment.block_len(index));
        Ok(plain.freeze())
    }
}

fn check(segment: &Segment, keys: &[RoutingKey], blocks: &[Option<Block>]) -> Result<(), DecodeError> {
    expect_count(usize::from(segment.blocks()), keys.len())?;
    expect_count(usize::from(segment.blocks()), blocks.len())?;
    let mut found = 0;
    for ((index, key), block) in (0..).zip(keys).zip(blocks) {
        if let Some(block) = block {
            if block.id() != BlockId::content(*key) {
                return Err(CodingError::OtherBlock(index).into());
            }
            found += 1;
        }
    }
    match found < segment.data() {
        true => Err(DecodeError::TooFew {
            needed: segment.data(),
            found,
        }),
        false => Ok(()),
    }
}

const fn expect_count(expected: usize, found: usize) -> Result<(), CodingError> {
    if expected == found {
        Ok(())
    } else {
        Err(CodingError::Count { expected, found })
    }
}

fn seal(key: &FileKey, segment: &Segment, index: u16, mut buffer: BytesMut) -> Block {
    cipher::apply(&key.block(segment.level(), segment.index(), index), &mut buffer);
    content::wrap(buffer.freeze())
}

fn open(key: &FileKey, segment: &Segment, index: u16, block: &Block) -> BytesMut {
    let mut buffer = BytesMut::from(&block.bytes()[..]);
    cipher::apply(&key.block(segment.level(), segment.index(), index), &mut buffer);
    buffer
}

fn encoder<'a>(
    slot: &'a mut Option<ReedSolomonEncoder>,
    segment: &Segment,
) -> Result<&'a mut ReedSolomonEncoder, CodingError> {
    let (data, parity) = (usize::from(segment.data()), usize::from(segment.parity()));
    if let Some(code) = slot {
        code.reset(data, parity, BLOCK_SIZE)?;
    }
    match slot {
        Some(code) => Ok(code),
        None => Ok(slot.insert(ReedSolomonEncoder::new(data, parity, BLOCK_SIZE)?)),
    }
}

fn decoder<'a>(
    slot: &'a mut Option<ReedSolomonDecoder>,
    segment: &Segment,
) -> Result<&'a mut ReedSolomonDecoder, CodingError> {
    let (data, parity) = (usize::from(segment.data()), usize::from(segment.parity()));
    if let Some(code) = slot {
        code.reset(data, parity, BLOCK_SIZE)?;
    }
    match slot {
        Some(code) => Ok(code),
        None => Ok(slot.insert(ReedSolomonDecoder::new(data, parity, BLOCK_SIZE)?)),
    }
}
