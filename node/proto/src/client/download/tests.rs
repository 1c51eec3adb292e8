//! Downloads from a scripted network in memory, time jumping from event to event.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use warren_keys::{
    root::RootBody,
    splitfile::Coder,
    stream::{Compression, FRAME_SIZE, StreamSummary},
};

use super::*;
use crate::client::{
    path::below,
    testing::{Published, plaintext, stream_of},
};

const MIB: usize = 1 << 20;

/// What a block's fetch comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Lost,
    /// Lost for the first exit that is asked, found by a thorough search.
    Hidden,
    Silent,
    Slow,
}

enum Event {
    Fetched(OpId, Result<Block, FetchFailure>),
    Healed(OpId),
    Worked(Worked),
}

/// A reader, its network and what happened.
struct Reader {
    download: Download,
    now: Time,
    store: BTreeMap<BlockId, Block>,
    fates: BTreeMap<BlockId, Fate>,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    coder: Coder,
    got: Vec<u8>,
    start: Option<u64>,
    first_byte: Option<Time>,
    healed: BTreeSet<BlockId>,
    fetches: Vec<(BlockId, bool)>,
    bulk: bool,
    outcome: Option<Result<(), DownloadFailure>>,
    most_memory: usize,
    /// Whether the reader takes what it gets.
    taking: bool,
    rng: ChaCha20Rng,
}

impl Reader {
    fn new(file: &Published, range: Range<u64>) -> Self {
        let mut reader = Self::of(Download::new(Time(0), &file.uri).unwrap(), file);
        reader.download.read(Time(0), range);
        reader
    }

    fn of(download: Download, file: &Published) -> Self {
        Self {
            download,
            now: Time(0),
            store: file.blocks().map(|block| (block.id(), block.clone())).collect(),
            fates: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            coder: Coder::new(),
            got: Vec::new(),
            start: None,
            first_byte: None,
            healed: BTreeSet::new(),
            fetches: Vec::new(),
            bulk: false,
            outcome: None,
            most_memory: 0,
            taking: true,
            rng: ChaCha20Rng::seed_from_u64(7),
        }
    }

    fn whole(file: &Published) -> Self {
        Self::new(file, 0..u64::MAX)
    }

    fn lose(&mut self, block: &Block) {
        self.fates.insert(block.id(), Fate::Lost);
    }

    /// Gives every block but the root's a fate by chance, percent each.
    fn scatter(&mut self, file: &Published, percent: &[(usize, Fate)]) {
        for block in file.segments.iter().flat_map(|segment| &segment.blocks) {
            let mut roll = below(&mut self.rng, 100);
            for (share, fate) in percent {
                if roll < *share {
                    self.fates.insert(block.id(), *fate);
                    break;
                }
                roll -= share;
            }
        }
    }

    fn at(&mut self, millis: u64, event: Event) {
        self.sequence += 1;
        self.queue
            .insert((self.now + Duration::from_millis(millis), self.sequence), event);
    }

    fn drain(&mut self) {
        while let Some(output) = self.download.poll_output() {
            match output {
                DownloadOutput::Opened => {}
                DownloadOutput::Bulk => self.bulk = true,
                DownloadOutput::Fetch {
                    op,
                    block,
                    expendable,
                    ..
                } => {
                    self.fetches.push((block, expendable));
                    let found = self.store.get(&block).cloned().ok_or(FetchFailure::NotFound);
                    let delay = 40 + below(&mut self.rng, 20) as u64;
                    let (delay, result) = match self.fates.get(&block) {
                        None => (delay, found),
                        Some(Fate::Hidden) if !expendable => (delay * 3, found),
                        Some(Fate::Lost | Fate::Hidden) => (delay * 2, Err(FetchFailure::NotFound)),
                        Some(Fate::Silent) => (20_000, Err(FetchFailure::Unreachable)),
                        Some(Fate::Slow) => (5_000, found),
                    };
                    self.at(delay, Event::Fetched(op, result));
                }
                DownloadOutput::Work(work) => {
                    let done = work.run(&mut self.coder);
                    self.at(5, Event::Worked(done));
                }
                DownloadOutput::Data { offset, bytes } => {
                    assert!(!bytes.is_empty() && self.outcome.is_none());
                    let start = *self.start.get_or_insert(offset);
                    assert_eq!(offset, start + self.got.len() as u64, "a gap");
                    self.first_byte.get_or_insert(self.now);
                    self.got.extend_from_slice(&bytes);
                    if self.taking {
                        self.download.consumed(self.now, bytes.len() as u64);
                    }
                }
                DownloadOutput::Heal { op, block } => {
                    self.healed.insert(block.id());
                    self.at(30, Event::Healed(op));
                }
                DownloadOutput::Done => self.outcome = Some(Ok(())),
                DownloadOutput::Failed(why) => self.outcome = Some(Err(why)),
            }
        }
        self.most_memory = self.most_memory.max(self.download.memory());
    }

