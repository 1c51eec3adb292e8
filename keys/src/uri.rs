//! Public URIs: what a reader needs to fetch (`keys §3`).
//!
//! ```text
//! CHK@routing,crypto,extra[/name…]        SSK@public,crypto,extra/document[/path…]
//! KSK@words[/path…]                       USK@public,crypto,extra/site/edition[/path…]
//! ```
//!
//! Invariants: parsing what was printed gives an equal value; private URIs are another type ([`InsertUri`]), which
//! does not print; `Debug` shows the type of key and nothing else. What a path means in a manifest is not decided here.

mod error;
mod insert;
mod name;
mod parse;
#[cfg(test)]
mod tests;

pub use error::{Part, UriError};
pub use insert::{InsertUri, SskInsert, SskKeypair, UskInsert};
pub use name::{Name, Path};
pub use parse::MAX_URI_LEN;

use crate::{CryptoKey, PublisherKey, RoutingKey, base64};
use core::fmt;
use core::str::FromStr;
use parse::{Components, Cut, Type};

/// This network's algorithm number, the second of a CHK's extra bytes. Freenet's are 2 and 3.
pub const CHK_ALGORITHM: u8 = 16;
/// Extra bytes of a CHK; the last three say, in Freenet's terms, "metadata, not compressed as a whole".
pub const CHK_EXTRA: [u8; 5] = [0, CHK_ALGORITHM, 2, 0xff, 0xff];
/// Extra bytes of an SSK or USK to fetch by.
pub const PUBLIC_EXTRA: [u8; 5] = [1, 0, 2, 0, 1];
/// Extra bytes of an SSK or USK to insert by.
pub const PRIVATE_EXTRA: [u8; 5] = [1, 1, 2, 0, 1];

const FREENET_CHK_ALGORITHMS: [u8; 2] = [2, 3];

/// Any URI that content can be fetched by.
#[derive(Clone, PartialEq, Eq)]
pub enum Uri {
    /// Names one content, for ever.
    Chk(ChkUri),
    /// Names a document of a publisher.
    Ssk(SskUri),
    /// Names a site of a publisher in its editions.
    Usk(UskUri),
    /// Names whatever anyone inserted under some words.
    Ksk(KskUri),
}

/// `CHK@routing,crypto,extra[/name…]`
#[derive(Clone, PartialEq, Eq)]
pub struct ChkUri {
    /// Where the root block is.
    pub routing: RoutingKey,
    /// What opens it.
    pub crypto: CryptoKey,
    /// File name or path; no part of the address.
    pub path: Path,
}

/// What all public SSKs and USKs of one key pair share. Prints as `SSK@public,crypto,extra/`.
#[derive(Clone, PartialEq, Eq)]
pub struct Publisher {
    /// Who signs.
    pub key: PublisherKey,
    /// What opens the documents.
    pub crypto: CryptoKey,
}

/// `SSK@public,crypto,extra/document[/path…]`
#[derive(Clone, PartialEq, Eq)]
pub struct SskUri {
    /// Whose document.
    pub publisher: Publisher,
    /// Its name.
    pub name: Name,
    /// Path in the document.
    pub path: Path,
}

/// `USK@public,crypto,extra/site/edition[/path…]`
#[derive(Clone, PartialEq, Eq)]
pub struct UskUri {
    /// Whose site.
    pub publisher: Publisher,
    /// Its name.
    pub site: Name,
    /// Number of the edition. A negative one asks for the newest, from its absolute value on (as in Freenet).
    pub edition: i64,
    /// Path in the site.
    pub path: Path,
}

/// `KSK@words[/path…]`. Anyone who guesses the words can fetch, and insert something else under them.
#[derive(Clone, PartialEq, Eq)]
pub struct KskUri {
    /// The words; all keys derive from them.
    pub words: Name,
    /// Path in the document.
    pub path: Path,
}

