//! The operations that the protocol requires for a file in and out of the network, done alone: same sizes, same counts, one
//! thread, nothing between them. What a real network costs beyond that is overhead.
//!
//! Not counted, although something of the kind is needed: making packets and frames, moving bytes between buffers, finding
//! places in the index, waking threads. The counts are in `docs/bench.md`.

mod counts;
mod operations;

pub use counts::{Hops, Plan};

use std::time::Duration;

use super::{megabytes, report::Report};
use counts::Work;
use operations::Bench;

/// Blocks of each kind of work between two readings of the clock.
const TURN: u64 = 16;

/// Processor time by kind of work.
#[derive(Clone, Copy, Default, Debug)]
struct Shares {
    onion: Duration,
    link: Duration,
    socket: Duration,
    hash: Duration,
    cipher: Duration,
    code: Duration,
    store: Duration,
}

impl Shares {
    fn sum(&self) -> Duration {
        self.onion + self.link + self.socket + self.hash + self.cipher + self.code + self.store
    }

    fn add_to(&self, report: &mut Report, name: &str, megabytes: f64) {
        let shares = [
            ("onion", self.onion),
            ("link", self.link),
            ("socket", self.socket),
            ("hash", self.hash),
            ("cipher", self.cipher),
            ("code", self.code),
            ("store", self.store),
            ("cpu", self.sum()),
        ];
        for (part, time) in shares {
            let per = time.as_secs_f64() * 1000.0 / megabytes;
            report.add(format!("floor.{name}.{part}"), per, "CPU ms/MB");
        }
    }
}

/// Which way a file goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Into the network.
    In,
    /// Out of it.
    Out,
}

impl Way {
    /// As figures call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// Does the work for a file of `bytes` whose blocks take so many routing hops, and gives its processor time.
///
/// # Errors
/// When there is no loopback socket or no room in the temporary folder.
pub fn run(report: &mut Report, way: Way, bytes: u64, hops: Hops) -> anyhow::Result<Duration> {
    let plan = Plan::new(bytes, hops)?;
    let mut bench = Bench::new()?;
    let work = plan.work(way);
    bench.prepare(work.reads)?;
    let turns = plan.blocks(way).div_ceil(TURN);
    let mut shares = Shares::default();
    let mut done = Work::default();
    for turn in 1..=turns {
        // Fractions of a hop add up over the turns.
        let due = work.part(turn, turns);
        let now = due.minus(&done);
        done = due;
        shares.onion += bench.onion(now.block_layers, now.control_layers)?;
        let (link, socket) = bench.links(now.link_bytes)?;
        shares.link += link;
        shares.socket += socket;
        shares.hash += bench.hash(now.hashes, now.file_hashed);
        shares.cipher += bench.cipher(now.ciphers);
        shares.code += bench.code(now.segments)?;
        shares.store += bench.store(now.writes, now.reads, now.file_read)?;
    }
    shares.add_to(report, way.name(), megabytes(bytes));
    Ok(shares.sum())
}

/// Both ways, as eight nodes that are all linked would need.
///
/// # Errors
/// As [`run`].
pub fn bench(report: &mut Report, bytes: u64) -> anyhow::Result<()> {
    run(report, Way::In, bytes, Hops::EIGHT_NODES)?;
    run(report, Way::Out, bytes, Hops::EIGHT_NODES)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_the_work_of_a_small_file() {
        let mut report = Report::default();
        bench(&mut report, 5_000_000).unwrap();
        assert!(report.figure("floor.in.cpu") > report.figure("floor.out.cpu"));
        assert!(report.figure("floor.in.code").is_some_and(|time| time > 0.0));
        assert_eq!(report.figure("floor.out.code"), Some(0.0));
    }
}
