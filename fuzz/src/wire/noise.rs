//! The other end of a link handshake, as hostile as one likes, from parts that are not Warren's: Noise by `snow`, mask and
//! padding from the specification (protocol §4).

use snow::{Builder, HandshakeState, params::NoiseParams};
use warren_keys::labels;
use warren_proto::{descriptor::NodeSecrets, network::Network};

const NONCE: usize = 32;
const KEY: usize = 32;

/// The handshake between two nodes, seen by one that may say anything inside valid Noise messages.
pub struct Party {
    noise: HandshakeState,
    mask: [Vec<u8>; 3],
}

fn params() -> NoiseParams {
    "Noise_XK_25519_ChaChaPoly_SHA256"
        .parse()
        .expect("a protocol that snow has")
}

impl Party {
    /// The end of `own`; `dials` tells which. `ephemeral` is its ephemeral secret.
    ///
    /// # Panics
    /// Never: the keys have the right length.
    #[must_use]
    pub fn new(
        own: &NodeSecrets,
        peer: &NodeSecrets,
        network: &Network,
        dials: bool,
        ephemeral: &[u8; 32],
    ) -> Self {
        let responder = if dials { peer } else { own };
        let (node, link_key) = (responder.id(), responder.link_public().to_bytes());
        let prologue = [
            &b"warren link handshake 1"[..],
            network.as_bytes(),
            node.as_bytes(),
        ]
        .concat();
        let secret = own.link_secret().to_bytes();
        let builder = Builder::new(params()).prologue(&prologue).expect("set once");
        let builder = builder.local_private_key(&secret).expect("set once");
        let builder = builder.fixed_ephemeral_key_for_testing_only(ephemeral);
        let noise = if dials {
            builder
                .remote_public_key(&link_key)
                .expect("set once")
                .build_initiator()
        } else {
            builder.build_responder()
        };
        let mask = [
            link_key.to_vec(),
            node.as_bytes().to_vec(),
            network.as_bytes().to_vec(),
        ];
        Self {
            noise: noise.expect("all keys are there"),
            mask,
        }
    }

    fn mask(&self, number: u8, nonce: &[u8], key: &mut [u8]) {
        let [link_key, node, network] = &self.mask;
        let mut mask = [0; KEY];
        labels::LINK_MASK.derive_into(&[link_key, node, network, &[number], nonce], &mut mask);
        key.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }

    /// Message `number` (1 to 3) with this payload; its padding is the caller's.
    pub fn write(&mut self, number: u8, nonce: [u8; NONCE], payload: &[u8]) -> Option<Vec<u8>> {
        let mut message = vec![0; payload.len() + 200];
        let len = self.noise.write_message(payload, &mut message).ok()?;
        message.truncate(len);
        if number == 3 {
            return Some(message);
        }
        self.mask(number, &nonce, &mut message[..KEY]);
        Some([&nonce[..], &message].concat())
    }

    /// The payload of message `number`, which is all of `message` but its padding.
    pub fn read(&mut self, number: u8, message: &[u8]) -> Option<Vec<u8>> {
        let mut noise = message.to_vec();
        if number != 3 {
            let nonce: Vec<u8> = noise.drain(..NONCE.min(message.len())).collect();
            let key = noise.get_mut(..KEY)?;
            let mut unmasked = key.to_vec();
            self.mask(number, &nonce, &mut unmasked);
            key.copy_from_slice(&unmasked);
        }
        let mut payload = vec![0; noise.len()];
        let len = self.noise.read_message(&noise, &mut payload).ok()?;
        payload.truncate(len);
        Some(payload)
    }

    /// Hash of all that was said.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        self.noise.get_handshake_hash().to_vec()
    }
}

/// The padding that a payload's last field asks for.
#[must_use]
pub fn padding(len: u16, seed: &[u8; 32]) -> Vec<u8> {
    let mut bytes = vec![0; len.into()];
    labels::LINK_PADDING.derive_into(&[seed], &mut bytes);
    bytes
}