    fn step(&mut self) -> bool {
        let event = self.queue.first_key_value().map(|((time, _), _)| *time);
        let timeout = self.download.poll_timeout().map(|time| time.max(self.now));
        let Some(next) = event.into_iter().chain(timeout).min() else {
            return false;
        };
        self.now = self.now.max(next);
        if event == Some(next) {
            match self.queue.pop_first().map(|(_, event)| event) {
                Some(Event::Fetched(op, result)) => self.download.fetched(self.now, op, result),
                Some(Event::Healed(op)) => self.download.healed(self.now, op, &Ok(5)),
                Some(Event::Worked(done)) => self.download.worked(self.now, done),
                None => {}
            }
        } else {
            self.download.handle_timeout(self.now);
        }
        self.drain();
        true
    }

    fn run(&mut self) -> Result<&[u8], DownloadFailure> {
        self.drain();
        while !self.download.idle() {
            assert!(self.now < Time(3_600_000_000), "the download does not end");
            assert!(self.step(), "the download is stuck");
        }
        self.outcome.unwrap().map(|()| &self.got[..])
    }
}

fn file(len: usize) -> (Vec<u8>, Published) {
    let plain = plaintext(len, false);
    let published = Published::new(&plain, Compression::None);
    (plain, published)
}

#[test]
fn every_size_comes_through() {
    for len in [
        0,
        1,
        100,
        31_999,
        32_000,
        32_767,
        32_768,
        32_769,
        127 * BLOCK_SIZE,
        128 * BLOCK_SIZE,
        129 * BLOCK_SIZE,
    ] {
        for compression in [Compression::None, Compression::Zstd] {
            if len == 0 && compression == Compression::Zstd {
                continue;
            }
            let plain = plaintext(len, compression == Compression::Zstd);
            let published = Published::new(&plain, compression);
            let mut reader = Reader::whole(&published);
            assert!(reader.run().unwrap() == plain, "{len} bytes");
            assert!(reader.healed.is_empty());
            assert!(
                reader.fetches.len() <= len.div_ceil(BLOCK_SIZE) + 1,
                "nothing needless is fetched"
            );
        }
    }
}

#[test]
fn several_levels_come_through_in_bounded_memory() {
    let (plain, published) = file(23 * MIB + 5);
    assert!(
        published
            .segments
            .iter()
            .any(|segment| segment.segment.level() == 1)
    );
    let mut reader = Reader::whole(&published);
    assert!(reader.run().unwrap() == plain);
    assert!(reader.bulk);
    assert!(reader.most_memory <= 33 * MIB, "{}", reader.most_memory);
    let progress = reader.download.progress();
    assert_eq!(
        (progress.bytes, progress.total_bytes),
        (plain.len() as u64, Some(plain.len() as u64))
    );
    assert!(progress.blocks >= 737 && progress.failed_blocks == 0);
}

#[test]
fn the_first_bytes_come_before_the_segment_is_there() {
    let (_, published) = file(4 * MIB);
    let mut reader = Reader::whole(&published);
    for block in &published.segments[0].blocks[40..128] {
        reader.fates.insert(block.id(), Fate::Slow);
    }
    reader.run().unwrap();
    assert!(
        reader.first_byte.unwrap() < Time(200_000),
        "{:?}",
        reader.first_byte
    );
}

