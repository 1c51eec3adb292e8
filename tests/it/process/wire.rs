//! What passes between nodes says nothing to who watches every line: no constants, no plaintext, no keys, records of one size.

use std::{collections::HashSet, sync::Arc, time::Duration};

use warren_tests::process::{
    command,
    data::RandomFile,
    network::{NODES, Network},
    relay::{Connection, HANDSHAKE_IN, HANDSHAKE_OUT, RECORD, Relay, Way},
    search::Needles,
    secrets,
    statistics::Histogram,
    wait_for,
};

use super::text;

/// One way of one connection.
struct Stream {
    bytes: Vec<u8>,
    handshake: usize,
}

impl Stream {
    /// Takes it when it is a handshake and whole records.
    fn take(connection: &Connection, way: Way) -> Option<Self> {
        let bytes = connection.captured(way).clone();
        let handshake = bytes.len() % RECORD;
        let possible = match way {
            Way::In => HANDSHAKE_IN,
            Way::Out => HANDSHAKE_OUT,
        };
        possible.contains(&handshake).then_some(Self { bytes, handshake })
    }

    fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes[self.handshake..].chunks_exact(RECORD)
    }
}

/// Both ways of all connections that carried anything but an attempt, taken while nothing is on its way.
fn capture(relays: &[Relay]) -> Vec<Stream> {
    wait_for(
        "nothing but handshakes and whole records",
        Duration::from_secs(30),
        || {
            let connections: Vec<Arc<Connection>> = relays.iter().flat_map(Relay::connections).collect();
            let linked = connections.iter().filter(|connection| connection.is_open());
            let streams = linked.flat_map(|connection| {
                [
                    Stream::take(connection, Way::In),
                    Stream::take(connection, Way::Out),
                ]
            });
            streams.collect()
        },
    )
}

#[test]
fn a_watcher_of_every_line_sees_random_records_of_one_size() {
    let relays: Vec<Relay> = (0..NODES).map(|_| Relay::listen()).collect();
    // The first reference must lead through a relay as well: a node advertises the relay's address, and no other.
    let network = Network::start_behind("wire-capture-network", &relays);

    let random = RandomFile::new(9, 300_000).bytes();
    let name = "a-name-that-nobody-may-see.bin";
    let path = network.folder().join(name);
    std::fs::write(&path, &random).unwrap();
    let ended = network[1].home.run(&["put", path.to_str().unwrap()]).success();
    let chk = ended.json()["key"].as_str().unwrap().to_owned();
    let words = "words-that-nobody-may-see";
    let ksk = format!("KSK@{words}");
    let mut put = network[2]
        .home
        .warren(&["put", "-", "--key", &ksk, "--mime", "text/x-not-to-be-seen"]);
    command::run(&mut put, text().as_bytes()).success();
    for (key, content) in [(&chk, random.as_slice()), (&ksk, text().as_bytes())] {
        let fetched = network[6].home.run(&["get", key, "-o", "-"]).success();
        assert!(fetched.stdout == content);
    }

    let streams = capture(&relays);
    let total: usize = streams.iter().map(|stream| stream.bytes.len()).sum();
    println!("{} bytes in {} connections", total, streams.len() / 2);
    assert!(streams.len() >= NODES * (NODES - 1), "all links are captured");
    assert!(total > 2 * random.len(), "the files are in the capture");

    no_secret_is_in(
        &streams,
        &network,
        &[(&chk, &random, &[name]), (&ksk, text().as_bytes(), &[words])],
    );
    no_offset_is_constant(&streams);
    no_place_in_records_is_distinguished(&streams);
    no_ciphertext_repeats(&streams);

    let lengths: HashSet<usize> = streams.iter().map(|stream| stream.handshake).collect();
    assert!(
        lengths.len() > streams.len() / 2,
        "lengths of handshakes vary: {lengths:?}"
    );
}

fn no_secret_is_in(streams: &[Stream], network: &Network, files: &[(&str, &[u8], &[&str])]) {
    let mut needles = Needles::default();
    needles.add("the network's name", "wire-capture-network");
    needles.add("a media type", "text/x-not-to-be-seen");
    needles.add("a type of keys", "warren-node:");
    for (uri, content, names) in files {
        secrets::add_file(&mut needles, uri, content, names);
    }
    secrets::add_blocks(&mut needles, files[0].1);
    for node in network.iter() {
        // warren-node:IDENTITY,LINK KEY@HOST:PORT
        let keys = node.reference.split([':', ',', '@']).skip(1).take(2);
        for key in keys {
            needles.add_key("a node's key", &warren_keys::base64::decode(key).unwrap());
        }
        needles.add("a control token", node.control.authorization.as_bytes());
    }
    for stream in streams {
        assert_eq!(needles.find(&stream.bytes), None);
    }
}

/// No offset has the same byte in all connections, nor in suspiciously many.
fn no_offset_is_constant(streams: &[Stream]) {
    for parity in [0, 1] {
        let ways: Vec<_> = streams.iter().skip(parity).step_by(2).collect();
        let shortest = ways.iter().map(|stream| stream.bytes.len()).min().unwrap();
        for offset in 0..shortest {
            let mut counts = [0_usize; 256];
            for stream in &ways {
                counts[usize::from(stream.bytes[offset])] += 1;
            }
            // That ten of 28 random bytes agree happens once in 10^13.
            let most = counts.iter().max().unwrap();
            assert!(
                *most < 10.max(ways.len() / 3),
                "offset {offset}: {most} of {} agree",
                ways.len()
            );
        }
    }
}

/// Every column of the records, first to last byte, looks random, and so does every connection as a whole.
fn no_place_in_records_is_distinguished(streams: &[Stream]) {
    let mut columns = vec![Histogram::default(); RECORD];
    for stream in streams {
        let mut whole = Histogram::default();
        whole.add(&stream.bytes);
        assert!(whole.is_random(), "{:.1} deviations", whole.deviations());
        for record in stream.records() {
            for (column, byte) in columns.iter_mut().zip(record) {
                column.add(&[*byte]);
            }
        }
    }
    for (place, column) in columns.iter().enumerate() {
        assert!(
            column.is_random(),
            "byte {place} of records: {:.1} deviations",
            column.deviations()
        );
    }
}

/// No sixteen aligned bytes of ciphertext occur twice: not on one line, and not on two that carry the same block.
fn no_ciphertext_repeats(streams: &[Stream]) {
    let mut seen = HashSet::new();
    for record in streams.iter().flat_map(Stream::records) {
        for piece in record.chunks_exact(16) {
            let piece: [u8; 16] = piece.try_into().unwrap();
            assert!(seen.insert(piece), "the same ciphertext twice");
        }
    }
}
