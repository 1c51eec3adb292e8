//! What comes from this machine: the configuration, the control interface, and requests to the HTTP proxy.

pub mod config;
pub mod control;
pub mod http;
