//! The protocol's machines under sequences of operations.
//!
//! Each target keeps a model of what the machine owes: answers, ends, bounds. Whatever the input does, the model must be
//! satisfied at the end, when everything has been let go of.

pub mod circuits;
pub mod core;
pub mod download;
pub mod link;
pub mod link_pair;
pub mod messages;
pub mod net;
pub mod pool;
pub mod repair;
pub mod router;
pub mod send_queue;
pub mod topology;
pub mod upload;

use ::core::time::Duration;

use warren_proto::time::{Time, WallTime};

use crate::{Input, fixtures};

/// When every world begins.
pub const START: Time = Time(1_000_000);

/// A step in time: mostly milliseconds, sometimes seconds or minutes.
pub fn pause(input: &mut Input<'_>) -> Duration {
    let length = u64::from(input.u8());
    match input.u8() % 4 {
        0 | 1 => Duration::from_millis(length),
        2 => Duration::from_millis(length * 100),
        _ => Duration::from_secs(length * 10),
    }
}

/// The wall clock that belongs to a point in time.
#[must_use]
pub fn wall(now: Time) -> WallTime {
    WallTime(fixtures::NOW.0 + now.0 / 1_000_000)
}
