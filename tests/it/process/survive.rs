//! A fetch goes on when nodes die under it.

use std::{
    io::{Read, copy},
    time::Duration,
};

use warren_tests::process::{
    command::pipe,
    data::{RandomFile, hash},
    network::{NODES, Network},
};

/// Far more than the windows of a fetch and the pipes can hold, so that most is still in the network when the nodes die.
const LEN: u64 = 64 << 20;
/// Read before.
const BEFORE: u64 = 4 << 20;
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn three_of_eight_die_during_a_fetch() {
    let mut network = Network::start("survive", NODES, |_, settings| settings.store = "256 MiB");
    let mut put = network[1].home.warren(&["put", "-"]);
    let mut printed = String::new();
    let (code, stderr) = pipe(&mut put, LIMIT, RandomFile::new(5, LEN), |output| {
        output.read_to_string(&mut printed).unwrap();
    });
    assert_eq!(code, Some(0), "{stderr}");
    let key: serde_json::Value = serde_json::from_str(&printed).unwrap();

    let reader = network.remove(7);
    let mut get = reader
        .home
        .warren(&["get", key["key"].as_str().unwrap(), "-o", "-"]);
    let mut came = Vec::new();
    let (code, stderr) = pipe(&mut get, LIMIT, std::io::empty(), |output| {
        copy(&mut output.take(BEFORE), &mut came).unwrap();
        // The publisher, the one that all the others found the network by, and one more.
        for index in [4, 1, 0] {
            network.remove(index).kill();
        }
        copy(output, &mut came).unwrap();
    });
    assert_eq!(code, Some(0), "{} of {LEN} bytes came; {stderr}", came.len());
    assert_eq!(hash(came.as_slice()), hash(RandomFile::new(5, LEN)));
}
