//! The simulator: networks of thousands of nodes, deterministic, in simulated time.
//!
//! ```text
//! tests/scenarios/*.toml ─> Scenario ─> experiment at some level ─> Findings ─> Report ─> JSON, text, SVG
//! ```
//!
//! A whole node with bytes and ciphers is simulated by [`crate::net`], some hundred at a time. What needs thousands is
//! simulated by as much of the node as decides the question; what is left out is said where it is left out:
//!
//! | [`Level`] | real | simple |
//! | --- | --- | --- |
//! | routing ([`routers`]) | `Router` | links by the ring rule, datastores as sets of names |
//! | routing ([`anonymity`], [`latency`]) | `Router`, the client's `Pool` | circuits as lists of nodes |
//! | repair ([`churn`]) | `Router`, `Repair` | links by the ring rule as nodes come and go |
//! | core ([`cores`]) | `Core`: router, topology, repair, pool | link machines in a few lines, circuits without hops |
//!
//! # Invariants
//!
//! 1. A run depends on the scenario and its seed alone: one generator ([`draw`]), one thread, no clock. The hash over all that
//!    happened is in the report.
//! 2. The decisions are those of the daemon's own machines. No rule of routing is written down here a second time.

pub mod anonymity;
pub mod chart;
pub mod churn;
pub mod cores;
pub mod draw;
pub mod known;
pub mod latency;
pub mod line;
pub mod report;
pub mod ring;
pub mod routers;
pub mod run;
pub mod scenario;
pub mod shelves;
pub mod stats;

/// How much of a node is real.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Routers alone.
    Routing,
    /// Routers and repair machines.
    Repair,
    /// Whole cores, without links' bytes.
    Core,
}

impl Level {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Routing => "routing",
            Self::Repair => "repair",
            Self::Core => "core",
        }
    }
}
