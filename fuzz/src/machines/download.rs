//! Downloads of honest and of forged files, over a network that answers in any order, late, or with failure.

use std::{collections::VecDeque, ops::Range, sync::LazyLock};

use ::core::time::Duration;
use bytes::{Bytes, BytesMut};
use warren_keys::{
    Block, BlockId, Uri,
    root::{KeyChoice, Root, RootBody, seal_chk},
    splitfile::{Coder, FileKey, SplitEncoder},
    stream::{Compression, StreamSummary, StreamWriter},
};
use warren_proto::{
    client::download::{Download, DownloadOutput, Worked},
    core::api::{FetchFailure, InsertFailure},
    ids::OpId,
    time::Time,
};

use super::{START, pause};
use crate::{Input, Seed};

/// Memory that the machine may hold, bytes: 64 MiB and a segment.
const MOST_MEMORY: usize = (64 + 4) << 20;

/// A published file.
pub struct Published {
    /// Its content; of a forged file, what it pretends to be.
    pub plain: Vec<u8>,
    /// What fetches it.
    pub uri: Uri,
    /// All its blocks.
    pub blocks: Vec<Block>,
    /// Whether its publisher kept to the format.
    pub honest: bool,
}

/// What of a file its publisher can get wrong although every block verifies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forgery {
    None,
    /// The hash of the content.
    Hash,
    /// The frames.
    Stream,
    /// Parity that does not fit the data.
    Parity,
}

/// Content that compresses when it is to.
#[must_use]
pub fn content(len: usize, compressible: bool) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(b"content")
        .finalize_xof()
        .fill(&mut bytes);
    if compressible {
        bytes.iter_mut().for_each(|byte| *byte = b'a' + *byte % 8);
    }
    bytes
}

/// The stream that holds a content.
#[must_use]
pub fn stream_of(plain: &[u8], compression: Compression) -> (Vec<u8>, StreamSummary) {
    let (mut writer, mut stream) = (StreamWriter::new(compression).expect("memory"), BytesMut::new());
    writer.push(plain, &mut stream).expect("memory");
    let summary = writer.finish(&mut stream).expect("memory");
    (stream.to_vec(), summary)
}

fn publish(len: usize, compression: Compression, forgery: Forgery) -> Published {
    let plain = content(len, compression == Compression::Zstd);
    let (mut stream, mut summary) = stream_of(&plain, compression);
    match forgery {
        Forgery::Hash => summary.hash = [1; 32],
        Forgery::Stream => stream[5..60].fill(0xff),
        Forgery::None | Forgery::Parity => {}
    }
    let (mut coder, mut blocks) = (Coder::new(), Vec::new());
    let mut encoder = SplitEncoder::new(FileKey::reproducible(&[7; 32], summary.stream_len));
    encoder.push(&stream).expect("short");
    encoder.end().expect("once");
    while let Some(job) = encoder.next_job() {
        let mut encoded = job.encode(&mut coder).expect("its own bytes");
        if forgery == Forgery::Parity {
            let parity = encoded.blocks.len() - 1;
            encoded.blocks[parity] = crate::fixtures::content_block(7);
        }
        encoder
            .accept(&encoded.segment, encoded.keys())
            .expect("in order");
        blocks.extend(encoded.blocks);
    }
    let body = match encoder.finish().expect("all is encoded") {
        Some(file) if summary.stream_len > warren_keys::root::INLINE_MAX as u64 => RootBody::Split(file),
        _ => RootBody::Inline(Bytes::from(stream)),
    };
    let root = Root::new(&summary, None, body).expect("sizes that fit");
    let sealed = seal_chk(&root, &KeyChoice::Reproducible).expect("a root");
    if matches!(root.body(), RootBody::Inline(_)) {
        blocks.clear();
    }
    blocks.extend(sealed.blocks);
    Published {
        plain,
        uri: sealed.uri,
        blocks,
        honest: forgery == Forgery::None,
    }
}

static FILES: LazyLock<Vec<Published>> = LazyLock::new(|| {
    vec![
        publish(1000, Compression::None, Forgery::None),
        publish(3000, Compression::Zstd, Forgery::None),
        publish(100_000, Compression::None, Forgery::None),
        publish(200_000, Compression::Zstd, Forgery::None),
        publish(1000, Compression::None, Forgery::Hash),
        publish(100_000, Compression::None, Forgery::Hash),
        publish(200_000, Compression::Zstd, Forgery::Stream),
        publish(100_000, Compression::None, Forgery::Parity),
        publish((1 << 20) + 70_000, Compression::Zstd, Forgery::None),
    ]
});

enum Event {
    Fetched(OpId, BlockId),
    Healed(OpId),
    Worked(Worked),
}

struct World {
    file: &'static Published,
    download: Download,
    now: Time,
    coder: Coder,
    waiting: VecDeque<Event>,
    /// What was asked for, and what of it has come.
    range: Option<Range<u64>>,
    next: Option<u64>,
    failures: bool,
    end: Option<bool>,
}

/// The first byte is the file; operations are what the network and the reader do.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let file = &FILES[input.below(FILES.len())];
    let mut world = World {
        file,
        download: Download::new(START, &file.uri).expect("a valid address"),
        now: START,
        coder: Coder::new(),
        waiting: VecDeque::new(),
        range: None,
        next: None,
        failures: false,
        end: None,
    };
    world.drain(true);
    while let Some(op) = input.op() {
        world.step(op, &mut input);
    }
    world.finish();
}

