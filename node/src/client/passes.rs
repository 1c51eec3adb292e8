//! The two passes over the bytes of an insert.
//!
//! The first learns what the file key derives from: length and hash of the stream (the plaintext, or its compressed frames).
//! The second gives the stream to the encoder. A file is read twice; of what comes only once, the first pass spools the stream, so
//! that it is compressed but once. A file whose key does not follow from its bytes needs only the second.
//!
//! Invariant: the second pass gives exactly the stream that the first one measured. This is more than a convenience: were a file
//! that changed in between encrypted under the key of what it was, two different blocks could end up under one
//! key. So each piece is compared with what the first pass saw before it leaves this module.
//!
//! Everything here blocks and belongs on a blocking thread, a batch at a time.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use bytes::{Bytes, BytesMut};
use warren_keys::stream::{Compression, FRAME_SIZE, StreamSummary, StreamWriter, choose_compression};

use super::{
    InsertError,
    spool::{Spool, SpoolWriter},
};

/// Bytes that are read from a file at a time, and compared between the passes: what the nearer caches hold.
const PIECE: usize = 256 << 10;
/// Pieces that one call of [`SecondPass::batch`] gives at most: a MiB, enough work for a turn on another thread.
const BATCH: usize = 4;

/// Plaintext to stream, with the decision whether to compress taken on the first bytes.
struct Shaper {
    /// What the decision is taken on; empty once it is taken.
    sample: BytesMut,
    writer: Option<StreamWriter>,
    compress: bool,
}

impl Shaper {
    fn new(compress: bool) -> Self {
        Self {
            sample: BytesMut::new(),
            writer: None,
            compress,
        }
    }

    fn push(&mut self, plain: &[u8], out: &mut BytesMut) -> Result<(), InsertError> {
        if let Some(writer) = &mut self.writer {
            return writer.push(plain, out).map_err(internal);
        }
        self.sample.extend_from_slice(plain);
        if self.sample.len() >= FRAME_SIZE || !self.compress {
            self.decide(out)?;
        }
        Ok(())
    }

    fn decide(&mut self, out: &mut BytesMut) -> Result<&mut StreamWriter, InsertError> {
        let sample = std::mem::take(&mut self.sample);
        let compression = match self.compress {
            true => choose_compression(&sample).map_err(internal)?,
            false => Compression::None,
        };
        let writer = self
            .writer
            .insert(StreamWriter::new(compression).map_err(internal)?);
        writer.push(&sample, out).map_err(internal)?;
        Ok(writer)
    }

    fn finish(mut self, out: &mut BytesMut) -> Result<StreamSummary, InsertError> {
        if self.writer.is_none() {
            self.decide(out)?;
        }
        let Some(writer) = self.writer else {
            return Err(InsertError::Internal("no writer".to_owned()));
        };
        writer.finish(out).map_err(internal)
    }
}

/// The first pass.
pub(super) struct FirstPass {
    shaper: Shaper,
    stream: BytesMut,
    keep: Keep,
    plain_len: u64,
    /// Of a file: memory for a piece of it.
    piece: Vec<u8>,
}

/// How the second pass will get the bytes.
enum Keep {
    Spool(Box<SpoolWriter>),
    /// Reads the file again and compares the hashes of its pieces.
    File {
        file: File,
        hashes: Vec<[u8; 32]>,
    },
}

impl FirstPass {
    /// Of bytes that are pushed.
    pub(super) fn of_stream(folder: &Path, compress: bool) -> Self {
        Self::new(Keep::Spool(Box::new(SpoolWriter::new(folder))), compress)
    }

    /// Of a regular file, with its length now.
    pub(super) fn of_file(path: &Path, compress: bool) -> Result<(Self, u64), InsertError> {
        let (file, len) = open(path)?;
        let hashes = Vec::new();
        Ok((Self::new(Keep::File { file, hashes }, compress), len))
    }

    fn new(keep: Keep, compress: bool) -> Self {
        Self {
            shaper: Shaper::new(compress),
            stream: BytesMut::new(),
            keep,
            plain_len: 0,
            piece: Vec::new(),
        }
    }

    /// Bytes of plaintext so far.
    pub(super) fn plain_len(&self) -> u64 {
        self.plain_len
    }

    /// Takes the next bytes of a stream.
    pub(super) fn push(&mut self, plain: &[u8]) -> Result<(), InsertError> {
        self.plain_len += plain.len() as u64;
        self.shaper.push(plain, &mut self.stream)?;
        if let Keep::Spool(spool) = &mut self.keep {
            spool.push(&self.stream).map_err(InsertError::Spool)?;
        }
        self.stream.clear();
        Ok(())
    }

