//! Real nodes over loopback: sockets, disk, several nodes in one process.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "tests may fail by panicking, and the measurement prints"
)]

mod blocks;
mod files;
mod helpers;
mod links;
mod logs;
mod restart;
mod strangers;
