//! What can be wrong with a URI, so that the user is told exactly that.

use crate::Base64Error;
use core::fmt;

/// A part of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// First part of a CHK.
    Routing,
    /// First part of an SSK or USK to fetch by.
    PublicKey,
    /// First part of an SSK or USK to insert by.
    PrivateKey,
    /// Second part.
    Crypto,
    /// Third part.
    Extra,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Routing => "routing key (first part)",
            Self::PublicKey => "public key (first part)",
            Self::PrivateKey => "private key (first part)",
            Self::Crypto => "crypto key (second part)",
            Self::Extra => "extra (third part)",
        })
    }
}

/// Why a text is not a URI. The messages quote at most one character of the text: it may be secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UriError {
    /// Longer than any URI.
    #[error("the key is {found} bytes long, at most {max} are allowed")]
    TooLong {
        /// Bytes that are there.
        found: usize,
        /// [`crate::MAX_URI_LEN`].
        max: usize,
    },
    /// Nothing at all.
    #[error("the key is empty")]
    Empty,
    /// No `@` before the first `/`.
    #[error("the key has no '@': CHK@, SSK@, USK@ or KSK@ is expected")]
    NoType,
    /// What stands before the `@` is not a type of key.
    #[error("the type of key before the '@' is unknown: CHK, SSK, USK or KSK is expected")]
    UnknownType,
    /// A comma and what follows it is missing.
    #[error("the {0} is missing: three parts with commas between them are expected after the '@'")]
    MissingPart(Part),
    /// More than three parts.
    #[error("there are {0} parts with commas between them after the '@', 3 are expected")]
    ExcessParts(usize),
    /// A part is not base64 of the right length.
    #[error("the {part} {error}")]
    BadPart {
        /// The part.
        part: Part,
        /// What is wrong with it.
        error: Base64Error,
    },
    /// A CHK of Freenet, whose data is not in this network.
    #[error("this is a CHK of Freenet (algorithm {0}): its data is not in this network")]
    FreenetChk(u8),
    /// The extra bytes are of no known kind.
    #[error("the extra (third part) stands for the bytes {0:?}, which no key of this type has")]
    UnknownExtra([u8; 5]),
    /// The public key is not one.
    #[error("the public key (first part) is not a valid Ed25519 key; an SSK or USK of Freenet is none")]
    InvalidPublicKey,
    /// A private URI where a public one is expected.
    #[error("this is a private key, for inserting; a public one is expected here")]
    Private,
    /// A public URI where a private one is expected.
    #[error("this is a public key, for fetching; a private one is expected here")]
    Public,
    /// A CHK where a key to insert under is expected.
    #[error("nothing can be inserted under a given CHK: it follows from the content")]
    NotInsertable,
    /// No document name.
    #[error("the document name is missing")]
    MissingName,
    /// No site name in a USK.
    #[error("the site name is missing")]
    MissingSite,
    /// No edition in a USK.
    #[error("the edition number after the site name is missing")]
    MissingEdition,
    /// The edition is not a number as it is printed.
    #[error(
        "the edition after the site name is not a whole number between -(2^63) and 2^63-1 without leading zeros"
    )]
    BadEdition,
    /// Text after a key pair, which has no document.
    #[error("a key pair takes no document name")]
    ExcessName,
    /// A `%` without two hexadecimal digits.
    #[error("the '%' at byte {position} is not followed by two hexadecimal digits")]
    BadPercent {
        /// Its place, counted from 1.
        position: usize,
    },
    /// Percent-encoded bytes that are not UTF-8.
    #[error("percent-encoded bytes at or after byte {position} are not UTF-8")]
    NotUtf8 {
        /// Start of the component, counted from 1.
        position: usize,
    },
    /// A name with a control character.
    #[error("a name contains the control character U+{0:04X}")]
    ControlCharacter(u32),
    /// A name `.` or `..`, which no browser would send.
    #[error("a name is '.' or '..'")]
    DotName,
}
