//! Private URIs: what a publisher needs to insert (`keys §3.4`).
//!
//! Invariant: nothing here implements `Display`, and `Debug` is redacted; private texts come only from `expose`,
//! in buffers that are zeroized. The 32-byte Ed25519 seed stands where a public URI has the public key.

use super::error::{Part, UriError};
use super::parse::{self, Cut, Type};
use super::{
    KskUri, Name, PRIVATE_EXTRA, PUBLIC_EXTRA, Path, Publisher, SskUri, Uri, UskUri, document, edition_name,
    print_key, site,
};
use crate::labels;
use crate::{CryptoKey, PublisherKey, Seed};
use core::fmt;
use ed25519_dalek::SigningKey;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// Room for `SSK@private,crypto,extra`: 43, 43 and 7 characters, and what stands between.
const KEY_LEN: usize = 99;

/// The secret half of a publisher: signing key and crypto key.
#[derive(Clone)]
pub struct SskKeypair {
    signing: SigningKey,
    crypto: CryptoKey,
}

/// Any URI that content can be inserted under at a place of the publisher's choice.
#[derive(Clone)]
pub enum InsertUri {
    /// A document.
    Ssk(SskInsert),
    /// An edition of a site.
    Usk(UskInsert),
    /// Words; not secret by themselves.
    Ksk(KskUri),
}

/// `SSK@private,crypto,extra/document[/path…]`
#[derive(Clone)]
pub struct SskInsert {
    /// Who signs.
    pub keypair: SskKeypair,
    /// Name of the document.
    pub name: Name,
    /// Path in the document.
    pub path: Path,
}

/// `USK@private,crypto,extra/site/edition[/path…]`
#[derive(Clone)]
pub struct UskInsert {
    /// Who signs.
    pub keypair: SskKeypair,
    /// Name of the site.
    pub site: Name,
    /// Number of the edition.
    pub edition: i64,
    /// Path in the site.
    pub path: Path,
}

impl SskKeypair {
    /// A random key pair.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self::new(&Seed::generate(rng), CryptoKey::generate(rng))
    }

    /// The key pair of a seed.
    pub fn new(seed: &Seed, crypto: CryptoKey) -> Self {
        Self {
            signing: SigningKey::from_bytes(seed.expose()),
            crypto,
        }
    }

    /// Reads `SSK@private,crypto,extra/`; the `/` at the end may be missing.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let cut = Cut::new(text)?;
        match (cut.kind, cut.rest().0) {
            (Type::Ssk | Type::Usk, None | Some("")) => Self::from_cut(&cut),
            (Type::Ssk | Type::Usk, Some(_)) => Err(UriError::ExcessName),
            _ => Err(UriError::UnknownType),
        }
    }

    /// The private text `SSK@private,crypto,extra/`.
    pub fn expose(&self) -> Zeroizing<String> {
        self.text("SSK", "/")
    }

    /// The public half.
    pub fn publisher(&self) -> Publisher {
        Publisher {
            key: PublisherKey::of_signing_key(&self.signing),
            crypto: self.crypto.clone(),
        }
    }

    /// The private URI of one document.
    pub const fn document(self, name: Name) -> SskInsert {
        SskInsert {
            keypair: self,
            name,
            path: Path::none(),
        }
    }

    /// The private URI of one edition of a site.
    pub const fn site(self, site: Name, edition: i64) -> UskInsert {
        UskInsert {
            keypair: self,
            site,
            edition,
            path: Path::none(),
        }
    }

    pub(crate) const fn signing(&self) -> &SigningKey {
        &self.signing
    }

    pub(crate) const fn crypto(&self) -> &CryptoKey {
        &self.crypto
    }

    fn from_cut(cut: &Cut) -> Result<Self, UriError> {
        let parts = cut.parts(Part::PrivateKey)?;
        match parse::bytes(Part::Extra, parts.extra)? {
            PRIVATE_EXTRA => {}
            PUBLIC_EXTRA => return Err(UriError::Public),
            extra => return Err(UriError::UnknownExtra(extra)),
        }
        let seed = Seed::from_bytes(parse::bytes(Part::PrivateKey, parts.first)?);
        Ok(Self::new(
            &seed,
            CryptoKey::from_bytes(parse::bytes(Part::Crypto, parts.crypto)?),
        ))
    }

    fn text(&self, kind: &str, rest: &str) -> Zeroizing<String> {
        // Room for the whole, so that no outgrown copy stays behind unzeroized.
        let mut text = Zeroizing::new(String::with_capacity(KEY_LEN + rest.len()));
        // Writing to a String does not fail.
        let _ = print_key(
            kind,
            self.signing.as_bytes(),
            &self.crypto,
            PRIVATE_EXTRA,
            &mut *text,
        );
        text.push_str(rest);
        text
    }
}

