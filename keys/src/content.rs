//! Content blocks: `routing = BLAKE3(ciphertext)` (`keys §4.1`).
//!
//! Invariant that the callers keep: one [`CryptoKey`] encrypts one plaintext, ever. Keys come from a hash of the
//! plaintext or from fresh randomness. There is no authentication tag: the routing key is the hash of the ciphertext.

use crate::{BLOCK_SIZE, Block, BlockId, CryptoKey, RoutingKey, cipher};
use bytes::{Bytes, BytesMut};

/// The caller gave more than one block can hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} bytes do not fit in a block of {BLOCK_SIZE}")]
pub struct TooLong(pub usize);

/// Encrypts up to [`BLOCK_SIZE`] bytes, padded with zeros.
///
/// # Errors
/// More than one block.
pub fn seal(plaintext: &[u8], key: &CryptoKey) -> Result<Block, TooLong> {
    if plaintext.len() > BLOCK_SIZE {
        return Err(TooLong(plaintext.len()));
    }
    let mut buffer = BytesMut::with_capacity(BLOCK_SIZE);
    buffer.extend_from_slice(plaintext);
    seal_in_place(buffer, key)
}

/// Encrypts `buffer` where it lies, after padding it with zeros.
///
/// # Errors
/// More than one block.
pub fn seal_in_place(mut buffer: BytesMut, key: &CryptoKey) -> Result<Block, TooLong> {
    if buffer.len() > BLOCK_SIZE {
        return Err(TooLong(buffer.len()));
    }
    buffer.resize(BLOCK_SIZE, 0);
    cipher::apply(key.expose(), &mut buffer);
    Ok(wrap(buffer.freeze()))
}

/// Names [`BLOCK_SIZE`] bytes of ciphertext.
pub(crate) fn wrap(ciphertext: Bytes) -> Block {
    let key = RoutingKey::from_bytes(*blake3::hash(&ciphertext).as_bytes());
    Block::made(BlockId::content(key), ciphertext)
}

/// Decrypts a block: [`BLOCK_SIZE`] bytes with their padding.
///
/// Copies unless the block is the only holder of its bytes.
pub fn open(block: Block, key: &CryptoKey) -> BytesMut {
    let mut buffer = match block.into_bytes().try_into_mut() {
        Ok(unique) => unique,
        Err(shared) => BytesMut::from(&shared[..]),
    };
    cipher::apply(key.expose(), &mut buffer);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockKind;

    #[test]
    fn round_trip_of_every_length_class() {
        let key = CryptoKey::from_bytes([3; 32]);
        for length in [0, 1, 32_767, 32_768] {
            let plaintext = vec![0x5a; length];
            let block = seal(&plaintext, &key).unwrap();
            assert_eq!(
                Block::identify(BlockKind::Content, block.bytes().clone()).unwrap(),
                block
            );
            let shared = block.clone();
            let opened = open(block, &key);
            assert_eq!(opened[..length], plaintext);
            assert!(opened[length..].iter().all(|byte| *byte == 0));
            assert_eq!(open(shared, &key), opened);
        }
        assert_eq!(seal(&[0; BLOCK_SIZE + 1], &key), Err(TooLong(BLOCK_SIZE + 1)));
    }

    #[test]
    fn another_key_gives_another_block() {
        let one = seal(b"same", &CryptoKey::from_bytes([1; 32])).unwrap();
        let two = seal(b"same", &CryptoKey::from_bytes([2; 32])).unwrap();
        assert_ne!(one.id(), two.id());
    }
}
