//! Files to send: any number of random bytes from a number, never held in memory; and the hash of what comes back.

use std::io::{self, Read};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

/// A stream of random bytes of a given length.
pub struct RandomFile {
    rng: ChaCha20Rng,
    left: u64,
}

impl RandomFile {
    /// The same for the same seed.
    #[must_use]
    pub fn new(seed: u64, len: u64) -> Self {
        Self {
            rng: ChaCha20Rng::seed_from_u64(seed),
            left: len,
        }
    }

    /// All of it.
    ///
    /// # Panics
    /// When it is too long for the memory.
    #[must_use]
    pub fn bytes(mut self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.left).unwrap()];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }
}

impl Read for RandomFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Whole words, so that the bytes do not depend on how they are read.
        let whole = (buffer.len() / 8 * 8) as u64;
        let take = usize::try_from(whole.min(self.left)).map_err(io::Error::other)?;
        self.rng.fill_bytes(&mut buffer[..take]);
        self.left -= take as u64;
        Ok(take)
    }
}

/// Length and BLAKE3 hash of a stream.
///
/// # Panics
/// When it cannot be read.
pub fn hash(mut stream: impl Read) -> (u64, blake3::Hash) {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    let mut len = 0;
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            return (len, hasher.finalize());
        }
        hasher.update(&buffer[..count]);
        len += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_however_it_is_read() {
        for len in [0, 1, 8, 32_769] {
            let file = RandomFile::new(7, len);
            let expected = (len, blake3::hash(&RandomFile::new(7, len).bytes()));
            assert_eq!(hash(file), expected);
            assert_eq!(
                hash(io::BufReader::with_capacity(24, RandomFile::new(7, len))),
                expected
            );
        }
    }
}
