//! Links between neighbours.

pub mod api;
