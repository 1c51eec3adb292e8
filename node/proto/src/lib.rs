//! The Warren protocol as machines that do no IO.
//!
//! A node is one [`core`] machine and one [`link`] machine for each neighbour. The driver (the daemon, or a simulator) owns
//! sockets, clock, randomness and disk, and moves inputs and outputs between the machines.
//!
//! # The driving contract
//!
//! 1. The driver passes an input to a machine together with the present [`time::Time`].
//! 2. It drains the machine's outputs until there are none, before the next input.
//! 3. It asks for the next timeout and calls the machine no later than then.
//! 4. Time never goes backwards; calling too early or too often is harmless.
//!
//! # What is deliberately absent
//!
//! Sockets, files, clocks, threads, an async runtime, and any randomness beyond the seed that a machine is made with. The
//! dependency tree is checked for them.

pub mod circuit;
pub mod client;
pub mod core;
pub mod crypto;
pub mod descriptor;
pub mod geometry;
pub mod ids;
pub mod link;
pub mod network;
mod random;
pub mod repair;
pub mod routing;
pub mod time;
pub mod topology;
pub mod wire;
mod zeros;
