//! Many strings looked for at once, at every offset.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use warren_keys::base64;

/// Shortest string worth looking for: shorter ones occur in random gigabytes by chance.
const SHORTEST: usize = 8;

/// Strings that must not be found, each with what it is.
pub struct Needles {
    needles: Vec<(String, Vec<u8>)>,
    /// Numbers of the needles that begin with each pair of bytes.
    starts: Vec<Vec<u32>>,
    longest: usize,
}

impl Default for Needles {
    fn default() -> Self {
        Self {
            needles: Vec::new(),
            starts: vec![Vec::new(); 1 << 16],
            longest: 0,
        }
    }
}

impl Needles {
    /// Adds bytes.
    ///
    /// # Panics
    /// When they are too few to mean anything.
    pub fn add(&mut self, what: impl Into<String>, bytes: impl AsRef<[u8]>) {
        let (what, bytes) = (what.into(), bytes.as_ref());
        assert!(bytes.len() >= SHORTEST, "{what} is too short to be looked for");
        let number = u32::try_from(self.needles.len()).unwrap();
        self.starts[start(bytes)].push(number);
        self.longest = self.longest.max(bytes.len());
        self.needles.push((what, bytes.to_vec()));
    }

    /// Adds a key as it is and as people and programs write it.
    pub fn add_key(&mut self, what: &str, key: &[u8; 32]) {
        // Half of a key gives it away as well, and is found also where it is cut.
        self.add(what, &key[..16]);
        self.add(
            format!("{what}, reversed"),
            key.iter().rev().copied().collect::<Vec<_>>(),
        );
        let base64 = base64::encode(key);
        self.add(format!("{what} in base64"), &base64[..22]);
        let usual = base64.replace('~', "+").replace('-', "/");
        if usual[..22] != base64[..22] {
            self.add(format!("{what} in usual base64"), &usual[..22]);
        }
        let hex: String = key[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        self.add(format!("{what} in upper-case hexadecimal"), hex.to_uppercase());
        self.add(format!("{what} in hexadecimal"), hex);
        let decimal: Vec<_> = key[..16].iter().map(ToString::to_string).collect();
        self.add(format!("{what} in decimal"), decimal.join(", "));
    }

    /// Adds every 32nd piece of 24 bytes of a file: wherever a part of it is copied to, one of them is in it.
    pub fn add_content(&mut self, what: &str, content: &[u8]) {
        for (number, piece) in content.chunks_exact(32).enumerate() {
            self.add(format!("{what}, piece {number}"), &piece[..24]);
        }
    }

    /// How many are looked for.
    pub fn len(&self) -> usize {
        self.needles.len()
    }

    /// Whether nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    /// What is found in `bytes`, with the offset; nothing when all is well.
    pub fn find(&self, bytes: &[u8]) -> Option<(usize, &str)> {
        let pairs = bytes.windows(2);
        for (offset, pair) in pairs.enumerate() {
            for number in &self.starts[start(pair)] {
                let (what, needle) = &self.needles[*number as usize];
                if bytes[offset..].starts_with(needle) {
                    return Some((offset, what));
                }
            }
        }
        None
    }

    /// What is found in a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find_in_file(&self, path: &Path) -> io::Result<Option<(u64, &str)>> {
        let mut file = File::open(path)?;
        let overlap = self.longest.saturating_sub(1);
        let mut buffer = Vec::new();
        let mut base = 0;
        loop {
            let read = (&mut file).take(8 << 20).read_to_end(&mut buffer)?;
            if let Some((offset, what)) = self.find(&buffer) {
                return Ok(Some((base + offset as u64, what)));
            }
            if read == 0 {
                return Ok(None);
            }
            // What begins at the end of this part is looked for together with the next.
            let gone = buffer.len().saturating_sub(overlap);
            buffer.drain(..gone);
            base += gone as u64;
        }
    }
}

fn start(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::data::RandomFile;

    #[test]
    fn finds_what_is_there_at_any_offset_and_nothing_else() {
        let mut needles = Needles::default();
        needles.add("a name", "holiday.jpg");
        needles.add_key("a key", &[0xa5; 32]);
        let hay = RandomFile::new(1, 1 << 20).bytes();
        assert_eq!(needles.find(&hay), None);
        for offset in [0, 1, 4095, hay.len() - 16] {
            let mut hay = hay.clone();
            hay[offset..offset + 16].fill(0xa5);
            assert_eq!(needles.find(&hay), Some((offset, "a key")));
            hay[offset..offset + 11].copy_from_slice(b"holiday.jpg");
            assert_eq!(needles.find(&hay), Some((offset, "a name")));
        }
    }

    #[test]
    fn finds_what_lies_across_two_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut hay = vec![0; 9 << 20];
        let offset = (8 << 20) - 3;
        hay[offset..offset + 11].copy_from_slice(b"holiday.jpg");
        std::fs::write(&path, hay).unwrap();
        let mut needles = Needles::default();
        assert_eq!(needles.find_in_file(&path).unwrap(), None);
        needles.add("a name", "holiday.jpg");
        assert_eq!(
            needles.find_in_file(&path).unwrap(),
            Some((offset as u64, "a name"))
        );
    }
}
