//! Links between neighbours.

pub mod api;
pub mod frames;
pub mod record;

mod noise;
#[cfg(test)]
pub(crate) mod statistics;
