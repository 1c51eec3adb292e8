//! Whole cores among others: a network that forms itself, serves clients over circuits, and bears faults.

mod duties;
mod forming;
mod joining;
mod membership;
mod network;
mod outage;
mod serving;
