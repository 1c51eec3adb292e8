//! How long a message takes from one node to another.
//!
//! A pair of nodes has one latency, drawn evenly from a range; each message adds jitter. Links are TCP: what is lost is sent
//! again after a time-out and holds up what comes after it on the same link, so loss is delay here, never absence. A node's
//! upload is one queue, first come, first served.
//!
//! Not modelled: congestion beyond the sender's own upload, and the fair queue that real links have (interactive first).

use std::collections::BTreeMap;

use core::time::Duration;

use warren_proto::{time::Time, wire::Routed};

use super::{draw::Draw, scenario::NetworkSpec};

/// The first retransmission of a lost segment (RFC 6298: a second at first, 200 ms in today's systems).
const RETRANSMIT: Duration = Duration::from_millis(200);
/// Bytes on the wire of a message without a block: one record, unless it shares it with others.
const SMALL: u64 = 4096;
/// Bytes on the wire of a message with a block: nine records.
const LARGE: u64 = 9 * SMALL;

/// The lines between all nodes.
pub struct Lines {
    seed: u64,
    shortest: Duration,
    spread: u64,
    jitter: u64,
    loss: f64,
    /// Bytes a second that a node can send.
    upload: Option<u64>,
    /// When each node's upload is free.
    free: Vec<Time>,
    /// When the last message arrives on a link, by sender and receiver: none overtakes another.
    last: BTreeMap<(usize, usize), Time>,
}

impl Lines {
    /// The lines of `nodes` nodes.
    #[must_use]
    pub fn new(spec: &NetworkSpec, nodes: usize, seed: u64) -> Self {
        let [shortest, longest] = spec.latency_ms;
        let millis = |number: u64| number.saturating_mul(1000);
        Self {
            seed,
            shortest: Duration::from_millis(shortest),
            spread: millis(longest.saturating_sub(shortest)),
            jitter: millis(spec.jitter_ms),
            loss: spec.loss,
            upload: spec.upload_kib.map(|kib| kib * 1024),
            free: vec![Time(0); nodes],
            last: BTreeMap::new(),
        }
    }

    /// Room for one more node.
    pub fn grow(&mut self) {
        self.free.push(Time(0));
    }

    /// The latency of a pair, the same both ways.
    #[must_use]
    pub fn latency(&self, a: usize, b: usize) -> Duration {
        if self.spread == 0 {
            return self.shortest;
        }
        let pair = mix(self.seed ^ mix(a.min(b) as u64) ^ mix(mix(a.max(b) as u64)));
        self.shortest + Duration::from_micros(pair % self.spread)
    }

    /// When a message of `bytes` that is sent now arrives.
    pub fn arrival(&mut self, now: Time, from: usize, to: usize, bytes: u64, draw: &mut Draw) -> Time {
        let mut sent = now;
        if let Some(rate) = self.upload {
            sent = sent.max(self.free[from]) + Duration::from_micros(bytes * 1_000_000 / rate.max(1));
            self.free[from] = sent;
        }
        let mut arrives = sent + self.latency(from, to);
        if self.jitter > 0 {
            arrives = arrives + Duration::from_micros(draw.up_to(self.jitter));
        }
        if self.loss > 0.0 {
            while draw.chance(self.loss) {
                arrives = arrives + RETRANSMIT + self.latency(from, to);
            }
        }
        if self.jitter > 0 || self.loss > 0.0 {
            let last = self.last.entry((from, to)).or_default();
            arrives = arrives.max(*last);
            *last = arrives;
        }
        arrives
    }
}

/// Bytes of a routed message on the wire, rounded up to records.
#[must_use]
pub fn wire_bytes(message: &Routed) -> u64 {
    match message {
        Routed::Found { .. }
        | Routed::Insert { .. }
        | Routed::Collision { .. }
        | Routed::Replicate { .. } => LARGE,
        _ => SMALL,
    }
}

/// The number of the request that a message belongs to; 0 for those that belong to none.
#[must_use]
pub fn request_number(message: &Routed) -> u64 {
    message.id().map_or(0, |id| id.0)
}

/// A hash of a number (the finaliser of SplitMix64): the same on every platform, and cheap.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> NetworkSpec {
        NetworkSpec {
            latency_ms: [5, 85],
            ..NetworkSpec::default()
        }
    }

    #[test]
    fn a_pair_has_one_latency_and_pairs_differ() {
        let lines = Lines::new(&spec(), 3, 1);
        assert_eq!(lines.latency(1, 2), lines.latency(2, 1));
        assert_ne!(lines.latency(1, 2), lines.latency(0, 2));
        let mean = (0..1000)
            .map(|b| lines.latency(1, b + 2).as_millis())
            .sum::<u128>()
            / 1000;
        assert!((42..48).contains(&mean), "{mean}");
    }

    #[test]
    fn uploads_queue_and_lost_messages_hold_up_the_next() {
        let mut draw = Draw::new(1);
        let spec = NetworkSpec {
            upload_kib: Some(100),
            ..spec()
        };
        let mut lines = Lines::new(&spec, 2, 1);
        let first = lines.arrival(Time(0), 0, 1, 51_200, &mut draw);
        let second = lines.arrival(Time(0), 0, 1, 51_200, &mut draw);
        assert_eq!(
            first.since(Time(0)),
            Duration::from_millis(500) + lines.latency(0, 1)
        );
        assert_eq!(second.since(first), Duration::from_millis(500));
        let spec = NetworkSpec {
            loss: 0.5,
            jitter_ms: 50,
            ..NetworkSpec::default()
        };
        let mut lines = Lines::new(&spec, 2, 1);
        let arrivals: Vec<Time> = (0..50)
            .map(|at| lines.arrival(Time(at), 0, 1, SMALL, &mut draw))
            .collect();
        assert!(arrivals.is_sorted() && arrivals[49].since(Time(49)) > RETRANSMIT);
    }
}
