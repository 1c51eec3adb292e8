//! Keys and blocks of Warren: URIs, identities, block formats, key derivation, roots and splitfiles.
//!
//! The byte-level specification is `docs/keys.md`; code cites its sections as `keys §n`.
//!
//! Invariants of the whole crate: no IO, no clock, no threads, no ambient randomness (randomness comes in as an RNG
//! or a [`Seed`]); no panic on any input; secrets are zeroized on drop and have no readable `Debug`; a [`Block`] is
//! verified by construction. How blocks travel or are stored is not known here.

pub mod base64;
mod block;
mod cipher;
pub mod content;
mod identity;
pub mod labels;
mod public_key;
pub mod root;
mod routing;
mod secret;
mod signed;
pub mod splitfile;
pub mod stream;
mod uri;
#[cfg(test)]
mod vectors;

pub use base64::Base64Error;
pub use block::{BLOCK_SIZE, Block, BlockError, BlockId, BlockKind};
pub use identity::{IdentityKey, InvalidSignature, NodeId, NodeIdError, SIGNATURE_SIZE};
pub use public_key::{InvalidPublicKey, PublisherKey};
pub use routing::{Location, RoutingKey};
pub use secret::{CryptoKey, Seed};
pub use signed::SIGNED_PAYLOAD;
pub use uri::{
    CHK_ALGORITHM, CHK_EXTRA, ChkUri, InsertUri, KskUri, MAX_URI_LEN, Name, PRIVATE_EXTRA, PUBLIC_EXTRA,
    Part, Path, Publisher, SskInsert, SskKeypair, SskUri, Uri, UriError, UskInsert, UskUri,
};
