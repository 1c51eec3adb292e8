//! Uploads to a scripted network in memory, and the way back through a download.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_keys::{
    BlockId, Seed, SskKeypair,
    root::RootReader,
    splitfile::Coder,
    stream::{Compression, StreamWriter},
};

use super::*;
use crate::client::{
    download::{Download, DownloadOutput},
    path::below,
    testing::{plaintext, stream_of},
};

const MIB: usize = 1 << 20;

enum Event {
    Inserted(OpId, BlockId),
    Encoded(EncodedSegment),
}

struct Writer {
    upload: Upload,
    now: Time,
    store: BTreeMap<BlockId, Block>,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    coder: Coder,
    /// Percent of inserts that fail, and blocks that always do.
    failing: usize,
    refused: BTreeSet<BlockId>,
    important: BTreeSet<BlockId>,
    most_memory: usize,
    outcome: Option<Result<Uploaded, UploadFailure>>,
    rng: ChaCha20Rng,
}

impl Writer {
    fn new(upload: Upload) -> Self {
        Self {
            upload,
            now: Time(0),
            store: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            coder: Coder::new(),
            failing: 0,
            refused: BTreeSet::new(),
            important: BTreeSet::new(),
            most_memory: 0,
            outcome: None,
            rng: ChaCha20Rng::seed_from_u64(3),
        }
    }

    fn reproducible(stream: &[u8], summary: StreamSummary) -> (Self, &[u8], StreamSummary) {
        let key = FileKey::reproducible(&summary.stream_hash, summary.stream_len);
        let target = UploadTarget::Chk(KeyChoice::Reproducible);
        (
            Self::new(Upload::new(Time(0), key, target, None, Some(summary))),
            stream,
            summary,
        )
    }

    fn at(&mut self, millis: u64, event: Event) {
        self.sequence += 1;
        self.queue
            .insert((self.now + Duration::from_millis(millis), self.sequence), event);
    }

    fn drain(&mut self) {
        while let Some(output) = self.upload.poll_output() {
            assert!(self.outcome.is_none(), "an output after the end");
            match output {
                UploadOutput::Bulk => {}
                UploadOutput::Encode(job) => {
                    let encoded = job.encode(&mut self.coder).unwrap();
                    self.at(10, Event::Encoded(encoded));
                }
                UploadOutput::Insert {
                    op,
                    block,
                    exits,
                    read_back,
                } => {
                    assert_eq!(exits == 2, read_back);
                    if read_back {
                        self.important.insert(block.id());
                    }
                    let delay = 50 + below(&mut self.rng, 50) as u64;
                    let id = block.id();
                    self.store.insert(id, block);
                    self.at(delay, Event::Inserted(op, id));
                }
                UploadOutput::Done(uploaded) => self.outcome = Some(Ok(*uploaded)),
                UploadOutput::Failed(why) => self.outcome = Some(Err(why)),
            }
        }
        self.most_memory = self.most_memory.max(self.upload.memory());
    }

    fn run(&mut self, mut stream: &[u8], summary: &StreamSummary) -> Result<Uploaded, UploadFailure> {
        let mut ended = false;
        self.drain();
        while self.outcome.is_none() {
            let wants = self.upload.wants().min(stream.len());
            if wants > 0 {
                self.upload.stream(self.now, &stream[..wants]);
                stream = &stream[wants..];
            } else if stream.is_empty() && !ended {
                ended = true;
                self.upload.end(self.now, summary);
            } else {
                self.step();
            }
            self.drain();
        }
        self.outcome.clone().unwrap()
    }

