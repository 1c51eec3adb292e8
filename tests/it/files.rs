//! Whole files through networks in memory: of all awkward sizes, and while nodes die.

use std::time::Duration;

use warren_keys::{BLOCK_SIZE, Seed, root::KeyChoice, splitfile::FileKey};
use warren_proto::{client::UploadTarget, crypto::Portable};
use warren_tests::net::{Death, FileEnd, Net, Spec};

use crate::network::bytes;

const SEGMENT: usize = 128 * BLOCK_SIZE;

fn round_trip(net: &mut Net<Portable>, len: usize) {
    let plain = bytes(len as u64, len);
    let uploaded = net.upload(1, &plain).unwrap();
    assert_eq!(uploaded.blocks_given_up, 0);
    assert!(net.download(6, &uploaded.uri).unwrap() == plain, "{len} bytes");
}

#[test]
fn small_files_and_those_at_the_edge_of_a_block() {
    let mut net = Net::started(Spec::new(80, 8));
    for len in [0, 1, 32_767, 32_768, 32_769] {
        round_trip(&mut net, len);
    }
}

#[test]
fn files_at_the_edge_of_a_segment() {
    let mut net = Net::started(Spec::new(81, 8));
    for len in [SEGMENT - BLOCK_SIZE, SEGMENT, SEGMENT + BLOCK_SIZE] {
        round_trip(&mut net, len);
    }
}

#[test]
fn compressed_and_unpredictable_files() {
    let mut net: Net<Portable> = Net::started(Spec::new(82, 8));
    let plain = b"Once more, and once more again. ".repeat(50_000);
    let uploaded = net.upload(1, &plain).unwrap();
    assert!(net.download(6, &uploaded.uri).unwrap() == plain);
    let secret = FileKey::unpredictable(Seed::from_bytes([5; 32]));
    let target = UploadTarget::Chk(KeyChoice::Unpredictable(Seed::from_bytes([6; 32])));
    let job = net.begin_upload(2, &plain, Some(secret), target);
    let FileEnd::Inserted(Ok(other)) = net.finish(job) else {
        panic!("an insert")
    };
    assert_ne!(other.uri, uploaded.uri);
    assert!(net.download(6, &other.uri).unwrap() == plain);
}

/// Three of eight nodes, none of them the reader, die while the reader has part of the file.
fn survives(seed: u64, death: Death) {
    const READER: usize = 6;
    let mut net: Net<Portable> = Net::started(Spec::new(seed, 8));
    let plain = bytes(seed, 3_000_000);
    let uri = net.upload(1, &plain).unwrap().uri;
    let job = net.begin_download(READER, &uri);
    let share = 2 + seed % 4;
    let begun = net.run_until(Duration::from_secs(600), |net| {
        let (blocks, of) = net.progress(job);
        of > 3 && blocks * 10 > of * share
    });
    assert!(begun && net.received(job).len() < plain.len(), "in the middle");
    // The publisher and two others.
    let others: Vec<usize> = (0..8).filter(|node| ![1, READER].contains(node)).collect();
    let first = usize::try_from(seed).unwrap() % others.len();
    for node in [1, others[first], others[(first + 2) % others.len()]] {
        net.kill(node, death);
    }
    let before = net.now();
    let FileEnd::Fetched(got) = net.finish(job) else {
        panic!("a download")
    };
    assert!(got.unwrap() == plain);
    let took = net.now().since(before);
    assert!(took < Duration::from_secs(120), "{took:?}");
}

#[test]
fn three_of_eight_nodes_killed_in_the_middle_of_a_fetch() {
    (90..96).for_each(|seed| survives(seed, Death::Killed));
}

#[test]
fn three_of_eight_nodes_without_power_in_the_middle_of_a_fetch() {
    (90..96).for_each(|seed| survives(seed, Death::Silent));
}
