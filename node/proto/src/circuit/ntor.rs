//! The circuit handshake: one message each way, one forward-secret pair of keys a hop (protocol §6.2).
//!
//! This is ntor (Goldberg, Stebila, Ustaoglu: "Anonymity and one-way authentication in key exchange protocols", 2012; Tor
//! proposal 216) over X25519, with BLAKE3 in derive-key mode where ntor has its three hashes. The relay is authenticated,
//! the client is not.
//!
//! Invariants: the keys depend on both ephemeral keys, the relay's onion key, its identity, and the place of the relay in
//! the circuit, so an answer made for another relay, layer or attempt never verifies. Key exchanges with points of small
//! order are refused. Ephemeral secrets are used once (the types are consumed) and are zeroized.
//!
//! Deliberately absent: any hiding of the ephemeral keys. Links encrypt them.

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use warren_keys::{
    NodeId,
    labels::{self, Label},
};
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::wire::{Create, Created};

/// Why a handshake failed. Always the fault of the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NtorError {
    /// A public key was a point of small order: the shared secret would be known to everybody.
    #[error("the key exchange has no secret")]
    NoSecret,
    /// The relay did not prove that it holds its onion key.
    #[error("the relay's proof does not hold")]
    BadAuth,
}

/// What both ends of a handshake derive: one key for each direction. Zeroized on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct HopKeys {
    /// Seals packets from the client.
    pub forward: [u8; 32],
    /// Seals packets to the client.
    pub backward: [u8; 32],
}

/// The client's state between its message and the answer.
pub struct ClientHandshake {
    secret: StaticSecret,
    ephemeral: PublicKey,
    relay: NodeId,
    onion_key: PublicKey,
    layer: u8,
}

impl ClientHandshake {
    /// Begins a handshake with `relay`, whose signed descriptor gives `onion_key`, as the hop number `layer` (0 is the entry).
    pub fn start<R: CryptoRng + ?Sized>(
        rng: &mut R,
        relay: NodeId,
        onion_key: &[u8; 32],
        layer: u8,
    ) -> (Self, Create) {
        let secret = StaticSecret::random_from_rng(rng);
        let ephemeral = PublicKey::from(&secret);
        let create = Create {
            layer,
            ephemeral: ephemeral.to_bytes(),
        };
        (
            Self {
                secret,
                ephemeral,
                relay,
                onion_key: PublicKey::from(*onion_key),
                layer,
            },
            create,
        )
    }

    /// Checks the relay's answer and derives the keys.
    ///
    /// # Errors
    /// The answer was not made by the holder of the onion key, for this handshake.
    pub fn finish(self, created: &Created) -> Result<HopKeys, NtorError> {
        let theirs = PublicKey::from(created.ephemeral);
        let transcript = Transcript {
            ephemeral_ephemeral: self.secret.diffie_hellman(&theirs),
            ephemeral_onion: self.secret.diffie_hellman(&self.onion_key),
            relay: &self.relay,
            onion_key: &self.onion_key,
            client: &self.ephemeral,
            server: &theirs,
            layer: self.layer,
        };
        let (keys, auth) = transcript.derive()?;
        if bool::from(auth.ct_eq(&created.auth)) {
            Ok(keys)
        } else {
            Err(NtorError::BadAuth)
        }
    }
}

/// Answers a client's handshake as the relay `relay` with the onion key pair `onion_secret`, `onion_key`.
///
/// # Errors
/// [`NtorError::NoSecret`] when the client's key is of small order.
pub fn respond<R: CryptoRng + ?Sized>(
    rng: &mut R,
    relay: &NodeId,
    onion_secret: &StaticSecret,
    onion_key: &PublicKey,
    create: &Create,
) -> Result<(HopKeys, Created), NtorError> {
    let secret = StaticSecret::random_from_rng(rng);
    let server = PublicKey::from(&secret);
    let client = PublicKey::from(create.ephemeral);
    let transcript = Transcript {
        ephemeral_ephemeral: secret.diffie_hellman(&client),
        ephemeral_onion: onion_secret.diffie_hellman(&client),
        relay,
        onion_key,
        client: &client,
        server: &server,
        layer: create.layer,
    };
    let (keys, auth) = transcript.derive()?;
    Ok((
        keys,
        Created {
            ephemeral: server.to_bytes(),
            auth: *auth,
        },
    ))
}

