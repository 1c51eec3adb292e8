//! Roots to blocks, at the publisher (`keys §5.3`).

use super::position::{ROOT_COPIES, RootError, RootReader};
use super::{InvalidRoot, Root};
use crate::signed::DocumentSigner;
use crate::uri::{ChkUri, InsertUri, Path, Uri};
use crate::{Block, CryptoKey, Seed, content, labels};

/// Where the key of a CHK comes from.
#[derive(Debug)]
pub enum KeyChoice {
    /// From the content: the same file gives the same CHK.
    Reproducible,
    /// From the content and a random seed: nobody who knows the content can compute the CHK.
    Unpredictable(Seed),
}

/// A root that is ready to be inserted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedRoot {
    /// What fetches it.
    pub uri: Uri,
    /// The blocks at its three positions.
    pub blocks: [Block; ROOT_COPIES],
}

/// Seals a root under a CHK.
///
/// # Errors
/// A bug.
pub fn seal_chk(root: &Root, choice: &KeyChoice) -> Result<SealedRoot, RootError> {
    let bytes = root.encode()?;
    // The root's bytes are part of the input either way, so a seed used twice still makes two keys.
    let crypto = CryptoKey::from_bytes(match choice {
        KeyChoice::Reproducible => labels::CHK_REPRODUCIBLE.derive(&[&bytes]),
        KeyChoice::Unpredictable(seed) => labels::CHK_UNPREDICTABLE.derive(&[seed.expose(), &bytes]),
    });
    let origin = content::seal(&bytes, &crypto).map_err(|_| InvalidRoot::Length)?;
    let uri = Uri::Chk(ChkUri {
        routing: origin.key(),
        crypto,
        path: Path::none(),
    });
    let blocks = RootReader::new(&uri)?.blocks(root, origin)?;
    Ok(SealedRoot { uri, blocks })
}

/// Seals a root under an SSK, USK or KSK. The same root gives the same blocks.
///
/// # Errors
/// A bug.
pub fn seal_insert(root: &Root, insert: &InsertUri) -> Result<SealedRoot, RootError> {
    let (keypair, name) = insert.signer();
    let publisher = keypair.publisher();
    let signer = DocumentSigner::of_publisher(keypair.signing(), keypair.crypto(), name.as_str())?;
    let reader = RootReader::of_document(&publisher.key, &publisher.crypto, name.as_str())?;
    let blocks = reader.blocks(root, signer.seal(&root.encode()?))?;
    Ok(SealedRoot {
        uri: insert.to_uri(),
        blocks,
    })
}
