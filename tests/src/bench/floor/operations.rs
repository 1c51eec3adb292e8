//! The operations themselves, each timed by the thread's processor time.

use std::{
    fs::File,
    hint::black_box,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::FileExt,
    time::Duration,
};

use anyhow::{Context, anyhow};
use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit, StreamCipher},
};
use reed_solomon_simd::ReedSolomonEncoder;
use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use warren_keys::{BLOCK_SIZE, splitfile::SEGMENT_DATA};
use warren_node::aead::best_cipher;
use warren_proto::{
    crypto::Cipher,
    geometry::{BLOCK_BODY, CONTROL_BODY, RECORD_LEN, RECORD_PAYLOAD, TAG_LEN},
};
use warren_storage::SLOT_LEN;

use super::super::meter::thread_cpu;

/// Records in one system call.
const RECORDS: usize = 16;
/// Blocks that are worked on in turn, as many as are on their way in a busy network: more than a processor's nearest caches
/// hold.
const BLOCKS: usize = 192;
/// Parity of a full segment.
const PARITY: usize = 64;

/// Buffers, keys, a connection and a file.
pub(super) struct Bench {
    key: LessSafeKey,
    /// For records: of the suite that links here use.
    link_key: LessSafeKey,
    sent: u64,
    bodies: Vec<Vec<u8>>,
    next: usize,
    records: Vec<u8>,
    received: Vec<u8>,
    /// Bytes of frames that do not fill a batch of records yet.
    unsent: u64,
    near: TcpStream,
    far: TcpStream,
    coder: ReedSolomonEncoder,
    slots: File,
    slot: Vec<u8>,
    written: u64,
    read: u64,
    source: File,
    piece: Vec<u8>,
}

fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<Duration> {
    let start = thread_cpu();
    work()?;
    Ok(thread_cpu() - start)
}