#[test]
fn a_third_of_all_blocks_may_be_lost() {
    let (plain, published) = file(9 * MIB);
    let mut reader = Reader::whole(&published);
    reader.scatter(
        &published,
        &[
            (20, Fate::Lost),
            (5, Fate::Hidden),
            (3, Fate::Slow),
            (1, Fate::Silent),
        ],
    );
    assert!(reader.run().unwrap() == plain);
    assert!(!reader.healed.is_empty());
    assert!(reader.healed.len() as u64 <= HEAL_FREE + reader.download.progress().blocks / HEAL_SHARE);
    let lost = |id: &BlockId| matches!(reader.fates.get(id), Some(Fate::Lost | Fate::Hidden));
    assert!(reader.healed.iter().all(lost), "only what is lost is healed");
    assert!(
        reader.healed.iter().all(|id| reader.store.contains_key(id)),
        "and bit for bit"
    );
    assert!(reader.most_memory <= 64 * MIB);
}

#[test]
fn exactly_as_many_as_the_parity_may_be_lost_and_no_more() {
    let (plain, published) = file(4 * MIB);
    let segment = &published.segments[0].blocks;
    for (lost, readable) in [(64, true), (65, false)] {
        let mut reader = Reader::whole(&published);
        segment
            .iter()
            .step_by(2)
            .take(lost)
            .for_each(|block| reader.lose(block));
        match readable {
            true => assert!(reader.run().unwrap() == plain),
            false => assert_eq!(reader.run(), Err(DownloadFailure::NotFound)),
        }
    }
}

#[test]
fn a_slow_block_is_overtaken_by_parity() {
    let (plain, published) = file(4 * MIB);
    let mut reader = Reader::whole(&published);
    for block in &published.segments[0].blocks[3..9] {
        reader.fates.insert(block.id(), Fate::Slow);
    }
    assert!(reader.run().unwrap() == plain);
    assert!(reader.now < Time(2_500_000), "{:?}", reader.now);
    assert!(reader.healed.is_empty(), "slow is not lost");
}

#[test]
fn silence_ends_as_unreachable() {
    let (_, published) = file(2 * MIB);
    let mut reader = Reader::whole(&published);
    reader.scatter(&published, &[(100, Fate::Silent)]);
    assert_eq!(reader.run(), Err(DownloadFailure::Unreachable));
    let mut reader = Reader::whole(&published);
    for root in &published.roots {
        reader.fates.insert(root.id(), Fate::Silent);
    }
    assert_eq!(reader.run(), Err(DownloadFailure::Unreachable));
}

#[test]
fn the_root_is_found_at_any_position_and_healed_at_the_others() {
    let (plain, published) = file(3 * BLOCK_SIZE);
    for there in 0..3 {
        let mut reader = Reader::whole(&published);
        for (place, root) in published.roots.iter().enumerate() {
            if place != there {
                reader.lose(root);
            }
        }
        assert!(reader.run().unwrap() == plain, "position {there}");
        if there > 0 {
            assert!(reader.healed.contains(&published.roots[0].id()));
        }
    }
    let mut reader = Reader::whole(&published);
    published.roots.iter().for_each(|root| reader.lose(root));
    assert_eq!(reader.run(), Err(DownloadFailure::NotFound));
    let mut reader = Reader::whole(&published);
    reader.fates.insert(published.roots[0].id(), Fate::Silent);
    assert!(reader.run().unwrap() == plain);
    assert!(
        reader.now < Time(3_000_000),
        "the copies are asked for before the first has timed out"
    );
}

