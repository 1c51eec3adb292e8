//! The steps that all forms of URI share: percent-encoding, prefix, type, parts (`keys §3.1`).

use super::error::{Part, UriError};
use super::name::decode;
use crate::base64;
use zeroize::Zeroizing;

/// Bytes of the longest text that is read as a URI: room for long names, and a bound on the work of parsing.
pub const MAX_URI_LEN: usize = 4096;

/// Whether a text of so many bytes is read. Asked of what comes in and of what it would be printed as: what is written plainly may
/// be percent-encoded in print, and must be read again.
pub(super) const fn fits(found: usize) -> Result<(), UriError> {
    if found > MAX_URI_LEN {
        let max = MAX_URI_LEN;
        return Err(UriError::TooLong { found, max });
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Chk,
    Ssk,
    Usk,
    Ksk,
}

/// A URI cut at its `@` and first `/`.
pub(super) struct Cut {
    pub(super) kind: Type,
    text: Zeroizing<String>,
    /// Where the rest starts in `text`, if there is one.
    rest: Option<usize>,
    /// What stands between `@` and the first `/`, decoded.
    pub(super) key: Zeroizing<String>,
}

impl Cut {
    pub(super) fn new(text: &str) -> Result<Self, UriError> {
        if text.is_empty() {
            return Err(UriError::Empty);
        }
        fits(text.len())?;
        let text = Zeroizing::new(if is_encoded_whole(text) {
            decode(text, 1)?
        } else {
            text.to_owned()
        });
        let slash = text.find('/');
        let head = Zeroizing::new(decode(&text[..slash.unwrap_or(text.len())], 1)?);
        let bare = without_prefix(&head);
        let (kind, key) = bare.split_once('@').ok_or(UriError::NoType)?;
        let kind = match kind.to_ascii_uppercase().as_str() {
            "CHK" => Type::Chk,
            "SSK" => Type::Ssk,
            "USK" => Type::Usk,
            "KSK" => Type::Ksk,
            _ => return Err(UriError::UnknownType),
        };
        let key = Zeroizing::new(key.to_owned());
        Ok(Self {
            kind,
            text,
            rest: slash.map(|slash| slash + 1),
            key,
        })
    }

    /// What follows the first `/`, still encoded, and its place counted from 1.
    pub(super) fn rest(&self) -> (Option<&str>, usize) {
        (
            self.rest.map(|start| &self.text[start..]),
            self.rest.unwrap_or(self.text.len()) + 1,
        )
    }

    /// The next component after the first `/`, and what follows it.
    pub(super) fn components(&self) -> Components<'_> {
        let (rest, position) = self.rest();
        Components { rest, position }
    }

    /// The three parts with commas between them.
    pub(super) fn parts(&self, first: Part) -> Result<Parts<'_>, UriError> {
        let mut parts = self.key.split(',');
        let parts = Parts {
            first: parts.next().unwrap_or_default(),
            crypto: parts.next().ok_or(UriError::MissingPart(Part::Crypto))?,
            extra: parts.next().ok_or(UriError::MissingPart(Part::Extra))?,
        };
        match self.key.split(',').count() {
            3 if parts.first.is_empty() => Err(UriError::MissingPart(first)),
            3 => Ok(parts),
            count => Err(UriError::ExcessParts(count)),
        }
    }
}

pub(super) struct Parts<'a> {
    pub(super) first: &'a str,
    pub(super) crypto: &'a str,
    pub(super) extra: &'a str,
}

/// Takes decoded components off the rest of a URI.
pub(super) struct Components<'a> {
    pub(super) rest: Option<&'a str>,
    pub(super) position: usize,
}

impl Components<'_> {
    pub(super) fn next(&mut self) -> Result<Option<String>, UriError> {
        let Some(rest) = self.rest else { return Ok(None) };
        let start = self.position;
        let raw = match rest.split_once('/') {
            Some((raw, after)) => {
                self.rest = Some(after);
                self.position += raw.len() + 1;
                raw
            }
            None => {
                self.rest = None;
                rest
            }
        };
        decode(raw, start).map(Some)
    }
}

pub(super) fn bytes<const N: usize>(part: Part, text: &str) -> Result<[u8; N], UriError> {
    base64::decode(text).map_err(|error| UriError::BadPart { part, error })
}

/// A program has encoded the URI as one component, `@` and slashes too. With a slash in the clear, the components
/// were encoded one by one; without an encoded slash both readings agree.
fn is_encoded_whole(text: &str) -> bool {
    !text.contains(['/', '@']) && (text.contains("%2F") || text.contains("%2f"))
}

fn without_prefix(text: &str) -> &str {
    ["freenet:", "warren:"]
        .into_iter()
        .find_map(|prefix| {
            let (head, rest) = text.split_at_checked(prefix.len())?;
            head.eq_ignore_ascii_case(prefix).then_some(rest)
        })
        .unwrap_or(text)
}
