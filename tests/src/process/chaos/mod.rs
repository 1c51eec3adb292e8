//! Many nodes that live through bad times: restarted, cut off, killed and replaced, slowed down.
//!
//! - [`lines`]: what is between two nodes, and what is done to it
//! - [`spaces`]: network namespaces, for lines on which packets are really lost
//! - [`fleet`]: the nodes, and whether they are one network
//! - [`load`]: files that are inserted and fetched meanwhile, and how all of them are found whole in the end
//!
//! What a test does at random it does from a seed, which is printed when it fails. The order of events between twenty processes is
//! nobody's to repeat; which node was killed, which file was sent where, and which line was slow is.

#![allow(clippy::print_stdout, reason = "what a run did is part of what a test prints")]

pub mod fleet;
pub mod lines;
pub mod load;
pub mod spaces;