fn key(algorithm: &'static Algorithm) -> anyhow::Result<LessSafeKey> {
    let key = UnboundKey::new(algorithm, &[7; 32]).map_err(|_| anyhow!("no key"))?;
    Ok(LessSafeKey::new(key))
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl Bench {
    pub(super) fn new() -> anyhow::Result<Self> {
        let link = match best_cipher() {
            Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Cipher::Aes256Gcm => &AES_256_GCM,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback socket")?;
        let near = TcpStream::connect(listener.local_addr()?)?;
        let (far, _) = listener.accept()?;
        for end in [&near, &far] {
            end.set_nodelay(true)?;
            end.set_nonblocking(true)?;
        }
        let source = tempfile::tempfile()?;
        source.set_len(1 << 20)?;
        Ok(Self {
            key: key(&CHACHA20_POLY1305)?,
            link_key: key(link)?,
            sent: 0,
            bodies: vec![vec![0x5a; BLOCK_BODY]; BLOCKS],
            next: 0,
            records: vec![0; RECORDS * RECORD_LEN],
            received: vec![0; RECORDS * RECORD_LEN],
            unsent: 0,
            near,
            far,
            coder: ReedSolomonEncoder::new(usize::from(SEGMENT_DATA), PARITY, BLOCK_SIZE)?,
            slots: tempfile::tempfile()?,
            slot: vec![0; SLOT_LEN],
            written: 0,
            read: 0,
            source,
            piece: vec![0; 1 << 20],
        })
    }

    /// Writes the slots that are to be read, untimed.
    pub(super) fn prepare(&mut self, reads: u64) -> anyhow::Result<()> {
        self.store(reads, 0, 0)?;
        Ok(())
    }

    fn body(&mut self) -> &mut [u8] {
        self.next = (self.next + 1) % BLOCKS;
        &mut self.bodies[self.next]
    }

    fn seal(key: &LessSafeKey, number: u64, buf: &mut [u8]) -> anyhow::Result<()> {
        let (text, tag) = buf.split_at_mut(buf.len() - TAG_LEN);
        let computed = key
            .seal_in_place_separate_tag(nonce(number), Aad::empty(), text)
            .map_err(|_| anyhow!("does not seal"))?;
        tag.copy_from_slice(computed.as_ref());
        Ok(())
    }

    fn open(key: &LessSafeKey, number: u64, buf: &mut [u8]) -> anyhow::Result<()> {
        key.open_in_place(nonce(number), Aad::empty(), buf)
            .map_err(|_| anyhow!("does not open"))?;
        Ok(())
    }

    /// Layers: sealed and opened in turn.
    pub(super) fn onion(&mut self, blocks: u64, controls: u64) -> anyhow::Result<Duration> {
        let key = self.key.clone();
        timed(|| {
            for (count, len) in [(blocks, BLOCK_BODY), (controls, CONTROL_BODY)] {
                for _ in 0..count / 2 {
                    self.sent += 1;
                    let number = self.sent;
                    let body = &mut self.body()[..len];
                    Self::seal(&key, number, body)?;
                    Self::open(&key, number, body)?;
                }
            }
            Ok(())
        })
    }

    /// Bytes of frames over one link: records sealed, written, read, opened. Gives the time of cipher and of socket.
    pub(super) fn links(&mut self, bytes: u64) -> anyhow::Result<(Duration, Duration)> {
        self.unsent += bytes;
        let batch = (RECORDS * RECORD_PAYLOAD) as u64;
        let (mut cipher, mut socket) = (Duration::ZERO, Duration::ZERO);
        while self.unsent >= batch {
            self.unsent -= batch;
            let first = self.sent + 1;
            self.sent += RECORDS as u64;
            let key = self.link_key.clone();
            let start = thread_cpu();
            for (number, record) in (first..).zip(self.records.chunks_exact_mut(RECORD_LEN)) {
                Self::seal(&key, number, record)?;
            }
            let sealed = thread_cpu();
            self.carry()?;
            let carried = thread_cpu();
            for (number, record) in (first..).zip(self.received.chunks_exact_mut(RECORD_LEN)) {
                Self::open(&key, number, record)?;
            }
            let opened = thread_cpu();
            cipher += (sealed - start) + (opened - carried);
            socket += carried - sealed;
        }
        Ok((cipher, socket))
    }

    /// A batch of records through the socket.
    fn carry(&mut self) -> io::Result<()> {
        let (mut written, mut read) = (0, 0);
        while read < self.received.len() {
            if written < self.records.len() {
                match self.near.write(&self.records[written..]) {
                    Ok(count) => written += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            match self.far.read(&mut self.received[read..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hashes of blocks, and of the whole file.
    pub(super) fn hash(&mut self, blocks: u64, file: u64) -> Duration {
        let start = thread_cpu();
        for _ in 0..blocks {
            black_box(blake3::hash(&self.body()[..BLOCK_SIZE]));
        }
        let mut hasher = blake3::Hasher::new();
        let mut left = file;
        while left > 0 {
            let len = usize::try_from(left).map_or(self.piece.len(), |left| left.min(self.piece.len()));
            hasher.update(&self.piece[..len]);
            left -= len as u64;
        }
        black_box(hasher.finalize());
        thread_cpu() - start
    }

    /// The client's encryption or decryption of blocks.
    pub(super) fn cipher(&mut self, blocks: u64) -> Duration {
        let start = thread_cpu();
        for _ in 0..blocks {
            ChaCha20::new(&[3; 32].into(), &[0; 12].into()).apply_keystream(&mut self.body()[..BLOCK_SIZE]);
        }
        thread_cpu() - start
    }

    /// Parity of segments.
    pub(super) fn code(&mut self, segments: u64) -> anyhow::Result<Duration> {
        if segments == 0 {
            return Ok(Duration::ZERO);
        }
        timed(|| {
            for _ in 0..segments {
                for body in self.bodies.iter().take(usize::from(SEGMENT_DATA)) {
                    self.coder.add_original_shard(&body[..BLOCK_SIZE])?;
                }
                black_box(self.coder.encode()?.recovery_iter().count());
            }
            Ok(())
        })
    }

    /// Slots sealed and written, slots read and opened, and bytes of the file read.
    pub(super) fn store(&mut self, writes: u64, reads: u64, file: u64) -> anyhow::Result<Duration> {
        let key = self.key.clone();
        timed(|| {
            for _ in 0..writes {
                Self::seal(&key, self.written, &mut self.slot)?;
                self.slots
                    .write_all_at(&self.slot, self.written * SLOT_LEN as u64)
                    .context("the temporary folder does not take a file of some 100 MB")?;
                self.written += 1;
            }
            for _ in 0..reads {
                let number = self.read % self.written.max(1);
                self.slots
                    .read_exact_at(&mut self.slot, number * SLOT_LEN as u64)?;
                Self::open(&key, number, &mut self.slot)?;
                self.read += 1;
            }
            let mut left = file;
            while left > 0 {
                let len = usize::try_from(left).map_or(self.piece.len(), |left| left.min(self.piece.len()));
                self.source.read_exact_at(&mut self.piece[..len], 0)?;
                left -= len as u64;
            }
            Ok(())
        })
    }
}
