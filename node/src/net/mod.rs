//! Links and how they come about: listener, dialler, and one task for each link.

pub mod limits;
mod registry;
