//! A reader asks before the publisher publishes.

use std::{
    thread,
    time::{Duration, Instant},
};

use warren_tests::process::{http, network::Network, wait_for};

use super::text;

/// The reader's commands have reached the network within this.
const PLACED: Duration = Duration::from_secs(60);
/// Far below the minutes that the reader is ready to wait, and above what a push takes on a busy machine.
const PROMPT: Duration = Duration::from_secs(20);

#[test]
fn a_file_reaches_those_who_asked_for_it_before() {
    let network = Network::start("waiting", 5, |_, _| ());
    let waits = || -> u64 {
        let nodes = network.iter();
        nodes.map(|node| node.status()["waits"].as_u64().unwrap()).sum()
    };
    thread::scope(|scope| {
        let command = scope.spawn(|| {
            let arguments = ["get", "KSK@later", "-o", "-", "--wait", "10m"];
            (network[4].home.run(&arguments), Instant::now())
        });
        let browser = scope.spawn(|| {
            let ask = [("prefer", "wait=600")];
            let answer = http::request(network[3].proxy, "GET", "/KSK@later", &ask, b"");
            (answer.unwrap(), Instant::now())
        });
        // Three places of the root at several exits, for two readers.
        wait_for("requests that wait", PLACED, || (waits() >= 12).then_some(()));
        let mut put = network[1].home.warren(&["put", "-", "--key", "KSK@later"]);
        warren_tests::process::command::run(&mut put, text().as_bytes()).success();
        let published = Instant::now();
        let (got, at) = command.join().unwrap();
        assert!(got.success().stdout == text().as_bytes());
        assert!(at.saturating_duration_since(published) < PROMPT);
        let (answer, at) = browser.join().unwrap();
        assert!(answer.status == 200 && answer.body == text().as_bytes());
        assert!(at.saturating_duration_since(published) < PROMPT);
    });
    let missing = network[4]
        .home
        .run(&["get", "KSK@never", "-o", "-", "--wait", "2s"]);
    missing.code(3);
}
