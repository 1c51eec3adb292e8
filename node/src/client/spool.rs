//! Bytes that come once, kept so that they can be read twice.
//!
//! A content-derived file key needs a pass over the whole file before the first block can be encrypted, but standard input
//! and uploads come once. Small ones stay in memory; of larger ones every piece goes, encrypted and authenticated, into a
//! temporary file.
//!
//! Invariants: the disk never sees plaintext; the key exists only in memory; the file has no name (or, where the system
//! knows no files without one, loses it when it is closed), so nothing is left behind after a crash; what is read back is
//! what was written, or an error.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use warren_proto::{crypto::Aead, geometry::TAG_LEN};
use zeroize::Zeroizing;

use crate::aead::RingAead;

/// Bytes that stay in memory. Most documents and pictures are smaller.
pub const SPOOL_MEMORY: usize = 4 << 20;
/// Bytes of each encrypted piece: large enough for full AEAD speed, small beside a segment.
const PIECE: usize = 256 << 10;

/// Takes bytes in.
pub struct SpoolWriter {
    folder: PathBuf,
    held: BytesMut,
    disk: Option<Disk>,
    len: u64,
}

/// Bytes that can be read again and again, from the start.
pub struct Spool {
    held: Bytes,
    disk: Option<Disk>,
    len: u64,
    /// Pieces read since the start, the held one last.
    read: u64,
}

struct Disk {
    file: File,
    aead: RingAead,
    pieces: u64,
}

impl SpoolWriter {
    /// Nothing taken in yet; a temporary file is made in `folder` when it is needed.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            held: BytesMut::new(),
            disk: None,
            len: 0,
        }
    }

    /// Takes the next bytes. Blocks on the disk.
    ///
    /// # Errors
    /// The disk failed or is full, or the system gave no randomness.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.len += bytes.len() as u64;
        self.held.extend_from_slice(bytes);
        if self.disk.is_none() && self.held.len() <= SPOOL_MEMORY {
            return Ok(());
        }
        let disk = match &mut self.disk {
            Some(disk) => disk,
            none => none.insert(Disk::new(&self.folder)?),
        };
        let mut whole = self.held.chunks_exact(PIECE);
        for piece in &mut whole {
            disk.append(piece)?;
        }
        let rest = whole.remainder().len();
        let done = self.held.len() - rest;
        self.held.copy_within(done.., 0);
        self.held.truncate(rest);
        Ok(())
    }

    /// All is in.
    #[must_use]
    pub fn finish(self) -> Spool {
        Spool {
            held: self.held.freeze(),
            disk: self.disk,
            len: self.len,
            read: 0,
        }
    }
}

impl Spool {
    /// Bytes that were written.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it lies in a temporary file.
    #[must_use]
    pub fn is_on_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// The next bytes; none at the end. Blocks on the disk.
    ///
    /// # Errors
    /// The disk failed, or the file was changed.
    pub fn read(&mut self) -> io::Result<Option<Bytes>> {
        let number = self.read;
        let on_disk = self.disk.as_ref().map_or(0, |disk| disk.pieces);
        self.read = self.read.saturating_add(1).min(on_disk + 1);
        match &mut self.disk {
            Some(disk) if number < on_disk => disk.read(number).map(Some),
            _ => Ok((number == on_disk && !self.held.is_empty()).then(|| self.held.clone())),
        }
    }

    /// Reads from the start again.
    pub fn rewind(&mut self) {
        self.read = 0;
    }
}

impl Disk {
    fn new(folder: &Path) -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self {
            file: tempfile::tempfile_in(folder)?,
            aead: RingAead::new(&key),
            pieces: 0,
        })
    }

    /// Each piece is sealed under its own number, and each number used once.
    fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut sealed = BytesMut::with_capacity(PIECE + TAG_LEN);
        sealed.extend_from_slice(piece);
        sealed.resize(PIECE + TAG_LEN, 0);
        self.aead.seal(self.pieces, &[], &mut sealed);
        self.file.write_all(&sealed)?;
        self.pieces += 1;
        Ok(())
    }

    fn read(&mut self, number: u64) -> io::Result<Bytes> {
        let mut sealed = BytesMut::zeroed(PIECE + TAG_LEN);
        self.file
            .seek(SeekFrom::Start(number * (PIECE + TAG_LEN) as u64))?;
        self.file.read_exact(&mut sealed)?;
        let damaged = |_| io::Error::new(io::ErrorKind::InvalidData, "the temporary file was damaged");
        let len = self.aead.open(number, &[], &mut sealed, 0).map_err(damaged)?;
        sealed.truncate(len);
        Ok(sealed.freeze())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom, Write};

    use super::{PIECE, SPOOL_MEMORY, Spool, SpoolWriter};

    fn spool(bytes: &[u8], portion: usize) -> (tempfile::TempDir, Spool) {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = SpoolWriter::new(folder.path());
        for part in bytes.chunks(portion) {
            writer.push(part).unwrap();
        }
        (folder, writer.finish())
    }

    fn read(spool: &mut Spool) -> Vec<u8> {
        spool.rewind();
        let mut all = Vec::new();
        while let Some(piece) = spool.read().unwrap() {
            all.extend_from_slice(&piece);
        }
        assert!(spool.read().unwrap().is_none(), "the end stays the end");
        all
    }

    fn pattern(len: usize) -> Vec<u8> {
        b"a plaintext that would be found on the disk. "
            .iter()
            .copied()
            .cycle()
            .take(len)
            .collect()
    }

    #[test]
    fn gives_back_what_it_took_twice() {
        for (len, on_disk) in [
            (0, false),
            (1, false),
            (SPOOL_MEMORY, false),
            (SPOOL_MEMORY + 1, true),
            (SPOOL_MEMORY + PIECE, true),
            (SPOOL_MEMORY + 3 * PIECE + 17, true),
        ] {
            for portion in [60_000, 1_000_000, usize::MAX] {
                let bytes = pattern(len);
                let (_folder, mut spool) = spool(&bytes, portion);
                assert_eq!((spool.len(), spool.is_on_disk()), (len as u64, on_disk), "{len}");
                assert!(
                    read(&mut spool) == bytes && read(&mut spool) == bytes,
                    "{len} in {portion}"
                );
            }
        }
    }

    #[test]
    fn the_disk_sees_no_plaintext_and_no_name() {
        let (folder, mut spool) = spool(&pattern(SPOOL_MEMORY * 2), 100_000);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let file = &mut spool.disk.as_mut().unwrap().file;
        let mut raw = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut raw).unwrap();
        assert!(raw.len() > SPOOL_MEMORY);
        assert!(!raw.windows(9).any(|window| window == b"plaintext"));
        assert!(
            raw[..16] != raw[PIECE + 16..PIECE + 32],
            "equal pieces differ on disk"
        );
    }

    #[test]
    fn damage_is_found() {
        let (_folder, mut spool) = spool(&pattern(SPOOL_MEMORY * 2), 100_000);
        let file = &mut spool.disk.as_mut().unwrap().file;
        file.seek(SeekFrom::Start(PIECE as u64 * 3)).unwrap();
        file.write_all(b"x").unwrap();
        let first_error = std::iter::from_fn(|| spool.read().transpose())
            .find_map(Result::err)
            .unwrap();
        assert_eq!(first_error.kind(), std::io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let mut writer = SpoolWriter::new(std::path::Path::new("/nonexistent/folder"));
        assert!(writer.push(&vec![0; SPOOL_MEMORY]).is_ok());
        assert!(writer.push(&[0]).is_err());
    }
}