    fn step(&mut self) {
        let event = self.queue.first_key_value().map(|((time, _), _)| *time);
        let next = event
            .into_iter()
            .chain(self.upload.poll_timeout())
            .min()
            .expect("the upload is stuck");
        self.now = self.now.max(next);
        if event != Some(next) {
            return self.upload.handle_timeout(self.now);
        }
        match self.queue.pop_first().map(|(_, event)| event) {
            Some(Event::Encoded(encoded)) => self.upload.encoded(self.now, encoded),
            Some(Event::Inserted(op, id)) => {
                let fails = self.refused.contains(&id) || below(&mut self.rng, 100) < self.failing;
                let result = if fails {
                    Err(InsertFailure::Unreachable)
                } else {
                    Ok(5)
                };
                self.upload.inserted(self.now, op, result);
            }
            None => {}
        }
    }
}

/// Fetches from a store that has everything or not; jumps no time, since all answers are there at once.
fn fetch(uri: &Uri, store: &BTreeMap<BlockId, Block>) -> Vec<u8> {
    let (mut got, mut coder) = (Vec::new(), Coder::new());
    let mut download = Download::new(Time(0), uri).unwrap();
    download.read(Time(0), 0..u64::MAX);
    while let Some(output) = download.poll_output() {
        match output {
            DownloadOutput::Fetch { op, block, .. } => {
                let result = store
                    .get(&block)
                    .cloned()
                    .ok_or(crate::core::api::FetchFailure::NotFound);
                download.fetched(Time(0), op, result);
            }
            DownloadOutput::Work(work) => {
                let done = work.run(&mut coder);
                download.worked(Time(0), done);
            }
            DownloadOutput::Data { bytes, .. } => {
                got.extend_from_slice(&bytes);
                download.consumed(Time(0), bytes.len() as u64);
            }
            DownloadOutput::Heal { op, .. } => download.healed(Time(0), op, &Ok(5)),
            DownloadOutput::Opened | DownloadOutput::Bulk | DownloadOutput::Done => {}
            DownloadOutput::Failed(why) => panic!("{why}"),
        }
    }
    assert!(download.idle());
    got
}

fn round_trip(plain: &[u8], compression: Compression) -> Uploaded {
    let (stream, summary) = stream_of(plain, compression);
    let (mut writer, stream, summary) = Writer::reproducible(&stream, summary);
    let uploaded = writer.run(stream, &summary).unwrap();
    assert!(writer.most_memory <= 48 * MIB, "{}", writer.most_memory);
    assert!(fetch(&uploaded.uri, &writer.store) == plain);
    let progress = writer.upload.progress();
    assert_eq!(
        (progress.blocks, progress.bytes),
        (progress.total_blocks, stream.len() as u64)
    );
    uploaded
}

#[test]
fn what_went_in_comes_out() {
    for len in [
        0,
        1,
        32_000,
        32_767,
        32_768,
        32_769,
        127 * BLOCK_SIZE,
        128 * BLOCK_SIZE,
        129 * BLOCK_SIZE,
    ] {
        round_trip(&plaintext(len, false), Compression::None);
    }
    round_trip(&plaintext(3 * MIB, true), Compression::Zstd);
}

#[test]
fn several_levels_go_in_and_come_out() {
    let plain = plaintext(23 * MIB, false);
    let uploaded = round_trip(&plain, Compression::None);
    let RootBody::Split(file) = uploaded.root.body() else {
        panic!("not split")
    };
    assert_eq!(file.layout().levels().count(), 2);
}

#[test]
fn the_same_file_gives_the_same_key_and_an_unpredictable_one_another() {
    let plain = plaintext(100_000, false);
    assert_eq!(
        round_trip(&plain, Compression::None).uri,
        round_trip(&plain, Compression::None).uri
    );
    let unpredictable = |seed: u8| {
        let seed = || Seed::from_bytes([seed; 32]);
        let target = UploadTarget::Chk(KeyChoice::Unpredictable(seed()));
        let mut writer = Writer::new(Upload::new(
            Time(0),
            FileKey::unpredictable(seed()),
            target,
            None,
            None,
        ));
        let (stream, summary) = stream_of(&plain, Compression::None);
        let uri = writer.run(&stream, &summary).unwrap().uri;
        assert!(fetch(&uri, &writer.store) == plain);
        uri
    };
    assert_ne!(unpredictable(1), unpredictable(2));
}

