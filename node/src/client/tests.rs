//! Whole files through the real machines, against a network that is a map of blocks.

use std::{fs, future::poll_fn, io, ops::Range, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_core::Stream;
use rand_core::SeedableRng;
use warren_keys::{BLOCK_SIZE, InsertUri, SskKeypair, Uri, splitfile::SEGMENT_DATA};

use super::{
    ByteStream, Content, FetchError, InsertError, InsertKind, InsertOptions, Inserted, Network, Phase,
    Reporter, Source, testing::TestNet,
};

const SEGMENT: usize = SEGMENT_DATA as usize * BLOCK_SIZE;

fn noise(len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&len.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes.into()
}

fn text(len: usize) -> Bytes {
    b"a line of text that shrinks well\n"
        .iter()
        .copied()
        .cycle()
        .take(len)
        .collect()
}

/// A stream of portions, which then goes on as `end` says.
struct Portions {
    bytes: Bytes,
    portion: usize,
    end: Option<io::ErrorKind>,
}

impl Stream for Portions {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let portion = self.portion.min(self.bytes.len());
        let next = match portion {
            0 => self.end.map(|kind| Err(kind.into())),
            portion => Some(Ok(self.bytes.split_to(portion))),
        };
        std::task::Poll::Ready(next)
    }
}

fn stream(bytes: Bytes) -> Source {
    Source::Stream(ByteStream::new(Portions {
        bytes,
        portion: 100_003,
        end: None,
    }))
}

async fn insert(net: &TestNet, bytes: Bytes, options: InsertOptions) -> Result<Inserted, InsertError> {
    net.client
        .insert(stream(bytes), options, Reporter::ignored())
        .await
}

