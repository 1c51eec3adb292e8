//! Seeds that accept and never answer, as many as fit, keep a node neither out of the network nor busy.

use std::{
    net::{Ipv4Addr, TcpListener},
    thread,
};

use warren_keys::{IdentityKey, Seed};
use warren_proto::descriptor::{Host, NodeReference, NodeSecrets};
use warren_tests::process::{chaos::fleet::Fleet, wait_for};

const SEED: u64 = 0x7369_6c65;
/// Nodes beside the one that is misled.
const OTHERS: usize = 5;
/// Seeds that are none.
const SILENT: u8 = 30;

/// Takes every connection and keeps it, without a word. Returns references that lead there.
fn silence() -> Vec<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test's process.
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().flatten() {
            kept.push(stream);
        }
    });
    let reference = |number: u8| {
        let secrets = NodeSecrets::new(IdentityKey::from_seed(&Seed::from_bytes([number; 32])));
        let reference = NodeReference {
            node: secrets.id(),
            link_key: secrets.link_public().to_bytes(),
            host: Host::Ip(address.ip()),
            port: address.port(),
        };
        reference.to_string()
    };
    (1..=SILENT).map(reference).collect()
}

#[test]
fn seeds_that_never_answer_keep_nobody_out() {
    let mut fleet = Fleet::start("silent", SEED, OTHERS);
    let misled = fleet.add_misled(silence());
    fleet.wait_until_whole();
    let mut files = fleet.insert(&[misled, 0, 1], &[50_000, 300_000, 300_000]);
    // Also once it has to find its way back, with nobody remembered who is not silent.
    fleet.stop(misled, true);
    let others: Vec<usize> = (0..OTHERS).collect();
    for number in &others {
        fleet.stop(*number, false);
    }
    fleet.restart(misled);
    wait_for("a node without links", super::LINKS_END, || {
        fleet.links(misled).is_empty().then_some(())
    });
    for number in &others {
        fleet.restart(*number);
    }
    fleet.wait_until_whole();
    files.extend(fleet.insert(&[misled], &[200_000]));
    fleet.finish(&files, &[misled, 0, 3]);
}
