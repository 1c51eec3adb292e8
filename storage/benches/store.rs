//! The datastore beside the least that any encrypted store must do: the same cipher on the same block, one `pwrite` or
//! `pread` of the same size at a random slot of a file as large. Ratios are printed at the end.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark stops at the first fault and reports on stdout"
)]

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use warren_keys::{BLOCK_SIZE, Block, BlockId, Location, RoutingKey};
use warren_storage::{Geometry, MasterKey, Options, Region, SLOT_LEN, Space, Store};
use zeroize::Zeroizing;

/// A region of this size stays in the page cache, so that the processor is measured and not the disk.
const REGION: u64 = 256 << 20;

fn key(number: u64) -> RoutingKey {
    RoutingKey::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn block(number: u64, bytes: &Bytes) -> Block {
    Block::from_store(BlockId::signed(key(number)), bytes.clone()).expect("a whole block")
}

fn master() -> MasterKey {
    MasterKey::from_bytes(Zeroizing::new([7; 32]))
}

fn options(store: u64, cache: u64, space: Space) -> Options {
    let geometry = Geometry::for_quota(store, cache).expect("sizes in bounds");
    Options {
        geometry,
        location: Location::new(0),
        space,
    }
}

/// What a store without an index, a journal and a choice of slots would do.
struct Plain {
    file: File,
    slots: u64,
    key: LessSafeKey,
    buf: Vec<u8>,
    counter: u64,
}

impl Plain {
    fn new(dir: &std::path::Path) -> Self {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(dir.join("plain"))
            .expect("plain file");
        let slots = REGION / SLOT_LEN as u64;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &[1; 32]).expect("key");
        Self {
            file,
            slots,
            key: LessSafeKey::new(key),
            buf: vec![0; SLOT_LEN],
            counter: 0,
        }
    }

    fn nonce(slot: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&slot.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    fn offset(&self, number: u64) -> u64 {
        // The same scatter as the hashed slots of the store.
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.slots * SLOT_LEN as u64
    }

    fn put(&mut self, block: &[u8]) {
        self.counter += 1;
        let offset = self.offset(self.counter % self.slots);
        let end = SLOT_LEN - 16;
        self.buf[end - BLOCK_SIZE..end].copy_from_slice(block);
        let tag = self
            .key
            .seal_in_place_separate_tag(Self::nonce(offset), Aad::empty(), &mut self.buf[..end])
            .expect("seal");
        self.buf[end..].copy_from_slice(tag.as_ref());
        self.file.write_all_at(&self.buf, offset).expect("write");
    }

    fn get(&mut self) -> Bytes {
        self.counter += 1;
        let offset = self.offset(self.counter % self.slots);
        let mut buf = BytesMut::zeroed(SLOT_LEN);
        self.file.read_exact_at(&mut buf, offset).expect("read");
        black_box(
            self.key
                .open_in_place(Self::nonce(offset), Aad::empty(), &mut buf)
                .is_ok(),
        );
        buf.freeze()
    }
}

/// Nanoseconds of each of two operations, run by turns in short rounds; the best round of each counts, so that what the
/// machine does beside hits neither.
fn duel(mut a: impl FnMut(), mut b: impl FnMut()) -> [f64; 2] {
    let round = |operation: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..100).for_each(|_| operation());
        start.elapsed().as_secs_f64() * 1e9 / 100.0
    };
    (0..300).fold([f64::INFINITY; 2], |[x, y], _| {
        [x.min(round(&mut a)), y.min(round(&mut b))]
    })
}

