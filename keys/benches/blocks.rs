//! Byte work of the crate, one thread; throughput is of plaintext.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use warren_keys::root::{KeyChoice, Root, RootBody, RootReader, seal_chk, seal_insert};
use warren_keys::splitfile::{Coder, FileKey, Layout};
use warren_keys::stream::{Compression, StreamWriter};
use warren_keys::{BLOCK_SIZE, Block, CryptoKey, Name, RoutingKey, Seed, SskKeypair, Uri, content};

const SEGMENT: usize = 128 * BLOCK_SIZE;

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(b"bench")
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn blocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("block");
    group.throughput(Throughput::Bytes(BLOCK_SIZE as u64));
    let (plain, key) = (noise(BLOCK_SIZE), CryptoKey::from_bytes([1; 32]));
    group.bench_function("blake3", |b| b.iter(|| blake3::hash(black_box(&plain))));
    group.bench_function("seal content", |b| {
        b.iter(|| content::seal(black_box(&plain), &key))
    });
    let sealed = content::seal(&plain, &key).unwrap_or_else(|_| unreachable!());
    group.bench_function("verify content", |b| {
        b.iter(|| Block::verify(sealed.id(), sealed.bytes().clone()))
    });
    group.bench_function("open content", |b| {
        b.iter_batched(
            || sealed.clone(),
            |block| content::open(block, &key),
            BatchSize::SmallInput,
        );
    });
    let signed = signed_root().1;
    group.bench_function("verify signed", |b| {
        b.iter(|| Block::verify(signed.id(), signed.bytes().clone()))
    });
    group.finish();
}

fn small_root() -> Root {
    let mut out = bytes::BytesMut::new();
    let summary = StreamWriter::new(Compression::None).and_then(|mut writer| {
        writer.push(b"hello", &mut out)?;
        writer.finish(&mut out)
    });
    let summary = summary.unwrap_or_else(|_| unreachable!());
    Root::new(&summary, None, RootBody::Inline(out.freeze())).unwrap_or_else(|_| unreachable!())
}

fn keypair() -> SskKeypair {
    SskKeypair::new(&Seed::from_bytes([1; 32]), CryptoKey::from_bytes([2; 32]))
}

fn signed_root() -> (Uri, Block) {
    let name = Name::new("doc").unwrap_or_else(|_| unreachable!());
    let sealed =
        seal_insert(&small_root(), &keypair().document(name).into()).unwrap_or_else(|_| unreachable!());
    let [block, ..] = sealed.blocks;
    (sealed.uri, block)
}

fn roots(c: &mut Criterion) {
    let mut group = c.benchmark_group("root");
    let root = small_root();
    let (uri, block) = signed_root();
    let text = uri.to_string();
    group.bench_function("parse SSK", |b| b.iter(|| Uri::parse(black_box(&text))));
    group.bench_function("seal CHK, 3 positions", |b| {
        b.iter(|| seal_chk(&root, &KeyChoice::Reproducible))
    });
    let name = || Name::new("doc").unwrap_or_else(|_| unreachable!());
    group.bench_function("seal SSK, 3 positions", |b| {
        b.iter(|| seal_insert(&root, &keypair().document(name()).into()))
    });
    group.bench_function("addresses of SSK", |b| {
        b.iter(|| RootReader::new(&uri).map(|reader| reader.ids()))
    });
    if let Ok(reader) = RootReader::new(&uri) {
        group.bench_function("open SSK", |b| b.iter(|| reader.open(&block)));
    }
    group.finish();
}

fn segments(c: &mut Criterion) {
    let mut group = c.benchmark_group("segment");
    group
        .throughput(Throughput::Bytes(SEGMENT as u64))
        .sample_size(30);
    let Ok(layout) = Layout::of_stream(SEGMENT as u64) else {
        return;
    };
    let Some(segment) = layout.content().segment(0) else {
        return;
    };
    let (plain, key) = (noise(SEGMENT), FileKey::reproducible(&[1; 32], SEGMENT as u64));
    let mut coder = Coder::new();
    group.bench_function("encode 128 + 64", |b| {
        b.iter(|| coder.encode(&key, &segment, black_box(&plain)))
    });
    let Ok(blocks) = coder.encode(&key, &segment, &plain) else {
        return;
    };
    let keys: Vec<RoutingKey> = blocks.iter().map(Block::key).collect();
    for lost in [0, 1, 16, 64] {
        let found: Vec<_> = blocks
            .iter()
            .enumerate()
            .map(|(index, block)| (index >= lost).then(|| block.clone()))
            .collect();
        group.bench_function(format!("decode, {lost} data blocks lost"), |b| {
            b.iter(|| coder.decode(&key, &segment, &keys, &found))
        });
    }
    group.finish();
}

criterion_group!(benches, blocks, roots, segments);
criterion_main!(benches);
