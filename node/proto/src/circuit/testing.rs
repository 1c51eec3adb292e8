//! Helpers of the tests: vectors from `tests/vectors/proto/circuits.txt`, identities.

use std::collections::BTreeMap;

use warren_keys::{IdentityKey, NodeId, Seed};

const VECTORS: &str = include_str!("../../../../tests/vectors/proto/circuits.txt");

/// One vector: its named values.
pub(crate) struct Stanza(BTreeMap<&'static str, &'static str>);

impl Stanza {
    pub(crate) fn text(&self, name: &str) -> &'static str {
        self.0
            .get(name)
            .copied()
            .unwrap_or_else(|| panic!("the vector has no {name}"))
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        hex(self.text(name))
    }
}

/// The vectors of one kind.
pub(crate) fn stanzas(kind: &str) -> impl Iterator<Item = Stanza> {
    stanzas_of(VECTORS, kind)
}

/// The vectors of one kind in a file of this form.
pub(crate) fn stanzas_of(file: &'static str, kind: &str) -> impl Iterator<Item = Stanza> {
    file.split("\n\n").filter_map(move |stanza| {
        let lines = stanza.trim().strip_prefix(&format!("[{kind}]\n"))?;
        Some(Stanza(
            lines
                .lines()
                .map(|line| line.split_once(" = ").unwrap())
                .collect(),
        ))
    })
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

pub(crate) fn identity(seed: u8) -> IdentityKey {
    IdentityKey::from_seed(&Seed::from_bytes([seed; 32]))
}

pub(crate) fn node_id(seed: u8) -> NodeId {
    identity(seed).id()
}
