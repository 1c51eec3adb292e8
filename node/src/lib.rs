//! The Warren node: tokio drivers around the protocol's machines, and what the local user touches.
//!
//! A node is a core task, one task for each link, a few datastore workers, and listeners; see [`node`]. All state
//! belongs to one [`node::NodeHandle`]: nothing is global, so several nodes can run in one process.
//!
//! # Invariants
//!
//! - No event loop waits for another: tasks talk through bounded inboxes that refuse instead of blocking.
//! - Byte work never runs in the core task: links seal and open in their own tasks, disk work is in the store pool.
//! - What is logged follows `docs/log-policy.md`; the types of [`log`] enforce it.

pub mod aead;
pub mod cli;
pub mod client;
mod clock;
pub mod config;
pub mod control;
mod core_task;
mod datastore;
pub mod http;
mod inbox;
mod jobs;
pub mod log;
mod memory;
mod net;
pub mod node;
pub mod overview;
mod own;
mod portmap;
pub mod proxy;
pub mod reach;
pub mod settings;
pub mod standing;
mod state;
mod store_pool;
#[cfg(test)]
mod testing;
mod upkeep;
