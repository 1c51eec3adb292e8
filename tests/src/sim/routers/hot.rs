//! One block that everybody wants: how far the copies that fetches leave take the load off its holders.

use warren_keys::BlockId;
use warren_proto::routing::FETCH_BRANCHES;

use super::{
    RouterNet,
    lookup::{Fetches, ask_all, describe_loads, insert_all},
};
use crate::sim::{
    report::Findings,
    scenario::{Hot, NetworkSpec},
};

/// Asks for one block again and again, from anywhere.
#[must_use]
pub fn hot(spec: &Hot, network: &NetworkSpec, nodes: usize, seed: u64) -> Findings {
    let (mut net, _) = RouterNet::linked_ring(nodes, network, seed);
    let mut findings = Findings::default();
    let block = insert_all(&mut net, 1)[0];
    findings.figure("copies before", net.holders()[&block] as f64);
    net.forget_loads();
    let begun = net.now();
    let asks: Vec<(usize, BlockId)> = (0..spec.asks).map(|_| (net.someone(true), block)).collect();
    let asked = ask_all(&mut net, &asks, spec.rate, FETCH_BRANCHES);
    Fetches::of(begun, &asked, spec.asks).report(&mut findings);
    describe_loads(&net, &mut findings);
    findings.figure("copies after", net.holders()[&block] as f64);
    findings.note(
        "load: requests that a node handles, those that it begins as an exit included; the share of those that come from \
         neighbours is the larger figure beside it, because most asks end where they begin once copies are everywhere",
    );
    findings.trace = net.trace();
    findings
}
