//! How often the protocol requires which operation (`docs/bench.md` has the table).

use warren_keys::{BLOCK_SIZE, splitfile::Layout};
use warren_proto::geometry::{BLOCK_BODY, CONTROL_BODY};

use super::Way;

/// Hops of a circuit.
const CIRCUIT_HOPS: u64 = 3;
/// Copies of a block (protocol §7): the sink's and its four neighbours'.
const COPIES: u64 = 5;
/// Type and length before each frame, and the number of a circuit or request behind it (protocol §5.2).
const FRAME: u64 = 4;
const CIRCUIT: u64 = 4;
const REQUEST: u64 = 8;
/// A packet on a link.
const BLOCK_PACKET: u64 = FRAME + CIRCUIT + BLOCK_BODY as u64;
const CONTROL_PACKET: u64 = FRAME + CIRCUIT + CONTROL_BODY as u64;
/// A routed block: Found and Insert have a byte of their own, Replicate has not, and each names the block's kind.
const ROUTED_BLOCK: u64 = FRAME + REQUEST + 2 + BLOCK_SIZE as u64;
/// Request, and the answers without a block.
const ROUTED_REQUEST: u64 = FRAME + REQUEST + 44;
const ROUTED_ANSWER: u64 = FRAME + REQUEST + 1;

/// Routing hops of a block behind the exit, mean.
#[derive(Clone, Copy, Debug)]
pub struct Hops {
    /// Of an insert, up to the sink.
    pub insert: f64,
    /// Copies that an insert leaves on its way, beside the five at its end (protocol §7.4).
    pub near: f64,
    /// Of a fetch.
    pub fetch: f64,
    /// Copies that a fetch leaves in caches.
    pub cached: f64,
}

impl Hops {
    /// What eight nodes that are all linked give: the sink is one of eight, and so is the exit; five of eight hold the block when
    /// it is stored, and an exit that does not keeps it too.
    pub const EIGHT_NODES: Self = Self {
        insert: 7.0 / 8.0,
        near: 3.0 / 8.0,
        fetch: 21.0 / 64.0,
        cached: 21.0 / 64.0,
    };
}

/// A file's blocks, and their way.
pub struct Plan {
    bytes: u64,
    /// Of content.
    data: u64,
    /// With parity.
    all: u64,
    /// Of the lists of keys, with parity: these go in through two exits.
    lists: u64,
    /// Of the lists, without parity.
    list_data: u64,
    segments: u64,
    hops: Hops,
}

/// Operations.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(super) struct Work {
    /// Layers put on or taken off packets with a block. Half of them each.
    pub(super) block_layers: u64,
    /// Layers put on or taken off small packets.
    pub(super) control_layers: u64,
    /// Bytes of frames over links, each sealed, written, read and opened once.
    pub(super) link_bytes: u64,
    /// Blocks hashed.
    pub(super) hashes: u64,
    /// Bytes of the file hashed.
    pub(super) file_hashed: u64,
    /// Blocks encrypted or decrypted by the client.
    pub(super) ciphers: u64,
    /// Segments erasure-coded.
    pub(super) segments: u64,
    /// Slots written to a datastore.
    pub(super) writes: u64,
    /// Slots read from one.
    pub(super) reads: u64,
    /// Bytes of the file read.
    pub(super) file_read: u64,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "thousands of blocks times a few hops"
)]
fn times(count: u64, mean: f64) -> u64 {
    (count as f64 * mean).round() as u64
}

impl Plan {
    /// For a file that does not shrink by compression.
    ///
    /// # Errors
    /// No file has this length.
    pub fn new(bytes: u64, hops: Hops) -> anyhow::Result<Self> {
        let layout = Layout::of_stream(bytes)?;
        let lists = || layout.levels().skip(1);
        Ok(Self {
            bytes,
            data: layout.content().data_blocks(),
            all: layout.total_blocks(),
            lists: lists().map(|level| level.keys()).sum(),
            list_data: lists().map(|level| level.data_blocks()).sum(),
            segments: layout.levels().map(|level| level.segments()).sum(),
            hops,
        })
    }

