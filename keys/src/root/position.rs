//! The three positions of a root, and how a reader opens each (`keys §5.2`).
//!
//! Invariant: whichever position a root comes from, it is exactly the root that the publisher sealed under the URI.
//! A copy is believed only when the block at position 0 can be made from it: for a CHK its hash must be the URI's
//! routing key, for signed roots the publisher's signature, which the copy carries, must hold. Whoever knows the URI
//! could write other copies, but none that is believed.

use super::{InvalidRoot, ROOT_CAPACITY, Root};
use crate::labels;
use crate::public_key::PublisherKey;
use crate::signed::{Document, DocumentSigner, SIGNATURE_LEN};
use crate::uri::{ChkUri, SskUri, Uri};
use crate::{BLOCK_SIZE, Block, BlockError, BlockId, BlockKind, CryptoKey, RoutingKey, content};
use bytes::Bytes;

/// Independent positions at which a root is stored.
pub const ROOT_COPIES: usize = 3;

/// Why a block is not the root of a URI.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RootError {
    /// The caller's mistake: no position of this root.
    #[error("the block is at none of the root's positions")]
    OtherBlock,
    /// A copy that does not give the block at position 0: forged by someone who knows the URI.
    #[error("the copy does not agree with the URI")]
    Forged,
    /// The publisher's own root is not well formed.
    #[error(transparent)]
    Invalid(#[from] InvalidRoot),
    /// The URI's keys give no valid address.
    #[error("the URI has no valid address")]
    Address,
}

impl From<BlockError> for RootError {
    fn from(_: BlockError) -> Self {
        Self::Address
    }
}

/// What opens the root of one URI.
pub struct RootReader {
    origin: Origin,
    copies: [DocumentSigner; ROOT_COPIES - 1],
}

/// The block at position 0.
enum Origin {
    Chk { routing: RoutingKey, crypto: CryptoKey },
    Signed(Document),
}

/// An opened root, with what makes its blocks again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenedRoot {
    /// The root.
    pub root: Root,
    /// The block at position 0.
    origin: Block,
}

impl RootReader {
    /// Derives the addresses. Takes some tenths of a millisecond for signed roots.
    ///
    /// # Errors
    /// [`RootError::Address`], which no known URI gives.
    pub fn new(uri: &Uri) -> Result<Self, RootError> {
        match uri {
            Uri::Chk(uri) => Self::of_chk(uri),
            Uri::Ssk(uri) => Self::of_ssk(uri),
            Uri::Usk(uri) => Self::of_ssk(&uri.to_ssk()),
            Uri::Ksk(uri) => {
                let publisher = uri.keypair().publisher();
                Self::of_document(&publisher.key, &publisher.crypto, uri.words.as_str())
            }
        }
    }

    fn of_chk(uri: &ChkUri) -> Result<Self, RootError> {
        let copies = chk_copies(&uri.routing, &uri.crypto)?;
        Ok(Self {
            origin: Origin::Chk {
                routing: uri.routing,
                crypto: uri.crypto.clone(),
            },
            copies,
        })
    }

    fn of_ssk(uri: &SskUri) -> Result<Self, RootError> {
        Self::of_document(&uri.publisher.key, &uri.publisher.crypto, uri.name.as_str())
    }

    pub(super) fn of_document(key: &PublisherKey, crypto: &CryptoKey, name: &str) -> Result<Self, RootError> {
        let document = Document::of_publisher(key, crypto, name);
        let copies = document_copies(document.secret())?;
        Ok(Self {
            origin: Origin::Signed(document),
            copies,
        })
    }

    /// Where the root is: the origin and its copies, in the order of trying.
    pub fn ids(&self) -> [BlockId; ROOT_COPIES] {
        let origin = match &self.origin {
            Origin::Chk { routing, .. } => BlockId::content(*routing),
            Origin::Signed(document) => document.id(),
        };
        let [one, two] = &self.copies;
        [origin, one.document().id(), two.document().id()]
    }

