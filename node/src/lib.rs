//! The Warren node.

pub mod cli;
pub mod config;
