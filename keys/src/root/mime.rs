//! Media types in roots.

use core::fmt;

/// Bytes of the longest media type.
pub const MAX_MIME_LEN: usize = 255;

/// A media type: 1 to 255 printable ASCII characters, so it can stand in an HTTP header as it is. Whether it is a
/// registered type, or a safe one, is for its users to judge.
#[derive(Clone, PartialEq, Eq)]
pub struct Mime(String);

/// A text that is no media type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a media type is 1 to 255 printable ASCII characters")]
pub struct InvalidMime;

impl Mime {
    /// Checks a text.
    ///
    /// # Errors
    /// Empty, too long, or with characters other than printable ASCII.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidMime> {
        let text = text.into();
        let fits =
            (1..=MAX_MIME_LEN).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
        if fits { Ok(Self(text)) } else { Err(InvalidMime) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Mime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Mime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
