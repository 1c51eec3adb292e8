//! The secrets of a node: its identity, and the X25519 keys that derive from it.
//!
//! One seed is all that a node has to keep. The X25519 keys are static; forward secrecy of links and circuits comes from
//! their ephemeral keys.

use rand_core::CryptoRng;
use warren_keys::{IdentityKey, NodeId, labels};
use x25519_dalek::{PublicKey, StaticSecret};

use super::{Descriptor, Services, Statement};
use crate::network::Network;

/// Everything that only this node knows of its keys. All of it is zeroized on drop.
pub struct NodeSecrets {
    identity: IdentityKey,
    link: StaticSecret,
    link_public: PublicKey,
    onion: StaticSecret,
    onion_public: PublicKey,
}

impl NodeSecrets {
    /// The secrets that derive from an identity.
    #[must_use]
    pub fn new(identity: IdentityKey) -> Self {
        let link = StaticSecret::from(*identity.derive(labels::LINK_KEY));
        let onion = StaticSecret::from(*identity.derive(labels::ONION_KEY));
        let (link_public, onion_public) = (PublicKey::from(&link), PublicKey::from(&onion));
        Self {
            identity,
            link,
            link_public,
            onion,
            onion_public,
        }
    }

    /// A new node.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self::new(IdentityKey::generate(rng))
    }

    /// The identity's secret key; its seed is what a key file has to hold.
    #[must_use]
    pub const fn identity(&self) -> &IdentityKey {
        &self.identity
    }

    /// Who this node is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.identity.id()
    }

    /// Secret of the link handshake.
    #[must_use]
    pub const fn link_secret(&self) -> &StaticSecret {
        &self.link
    }

    /// Public half of it, as descriptors and references carry it.
    #[must_use]
    pub const fn link_public(&self) -> &PublicKey {
        &self.link_public
    }

    /// Secret of the circuit handshake.
    #[must_use]
    pub const fn onion_secret(&self) -> &StaticSecret {
        &self.onion
    }

    /// Public half of it.
    #[must_use]
    pub const fn onion_public(&self) -> &PublicKey {
        &self.onion_public
    }

    /// What the keys alone say: no address, no service, no date.
    #[must_use]
    pub fn statement(&self) -> Statement {
        Statement {
            identity: self.id(),
            link_key: self.link_public.to_bytes(),
            onion_key: self.onion_public.to_bytes(),
            addresses: Vec::new(),
            services: Services::default(),
            published: 0,
        }
    }

    /// Signs a statement of this node: [`Descriptor::sign`].
    #[must_use]
    pub fn sign(&self, statement: Statement, network: &Network) -> Descriptor {
        Descriptor::sign(&self.identity, statement, network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::fixtures::{key, network};

    #[test]
    fn keys_follow_from_the_identity_and_differ() {
        let (one, again, other) = (
            NodeSecrets::new(key(1)),
            NodeSecrets::new(key(1)),
            NodeSecrets::new(key(2)),
        );
        assert_eq!(one.statement(), again.statement());
        assert_ne!(one.link_public(), one.onion_public());
        assert_ne!(one.link_public(), other.link_public());
        assert_eq!(*one.link_public(), PublicKey::from(one.link_secret()));
        assert_eq!(*one.onion_public(), PublicKey::from(one.onion_secret()));
    }

    #[test]
    fn signed_statements_are_the_nodes_own() {
        let secrets = NodeSecrets::new(key(1));
        let statement = Statement {
            services: Services::ALL,
            published: 7,
            ..secrets.statement()
        };
        let descriptor = secrets.sign(statement.clone(), &network());
        assert_eq!(*descriptor, statement);
        assert_eq!(descriptor.identity, secrets.id());
    }
}
