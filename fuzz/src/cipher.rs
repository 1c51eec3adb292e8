//! A cipher without any security, so that a fuzzer gets behind it.
//!
//! Links and onion layers are generic over [`Aead`]. With [`NoSecurity`] whatever bytes arrive are the plaintext that a hostile
//! peer could have sealed with the right key; a fuzzer that had to guess tags would never see what is behind them.

use warren_proto::{
    crypto::{Aead, BadTag, Cipher},
    geometry::TAG_LEN,
};

/// NO SECURITY: changes nothing, accepts everything. Tags are zeros and are not looked at.
pub struct NoSecurity;

impl Aead for NoSecurity {
    fn with(_cipher: Cipher, _key: &[u8; 32]) -> Self {
        Self
    }

    fn seal(&self, _nonce: u64, _aad: &[u8], buf: &mut [u8]) {
        if let Some((_, tag)) = buf.split_last_chunk_mut::<TAG_LEN>() {
            tag.fill(0);
        }
    }

    fn open(&self, _nonce: u64, _aad: &[u8], buf: &mut [u8], from: usize) -> Result<usize, BadTag> {
        let text = from..buf
            .len()
            .checked_sub(TAG_LEN)
            .filter(|end| *end >= from)
            .ok_or(BadTag)?;
        let len = text.len();
        buf.copy_within(text, 0);
        Ok(len)
    }
}
