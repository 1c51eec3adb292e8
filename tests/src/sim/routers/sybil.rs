//! Identities that were ground until they lay nearest to one key.
//!
//! They come after the block was inserted (it is then on honest nodes that are no longer the nearest) or before (then the
//! insert ends at them). They deny all searches and swallow all inserts. Each has the links that the ring rule gives it, and
//! its neighbours see it as their nearest.

use warren_keys::{BlockId, Location};
use warren_proto::routing::{FETCH_BRANCHES, MAX_BRANCHES};

use super::{Conduct, RouterNet};
use crate::sim::{
    draw::Draw,
    report::Findings,
    ring::Ring,
    scenario::{NetworkSpec, Swallow, Sybil},
};

/// Searches with so many branches through so many exits.
const SETTINGS: [(u8, usize); 5] = [
    (FETCH_BRANCHES, 1),
    (FETCH_BRANCHES, 3),
    (MAX_BRANCHES, 1),
    (MAX_BRANCHES, 3),
    (MAX_BRANCHES, 10),
];

/// Surrounds keys, one network for each.
#[must_use]
pub fn sybil(spec: &Sybil, network: &NetworkSpec, nodes: usize, seed: u64) -> Findings {
    let mut findings = Findings::default();
    let mut trace = blake3::Hasher::new();
    for (name, first) in [("after the insert", false), ("before the insert", true)] {
        let mut found = [0_usize; SETTINGS.len()];
        let mut positions = [0_usize; SETTINGS.len()];
        for number in 0..spec.keys {
            let mut siege = Siege::new(network, nodes, seed + number as u64);
            let block = siege.block;
            let roots = [block, siege.net.draw().block_id(), siege.net.draw().block_id()];
            if first {
                siege.surround(spec.identities);
            }
            for root in roots {
                for _ in 0..2 {
                    let exit = siege.net.someone(true);
                    siege.net.insert_now(exit, root);
                }
            }
            if !first {
                siege.surround(spec.identities);
            }
            for (setting, (branches, exits)) in SETTINGS.into_iter().enumerate() {
                for _ in 0..spec.searches {
                    let alone = siege.finds(block, branches, exits);
                    found[setting] += usize::from(alone);
                    let some = alone || roots[1..].iter().any(|root| siege.finds(*root, branches, exits));
                    positions[setting] += usize::from(some);
                }
            }
            trace.update(&siege.net.trace());
        }
        let total = (spec.keys * spec.searches) as f64;
        for (setting, (branches, exits)) in SETTINGS.into_iter().enumerate() {
            let how = format!("{name}, {branches} branches, {exits} exits");
            findings.figure(format!("block found, {how}"), found[setting] as f64 / total);
            findings.figure(
                format!("root found at one of 3 places, {how}"),
                positions[setting] as f64 / total,
            );
        }
    }
    findings.note(format!(
        "{} identities lie nearer to the key than any other node, deny every search and swallow every insert; the root's two \
         other positions are not under attack",
        spec.identities
    ));
    findings.trace = *trace.finalize().as_bytes();
    findings
}

struct Siege {
    net: RouterNet,
    ring: Ring,
    spec: NetworkSpec,
    block: BlockId,
}

impl Siege {
    fn new(spec: &NetworkSpec, nodes: usize, seed: u64) -> Self {
        let (mut net, ring) = RouterNet::linked_ring(nodes, spec, seed);
        let block = net.draw().block_id();
        Self {
            net,
            ring,
            spec: spec.clone(),
            block,
        }
    }

    /// Puts identities between the key and its nearest node, on both sides, linked as the rule says.
    fn surround(&mut self, identities: usize) {
        let key = self.block.key.location();
        let nearest = self.ring.nearest(key, 1, |_| true)[0];
        let gap = self.ring.places()[nearest].distance(key);
        let step = gap / (identities as u64 + 1);
        let mut draw = Draw::new(self.net.draw().number());
        let before = self.net.len();
        for number in 0..identities {
            let reach = step * (number as u64 / 2 + 1);
            let place = if number % 2 == 0 {
                key.as_u64().wrapping_add(reach)
            } else {
                key.as_u64().wrapping_sub(reach)
            };
            let node = self.net.add(Location::new(place));
            self.net.corrupt(node, Conduct::Liar, Swallow::Path);
        }
        // Where the newcomers stand, everybody's nearest are others now: they take up the rule's links among all.
        let (ring, names) = Ring::of((0..self.net.len()).map(|node| self.net.place(node)).collect());
        for (a, b) in ring.links(&self.spec, |_| true, &mut draw) {
            let (a, b) = (names[a], names[b]);
            if a >= before || b >= before {
                self.net.link(a, b);
            }
        }
    }

    /// Whether one of so many exits finds a block.
    fn finds(&mut self, block: BlockId, branches: u8, exits: usize) -> bool {
        (0..exits).any(|_| {
            let exit = self.net.someone(true);
            let asked = self.net.fetch_now(exit, block, branches);
            asked.is_some_and(|asked| asked.found())
        })
    }
}