    /// Opens a block that came from any of the positions.
    ///
    /// # Errors
    /// Not a block of this root, a forged copy, or a root that its publisher made wrongly.
    pub fn open(&self, block: &Block) -> Result<OpenedRoot, RootError> {
        let position = self
            .ids()
            .iter()
            .position(|id| *id == block.id())
            .ok_or(RootError::OtherBlock)?;
        let origin = match position.checked_sub(1).and_then(|copy| self.copies.get(copy)) {
            None => block.clone(),
            Some(copy) => self.origin_from_copy(copy, block)?,
        };
        let payload = match &self.origin {
            Origin::Chk { crypto, .. } => content::open(origin.clone(), crypto),
            Origin::Signed(document) => document
                .open(&origin)
                .map_err(|_| RootError::Invalid(InvalidRoot::Malformed))?,
        };
        Ok(OpenedRoot {
            root: Root::decode(&payload)?,
            origin,
        })
    }

    /// The blocks at all positions, bit for bit as the publisher made them, to be inserted where they are missing.
    ///
    /// # Errors
    /// `opened` is of another URI.
    pub fn restore(&self, opened: &OpenedRoot) -> Result<[Block; ROOT_COPIES], RootError> {
        if self.ids()[0] != opened.origin.id() {
            return Err(RootError::OtherBlock);
        }
        self.blocks(&opened.root, opened.origin.clone())
    }

    pub(super) fn blocks(&self, root: &Root, origin: Block) -> Result<[Block; ROOT_COPIES], RootError> {
        let root = root.encode()?;
        let signature = match origin.id().kind {
            BlockKind::Content => Bytes::new(),
            BlockKind::Signed => Document::signature(&origin),
        };
        let mut payload = zeroize::Zeroizing::new(Vec::with_capacity(SIGNATURE_LEN + ROOT_CAPACITY));
        payload.extend_from_slice(&signature);
        payload.extend_from_slice(&root);
        let [one, two] = &self.copies;
        Ok([origin, one.seal(&payload), two.seal(&payload)])
    }

    /// Makes the block at position 0 from a copy, and verifies it.
    fn origin_from_copy(&self, copy: &DocumentSigner, block: &Block) -> Result<Block, RootError> {
        let mut payload = copy.document().open(block).map_err(|_| RootError::Forged)?;
        match &self.origin {
            Origin::Chk { routing, crypto } => {
                payload.resize(BLOCK_SIZE, 0);
                let origin = content::seal_in_place(payload, crypto).map_err(|_| RootError::Forged)?;
                if origin.key() == *routing {
                    Ok(origin)
                } else {
                    Err(RootError::Forged)
                }
            }
            Origin::Signed(document) => {
                let (signature, root) = payload.split_first_chunk().ok_or(RootError::Forged)?;
                document.restore(root, signature).map_err(|_| RootError::Forged)
            }
        }
    }
}

/// Copies of a CHK root: keys from both parts of the URI.
pub(super) fn chk_copies(
    routing: &RoutingKey,
    crypto: &CryptoKey,
) -> Result<[DocumentSigner; 2], BlockError> {
    let copy = |number: u8| {
        let parts: [&[u8]; 3] = [&[number], routing.as_bytes(), crypto.expose()];
        DocumentSigner::of_seed(
            &labels::CHK_COPY_SEED.derive_secret(&parts),
            labels::CHK_COPY_SECRET.derive_secret(&parts),
        )
    };
    Ok([copy(1)?, copy(2)?])
}

/// Copies of a signed root: keys from the document's secret, which holds public key, crypto key and name.
fn document_copies(secret: &[u8; 32]) -> Result<[DocumentSigner; 2], BlockError> {
    let copy = |number: u8| {
        let parts: [&[u8]; 2] = [&[number], secret];
        DocumentSigner::of_seed(
            &labels::DOCUMENT_COPY_SEED.derive_secret(&parts),
            labels::DOCUMENT_COPY_SECRET.derive_secret(&parts),
        )
    };
    Ok([copy(1)?, copy(2)?])
}