impl World {
    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        match op % 8 {
            0 => self.read(u64::from(input.u32())..u64::from(input.u32())),
            1 => self.read(0..u64::MAX),
            2..=4 => {
                let index = input.below(self.waiting.len().clamp(1, 256));
                if let Some(event) = self.waiting.remove(index) {
                    let outcome = if op & 64 == 0 { None } else { Some(input.u8()) };
                    self.happen(event, outcome);
                }
            }
            5 => {
                self.now = self.now + pause(input);
                self.download.handle_timeout(self.now);
            }
            6 => self.download.consumed(self.now, u64::from(input.u32())),
            _ => self.happen(
                Event::Fetched(
                    OpId(u64::from(input.u8())),
                    crate::fixtures::content_block(0).id(),
                ),
                Some(0),
            ),
        }
        self.drain(true);
    }

    /// Only the first call counts.
    fn read(&mut self, range: Range<u64>) {
        self.download.read(self.now, range.clone());
        self.range.get_or_insert(range);
    }

    fn happen(&mut self, event: Event, outcome: Option<u8>) {
        match event {
            Event::Worked(done) => self.download.worked(self.now, done),
            Event::Healed(op) => {
                let result = if outcome.is_some() {
                    Err(InsertFailure::Unreachable)
                } else {
                    Ok(5)
                };
                self.download.healed(self.now, op, &result);
            }
            Event::Fetched(op, id) => {
                let failure = match outcome {
                    None => None,
                    Some(0..128) => Some(FetchFailure::NotFound),
                    Some(_) => Some(FetchFailure::Unreachable),
                };
                self.failures |= failure.is_some();
                let block = self.file.blocks.iter().find(|block| block.id() == id).cloned();
                let result = failure.map_or(block.ok_or(FetchFailure::NotFound), Err);
                self.download.fetched(self.now, op, result);
            }
        }
    }

    fn drain(&mut self, run_work: bool) {
        while let Some(output) = self.download.poll_output() {
            assert!(
                self.end.is_none() || matches!(output, DownloadOutput::Heal { .. }),
                "{output:?} after the end"
            );
            match output {
                DownloadOutput::Opened => assert!(self.download.root().is_some()),
                DownloadOutput::Bulk => {}
                DownloadOutput::Fetch { op, block, .. } => self.waiting.push_back(Event::Fetched(op, block)),
                DownloadOutput::Work(work) if run_work => {
                    let done = work.run(&mut self.coder);
                    self.waiting.push_back(Event::Worked(done));
                }
                DownloadOutput::Work(_) => {}
                DownloadOutput::Data { offset, bytes } => self.data(offset, &bytes),
                DownloadOutput::Heal { op, block } => {
                    assert!(
                        self.file.blocks.contains(&block),
                        "a block that the file does not have"
                    );
                    self.waiting.push_back(Event::Healed(op));
                }
                DownloadOutput::Done => self.end = Some(true),
                DownloadOutput::Failed(_) => self.end = Some(false),
            }
        }
        assert!(self.download.memory() <= MOST_MEMORY);
    }

    fn wanted(&self) -> Range<u64> {
        let range = self.range.clone().unwrap_or(0..0);
        let end = range.end.min(self.file.plain.len() as u64);
        range.start.min(end)..end
    }

    fn data(&mut self, offset: u64, bytes: &Bytes) {
        let wanted = self.wanted();
        assert_eq!(offset, self.next.unwrap_or(wanted.start), "a gap");
        let end = offset + bytes.len() as u64;
        assert!(!bytes.is_empty() && end <= wanted.end, "more than was asked for");
        if self.file.honest {
            let place =
                usize::try_from(offset).expect("a short file")..usize::try_from(end).expect("a short file");
            assert!(
                self.file.plain[place] == bytes[..],
                "other bytes than were inserted"
            );
        }
        self.next = Some(end);
    }

    /// From now on the network answers, and the reader takes everything.
    fn finish(mut self) {
        self.read(0..u64::MAX);
        self.drain(true);
        for _ in 0..10_000 {
            if self.download.idle() {
                break;
            }
            self.download.consumed(self.now, u64::MAX / 2);
            if let Some(event) = self.waiting.pop_front() {
                self.happen(event, None);
            } else {
                self.now = self.now + Duration::from_millis(500);
                self.download.handle_timeout(self.now);
            }
            self.drain(true);
        }
        assert!(
            self.download.idle(),
            "it never ends: {:?}",
            self.download.progress()
        );
        let done = self.end.expect("an end");
        let wanted = self.wanted();
        if done {
            assert_eq!(
                self.next.unwrap_or(wanted.start),
                wanted.end,
                "done, and not all is there"
            );
            let whole = wanted == (0..self.file.plain.len() as u64);
            assert!(
                self.file.honest || !whole || self.parity_only(),
                "a file that is not what its root says"
            );
        } else {
            assert!(
                self.failures || !self.file.honest,
                "failed, though every block was found"
            );
        }
    }

    /// Wrong parity does no harm as long as it is not needed.
    fn parity_only(&self) -> bool {
        std::ptr::eq(self.file, &raw const FILES[7])
    }
}

/// Each file read in order, in part, with losses.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for file in 0..9 {
        let whole = Seed::new(format!("whole-{file}")).u8(file).u8(1);
        seeds.push((0..6).fold(whole, |seed, _| seed.u8(2).u8(0)));
        let part = Seed::new(format!("part-{file}"))
            .u8(file)
            .u8(2)
            .u8(0)
            .u8(0)
            .u32(500)
            .u32(70_000);
        seeds.push((0..6).fold(part, |seed, _| seed.u8(3).u8(1)));
        let lossy = Seed::new(format!("lossy-{file}"))
            .u8(file)
            .u8(1)
            .u8(66)
            .u8(0)
            .u8(0)
            .u8(2)
            .u8(0);
        seeds.push((0..3).fold(lossy, |seed, _| seed.u8(66).u8(0).u8(1).u8(5).u8(30).u8(2)));
    }
    seeds
}
