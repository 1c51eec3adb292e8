//! Who waits for a block or a file has it about as soon as it is in the network, also when circuits and nodes die meanwhile.

use std::{collections::BTreeSet, time::Duration};

use warren_keys::{Block, InsertUri};
use warren_proto::{client::UploadTarget, crypto::Portable};
use warren_tests::{
    adversary::Dropper,
    net::{BlockEnd, BlockOp, Death, FileEnd, Net, Spec},
};

use crate::network::{block, bytes};

const NODES: usize = 12;
const READER: usize = 5;
const WRITER: usize = 9;
/// How long the readers are ready to wait.
const WAIT: Duration = Duration::from_secs(1800);
/// What the reader may wait after the insert has ended.
const PROMPT: Duration = Duration::from_secs(2);
/// A node that went silently is noticed within this.
const NOTICED: Duration = Duration::from_secs(60);

/// A network in which a reader waits for a block and has done all that it will do.
fn waiting(seed: u64, wanted: &Block) -> (Net<Portable>, BlockOp) {
    let mut net: Net<Portable> = Net::started(Spec::new(seed, NODES));
    let op = net.begin_wait(READER, wanted.id(), WAIT);
    net.run_for(Duration::from_secs(10));
    assert!(net.end_of(op).is_none());
    let placed: usize = (0..NODES).map(|node| net.status(node).open.waits).sum();
    assert!(placed >= 3, "it waits at several nodes");
    (net, op)
}

fn is_here(net: &mut Net<Portable>, op: BlockOp, wanted: &Block) -> bool {
    match net.end_of(op) {
        Some(BlockEnd::Fetched(result)) => {
            assert_eq!(result.as_ref(), Ok(wanted));
            true
        }
        _ => false,
    }
}

/// Inserts the block, and asserts that the reader has it soon after.
fn published(net: &mut Net<Portable>, op: BlockOp, wanted: &Block) {
    assert!(net.insert(WRITER, wanted.clone(), 1).unwrap() > 0);
    assert!(net.run_until(PROMPT, |net| is_here(net, op, wanted)));
}

#[test]
fn a_block_comes_as_soon_as_it_is_there() {
    let wanted = block(8_000);
    let (mut net, op) = waiting(80, &wanted);
    published(&mut net, op, &wanted);
}

#[test]
fn a_wait_is_renewed_for_as_long_as_it_takes() {
    let wanted = block(8_001);
    let (mut net, op) = waiting(81, &wanted);
    net.run_for(Duration::from_secs(300));
    assert!(net.end_of(op).is_none());
    published(&mut net, op, &wanted);
}

#[test]
fn a_reader_whose_circuits_died_waits_through_others() {
    let wanted = block(8_002);
    let (mut net, op) = waiting(82, &wanted);
    let circuits: BTreeSet<_> = net.asked(READER).iter().copied().collect();
    // The entry carries them all.
    let entry = net.path(READER, *circuits.first().unwrap())[0];
    assert!(entry != WRITER);
    net.kill(entry, Death::Killed);
    // A dial of the dead entry takes ten seconds, and is tried again before another is pinned.
    net.run_for(Duration::from_secs(60));
    published(&mut net, op, &wanted);
    assert!(net.asked(READER).iter().any(|origin| !circuits.contains(origin)));
}

#[test]
fn a_lost_node_next_to_the_key_keeps_nobody_from_the_block() {
    let wanted = block(8_003);
    let (mut net, op) = waiting(83, &wanted);
    let key = wanted.key().location();
    let distance = |node: &usize| net.descriptor(*node).location().distance(key);
    let mut nearest: Vec<usize> = (0..NODES)
        .filter(|node| ![READER, WRITER].contains(node))
        .collect();
    nearest.sort_by_key(distance);
    net.kill(nearest[0], Death::Killed);
    net.kill(nearest[1], Death::Silent);
    net.run_for(NOTICED);
    published(&mut net, op, &wanted);
}

#[test]
fn droppers_cost_a_waiting_reader_time_and_no_block() {
    let mut net: Net<Portable> = Net::started(Spec::new(84, NODES));
    let dropper = Dropper::default();
    [6, 10]
        .into_iter()
        .for_each(|node| net.corrupt(node, dropper.clone()));
    let (mut prompt, rounds) = (0, 6);
    for number in 0..rounds {
        let (wanted, reader) = (
            block(8_100 + number),
            [1, 5, 8][usize::try_from(number % 3).unwrap()],
        );
        let op = net.begin_wait(reader, wanted.id(), WAIT);
        net.run_for(Duration::from_secs(20));
        net.insert(3, wanted.clone(), 2).unwrap();
        let soon = net.run_until(PROMPT, |net| is_here(net, op, &wanted));
        // A search of the next renewal finds what no push brought.
        assert!(soon || net.run_until(Duration::from_secs(300), |net| is_here(net, op, &wanted)));
        prompt += u64::from(soon);
        net.close_job(reader, op.job);
    }
    assert!(prompt >= rounds - 1, "{prompt} of {rounds} at once");
    assert!(dropper.tally.count() > 0);
}

#[test]
fn a_file_under_agreed_words_comes_when_it_is_published() {
    let mut net: Net<Portable> = Net::started(Spec::new(85, NODES));
    let words = InsertUri::parse("KSK@news-of-tomorrow").unwrap();
    let job = net.begin_waiting_download(READER, &words.to_uri(), WAIT);
    net.run_for(Duration::from_secs(10));
    let plain = bytes(85, 300_000);
    let upload = net.begin_upload(WRITER, &plain, None, UploadTarget::Named(Box::new(words)));
    assert!(matches!(net.finish(upload), FileEnd::Inserted(Ok(_))));
    let ended = net.now();
    assert!(matches!(net.finish(job), FileEnd::Fetched(Ok(got)) if got == plain));
    assert!(net.now().since(ended) < PROMPT);
}
