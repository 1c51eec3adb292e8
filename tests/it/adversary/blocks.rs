//! A node that answers with a wrong, forged or truncated block is caught by its neighbour, which closes the link and holds it
//! against the node; an exit that does so loses the circuit. The user gets the right bytes or none.

use std::{collections::BTreeSet, time::Duration};

use bytes::{Bytes, BytesMut};
use warren_keys::{
    Block, CryptoKey, Name, Seed, SskKeypair,
    root::{Root, RootBody, seal_insert},
    stream::{Compression, StreamWriter},
};
use warren_proto::{
    crypto::Portable,
    link::{CloseReason, Misbehaviour},
};
use warren_tests::{
    adversary::{Forger, Forgery, Honest, Note, Noted, Notes},
    net::{Net, Spec},
    watch::Watched,
};

use crate::network::{block, bytes};

const NODES: usize = 12;
/// For links that were closed to be dialled again.
const RECONNECTION: Duration = Duration::from_secs(60);

/// A signed block.
fn signed(number: u8) -> Block {
    let keypair = SskKeypair::new(&Seed::from_bytes([1; 32]), CryptoKey::from_bytes([2; 32]));
    let mut stream = BytesMut::new();
    let mut writer = StreamWriter::new(Compression::None).unwrap();
    writer.push(&[number; 100], &mut stream).unwrap();
    let summary = writer.finish(&mut stream).unwrap();
    let root = Root::new(&summary, None, RootBody::Inline(Bytes::from(stream))).unwrap();
    let name = Name::new(format!("document-{number}")).unwrap();
    let [block, ..] = seal_insert(&root, &keypair.document(name).into()).unwrap().blocks;
    block
}

/// The nodes nearest to a block's key, nearest first.
fn nearest(net: &Net<Watched<Portable>>, block: &Block) -> Vec<usize> {
    let key = block.key().location();
    let mut nodes: Vec<usize> = (0..net.len()).collect();
    nodes.sort_by_key(|node| net.descriptor(*node).location().distance(key));
    nodes
}

/// How the offenders were caught.
#[derive(Default)]
struct Caught {
    /// By a neighbour's link machine, on the bytes alone.
    by_link: usize,
    /// By a neighbour's router, by what it had asked for.
    by_router: u64,
    /// By a client, as the exit of its circuit.
    by_client: usize,
}

/// The nearest node to a block forges, the second nearest has the block, too, and everybody else fetches it.
fn caught(seed: u64, block: &Block, forgery: Forgery) -> Caught {
    let mut net: Net<Watched<Portable>> = Net::started(Spec::new(seed, NODES));
    let order = nearest(&net, block);
    let (hostile, honest) = (order[0], order[1]);
    for holder in [hostile, honest] {
        net.store_mut(holder).put(block.clone());
    }
    let forger = Forger::new(forgery);
    net.corrupt(hostile, forger.clone());
    let hostile_id = net.descriptor(hostile).identity;
    let mut caught = Caught::default();
    let mut innocent = BTreeSet::new();
    for client in order[2..].iter().copied() {
        let notes = Notes::new();
        net.corrupt(client, Noted::new(notes.clone(), Honest));
        assert_eq!(net.fetch(client, block.id()).as_ref(), Ok(block));
        let blamed = |note: &&Note| matches!(note, Note::Closed(_, Some(node)) if *node == hostile_id);
        caught.by_client += notes.since(0).iter().filter(blamed).count();
        net.reform(client);
        net.run_for(RECONNECTION);
        // Copies that the fetch has left would answer the next one.
        for node in (0..NODES).filter(|node| ![hostile, honest].contains(node)) {
            net.store_mut(node).lose(&block.id());
        }
    }
    for node in (0..NODES).filter(|node| *node != hostile) {
        caught.by_router += net.status(node).router.offences;
        for link in net.closed(node) {
            if let CloseReason::Misbehaved(Misbehaviour::Stream(_)) = link.reason {
                match link.peer == Some(hostile_id) {
                    true => caught.by_link += 1,
                    false => {
                        innocent.insert(node);
                    }
                }
            }
        }
    }
    assert!(innocent.is_empty(), "only the offender is held to account");
    let all = caught.by_link + caught.by_client + usize::try_from(caught.by_router).unwrap();
    assert!(
        forger.tally.count() > 0 && all >= forger.tally.count(),
        "every forgery is noticed"
    );
    caught
}

#[test]
fn a_valid_block_of_another_key_is_the_routers_catch() {
    let caught = caught(50, &block(1), Forgery::Other(block(2)));
    assert!(caught.by_router > 0 && caught.by_link == 0);
}