impl InsertUri {
    /// Reads a private URI, or a KSK.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let uri = Self::from_text(text)?;
        parse::fits(uri.expose().len())?;
        Ok(uri)
    }

    fn from_text(text: &str) -> Result<Self, UriError> {
        let cut = Cut::new(text)?;
        match cut.kind {
            Type::Chk => Err(UriError::NotInsertable),
            Type::Ssk => {
                let keypair = SskKeypair::from_cut(&cut)?;
                let (name, path) = document(&cut)?;
                Ok(Self::Ssk(SskInsert { keypair, name, path }))
            }
            Type::Usk => {
                let keypair = SskKeypair::from_cut(&cut)?;
                let (site, edition, path) = site(&cut)?;
                Ok(Self::Usk(UskInsert {
                    keypair,
                    site,
                    edition,
                    path,
                }))
            }
            Type::Ksk => KskUri::from_cut(&cut).map(Self::Ksk),
        }
    }

    /// The private text.
    pub fn expose(&self) -> Zeroizing<String> {
        match self {
            Self::Ssk(uri) => uri.keypair.text("SSK", &format!("/{}{}", uri.name, uri.path)),
            Self::Usk(uri) => {
                let rest = format!("/{}/{}{}", uri.site, uri.edition, uri.path);
                uri.keypair.text("USK", &rest)
            }
            Self::Ksk(uri) => Zeroizing::new(uri.to_string()),
        }
    }

    /// The public URI of what is inserted under this one.
    pub fn to_uri(&self) -> Uri {
        match self {
            Self::Ssk(uri) => Uri::Ssk(SskUri {
                publisher: uri.keypair.publisher(),
                name: uri.name.clone(),
                path: uri.path.clone(),
            }),
            Self::Usk(uri) => Uri::Usk(UskUri {
                publisher: uri.keypair.publisher(),
                site: uri.site.clone(),
                edition: uri.edition,
                path: uri.path.clone(),
            }),
            Self::Ksk(uri) => Uri::Ksk(uri.clone()),
        }
    }

    /// Keys and document name under which the root is signed.
    pub(crate) fn signer(&self) -> (SskKeypair, Name) {
        match self {
            Self::Ssk(uri) => (uri.keypair.clone(), uri.name.clone()),
            Self::Usk(uri) => (uri.keypair.clone(), edition_name(&uri.site, uri.edition)),
            Self::Ksk(uri) => (uri.keypair(), uri.words.clone()),
        }
    }
}

impl KskUri {
    /// The key pair that the words stand for.
    pub fn keypair(&self) -> SskKeypair {
        let words = self.words.as_str().as_bytes();
        let seed = Seed::from_bytes(labels::KSK_SEED.derive(&[words]));
        SskKeypair::new(&seed, CryptoKey::from_bytes(labels::KSK_CRYPTO.derive(&[words])))
    }
}

impl From<SskInsert> for InsertUri {
    fn from(uri: SskInsert) -> Self {
        Self::Ssk(uri)
    }
}

impl From<UskInsert> for InsertUri {
    fn from(uri: UskInsert) -> Self {
        Self::Usk(uri)
    }
}

impl From<KskUri> for InsertUri {
    fn from(uri: KskUri) -> Self {
        Self::Ksk(uri)
    }
}

impl fmt::Debug for SskKeypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SskKeypair(..)")
    }
}

impl fmt::Debug for InsertUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ssk(_) => "private SSK@..",
            Self::Usk(_) => "private USK@..",
            Self::Ksk(_) => "KSK@..",
        })
    }
}

impl fmt::Debug for SskInsert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("private SSK@..")
    }
}

impl fmt::Debug for UskInsert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("private USK@..")
    }
}
