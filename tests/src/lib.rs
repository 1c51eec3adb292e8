//! Whole networks for tests: real nodes in memory, what they see, and how they misbehave; and for benchmarks.
//!
//! - [`net`]: nodes of the real machines, joined by simulated lines, on one thread and in simulated time
//! - [`watch`]: everything that a node of such a network sees
//! - [`adversary`]: nodes that break the protocol
//! - [`observer`]: what can be concluded from what a node saw
//! - [`process`]: real `warren` processes on loopback
//! - [`sim`]: thousands of nodes, as much of each as the question needs
//! - [`mod@bench`]: real nodes with sockets and disks, and what they cost
//!
//! The tests that stand on this are in `it/`, one binary.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

pub mod adversary;
pub mod bench;
pub mod net;
pub mod observer;
pub mod process;
pub mod sim;
pub mod watch;
