//! Names in URIs: validation and percent-encoding (`keys §3.5`).
//!
//! Invariant: a [`Name`] is not empty, and no name or path segment has control characters (they would end up in
//! headers and terminals) or is `.` or `..` (browsers remove them, so such a key could not be fetched).

use super::error::UriError;
use core::fmt;

/// Name of a document or site, or the words of a KSK: UTF-8, not empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Checks a name as it reads when decoded.
    ///
    /// # Errors
    /// Empty, `.` or `..`, or with control characters.
    pub fn new(text: impl Into<String>) -> Result<Self, UriError> {
        let text = text.into();
        if text.is_empty() {
            return Err(UriError::MissingName);
        }
        Ok(Self(check(text)?))
    }

    /// A name with digits or dashes added, which leaves it valid.
    pub(super) const fn appended(text: String) -> Self {
        Self(text)
    }

    /// The decoded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What follows the document in a URI: the path in a manifest, or a CHK's file name.
///
/// `/` at the end is an empty last segment, so that printing gives back exactly what was parsed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Path(Vec<String>);

impl Path {
    /// Checks segments as they read when decoded; they may be empty.
    ///
    /// # Errors
    /// `.` or `..`, or control characters.
    pub fn new<S: Into<String>>(segments: impl IntoIterator<Item = S>) -> Result<Self, UriError> {
        segments
            .into_iter()
            .map(|segment| check(segment.into()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// No path.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// The decoded segments.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.0.iter().map(String::as_str)
    }

    /// Whether the URI ends before the path, without a `/`.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last segment that is not empty. It may hold any printable character, also `/` and `\`.
    pub fn file_name(&self) -> Option<&str> {
        self.segments().rev().find(|segment| !segment.is_empty())
    }

    /// Parses the rest of a URI; `start` is its place in the text, for errors.
    pub(super) fn parse(rest: Option<&str>, start: usize) -> Result<Self, UriError> {
        let mut segments = Vec::new();
        let mut position = start;
        for raw in rest.into_iter().flat_map(|rest| rest.split('/')) {
            segments.push(check(decode(raw, position)?)?);
            position += raw.len() + 1;
        }
        Ok(Self(segments))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        encode(&self.0, f)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.0 {
            f.write_str("/")?;
            encode(segment, f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Name(..)")
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({} segments)", self.0.len())
    }
}

fn check(text: String) -> Result<String, UriError> {
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(UriError::ControlCharacter(u32::from(control)));
    }
    match text.as_str() {
        "." | ".." => Err(UriError::DotName),
        _ => Ok(text),
    }
}

/// Whether a byte prints as itself: unreserved characters of RFC 3986 and those delimiters that are harmless in
/// a path segment, in a shell word between quotes and in HTML.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
        )
}

fn encode(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in text.bytes() {
        match byte {
            byte if is_plain(byte) => write!(f, "{}", char::from(byte))?,
            byte => write!(f, "%{byte:02X}")?,
        }
    }
    Ok(())
}

/// Replaces every `%XX` of a component that starts at byte `start` (from 1) of the text.
pub(super) fn decode(raw: &str, start: usize) -> Result<String, UriError> {
    if !raw.contains('%') {
        return Ok(raw.to_owned());
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes().enumerate();
    while let Some((index, byte)) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|(_, digit)| hex_value(digit));
        match (digit(), digit()) {
            (Some(high), Some(low)) => decoded.push(high << 4 | low),
            _ => {
                return Err(UriError::BadPercent {
                    position: start + index,
                });
            }
        }
    }
    String::from_utf8(decoded).map_err(|_| UriError::NotUtf8 { position: start })
}

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
