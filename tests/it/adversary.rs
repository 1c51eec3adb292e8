//! Nodes that break the protocol: what they do is noticed by the next honest node, and the user does not notice at all.

mod blocks;
mod flips;
mod silence;