#[test]
fn lists_and_roots_are_important_and_the_root_goes_last() {
    let plain = plaintext(22 * MIB, false);
    let (stream, summary) = stream_of(&plain, Compression::None);
    let (mut writer, stream, summary) = Writer::reproducible(&stream, summary);
    let uploaded = writer.run(stream, &summary).unwrap();
    let roots = RootReader::new(&uploaded.uri).unwrap().ids();
    assert!(roots.iter().all(|root| writer.important.contains(root)));
    let RootBody::Split(file) = uploaded.root.body() else {
        panic!("not split")
    };
    let lists = file.layout().level(1).unwrap().keys();
    assert_eq!(writer.important.len() as u64, lists + 3);
    // A root is never in the network without what it names: refuse one list block for good, and none is inserted.
    let (mut refusing, stream, summary) = Writer::reproducible(stream, summary);
    refusing.refused.insert(BlockId::content(file.top()[0]));
    assert_eq!(refusing.run(stream, &summary), Err(UploadFailure::Unreachable));
    assert!(roots.iter().all(|root| !refusing.store.contains_key(root)));
}

#[test]
fn a_document_goes_in_under_its_name_and_a_collision_is_told() {
    let keypair = SskKeypair::generate(&mut ChaCha20Rng::seed_from_u64(5));
    let text = keypair.expose();
    let insert = || {
        InsertUri::parse(&format!("{}page", text.as_str()))
            .or_else(|_| InsertUri::parse(&format!("{}/page", text.as_str())))
            .unwrap()
    };
    let plain = plaintext(200_000, false);
    let (stream, summary) = stream_of(&plain, Compression::None);
    let upload = || {
        let key = FileKey::reproducible(&summary.stream_hash, summary.stream_len);
        Writer::new(Upload::new(
            Time(0),
            key,
            UploadTarget::Named(Box::new(insert())),
            None,
            Some(summary),
        ))
    };
    let mut writer = upload();
    let uploaded = writer.run(&stream, &summary).unwrap();
    assert_eq!(uploaded.uri, insert().to_uri());
    assert!(fetch(&uploaded.uri, &writer.store) == plain);

    let ids = RootReader::new(&uploaded.uri).unwrap().ids();
    let other = writer.store[&ids[0]].clone();
    for (place, fatal) in [(0, true), (1, false)] {
        let mut collides = upload();
        collides.upload.stream(Time(0), &stream);
        collides.upload.end(Time(0), &summary);
        let mut collided = false;
        let outcome = loop {
            match collides.upload.poll_output() {
                Some(UploadOutput::Encode(job)) => {
                    let encoded = job.encode(&mut collides.coder).unwrap();
                    collides.upload.encoded(Time(0), encoded);
                }
                Some(UploadOutput::Insert { op, block, .. }) => {
                    let result = match block.id() == ids[place] {
                        true => Err(InsertFailure::Collision(other.clone())),
                        false => Ok(5),
                    };
                    collided |= result.is_err();
                    collides.upload.inserted(Time(0), op, result);
                }
                Some(UploadOutput::Bulk) => {}
                Some(UploadOutput::Done(done)) => break Ok(done),
                Some(UploadOutput::Failed(why)) => break Err(why),
                None => panic!("stuck"),
            }
        };
        assert!(collided);
        assert_eq!(matches!(outcome, Err(UploadFailure::Collision(_))), fatal);
        assert_eq!(outcome.is_ok_and(|done| done.blocks_given_up == 1), !fatal);
    }
}