    /// Reads the next bytes of a file; false at its end.
    pub(super) fn read(&mut self) -> Result<bool, InsertError> {
        for _ in 0..BATCH {
            let Keep::File { file, hashes } = &mut self.keep else {
                return Ok(false);
            };
            let mut piece = std::mem::take(&mut self.piece);
            if !read_piece(file, &mut piece)? {
                return Ok(false);
            }
            hashes.push(*blake3::hash(&piece).as_bytes());
            self.push(&piece)?;
            self.piece = piece;
        }
        Ok(true)
    }

    /// The end: the measures, and the second pass.
    pub(super) fn finish(mut self) -> Result<(StreamSummary, SecondPass), InsertError> {
        let summary = self.shaper.finish(&mut self.stream)?;
        let second = match self.keep {
            Keep::Spool(mut spool) => {
                spool.push(&self.stream).map_err(InsertError::Spool)?;
                SecondPass::new(Again::Spool(Box::new(spool.finish())))
            }
            Keep::File { mut file, hashes } => {
                file.seek(SeekFrom::Start(0)).map_err(InsertError::Source)?;
                let writer = match summary.compression {
                    Compression::None => None,
                    compression => Some(Box::new(StreamWriter::new(compression).map_err(internal)?)),
                };
                SecondPass::new(Again::File {
                    file,
                    hashes: hashes.into_iter(),
                    writer,
                })
            }
        };
        Ok((summary, second))
    }
}

/// The second pass, or the only one.
pub(super) struct SecondPass {
    again: Again,
    /// Memory of pieces that were given out and came back.
    spare: Vec<Vec<u8>>,
}

enum Again {
    Spool(Box<Spool>),
    File {
        file: File,
        hashes: std::vec::IntoIter<[u8; 32]>,
        /// Of a compressed stream.
        writer: Option<Box<StreamWriter>>,
    },
    /// Measures what it reads.
    Once {
        file: File,
        /// Until the end.
        shaper: Option<Box<Shaper>>,
        measured: Option<StreamSummary>,
    },
}

impl SecondPass {
    fn new(again: Again) -> Self {
        Self {
            again,
            spare: Vec::new(),
        }
    }

    /// The only pass over a regular file, with its length now.
    pub(super) fn only(path: &Path, compress: bool) -> Result<(Self, u64), InsertError> {
        let (file, len) = open(path)?;
        let shaper = Some(Box::new(Shaper::new(compress)));
        let measured = None;
        Ok((
            Self::new(Again::Once {
                file,
                shaper,
                measured,
            }),
            len,
        ))
    }

    /// After the end of the only pass: the measures.
    pub(super) fn measured(&self) -> Option<StreamSummary> {
        match &self.again {
            Again::Once { measured, .. } => *measured,
            Again::Spool(_) | Again::File { .. } => None,
        }
    }

    /// Takes back what [`SecondPass::batch`] gave out, to read into the same memory.
    pub(super) fn recycle(&mut self, piece: Bytes) {
        if self.spare.len() < BATCH
            && let Ok(piece) = piece.try_into_mut()
        {
            self.spare.push(piece.into());
        }
    }

    /// The next bytes of the stream, about a MiB; empty at the end.
    pub(super) fn batch(&mut self) -> Result<Vec<Bytes>, InsertError> {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH {
            match self.piece()? {
                // A compressor may keep a piece to itself for a while.
                Some(piece) if piece.is_empty() => {}
                Some(piece) => batch.push(piece),
                None => break,
            }
        }
        Ok(batch)
    }

    fn piece(&mut self) -> Result<Option<Bytes>, InsertError> {
        let (file, hashes, writer) = match &mut self.again {
            Again::Spool(spool) => return spool.read().map_err(InsertError::Spool),
            Again::File { file, hashes, writer } => (file, hashes, writer),
            Again::Once {
                file,
                shaper,
                measured,
            } => {
                let Some(mut shaping) = shaper.take() else {
                    return Ok(None);
                };
                let (mut piece, mut out) = (self.spare.pop().unwrap_or_default(), BytesMut::new());
                if read_piece(file, &mut piece)? {
                    shaping.push(&piece, &mut out)?;
                    *shaper = Some(shaping);
                } else {
                    *measured = Some(shaping.finish(&mut out)?);
                }
                self.spare.push(piece);
                return Ok(Some(out.freeze()));
            }
        };
        let mut piece = self.spare.pop().unwrap_or_default();
        match (read_piece(file, &mut piece)?, hashes.next()) {
            (true, Some(hash)) if *blake3::hash(&piece).as_bytes() == hash => match writer {
                None => Ok(Some(piece.into())),
                Some(writer) => {
                    let mut out = BytesMut::new();
                    writer.push(&piece, &mut out).map_err(internal)?;
                    self.spare.push(piece);
                    Ok(Some(out.freeze()))
                }
            },
            (false, None) => match writer.take() {
                None => Ok(None),
                Some(writer) => {
                    let mut out = BytesMut::new();
                    writer.finish(&mut out).map_err(internal)?;
                    Ok(Some(out.freeze()))
                }
            },
            _ => Err(InsertError::Changed),
        }
    }
}

