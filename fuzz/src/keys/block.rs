//! Blocks of both kinds, as their bytes arrive.

use bytes::Bytes;
use warren_keys::{BLOCK_SIZE, Block, BlockError, BlockId, BlockKind, CryptoKey, RoutingKey, content};

use crate::{Input, Seed, fixtures};

/// Bytes of a signed block before its ciphertext: key, signature, SIV.
const SIGNED_HEAD: usize = 128;

/// The first byte chooses between any bytes, a signed block with changes, and the encryption of content blocks.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 => {
            let bytes = Bytes::copy_from_slice(input.rest());
            for kind in [BlockKind::Content, BlockKind::Signed] {
                let _ = identify(kind, bytes.clone());
            }
        }
        1 => {
            let mut bytes = input.rest().to_vec();
            bytes.resize(BLOCK_SIZE, 0);
            assert_eq!(identify(BlockKind::Content, bytes.clone().into()), Ok(()));
            assert_ne!(identify(BlockKind::Signed, bytes.into()), Ok(()), "forged");
        }
        2 => {
            let good = fixtures::signed_block(input.u8(), input.u8());
            let mut bytes = good.bytes().to_vec();
            input.flip(&mut bytes, 3);
            input.flip(&mut bytes[..SIGNED_HEAD], 3);
            let changed = bytes != good.bytes()[..];
            let result = Block::verify(good.id(), bytes.clone().into());
            assert_eq!(
                result.is_ok(),
                !changed,
                "a change must be found, nothing else may"
            );
            assert_eq!(identify(BlockKind::Signed, bytes.into()).is_ok(), !changed);
        }
        _ => {
            let key = CryptoKey::from_bytes(input.array());
            let plain = input.rest();
            let Ok(block) = content::seal(plain, &key) else {
                assert!(plain.len() > BLOCK_SIZE);
                return;
            };
            assert_eq!(identify(BlockKind::Content, block.bytes().clone()), Ok(()));
            let opened = content::open(block, &key);
            assert!(opened[..plain.len()] == *plain && opened[plain.len()..].iter().all(|byte| *byte == 0));
        }
    }
}

/// Both ways to a block agree.
fn identify(kind: BlockKind, bytes: Bytes) -> Result<(), BlockError> {
    let identified = Block::identify(kind, bytes.clone());
    if let Ok(block) = &identified {
        assert!(*block.bytes() == bytes && block.id().kind == kind);
        assert_eq!(Block::verify(block.id(), bytes.clone()).as_ref(), Ok(block));
        let other = BlockId {
            key: RoutingKey::from_bytes([7; 32]),
            ..block.id()
        };
        assert_eq!(Block::verify(other, bytes), Err(BlockError::OtherKey));
    }
    identified.map(drop)
}

/// One of each.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    vec![
        Seed::new("short").u8(0).bytes(b"no block"),
        Seed::new("padded").u8(1).bytes(b"a block"),
        Seed::new("padded-signed")
            .u8(1)
            .bytes(&fixtures::signed_block(0, 0).bytes()[..200]),
        Seed::new("signed").u8(2).u8(1).u8(0),
        Seed::new("signed-key").u8(2).u8(1).u8(1).u16(0).u8(1),
        Seed::new("signed-signature").u8(2).u8(2).u8(0).u16(95).u8(0x80),
        Seed::new("signed-siv").u8(2).u8(2).u8(0).u16(96).u8(0x80),
        Seed::new("signed-ciphertext").u8(2).u8(2).u8(0).u16(32_767).u8(1),
        Seed::new("content").u8(3).bytes(&[9; 32]).bytes(b"some content"),
    ]
}