impl Uri {
    /// Reads a URI: with or without `freenet:` or `warren:`, percent-encoded or not.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let uri = Self::from_text(text)?;
        parse::fits(uri.to_string().len())?;
        Ok(uri)
    }

    fn from_text(text: &str) -> Result<Self, UriError> {
        let cut = Cut::new(text)?;
        match cut.kind {
            Type::Chk => ChkUri::from_cut(&cut).map(Self::Chk),
            Type::Ssk => {
                let publisher = Publisher::from_cut(&cut)?;
                let (name, path) = document(&cut)?;
                Ok(Self::Ssk(SskUri {
                    publisher,
                    name,
                    path,
                }))
            }
            Type::Usk => {
                let publisher = Publisher::from_cut(&cut)?;
                let (site, edition, path) = site(&cut)?;
                Ok(Self::Usk(UskUri {
                    publisher,
                    site,
                    edition,
                    path,
                }))
            }
            Type::Ksk => KskUri::from_cut(&cut).map(Self::Ksk),
        }
    }

    /// Path in what the URI names.
    pub const fn path(&self) -> &Path {
        match self {
            Self::Chk(uri) => &uri.path,
            Self::Ssk(uri) => &uri.path,
            Self::Usk(uri) => &uri.path,
            Self::Ksk(uri) => &uri.path,
        }
    }

    /// The same key with another path.
    #[must_use]
    pub fn with_path(mut self, path: Path) -> Self {
        match &mut self {
            Self::Chk(uri) => uri.path = path,
            Self::Ssk(uri) => uri.path = path,
            Self::Usk(uri) => uri.path = path,
            Self::Ksk(uri) => uri.path = path,
        }
        self
    }
}

impl ChkUri {
    fn from_cut(cut: &Cut) -> Result<Self, UriError> {
        let parts = cut.parts(Part::Routing)?;
        let extra: [u8; 5] = parse::bytes(Part::Extra, parts.extra)?;
        if extra[0] == 0 && FREENET_CHK_ALGORITHMS.contains(&extra[1]) {
            return Err(UriError::FreenetChk(extra[1]));
        }
        if extra != CHK_EXTRA {
            return Err(UriError::UnknownExtra(extra));
        }
        let (rest, position) = cut.rest();
        Ok(Self {
            routing: RoutingKey::from_bytes(parse::bytes(Part::Routing, parts.first)?),
            crypto: CryptoKey::from_bytes(parse::bytes(Part::Crypto, parts.crypto)?),
            path: Path::parse(rest, position)?,
        })
    }
}

impl Publisher {
    fn from_cut(cut: &Cut) -> Result<Self, UriError> {
        let parts = cut.parts(Part::PublicKey)?;
        match parse::bytes(Part::Extra, parts.extra)? {
            PUBLIC_EXTRA => {}
            PRIVATE_EXTRA => return Err(UriError::Private),
            extra => return Err(UriError::UnknownExtra(extra)),
        }
        let key = parse::bytes(Part::PublicKey, parts.first)?;
        let crypto = CryptoKey::from_bytes(parse::bytes(Part::Crypto, parts.crypto)?);
        let key = PublisherKey::from_bytes(&key).map_err(|_| UriError::InvalidPublicKey)?;
        Ok(Self { key, crypto })
    }

    fn print(&self, kind: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_key(kind, self.key.as_bytes(), &self.crypto, PUBLIC_EXTRA, f)
    }
}

impl UskUri {
    /// The SSK of this edition: document `site-edition`.
    pub fn to_ssk(&self) -> SskUri {
        let name = edition_name(&self.site, self.edition);
        SskUri {
            publisher: self.publisher.clone(),
            name,
            path: self.path.clone(),
        }
    }
}

impl KskUri {
    fn from_cut(cut: &Cut) -> Result<Self, UriError> {
        let (rest, position) = cut.rest();
        Ok(Self {
            words: Name::new(cut.key.as_str())?,
            path: Path::parse(rest, position)?,
        })
    }
}

fn edition_name(site: &Name, edition: i64) -> Name {
    let mut text = site.as_str().to_owned();
    text.push('-');
    text.push_str(&edition.unsigned_abs().to_string());
    Name::appended(text)
}