    /// Blocks that go in or come out.
    #[must_use]
    pub fn blocks(&self, way: Way) -> u64 {
        if way == Way::In {
            // The lists twice, and the root at three places, twice.
            self.all + self.lists + 6
        } else {
            self.data + self.list_data + 1
        }
    }

    pub(super) fn work(&self, way: Way) -> Work {
        match way {
            Way::In => self.inward(),
            Way::Out => self.outward(),
        }
    }

    fn inward(&self) -> Work {
        let blocks = self.blocks(Way::In);
        let routed = times(blocks, self.hops.insert);
        let pushed = self.all * (COPIES - 1);
        Work {
            block_layers: blocks * 2 * CIRCUIT_HOPS,
            control_layers: blocks * 2 * CIRCUIT_HOPS,
            link_bytes: blocks * CIRCUIT_HOPS * (BLOCK_PACKET + CONTROL_PACKET)
                + (routed + pushed) * (ROUTED_BLOCK + ROUTED_ANSWER),
            // The client for the key, the exit, and each node behind it.
            hashes: self.all + blocks + routed + pushed,
            file_hashed: self.bytes,
            ciphers: self.all,
            segments: self.segments,
            writes: self.all * COPIES + times(blocks, self.hops.near),
            reads: 0,
            file_read: self.bytes,
        }
    }

    fn outward(&self) -> Work {
        let blocks = self.blocks(Way::Out);
        let routed = times(blocks, self.hops.fetch);
        Work {
            block_layers: blocks * 2 * CIRCUIT_HOPS,
            control_layers: blocks * 2 * CIRCUIT_HOPS,
            link_bytes: blocks * CIRCUIT_HOPS * (BLOCK_PACKET + CONTROL_PACKET)
                + routed * (ROUTED_BLOCK + ROUTED_REQUEST),
            // The client, and each node that the block passes behind the exit.
            hashes: blocks + routed,
            file_hashed: self.bytes,
            ciphers: blocks,
            segments: 0,
            writes: times(blocks, self.hops.cached),
            reads: blocks,
            file_read: 0,
        }
    }
}

impl Work {
    /// What is due after `turn` of `turns`.
    pub(super) fn part(&self, turn: u64, turns: u64) -> Self {
        self.each(self, |all, _| all * turn / turns)
    }

    pub(super) fn minus(&self, done: &Self) -> Self {
        self.each(done, |due, done| due - done)
    }

    fn each(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            block_layers: f(self.block_layers, other.block_layers),
            control_layers: f(self.control_layers, other.control_layers),
            link_bytes: f(self.link_bytes, other.link_bytes),
            hashes: f(self.hashes, other.hashes),
            file_hashed: f(self.file_hashed, other.file_hashed),
            ciphers: f(self.ciphers, other.ciphers),
            segments: f(self.segments, other.segments),
            writes: f(self.writes, other.writes),
            reads: f(self.reads, other.reads),
            file_read: f(self.file_read, other.file_read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_megabytes() {
        let plan = Plan::new(100_000_000, Hops::EIGHT_NODES).unwrap();
        assert_eq!((plan.data, plan.segments), (3052, 25));
        let (inward, outward) = (plan.inward(), plan.outward());
        // Five copies, and one at most exits that hold none of them.
        assert_eq!(inward.writes, plan.all * 5 + times(plan.blocks(Way::In), 0.375));
        // A block in passes three links of the circuit and almost five behind the exit.
        let links = inward.link_bytes / (plan.all * BLOCK_SIZE as u64);
        assert_eq!(links, 8);
        assert_eq!(outward.link_bytes / (plan.data * BLOCK_SIZE as u64), 3);
    }

    #[test]
    fn the_parts_add_up() {
        let work = Plan::new(7_000_000, Hops::EIGHT_NODES).unwrap().inward();
        let mut done = Work::default();
        for turn in 1..=13 {
            let due = work.part(turn, 13);
            assert!(due.minus(&done).link_bytes > 0);
            done = due;
        }
        assert_eq!(done, work);
    }
}
