//! Uploads over a network that takes blocks, refuses them, or stays silent for a while; and the way back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ::core::time::Duration;
use warren_keys::{
    Block, BlockId, InsertUri,
    root::KeyChoice,
    splitfile::{Coder, EncodedSegment, FileKey},
    stream::{Compression, StreamSummary},
};
use warren_proto::{
    client::{
        download::{Download, DownloadOutput},
        upload::{Upload, UploadFailure, UploadOutput, UploadTarget, Uploaded},
    },
    core::api::{FetchFailure, InsertFailure},
    ids::OpId,
    time::Time,
};

use super::{
    START,
    download::{content, stream_of},
    pause,
};
use crate::{Input, Seed};

/// Memory that the machine may hold, bytes: 64 MiB and a segment.
const MOST_MEMORY: usize = (64 + 4) << 20;
/// Longer than any block is tried.
const PATIENCE: Duration = Duration::from_secs(3600);

enum Event {
    Encoded(EncodedSegment),
    Inserted(OpId, Block),
}

struct World {
    upload: Upload,
    now: Time,
    stream: Vec<u8>,
    given: usize,
    ended: bool,
    summary: StreamSummary,
    coder: Coder,
    waiting: VecDeque<Event>,
    store: BTreeMap<BlockId, Block>,
    refused: BTreeSet<BlockId>,
    failures: bool,
    end: Option<Result<Uploaded, UploadFailure>>,
}

/// The first bytes are the file and where it goes; operations are what reader and network do.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let lengths = [0, 1, 31_000, 33_000, 70_000, 150_000];
    let len = lengths[usize::from(kind) % lengths.len()];
    let compression = if kind & 64 != 0 && len > 0 {
        Compression::Zstd
    } else {
        Compression::None
    };
    let plain = content(len, compression == Compression::Zstd);
    let (stream, summary) = stream_of(&plain, compression);
    let target = if kind & 128 != 0 {
        UploadTarget::Named(Box::new(InsertUri::parse("KSK@words").expect("a key")))
    } else {
        UploadTarget::Chk(KeyChoice::Reproducible)
    };
    let key = FileKey::reproducible(&summary.stream_hash, summary.stream_len);
    let expected = input.flag().then_some(summary);
    let mut world = World {
        upload: Upload::new(START, key, target, None, expected),
        now: START,
        stream,
        given: 0,
        ended: false,
        summary,
        coder: Coder::new(),
        waiting: VecDeque::new(),
        store: BTreeMap::new(),
        refused: BTreeSet::new(),
        failures: false,
        end: None,
    };
    world.drain();
    while let Some(op) = input.op() {
        world.step(op, &mut input);
    }
    world.finish(&plain);
}

impl World {
    fn step(&mut self, op: u8, input: &mut Input<'_>) {
        match op % 8 {
            0 | 1 => self.give(usize::from(input.u16())),
            2 => self.end_stream(),
            3..=5 => {
                let index = input.below(self.waiting.len().clamp(1, 256));
                if let Some(event) = self.waiting.remove(index) {
                    let outcome = if op & 64 == 0 { None } else { Some(input.u8()) };
                    self.happen(event, outcome);
                }
            }
            6 => {
                self.now = self.now + pause(input);
                self.upload.handle_timeout(self.now);
            }
            _ => self
                .upload
                .inserted(self.now, OpId(u64::from(input.u8()) + 10_000), Ok(1)),
        }
        self.drain();
    }

    fn give(&mut self, len: usize) {
        let end = self.stream.len().min(self.given + len.min(self.upload.wants()));
        if end == self.given {
            return; // Nothing may come behind the end.
        }
        self.upload.stream(self.now, &self.stream[self.given..end]);
        self.given = end;
    }

    fn end_stream(&mut self) {
        if self.given == self.stream.len() && !self.ended {
            self.ended = true;
            self.upload.end(self.now, &self.summary);
        }
    }

