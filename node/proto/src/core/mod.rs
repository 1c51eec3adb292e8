//! The core machine: the decisions of one node.

pub mod api;
