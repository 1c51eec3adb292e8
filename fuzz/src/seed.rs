//! Inputs to start from, and how they are written.

/// A named input; written field by field, as [`crate::Input`] reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seed {
    /// File name in the corpus.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

impl Seed {
    /// An empty input.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            bytes: Vec::new(),
        }
    }

    /// Appends a byte.
    #[must_use]
    pub fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    /// Appends two bytes.
    #[must_use]
    pub fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends four bytes.
    #[must_use]
    pub fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends eight bytes.
    #[must_use]
    pub fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends bytes.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends bytes (at most 255) behind their length in one byte.
    #[must_use]
    pub fn chunk(self, bytes: &[u8]) -> Self {
        let len = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
        self.u8(len).bytes(&bytes[..len.into()])
    }

    /// Appends bytes (at most 65,535) behind their length in two bytes.
    #[must_use]
    pub fn long_chunk(self, bytes: &[u8]) -> Self {
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.u16(len).bytes(&bytes[..len.into()])
    }

    /// Leaves out the zeros at the end, which an [`crate::Input`] reads anyway.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        let len = self
            .bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        self.bytes.truncate(len);
        self
    }
}

/// Numbers the seeds of a kind: `kind-0`, `kind-1`, and so on.
pub fn numbered(kind: &str, inputs: impl IntoIterator<Item = Vec<u8>>) -> impl Iterator<Item = Seed> {
    inputs.into_iter().enumerate().map(move |(number, bytes)| Seed {
        name: format!("{kind}-{number}"),
        bytes,
    })
}