    fn happen(&mut self, event: Event, outcome: Option<u8>) {
        match event {
            Event::Encoded(encoded) => self.upload.encoded(self.now, encoded),
            Event::Inserted(op, block) => {
                let result = match outcome {
                    None => Ok(5),
                    Some(0..128) => Err(InsertFailure::Unreachable),
                    Some(_) => Err(InsertFailure::Collision(block.clone())),
                };
                self.failures |= result.is_err();
                match &result {
                    Ok(_) => drop(self.store.insert(block.id(), block)),
                    Err(_) => drop(self.refused.insert(block.id())),
                }
                self.upload.inserted(self.now, op, result);
            }
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.upload.poll_output() {
            assert!(self.end.is_none(), "{output:?} after the end");
            match output {
                UploadOutput::Bulk => {}
                UploadOutput::Encode(job) => {
                    let encoded = job.encode(&mut self.coder).expect("its own bytes");
                    self.waiting.push_back(Event::Encoded(encoded));
                }
                UploadOutput::Insert {
                    op,
                    block,
                    exits,
                    read_back,
                } => {
                    assert!((1..=2).contains(&exits) && read_back == (exits == 2));
                    self.waiting.push_back(Event::Inserted(op, block));
                }
                UploadOutput::Done(uploaded) => self.end = Some(Ok(*uploaded)),
                UploadOutput::Failed(why) => self.end = Some(Err(why)),
            }
        }
        assert!(self.upload.memory() <= MOST_MEMORY);
    }

    /// From now on the source gives everything and the network takes everything.
    fn finish(mut self, plain: &[u8]) {
        let until = self.now + PATIENCE;
        while self.end.is_none() {
            assert!(self.now < until, "it never ends: {:?}", self.upload.progress());
            let wants = self.upload.wants();
            if wants > 0 && self.given < self.stream.len() {
                self.give(wants);
            } else if self.given == self.stream.len() && !self.ended {
                self.end_stream();
            } else if let Some(event) = self.waiting.pop_front() {
                self.happen(event, None);
            } else {
                let due = self.upload.poll_timeout().expect("it waits for nothing");
                self.now = self.now.max(due);
                self.upload.handle_timeout(self.now);
            }
            self.drain();
        }
        match self.end.take() {
            Some(Ok(uploaded)) => assert!(self.fetch(&uploaded) == plain, "another file than was inserted"),
            Some(Err(UploadFailure::Unreachable | UploadFailure::Collision(_))) => {
                assert!(self.failures, "failed, though every block was taken");
            }
            other => panic!("{other:?}"),
        }
    }

    /// The file out of what the network has taken.
    fn fetch(&mut self, uploaded: &Uploaded) -> Vec<u8> {
        let mut got = Vec::new();
        let mut download = Download::new(self.now, &uploaded.uri).expect("its own key");
        download.read(self.now, 0..u64::MAX);
        for _ in 0..1000 {
            while let Some(output) = download.poll_output() {
                match output {
                    DownloadOutput::Fetch { op, block, .. } => {
                        let result = self.store.get(&block).cloned().ok_or(FetchFailure::NotFound);
                        download.fetched(self.now, op, result);
                    }
                    DownloadOutput::Work(work) => {
                        let done = work.run(&mut self.coder);
                        download.worked(self.now, done);
                    }
                    DownloadOutput::Data { bytes, .. } => {
                        got.extend_from_slice(&bytes);
                        download.consumed(self.now, bytes.len() as u64);
                    }
                    DownloadOutput::Heal { op, block } => {
                        assert!(
                            self.refused.contains(&block.id()),
                            "healed, though it was not lost"
                        );
                        download.healed(self.now, op, &Ok(5));
                    }
                    DownloadOutput::Opened | DownloadOutput::Bulk | DownloadOutput::Done => {}
                    DownloadOutput::Failed(why) => panic!("done, and not there: {why}"),
                }
            }
            if download.idle() {
                return got;
            }
            self.now = self.now + Duration::from_millis(500);
            download.handle_timeout(self.now);
        }
        panic!("a download that never ends");
    }
}

/// Each length and target, with and without failures.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for kind in [0, 1, 2, 3, 4, 5, 64 + 2, 128 + 2, 128 + 64 + 3] {
        let all = Seed::new(format!("all-{kind}"))
            .u8(kind)
            .u8(1)
            .u8(0)
            .u16(65_535)
            .u8(0)
            .u16(65_535)
            .u8(0)
            .u16(65_535)
            .u8(2);
        seeds.push((0..6).fold(all.clone(), |seed, _| seed.u8(3).u8(0)));
        let failing = Seed {
            name: format!("failing-{kind}"),
            ..all.clone()
        };
        seeds.push((0..4).fold(failing, |seed, _| seed.u8(67).u8(1).u8(1).u8(6).u8(40).u8(2)));
        seeds.push(
            Seed {
                name: format!("collision-{kind}"),
                ..all
            }
            .u8(3)
            .u8(0)
            .u8(67)
            .u8(0)
            .u8(200),
        );
    }
    seeds
}