fn document(cut: &Cut) -> Result<(Name, Path), UriError> {
    let mut components = cut.components();
    let name = Name::new(components.next()?.unwrap_or_default())?;
    let Components { rest, position } = components;
    Ok((name, Path::parse(rest, position)?))
}

fn site(cut: &Cut) -> Result<(Name, i64, Path), UriError> {
    let mut components = cut.components();
    let site = components
        .next()?
        .filter(|site| !site.is_empty())
        .ok_or(UriError::MissingSite)?;
    let edition = components
        .next()?
        .filter(|text| !text.is_empty())
        .ok_or(UriError::MissingEdition)?;
    // Only the text that the number prints as: one URI for each edition.
    let number = edition
        .parse::<i64>()
        .ok()
        .filter(|number| number.to_string() == edition);
    let number = number.ok_or(UriError::BadEdition)?;
    let Components { rest, position } = components;
    Ok((Name::new(site)?, number, Path::parse(rest, position)?))
}

fn print_key(
    kind: &str,
    first: &[u8; 32],
    crypto: &CryptoKey,
    extra: [u8; 5],
    f: &mut impl fmt::Write,
) -> fmt::Result {
    let crypto = zeroize::Zeroizing::new(base64::encode(crypto.expose()));
    let first = zeroize::Zeroizing::new(base64::encode(first));
    write!(f, "{kind}@{},{},{}", *first, *crypto, base64::encode(&extra))
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        Self::parse(text)
    }
}

/// The publisher's key without a document, as a key generator prints it; the `/` at the end may be missing.
impl FromStr for Publisher {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let cut = Cut::new(text)?;
        match (cut.kind, cut.rest().0) {
            (Type::Ssk | Type::Usk, None | Some("")) => Self::from_cut(&cut),
            (Type::Ssk | Type::Usk, Some(_)) => Err(UriError::ExcessName),
            _ => Err(UriError::UnknownType),
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chk(uri) => fmt::Display::fmt(uri, f),
            Self::Ssk(uri) => fmt::Display::fmt(uri, f),
            Self::Usk(uri) => fmt::Display::fmt(uri, f),
            Self::Ksk(uri) => fmt::Display::fmt(uri, f),
        }
    }
}

impl fmt::Display for ChkUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_key("CHK", self.routing.as_bytes(), &self.crypto, CHK_EXTRA, f)?;
        fmt::Display::fmt(&self.path, f)
    }
}

impl fmt::Display for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print("SSK", f)?;
        f.write_str("/")
    }
}

impl fmt::Display for SskUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.publisher.print("SSK", f)?;
        write!(f, "/{}{}", self.name, self.path)
    }
}

impl fmt::Display for UskUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.publisher.print("USK", f)?;
        write!(f, "/{}/{}{}", self.site, self.edition, self.path)
    }
}

impl fmt::Display for KskUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KSK@{}{}", self.words, self.path)
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chk(uri) => fmt::Debug::fmt(uri, f),
            Self::Ssk(uri) => fmt::Debug::fmt(uri, f),
            Self::Usk(uri) => fmt::Debug::fmt(uri, f),
            Self::Ksk(uri) => fmt::Debug::fmt(uri, f),
        }
    }
}

impl fmt::Debug for ChkUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CHK@..")
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publisher(..)")
    }
}

impl fmt::Debug for SskUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SSK@..")
    }
}

impl fmt::Debug for UskUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("USK@..")
    }
}

impl fmt::Debug for KskUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KSK@..")
    }
}

impl From<ChkUri> for Uri {
    fn from(uri: ChkUri) -> Self {
        Self::Chk(uri)
    }
}

impl From<SskUri> for Uri {
    fn from(uri: SskUri) -> Self {
        Self::Ssk(uri)
    }
}

impl From<UskUri> for Uri {
    fn from(uri: UskUri) -> Self {
        Self::Usk(uri)
    }
}

impl From<KskUri> for Uri {
    fn from(uri: KskUri) -> Self {
        Self::Ksk(uri)
    }
}
