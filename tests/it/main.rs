//! Tests of whole networks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod adversary;
mod files;
mod network;
mod privacy;
mod process;
mod simulate;
mod waiting;