/// Everything that the keys depend on, in the order in which it is hashed.
struct Transcript<'a> {
    ephemeral_ephemeral: SharedSecret,
    ephemeral_onion: SharedSecret,
    relay: &'a NodeId,
    onion_key: &'a PublicKey,
    client: &'a PublicKey,
    server: &'a PublicKey,
    layer: u8,
}

impl Transcript<'_> {
    fn derive(&self) -> Result<(HopKeys, Zeroizing<[u8; 32]>), NtorError> {
        // Both checks run before the branch, so that time does not tell which of them failed.
        if !(self.ephemeral_ephemeral.was_contributory() & self.ephemeral_onion.was_contributory()) {
            return Err(NtorError::NoSecret);
        }
        let keys = HopKeys {
            forward: self.under(labels::CIRCUIT_FORWARD),
            backward: self.under(labels::CIRCUIT_BACKWARD),
        };
        Ok((keys, Zeroizing::new(self.under(labels::CIRCUIT_AUTH))))
    }

    fn under(&self, label: Label) -> [u8; 32] {
        label.derive(&[
            self.ephemeral_ephemeral.as_bytes(),
            self.ephemeral_onion.as_bytes(),
            self.relay.as_bytes(),
            self.onion_key.as_bytes(),
            self.client.as_bytes(),
            self.server.as_bytes(),
            &[self.layer],
        ])
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::circuit::testing::{node_id, stanzas};

    struct Relay {
        id: NodeId,
        secret: StaticSecret,
        public: PublicKey,
    }

    fn relay(seed: u8) -> Relay {
        let secret = StaticSecret::from([seed; 32]);
        Relay {
            id: node_id(seed),
            public: PublicKey::from(&secret),
            secret,
        }
    }

    fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    #[test]
    fn both_ends_derive_the_same_two_keys() {
        let relay = relay(1);
        let (client, create) = ClientHandshake::start(&mut rng(2), relay.id, relay.public.as_bytes(), 3);
        let (at_relay, created) =
            respond(&mut rng(4), &relay.id, &relay.secret, &relay.public, &create).unwrap();
        let at_client = client.finish(&created).unwrap();
        assert_eq!(at_client.forward, at_relay.forward);
        assert_eq!(at_client.backward, at_relay.backward);
        assert_ne!(at_client.forward, at_client.backward);
        assert_ne!(at_client.forward, created.auth);
    }

    #[test]
    fn any_difference_breaks_the_proof() {
        let (right, other) = (relay(1), relay(9));
        // What the client believes: identity, onion key. What the relay does: identity, onion key, layer.
        let attempt = |id: NodeId, key: &PublicKey, relay_id: NodeId, relay_key: &Relay, shift: u8| {
            let (client, mut create) = ClientHandshake::start(&mut rng(2), id, key.as_bytes(), 1);
            create.layer += shift;
            let (_, created) = respond(
                &mut rng(4),
                &relay_id,
                &relay_key.secret,
                &relay_key.public,
                &create,
            )
            .unwrap();
            client.finish(&created).map(|_| ())
        };
        assert_eq!(attempt(right.id, &right.public, right.id, &right, 0), Ok(()));
        assert_eq!(
            attempt(other.id, &right.public, right.id, &right, 0),
            Err(NtorError::BadAuth)
        );
        assert_eq!(
            attempt(right.id, &other.public, right.id, &right, 0),
            Err(NtorError::BadAuth)
        );
        assert_eq!(
            attempt(right.id, &right.public, other.id, &right, 0),
            Err(NtorError::BadAuth)
        );
        assert_eq!(
            attempt(right.id, &right.public, right.id, &other, 0),
            Err(NtorError::BadAuth)
        );
        assert_eq!(
            attempt(right.id, &right.public, right.id, &right, 1),
            Err(NtorError::BadAuth)
        );
    }

    #[test]
    fn every_changed_bit_of_the_answer_is_caught() {
        let relay = relay(1);
        for bit in 0..512 {
            let (client, create) = ClientHandshake::start(&mut rng(2), relay.id, relay.public.as_bytes(), 0);
            let (_, mut created) =
                respond(&mut rng(4), &relay.id, &relay.secret, &relay.public, &create).unwrap();
            let bytes = if bit < 256 {
                &mut created.ephemeral
            } else {
                &mut created.auth
            };
            bytes[bit % 256 / 8] ^= 1 << (bit % 8);
            assert!(client.finish(&created).is_err(), "bit {bit}");
        }
    }

    /// The points of small order and their other encodings (RFC 7748 §6.1; the list of Bernstein's curve25519 page).
    #[test]
    fn points_of_small_order_are_refused() {
        let relay = relay(1);
        let mut weak = vec![[0; 32], [0; 32]];
        weak[1][0] = 1;
        for order_eight in [
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        ] {
            weak.push(crate::circuit::testing::hex(order_eight).try_into().unwrap());
        }
        for low in [0xec, 0xed, 0xee] {
            let mut near_p = [0xff; 32];
            (near_p[0], near_p[31]) = (low, 0x7f);
            weak.push(near_p);
        }
        for point in weak {
            let create = Create {
                layer: 0,
                ephemeral: point,
            };
            let refused = respond(&mut rng(4), &relay.id, &relay.secret, &relay.public, &create);
            assert_eq!(refused.err(), Some(NtorError::NoSecret));
            let (client, _) = ClientHandshake::start(&mut rng(2), relay.id, relay.public.as_bytes(), 0);
            let created = Created {
                ephemeral: point,
                auth: [0; 32],
            };
            assert_eq!(client.finish(&created).err(), Some(NtorError::NoSecret));
            let (client, create) = ClientHandshake::start(&mut rng(2), relay.id, &point, 0);
            let (_, created) =
                respond(&mut rng(4), &relay.id, &relay.secret, &relay.public, &create).unwrap();
            assert_eq!(client.finish(&created).err(), Some(NtorError::NoSecret));
        }
    }

    /// An RNG that gives out given bytes, so that vectors can fix the ephemeral secrets.
    struct Fixed(Vec<u8>);

    impl rand_core::TryRng for Fixed {
        type Error = core::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            unreachable!("only bytes are asked for")
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            unreachable!("only bytes are asked for")
        }
        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
            out.copy_from_slice(&self.0[..out.len()]);
            Ok(())
        }
    }

    impl rand_core::TryCryptoRng for Fixed {}

    #[test]
    fn vectors() {
        let mut seen = 0;
        for vector in stanzas("ntor") {
            let bytes = |name: &str| <[u8; 32]>::try_from(vector.bytes(name)).unwrap();
            let id = NodeId::from_bytes(&bytes("relay")).unwrap();
            let secret = StaticSecret::from(bytes("onion_secret"));
            let public = PublicKey::from(&secret);
            assert_eq!(*public.as_bytes(), bytes("onion_key"));
            let layer = vector.text("layer").parse().unwrap();
            let (client, create) = ClientHandshake::start(
                &mut Fixed(vector.bytes("client_secret")),
                id,
                public.as_bytes(),
                layer,
            );
            assert_eq!(
                create,
                Create {
                    layer,
                    ephemeral: bytes("client")
                }
            );
            let (keys, created) = respond(
                &mut Fixed(vector.bytes("server_secret")),
                &id,
                &secret,
                &public,
                &create,
            )
            .unwrap();
            assert_eq!(
                created,
                Created {
                    ephemeral: bytes("server"),
                    auth: bytes("auth")
                }
            );
            let at_client = client.finish(&created).unwrap();
            assert_eq!(
                (at_client.forward, at_client.backward),
                (bytes("forward"), bytes("backward"))
            );
            assert_eq!(
                (keys.forward, keys.backward),
                (bytes("forward"), bytes("backward"))
            );
            seen += 1;
        }
        assert_eq!(seen, 3);
    }
}
