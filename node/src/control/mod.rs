//! The control interface: how `warren put`, `get`, `status` and other programs of the same user talk to the running node.
//!
//! HTTP/1.1 on a loopback port. The port and a random token are in a file of mode 0600 in the data directory; every request must bear the
//! token, so that neither another user of the machine nor a web page can use it. Answers that take time are a sequence of small
//! frames ([`frames`]), so that progress, data and the final word, also a late failure, travel in one response.
//!
//! Deliberately not here: anything for browsers (that is the proxy), and remote administration.

pub mod api;
pub mod client;
pub mod frames;
pub mod server;
pub mod token;

pub use client::ControlClient;
pub use server::Control;