fn main() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("folder");
    let store = Store::open(
        dir.path().join("store"),
        &master(),
        &options(REGION, REGION, Space::Reserve),
    )
    .expect("store");
    let bytes = Bytes::from(vec![0x5a; BLOCK_SIZE]);
    let mut plain = Plain::new(dir.path());

    // Fill all slots first: steady state is overwriting.
    let total = 2 * REGION / SLOT_LEN as u64;
    (0..total).for_each(|n| drop(store.put(&block(n, &bytes), Region::Cache).expect("put")));
    (0..plain.slots).for_each(|_| plain.put(&bytes));
    let known: Vec<BlockId> = (total - 2000..total).map(|n| BlockId::signed(key(n))).collect();

    let mut next = total;
    let mut asked = 0;
    let mut get = || {
        asked += 1;
        assert!(black_box(store.get(&known[asked % known.len()]).expect("get")).is_some());
    };
    let mut missing = u64::MAX;
    let mut miss = || {
        missing -= 1;
        drop(black_box(store.get(&BlockId::signed(key(missing))).expect("get")));
    };
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Bytes(BLOCK_SIZE as u64));
    group.bench_function("get", |b| b.iter(&mut get));
    group.bench_function("plain get", |b| b.iter(|| plain.get()));
    let [get_ns, plain_get] = duel(&mut get, || drop(black_box(plain.get())));
    let [miss_ns, _] = duel(&mut miss, || {});
    let mut put = || {
        next += 1;
        drop(store.put(&block(next, &bytes), Region::Cache).expect("put"));
    };
    group.bench_function("put", |b| b.iter(&mut put));
    group.bench_function("plain put", |b| b.iter(|| plain.put(&bytes)));
    group.finish();
    let [put_ns, plain_put] = duel(&mut put, || plain.put(&bytes));
    criterion.bench_function("store/miss", |b| b.iter(&mut miss));

    let two = |label: &str, threads: usize| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for t in 0..threads {
                let (store, bytes) = (&store, &bytes);
                scope.spawn(move || {
                    let base = 1 << 40 | (t as u64) << 32;
                    for n in base..base + 4000 {
                        store.put(&block(n, bytes), Region::Cache).expect("put");
                        drop(black_box(store.get(&BlockId::signed(key(n))).expect("get")));
                    }
                });
            }
        });
        let rate = 2.0 * 4000.0 * threads as f64 * BLOCK_SIZE as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("{label}: {rate:.0} MB/s of puts and gets");
        rate
    };
    let one = two("1 thread", 1);
    let both = two("2 threads", 2);

    println!(
        "get  {get_ns:>7.0} ns, plain {plain_get:>7.0} ns: {:.2} of plain",
        plain_get / get_ns
    );
    println!(
        "put  {put_ns:>7.0} ns, plain {plain_put:>7.0} ns: {:.2} of plain",
        plain_put / put_ns
    );
    println!("miss {miss_ns:>7.0} ns");
    println!("2 threads do {:.2} of 1", both / one);
    drop(store);

    let large = dir.path().join("large");
    let options = options(50 << 30, 50 << 30, Space::Sparse);
    let timed = |label: &str| {
        let start = Instant::now();
        let store = Store::open(&large, &master(), &options).expect("large store");
        println!(
            "{label} a sparse 100 GiB store: {:.0} ms ({:?})",
            start.elapsed().as_secs_f64() * 1e3,
            store.opened().index
        );
        store
    };
    let store = timed("make");
    (0..20_000).for_each(|n| drop(store.put(&block(n, &bytes), Region::Store).expect("put")));
    store.close().expect("close");
    let store = timed("open");
    (20_000..40_000).for_each(|n| drop(store.put(&block(n, &bytes), Region::Store).expect("put")));
    drop(store);
    let store = timed("open after a kill");
    let inspection = store.inspect();
    let slots: u64 = inspection.regions.iter().map(|r| u64::from(r.slots)).sum();
    println!(
        "index: {} MiB for {slots} slots, {} bytes a slot",
        inspection.index_bytes >> 20,
        inspection.index_bytes / slots
    );
    let start = Instant::now();
    store.close().expect("close");
    println!(
        "close with a snapshot: {:.0} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    std::fs::remove_file(large.join("index")).expect("index");
    drop(timed("rebuild without index"));
}