#[test]
fn a_changed_content_block_is_another_block() {
    let caught = caught(51, &block(3), Forgery::Changed { byte: 20_000 });
    assert!(caught.by_router > 0 && caught.by_link == 0);
}

#[test]
fn a_changed_signed_block_is_the_links_catch() {
    // In the public key, in the signature, in the text.
    for (seed, byte) in [(52, 3), (53, 40), (54, 31_000)] {
        let caught = caught(seed, &signed(7), Forgery::Changed { byte });
        assert!(caught.by_link > 0 && caught.by_router == 0, "byte {byte}");
    }
}

#[test]
fn another_document_of_the_publisher_is_the_routers_catch() {
    let caught = caught(55, &signed(8), Forgery::Other(signed(9)));
    assert!(caught.by_router > 0 && caught.by_link == 0);
}

#[test]
fn a_truncated_block_is_the_links_catch() {
    let caught = caught(56, &block(4), Forgery::Truncated);
    assert!(caught.by_link > 0 && caught.by_router == 0 && caught.by_client == 0);
}

#[test]
fn an_answer_to_another_question_is_the_routers_catch() {
    let caught = caught(57, &block(5), Forgery::OtherKind);
    assert!(caught.by_router > 0 && caught.by_link == 0);
}

#[test]
fn who_forges_again_and_again_is_shut_out() {
    let mut net: Net<Watched<Portable>> = Net::started(Spec::new(61, NODES));
    let block = block(8);
    let order = nearest(&net, &block);
    let (hostile, honest, client) = (order[0], order[1], order[NODES - 1]);
    net.store_mut(honest).put(block.clone());
    net.store_mut(hostile).put(block.clone());
    let forger = Forger::new(Forgery::Other(signed(1)));
    net.corrupt(hostile, forger);
    let others: Vec<usize> = (0..NODES)
        .filter(|node| ![hostile, honest].contains(node))
        .collect();
    let mut shut_out = BTreeSet::new();
    for _ in 0..60 {
        assert_eq!(net.fetch(client, block.id()).as_ref(), Ok(&block));
        net.run_for(RECONNECTION);
        others
            .iter()
            .for_each(|node| net.store_mut(*node).lose(&block.id()));
        let banning = others.iter().filter(|node| net.status(**node).banned_nodes > 0);
        shut_out = banning.copied().collect();
        if shut_out.len() > 2 {
            break;
        }
    }
    assert!(shut_out.len() > 2, "offences are counted");
    for node in shut_out {
        assert_eq!(net.link_between(node, hostile), None);
        assert_eq!(net.status(node).banned_nodes, 1, "and nobody else's");
    }
}

#[test]
fn an_exit_that_forges_loses_its_circuits() {
    // Everybody but one forges, so whoever is the exit does.
    let mut net: Net<Watched<Portable>> = Net::started(Spec::new(58, NODES));
    let (client, honest) = (2, 9);
    let block = block(6);
    (0..NODES).for_each(|node| net.store_mut(node).put(block.clone()));
    let notes = Notes::new();
    net.corrupt(client, Noted::new(notes.clone(), Honest));
    let forger = Forger::new(Forgery::Changed { byte: 1 });
    for node in (0..NODES).filter(|node| ![client, honest].contains(node)) {
        net.corrupt(node, forger.clone());
    }
    assert_eq!(net.fetch(client, block.id()), Ok(block));
    let suspects = notes.since(0).into_iter().filter_map(|note| match note {
        Note::Closed(_, suspect) => suspect,
        _ => None,
    });
    let suspects: Vec<_> = suspects.collect();
    assert!(!suspects.is_empty() && !suspects.contains(&net.descriptor(honest).identity));
}

#[test]
fn what_a_reader_gets_is_right_at_every_moment() {
    let mut net: Net<Watched<Portable>> = Net::started(Spec::new(59, NODES));
    let plain = bytes(60, 700_000);
    let uri = net.upload(1, &plain).unwrap().uri;
    // Of ten others, three forge.
    let forgeries = [
        Forgery::Other(block(7)),
        Forgery::Changed { byte: 77 },
        Forgery::Truncated,
    ];
    let forgers = forgeries.map(Forger::new);
    for (node, forger) in [3, 6, 9].into_iter().zip(&forgers) {
        net.corrupt(node, forger.clone());
    }
    let job = net.begin_download(5, &uri);
    let mut seen = 0;
    while net.received(job).len() < plain.len() {
        let before = seen;
        net.run_until(Duration::from_secs(600), |net| net.received(job).len() > before);
        let received = net.received(job);
        assert!(received.len() > before, "the download goes on");
        assert!(received[before..] == plain[before..received.len()]);
        seen = received.len();
    }
    assert!(forgers.iter().map(|forger| forger.tally.count()).sum::<usize>() > 0);
}