async fn read(content: Content, range: Range<u64>) -> Result<Vec<u8>, FetchError> {
    let mut stream = content.stream(range);
    let mut all = Vec::new();
    while let Some(piece) = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

async fn get(net: &TestNet, uri: &Uri) -> Result<Vec<u8>, FetchError> {
    read(net.client.open(uri, Duration::ZERO).await?, 0..u64::MAX).await
}

/// Lets the jobs end that nobody waits for.
async fn jobs_end(net: &TestNet) {
    let ended = async {
        while net.jobs.len() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended)
        .await
        .expect("a job does not end");
}

#[tokio::test]
async fn files_of_all_sizes_come_back() {
    let net = TestNet::start();
    for len in [
        0,
        1,
        BLOCK_SIZE - 1,
        BLOCK_SIZE,
        BLOCK_SIZE + 1,
        SEGMENT - BLOCK_SIZE,
        SEGMENT + BLOCK_SIZE,
    ] {
        for bytes in [noise(len), text(len)] {
            let options = InsertOptions {
                mime: Some("text/x-test".into()),
                ..InsertOptions::default()
            };
            let inserted = insert(&net, bytes.clone(), options).await.unwrap();
            assert_eq!(inserted.size, len as u64);
            let content = net.client.open(&inserted.uri, Duration::ZERO).await.unwrap();
            assert_eq!(content.info().size, len as u64);
            assert_eq!(content.info().mime.as_deref(), Some("text/x-test"));
            assert_eq!(content.info().hash, *blake3::hash(&bytes).as_bytes());
            assert!(read(content, 0..u64::MAX).await.unwrap() == bytes, "{len}");
        }
    }
    jobs_end(&net).await;
}

#[tokio::test]
async fn ranges() {
    let net = TestNet::start();
    let len = 3 * SEGMENT + 12_345;
    for bytes in [noise(len), text(len)] {
        let uri = insert(&net, bytes.clone(), InsertOptions::default())
            .await
            .unwrap()
            .uri;
        for range in [
            0..1,
            0..0,
            SEGMENT - 1..SEGMENT + 1,
            SEGMENT..2 * SEGMENT,
            len - 1..len,
            5..len - 5,
        ] {
            let content = net.client.open(&uri, Duration::ZERO).await.unwrap();
            let got = read(content, range.start as u64..range.end as u64).await.unwrap();
            assert!(got == bytes[range.clone()], "{range:?}");
        }
        let beyond = net.client.open(&uri, Duration::ZERO).await.unwrap();
        assert!(read(beyond, len as u64..u64::MAX).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_file_on_disk_gives_the_key_of_its_bytes() {
    let net = TestNet::start();
    let folder = tempfile::tempdir().unwrap();
    for bytes in [noise(10), noise(SEGMENT + 7), text(2 * SEGMENT)] {
        let path = folder.path().join("file");
        fs::write(&path, &bytes).unwrap();
        let (reporter, progress) = Reporter::new();
        let options = InsertOptions::default();
        let by_path = net
            .client
            .insert(Source::Path(path.clone()), options.clone(), reporter)
            .await
            .unwrap();
        assert_eq!(progress.borrow().phase, Phase::Done);
        assert_eq!(progress.borrow().blocks, progress.borrow().total_blocks);
        assert_eq!(
            insert(&net, bytes.clone(), options.clone()).await.unwrap(),
            by_path
        );
        let unpredictable = InsertOptions {
            unpredictable: true,
            ..options
        };
        let once = insert(&net, bytes.clone(), unpredictable.clone())
            .await
            .unwrap()
            .uri;
        let again = insert(&net, bytes.clone(), unpredictable.clone())
            .await
            .unwrap()
            .uri;
        assert!(once != again && once != by_path.uri);
        assert!(get(&net, &once).await.unwrap() == bytes);
        // A file is read but once then.
        let (reporter, progress) = Reporter::new();
        let by_path = net
            .client
            .insert(Source::Path(path), unpredictable, reporter)
            .await
            .unwrap();
        assert_eq!(by_path.size, bytes.len() as u64);
        assert_eq!(progress.borrow().phase, Phase::Done);
        assert_eq!(progress.borrow().blocks, progress.borrow().total_blocks);
        assert!(get(&net, &by_path.uri).await.unwrap() == bytes);
    }
}

#[tokio::test]
async fn under_keys() {
    let net = TestNet::start();
    let keypair = SskKeypair::generate(&mut rand_chacha::ChaCha20Rng::from_seed([3; 32]));
    let ssk = InsertUri::from(keypair.document(warren_keys::Name::new("doc").unwrap()));
    let ksk = InsertUri::parse("KSK@some words").unwrap();
    for key in [ssk, ksk] {
        let options = InsertOptions {
            kind: InsertKind::Key(Box::new(key.clone())),
            ..InsertOptions::default()
        };
        let inserted = insert(&net, noise(100_000), options.clone()).await.unwrap();
        assert_eq!(inserted.uri, key.to_uri());
        assert!(get(&net, &inserted.uri).await.unwrap() == noise(100_000));
        assert!(
            insert(&net, noise(100_000), options.clone()).await.is_ok(),
            "the same again is no collision"
        );
        let other = insert(&net, noise(99), options).await;
        assert!(matches!(other, Err(InsertError::Collision)), "{other:?}");
    }
}

#[tokio::test]
async fn lost_blocks_are_replaced_and_healed() {
    let net = TestNet::start();
    let bytes = noise(SEGMENT);
    let uri = insert(&net, bytes.clone(), InsertOptions::default())
        .await
        .unwrap()
        .uri;
    let lost: Vec<_> = {
        let mut blocks = net.blocks.lock().unwrap();
        let ids: Vec<_> = blocks.keys().copied().step_by(9).collect();
        ids.into_iter().filter_map(|id| blocks.remove(&id)).collect()
    };
    assert!(get(&net, &uri).await.unwrap() == bytes);
    jobs_end(&net).await;
    let blocks = net.blocks.lock().unwrap();
    let back = lost
        .iter()
        .filter(|block| blocks.contains_key(&block.id()))
        .count();
    assert!(back * 2 > lost.len(), "{back} of {} are healed", lost.len());
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_by_cause() {
    let net = TestNet::start();
    let missing: Uri = "KSK@nothing".parse().unwrap();
    assert!(matches!(get(&net, &missing).await, Err(FetchError::NotFound)));
    let uri = insert(&net, noise(3 * SEGMENT), InsertOptions::default())
        .await
        .unwrap()
        .uri;
    let content = net.client.open(&uri, Duration::ZERO).await.unwrap();
    net.blocks.lock().unwrap().clear();
    assert!(matches!(
        read(content, 0..u64::MAX).await,
        Err(FetchError::NotFound)
    ));
    net.ways.lock().unwrap().unreachable = true;
    assert!(matches!(get(&net, &uri).await, Err(FetchError::Unreachable)));
    let inserted = insert(&net, noise(10), InsertOptions::default()).await;
    assert!(matches!(inserted, Err(InsertError::Unreachable)), "{inserted:?}");
    let broken = Portions {
        bytes: noise(10),
        portion: 3,
        end: Some(io::ErrorKind::ConnectionReset),
    };
    let broken = Source::Stream(ByteStream::new(broken));
    let result = net
        .client
        .insert(broken, InsertOptions::default(), Reporter::ignored())
        .await;
    assert!(
        matches!(result, Err(InsertError::Source(error)) if error.kind() == io::ErrorKind::ConnectionReset)
    );
    let options = InsertOptions {
        mime: Some("é".into()),
        ..InsertOptions::default()
    };
    assert!(matches!(
        insert(&net, noise(1), options).await,
        Err(InsertError::BadType(_))
    ));
}

#[tokio::test]
async fn a_dropped_fetch_ends() {
    let net = TestNet::start();
    let uri = insert(&net, noise(3 * SEGMENT), InsertOptions::default())
        .await
        .unwrap()
        .uri;
    // Opened and left.
    drop(net.client.open(&uri, Duration::ZERO).await.unwrap());
    jobs_end(&net).await;
    // Left in the middle.
    let mut stream = net
        .client
        .open(&uri, Duration::ZERO)
        .await
        .unwrap()
        .stream(0..u64::MAX);
    poll_fn(|cx| Pin::new(&mut stream).poll_next(cx))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(net.jobs.len(), 1);
    drop(stream);
    jobs_end(&net).await;
    // Left before the root has come, and while inserting.
    net.ways.lock().unwrap().silent = true;
    let limit = Duration::from_millis(20);
    assert!(
        tokio::time::timeout(limit, net.client.open(&uri, Duration::ZERO))
            .await
            .is_err()
    );
    let inserting = insert(&net, noise(10), InsertOptions::default());
    assert!(tokio::time::timeout(limit, inserting).await.is_err());
    jobs_end(&net).await;
}

#[tokio::test]
async fn a_slow_reader_holds_the_download_back() {
    let net = TestNet::start();
    let uri = insert(&net, noise(16 * SEGMENT), InsertOptions::default())
        .await
        .unwrap()
        .uri;
    let content = net.client.open(&uri, Duration::ZERO).await.unwrap();
    let progress = content.progress();
    let mut stream = content.stream(0..u64::MAX);
    poll_fn(|cx| Pin::new(&mut stream).poll_next(cx))
        .await
        .unwrap()
        .unwrap();
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let ahead = progress.borrow().blocks * BLOCK_SIZE as u64;
    assert!(ahead < 64 << 20, "{ahead} bytes were fetched for nobody");
    let mut rest = 0;
    while let Some(piece) = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
        rest += piece.unwrap().len();
    }
    assert!(rest > 15 * SEGMENT);
}

#[tokio::test]
async fn a_stopping_node_ends_its_jobs() {
    let net = TestNet::start();
    let uri = insert(&net, noise(3 * SEGMENT), InsertOptions::default())
        .await
        .unwrap()
        .uri;
    let content = net.client.open(&uri, Duration::ZERO).await.unwrap();
    net.stop();
    assert!(matches!(
        read(content, 0..u64::MAX).await,
        Err(FetchError::Cancelled)
    ));
    assert!(matches!(get(&net, &uri).await, Err(FetchError::Cancelled)));
    let inserted = insert(&net, noise(10), InsertOptions::default()).await;
    assert!(matches!(inserted, Err(InsertError::Cancelled)), "{inserted:?}");
}

#[tokio::test]
async fn a_file_that_grows_while_it_is_inserted() {
    let net = TestNet::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, noise(SEGMENT)).unwrap();
    let (reporter, mut progress) = Reporter::new();
    let job = net
        .client
        .insert(Source::Path(path.clone()), InsertOptions::default(), reporter);
    let change = async {
        // The first pass is through; the second has read at most a batch.
        progress
            .wait_for(|progress| progress.phase == Phase::Transferring)
            .await
            .unwrap();
        fs::write(&path, noise(SEGMENT + 1)).unwrap();
    };
    let (result, ()) = tokio::join!(job, change);
    assert!(matches!(result, Err(InsertError::Changed)), "{result:?}");
}