#[test]
fn ranges_fetch_little_more_than_themselves() {
    let (plain, published) = file(22 * MIB);
    let len = plain.len() as u64;
    for range in [
        0..1,
        0..0,
        5..5,
        len - 1..len,
        1_000_000..1_000_010,
        32_767..32_769,
        len - 40_000..len,
        9_000_000..13_000_000,
    ] {
        let mut reader = Reader::new(&published, range.clone());
        let expected = &plain[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        assert!(reader.run().unwrap() == expected, "{range:?}");
        let blocks = expected.len() / BLOCK_SIZE + 2;
        assert!(
            reader.fetches.len() <= blocks + 3,
            "{} fetches for {range:?}",
            reader.fetches.len()
        );
    }
    let mut reader = Reader::new(&published, len - 10..len + 10);
    assert!(
        reader.run().unwrap() == &plain[plain.len() - 10..],
        "cut to the size"
    );
    let mut reader = Reader::new(&published, len + 5..len + 10);
    assert!(reader.run().unwrap().is_empty());
}

#[test]
fn a_range_with_a_lost_block_takes_its_siblings() {
    let (plain, published) = file(4 * MIB);
    let mut reader = Reader::new(&published, 100_000..200_000);
    reader.lose(&published.segments[0].blocks[4]);
    assert!(reader.run().unwrap() == &plain[100_000..200_000]);
    assert!(reader.healed.contains(&published.segments[0].blocks[4].id()));
}

#[test]
fn a_lost_list_of_keys_is_made_again() {
    let (plain, published) = file(22 * MIB);
    let list = published
        .segments
        .iter()
        .find(|segment| segment.segment.level() == 1)
        .unwrap();
    let mut reader = Reader::whole(&published);
    reader.lose(&list.blocks[0]);
    reader.lose(&list.blocks[1]);
    assert!(reader.run().unwrap() == plain);
    let mut reader = Reader::whole(&published);
    list.blocks.iter().for_each(|block| reader.lose(block));
    assert_eq!(reader.run(), Err(DownloadFailure::NotFound));
}

#[test]
fn ranges_of_compressed_files() {
    let plain = plaintext(5 * MIB + 77, true);
    let published = Published::new(&plain, Compression::Zstd);
    let len = plain.len();
    for range in [
        0..1,
        0..len,
        1..len,
        FRAME_SIZE - 1..FRAME_SIZE + 1,
        3 * MIB..4 * MIB,
        len - 1..len,
        77..3_333_333,
    ] {
        let mut reader = Reader::new(&published, range.start as u64..range.end as u64);
        assert!(reader.run().unwrap() == &plain[range.clone()], "{range:?}");
    }
    let small = plaintext(20_000, true);
    let inline = Published::new(&small, Compression::Zstd);
    assert!(Reader::new(&inline, 5..15_000).run().unwrap() == &small[5..15_000]);
}

#[test]
fn a_file_that_expands_a_thousandfold_is_unpacked_bit_by_bit() {
    let plain = vec![0; 200 * MIB];
    let published = Published::new(&plain, Compression::Zstd);
    let mut reader = Reader::whole(&published);
    reader.taking = false;
    reader.drain();
    for _ in 0..1000 {
        reader.step();
    }
    let held = reader.got.len();
    assert!(
        held > 0 && held < 32 * MIB,
        "{held} bytes unpacked for a reader who takes nothing"
    );
    while reader.outcome.is_none() {
        let unconsumed = reader.download.unconsumed();
        reader.download.consumed(reader.now, unconsumed);
        reader.drain();
        reader.step();
    }
    assert_eq!(reader.outcome, Some(Ok(())));
    assert_eq!(reader.got.len(), plain.len());
}

#[test]
fn a_reader_who_does_not_take_holds_the_download_back() {
    let (_, published) = file(40 * MIB);
    let mut reader = Reader::whole(&published);
    reader.taking = false;
    reader.drain();
    for _ in 0..1500 {
        reader.step();
    }
    assert!(reader.got.len() < 10 * MIB);
    assert!(
        reader.fetches.len() < 32 * MIB / BLOCK_SIZE,
        "{}",
        reader.fetches.len()
    );
    assert!(reader.most_memory < 64 * MIB);
}

#[test]
fn a_publisher_who_lies_about_the_content_is_caught_before_the_last_byte() {
    let plain = plaintext(3 * MIB, true);
    for compression in [Compression::None, Compression::Zstd] {
        let (stream, summary) = stream_of(&plain, compression);
        let lying = StreamSummary {
            hash: [9; 32],
            ..summary
        };
        let published = Published::of_stream(&stream, &lying);
        let mut reader = Reader::whole(&published);
        assert_eq!(reader.run(), Err(DownloadFailure::Stream(StreamError::Hash)));
        assert!(reader.got.len() < plain.len());
    }
    let (mut stream, summary) = stream_of(&plain, Compression::Zstd);
    stream[100] ^= 1;
    let mut reader = Reader::whole(&Published::of_stream(&stream, &summary));
    assert!(matches!(reader.run(), Err(DownloadFailure::Stream(_))));
    assert!(
        reader
            .outcome
            .is_some_and(|outcome| outcome.is_err_and(|why| why.is_final()))
    );
}

#[test]
fn parity_that_does_not_fit_is_a_clear_failure() {
    let plain = plaintext(4 * MIB, false);
    let (stream, summary) = stream_of(&plain, Compression::None);
    let honest = Published::of_stream(&stream, &summary);
    // Swap two parity blocks of the list: keys and blocks agree, the code does not.
    let root = warren_keys::root::RootReader::new(&honest.uri)
        .unwrap()
        .open(&honest.roots[0])
        .unwrap()
        .root;
    let RootBody::Split(split) = root.body() else {
        panic!("not inline")
    };
    let mut top = split.top().to_vec();
    top.swap(130, 140);
    let forged =
        warren_keys::splitfile::Splitfile::new(split.key().clone(), summary.stream_len, top).unwrap();
    let forged = Root::new(&summary, None, RootBody::Split(forged)).unwrap();
    let sealed = warren_keys::root::seal_chk(&forged, &warren_keys::root::KeyChoice::Reproducible).unwrap();
    let published = Published {
        uri: sealed.uri,
        roots: sealed.blocks.to_vec(),
        segments: honest.segments,
    };
    let mut reader = Reader::whole(&published);
    assert!(
        reader.run().unwrap() == plain,
        "without loss the parity does not matter"
    );
    let mut reader = Reader::whole(&published);
    published.segments[0].blocks[..5]
        .iter()
        .for_each(|block| reader.lose(block));
    assert!(matches!(
        reader.run(),
        Err(DownloadFailure::Segment(DecodeError::Inconsistent(_)) | DownloadFailure::NotFound)
    ));
    let mut reader = Reader::whole(&published);
    published.segments[0].blocks[..5].iter().for_each(|block| {
        reader.fates.insert(block.id(), Fate::Hidden);
    });
    assert!(reader.run().unwrap() == plain, "the data blocks themselves help");
}

#[test]
fn only_the_root_is_fetched_until_something_is_read() {
    let (plain, published) = file(2 * MIB);
    let mut reader = Reader::of(Download::new(Time(0), &published.uri).unwrap(), &published);
    reader.drain();
    while reader.download.root().is_none() {
        reader.step();
    }
    reader.drain();
    assert_eq!(reader.fetches.len(), 1);
    assert_eq!(reader.download.poll_timeout(), None);
    assert_eq!(reader.download.root().unwrap().size(), plain.len() as u64);
    let again = Download::from_root(reader.now, reader.download.root().unwrap().clone());
    reader.download.read(reader.now, 0..u64::MAX);
    assert!(reader.run().unwrap() == plain);
    let mut second = Reader::of(again, &published);
    second.download.read(Time(0), 10..20);
    assert!(second.run().unwrap() == &plain[10..20]);
    assert!(
        second
            .fetches
            .iter()
            .all(|(block, _)| *block != published.roots[0].id())
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever the network does, a download ends, hands over nothing but the file's bytes, and holds little memory.
    #[test]
    fn any_network_gives_the_file_or_a_failure(
        len in 0..6 * MIB,
        compressible: bool,
        seed: u64,
        losses in (0..35_usize, 0..10_usize, 0..10_usize, 0..5_usize),
        roots_lost in 0..4_usize,
        ends in any::<(prop::sample::Index, prop::sample::Index)>(),
        whole: bool,
    ) {
        let plain = plaintext(len, compressible);
        let compression = if compressible && len > 0 { Compression::Zstd } else { Compression::None };
        let published = Published::new(&plain, compression);
        let (a, b) = (ends.0.index(len + 1), ends.1.index(len + 1));
        let range = if whole { 0..len } else { a.min(b)..a.max(b) };
        let mut reader = Reader::new(&published, range.start as u64..range.end as u64);
        reader.rng = ChaCha20Rng::seed_from_u64(seed);
        let (lost, hidden, slow, silent) = losses;
        reader.scatter(&published, &[(lost, Fate::Lost), (hidden, Fate::Hidden), (slow, Fate::Slow), (silent, Fate::Silent)]);
        published.roots.iter().take(roots_lost).for_each(|root| reader.lose(root));
        let result = reader.run().map(<[u8]>::to_vec);
        prop_assert!(reader.most_memory <= 64 * MIB);
        prop_assert!(plain[range.clone()].starts_with(&reader.got));
        match result {
            Ok(got) => prop_assert!(got == plain[range]),
            Err(why) => prop_assert!(!why.is_final() && (roots_lost == 3 || lost + hidden + silent > 20 || len < 3 * MIB), "{why}"),
        }
    }
}