#[test]
fn failures_are_tried_again_until_all_is_in() {
    let plain = plaintext(5 * MIB, false);
    let (stream, summary) = stream_of(&plain, Compression::None);
    let (mut writer, stream, summary) = Writer::reproducible(&stream, summary);
    writer.failing = 15;
    let uploaded = writer.run(stream, &summary).unwrap();
    assert_eq!(uploaded.blocks_given_up, 0);
    assert!(writer.upload.progress().failed_blocks > 20);
}

#[test]
fn a_few_blocks_that_nobody_takes_do_not_end_an_upload_but_many_do() {
    let plain = plaintext(4 * MIB, false);
    let (stream, summary) = stream_of(&plain, Compression::None);
    let (mut writer, stream, summary) = Writer::reproducible(&stream, summary);
    let uploaded = writer.run(stream, &summary).unwrap();
    let RootBody::Split(file) = uploaded.root.body() else {
        panic!("not split")
    };
    for (count, survives) in [(8, true), (9, false)] {
        let (mut refusing, stream, summary) = Writer::reproducible(stream, summary);
        refusing.refused = file
            .top()
            .iter()
            .take(count)
            .map(|key| BlockId::content(*key))
            .collect();
        let result = refusing.run(stream, &summary);
        assert_eq!(
            result.is_ok_and(|done| done.blocks_given_up == 8),
            survives,
            "{count}"
        );
        assert!(refusing.now < Time(600_000_000), "and in bounded time");
    }
}

#[test]
fn a_source_that_changed_is_noticed() {
    let plain = plaintext(100_000, false);
    let (stream, summary) = stream_of(&plain, Compression::None);
    let (mut other, _) = stream_of(&plain, Compression::None);
    other[50_000] ^= 1;
    let mut writer = StreamWriter::new(Compression::None).unwrap();
    let mut out = BytesMut::new();
    writer.push(&other, &mut out).unwrap();
    let seen = writer.finish(&mut out).unwrap();
    let (mut upload, _, _) = Writer::reproducible(&stream, summary);
    assert_eq!(upload.run(&other, &seen), Err(UploadFailure::Changed));
    let (mut upload, _, _) = Writer::reproducible(&stream, summary);
    assert_eq!(
        upload.run(&stream[..70_000], &summary),
        Err(UploadFailure::Changed)
    );
}

#[test]
fn a_source_is_held_back_while_the_network_is_slow() {
    let plain = plaintext(60 * MIB, false);
    let target = UploadTarget::Chk(KeyChoice::Reproducible);
    let mut upload = Upload::new(
        Time(0),
        FileKey::unpredictable(Seed::from_bytes([1; 32])),
        target,
        None,
        None,
    );
    let (mut taken, mut coder) = (0, Coder::new());
    loop {
        while let Some(output) = upload.poll_output() {
            if let UploadOutput::Encode(job) = output {
                let encoded = job.encode(&mut coder).unwrap();
                upload.encoded(Time(0), encoded);
            }
        }
        let wants = upload.wants();
        if wants == 0 {
            break;
        }
        upload.stream(Time(0), &plain[taken..taken + wants]);
        taken += wants;
    }
    assert!(taken < 32 * MIB, "{taken}");
    assert!(upload.memory() <= 32 * MIB, "{}", upload.memory());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn any_file_comes_out_or_fails_clearly(len in 0..3 * MIB, compressible: bool, failing in 0..60_usize, seed: u64) {
        let plain = plaintext(len, compressible);
        let compression = if compressible && len > 0 { Compression::Zstd } else { Compression::None };
        let (stream, summary) = stream_of(&plain, compression);
        let (mut writer, stream, summary) = Writer::reproducible(&stream, summary);
        writer.failing = failing;
        writer.rng = ChaCha20Rng::seed_from_u64(seed);
        match writer.run(stream, &summary) {
            Ok(uploaded) => prop_assert!(fetch(&uploaded.uri, &writer.store) == plain),
            Err(why) => prop_assert!(why == UploadFailure::Unreachable && failing > 20),
        }
    }
}