/// Opens a regular file; also its length now.
fn open(path: &Path) -> Result<(File, u64), InsertError> {
    let file = File::open(path).map_err(InsertError::Source)?;
    let facts = file.metadata().map_err(InsertError::Source)?;
    if !facts.is_file() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        return Err(InsertError::Source(error));
    }
    Ok((file, facts.len()))
}

/// Reads the next piece of a file, full but at the end; false when there is none.
fn read_piece(file: &mut File, piece: &mut Vec<u8>) -> Result<bool, InsertError> {
    piece.clear();
    piece.reserve(PIECE);
    file.take(PIECE as u64)
        .read_to_end(piece)
        .map_err(InsertError::Source)?;
    Ok(!piece.is_empty())
}

fn internal(error: impl std::fmt::Display) -> InsertError {
    InsertError::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use bytes::Bytes;
    use warren_keys::stream::{Compression, StreamReader, StreamSummary};

    use super::{FirstPass, PIECE, SecondPass};
    use crate::client::InsertError;

    fn text(len: usize) -> Vec<u8> {
        b"something that shrinks, and again "
            .iter()
            .copied()
            .cycle()
            .take(len)
            .collect()
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn drain(pass: &mut SecondPass) -> Result<Vec<Bytes>, InsertError> {
        let mut all = Vec::new();
        loop {
            match pass.batch()? {
                batch if batch.is_empty() => return Ok(all),
                batch => all.extend(batch),
            }
        }
    }

    /// What a reader makes of the stream.
    fn read(summary: &StreamSummary, stream: &[Bytes]) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new();
        stream.iter().for_each(|piece| _ = hasher.update(piece));
        assert_eq!(*hasher.finalize().as_bytes(), summary.stream_hash);
        let (mut reader, mut plain) = (StreamReader::new(summary).unwrap(), Vec::new());
        for piece in stream {
            reader
                .push(piece.clone(), |bytes| plain.extend_from_slice(&bytes))
                .unwrap();
        }
        reader.finish().unwrap();
        plain
    }

    fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn first(path: &std::path::Path) -> FirstPass {
        let (mut pass, _) = FirstPass::of_file(path, true).unwrap();
        while pass.read().unwrap() {}
        pass
    }

    #[test]
    fn file_and_stream_give_the_same() {
        for bytes in [
            vec![],
            noise(1),
            text(1000),
            noise(PIECE),
            text(5 * PIECE + 3),
            noise(9 * PIECE + 7),
        ] {
            for compress in [true, false] {
                let (folder, path) = file(&bytes);
                let (mut by_file, len) = FirstPass::of_file(&path, compress).unwrap();
                assert_eq!(len, bytes.len() as u64);
                while by_file.read().unwrap() {}
                assert_eq!(by_file.plain_len(), bytes.len() as u64);
                let mut by_stream = FirstPass::of_stream(folder.path(), compress);
                bytes
                    .chunks(77_777)
                    .for_each(|part| by_stream.push(part).unwrap());
                let (mut only, len) = SecondPass::only(&path, compress).unwrap();
                assert_eq!(len, bytes.len() as u64);
                let alone = drain(&mut only).unwrap();
                let (summary, mut second) = by_file.finish().unwrap();
                assert_eq!(only.measured(), Some(summary));
                assert!(read(&summary, &alone) == bytes);
                assert!(compress || summary.compression == Compression::None);
                assert!(read(&summary, &drain(&mut second).unwrap()) == bytes);
                let (again, mut second) = by_stream.finish().unwrap();
                assert_eq!(again, summary);
                assert!(read(&summary, &drain(&mut second).unwrap()) == bytes);
            }
        }
    }

    #[test]
    fn a_file_that_changes_is_noticed_before_the_change_gets_out() {
        let bytes = noise(6 * PIECE);
        let change = |change: fn(&mut Vec<u8>)| {
            let (_folder, path) = file(&bytes);
            let (_, mut second) = first(&path).finish().unwrap();
            let mut changed = bytes.clone();
            change(&mut changed);
            fs::write(&path, &changed).unwrap();
            drain(&mut second)
        };
        for result in [
            change(|bytes| bytes[0] ^= 1),
            change(|bytes| bytes[5 * PIECE] ^= 1),
            change(|bytes| bytes.truncate(5 * PIECE)),
            change(|bytes| bytes.truncate(5 * PIECE + 1)),
            change(|bytes| bytes.push(0)),
            change(Vec::clear),
        ] {
            assert!(matches!(result, Err(InsertError::Changed)), "{result:?}");
        }
        assert!(change(|_| {}).is_ok());
    }

    #[test]
    fn what_is_no_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            FirstPass::of_file(folder.path(), true),
            Err(InsertError::Source(_))
        ));
        assert!(matches!(
            FirstPass::of_file(&folder.path().join("none"), true),
            Err(InsertError::Source(_))
        ));
    }
}
