//! Onion layers: what each hop's keys do to a packet (protocol §6.3).
//!
//! A packet's body has one of two constant lengths on every link. The layer of hop `i` covers its first `size.layer(i)`
//! bytes, of which the last sixteen are the tag; what lies behind is filler of zeros. Opening a layer leaves sixteen more
//! bytes of filler, sealing one leaves sixteen fewer, and what is inside of one layer is exactly what the next one covers.
//!
//! Invariants: every byte of a body is either under the tag of the hop that reads it or checked to be zero, so a changed
//! packet never passes an honest hop. Each direction counts its packets of both sizes together, and the counter is the
//! nonce: a packet that is missing, repeated or out of order never opens. The size and the direction are associated data.
//!
//! Deliberately absent: any recovery. A cipher that has failed once is out of step, and its circuit is closed.

use crate::{
    circuit::ntor::HopKeys,
    crypto::Aead,
    geometry::{MAX_HOPS, PacketSize},
    zeros::is_zero,
};

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Forward,
    Backward,
}

/// The packet is not one that an honest chain of hops would have sent here now. The circuit has to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the packet does not open")]
pub struct BadPacket;

/// One hop's two ciphers, at the client or at the hop itself.
pub struct HopCipher<A> {
    layer: usize,
    forward: Counted<A>,
    backward: Counted<A>,
}

impl<A: Aead> HopCipher<A> {
    /// The ciphers of hop number `layer`; `None` when a circuit cannot be that long.
    pub fn new(layer: u8, keys: &HopKeys) -> Option<Self> {
        let layer = usize::from(layer);
        (layer < MAX_HOPS).then(|| Self {
            layer,
            forward: Counted::new(&keys.forward, Direction::Forward),
            backward: Counted::new(&keys.backward, Direction::Backward),
        })
    }

    /// The number of the hop; 0 is the entry.
    pub fn layer(&self) -> u8 {
        // `new` lets nothing above MAX_HOPS in.
        u8::try_from(self.layer).unwrap_or(u8::MAX)
    }

    /// Client: adds this hop's layer to a packet on its way out.
    ///
    /// # Errors
    /// The body has another length, or bytes where the filler goes.
    pub fn seal_forward(&mut self, size: PacketSize, body: &mut [u8]) -> Result<(), BadPacket> {
        self.forward.seal(self.layer, size, body)
    }

    /// Hop: removes its layer from a packet that comes from the client's side.
    ///
    /// # Errors
    /// The packet was changed, or is not the next one.
    pub fn open_forward(&mut self, size: PacketSize, body: &mut [u8]) -> Result<(), BadPacket> {
        self.forward.open(self.layer, size, body)
    }

    /// Hop: adds its layer to a packet on its way to the client.
    ///
    /// # Errors
    /// The body has another length, or bytes where the filler goes.
    pub fn seal_backward(&mut self, size: PacketSize, body: &mut [u8]) -> Result<(), BadPacket> {
        self.backward.seal(self.layer, size, body)
    }

    /// Client: removes this hop's layer from an answer.
    ///
    /// # Errors
    /// The packet was changed, or is not the next one.
    pub fn open_backward(&mut self, size: PacketSize, body: &mut [u8]) -> Result<(), BadPacket> {
        self.backward.open(self.layer, size, body)
    }
}

/// A cipher and the number of packets that it has seen.
struct Counted<A> {
    aead: A,
    direction: Direction,
    packets: u64,
}

impl<A: Aead> Counted<A> {
    fn new(key: &[u8; 32], direction: Direction) -> Self {
        Self {
            aead: A::new(key),
            direction,
            packets: 0,
        }
    }

    fn seal(&mut self, layer: usize, size: PacketSize, body: &mut [u8]) -> Result<(), BadPacket> {
        filler_is_zero(size, body, size.layer(layer + 1))?;
        let nonce = self.next()?;
        self.aead
            .seal(nonce, &aad(size, self.direction), &mut body[..size.layer(layer)]);
        Ok(())
    }

    fn open(&mut self, layer: usize, size: PacketSize, body: &mut [u8]) -> Result<(), BadPacket> {
        filler_is_zero(size, body, size.layer(layer))?;
        let nonce = self.next()?;
        let opened = self
            .aead
            .open(
                nonce,
                &aad(size, self.direction),
                &mut body[..size.layer(layer)],
                0,
            )
            .map_err(|_| BadPacket)?;
        body[opened..size.layer(layer)].fill(0);
        Ok(())
    }

    fn next(&mut self) -> Result<u64, BadPacket> {
        let nonce = self.packets;
        self.packets = nonce.checked_add(1).ok_or(BadPacket)?;
        Ok(nonce)
    }
}

const fn aad(size: PacketSize, direction: Direction) -> [u8; 2] {
    let size = match size {
        PacketSize::Control => 0,
        PacketSize::Block => 1,
    };
    let direction = match direction {
        Direction::Forward => 0,
        Direction::Backward => 1,
    };
    [size, direction]
}

/// Whether `body` has the length of `size` and only zeros from `from` on.
fn filler_is_zero(size: PacketSize, body: &[u8], from: usize) -> Result<(), BadPacket> {
    if body.len() == size.body() && is_zero(&body[from..]) {
        Ok(())
    } else {
        Err(BadPacket)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::{
        circuit::testing::{hex, stanzas},
        crypto::Portable,
        geometry::TAG_LEN,
    };

    type Hops = Vec<HopCipher<Portable>>;

    fn keys(layer: u8) -> HopKeys {
        HopKeys {
            forward: [layer + 1; 32],
            backward: [layer + 101; 32],
        }
    }

    fn hops(count: u8) -> Hops {
        (0..count)
            .map(|layer| HopCipher::new(layer, &keys(layer)).unwrap())
            .collect()
    }

    fn body(size: PacketSize, fill: u8) -> Vec<u8> {
        let mut body = vec![fill; size.payload()];
        body.resize(size.body(), 0);
        body
    }

    const SIZES: [PacketSize; 2] = [PacketSize::Control, PacketSize::Block];

    #[test]
    fn packets_pass_circuits_of_every_length_both_ways() {
        for count in 1..=5 {
            let (mut client, mut relays) = (hops(count), hops(count));
            for size in [SIZES[0], SIZES[1], SIZES[1], SIZES[0]] {
                let plain = body(size, 7);
                let mut packet = plain.clone();
                client
                    .iter_mut()
                    .rev()
                    .for_each(|hop| hop.seal_forward(size, &mut packet).unwrap());
                for relay in &mut relays {
                    assert_eq!(packet.len(), size.body());
                    relay.open_forward(size, &mut packet).unwrap();
                }
                assert_eq!(packet, plain);
                relays
                    .iter_mut()
                    .rev()
                    .for_each(|hop| hop.seal_backward(size, &mut packet).unwrap());
                client
                    .iter_mut()
                    .for_each(|hop| hop.open_backward(size, &mut packet).unwrap());
                assert_eq!(packet, plain);
            }
        }
        assert!(
            HopCipher::<Portable>::new(
                5,
                &HopKeys {
                    forward: [0; 32],
                    backward: [0; 32]
                }
            )
            .is_none()
        );
    }

    #[test]
    fn every_flipped_bit_of_a_control_packet_is_caught_by_the_next_hop() {
        let (mut client, mut relays) = (hops(3), hops(3));
        let mut sealed = body(PacketSize::Control, 7);
        client
            .iter_mut()
            .rev()
            .for_each(|hop| hop.seal_forward(PacketSize::Control, &mut sealed).unwrap());
        relays[0].open_forward(PacketSize::Control, &mut sealed).unwrap();
        for position in 0..PacketSize::Control.body() * 8 {
            let mut packet = sealed.clone();
            packet[position / 8] ^= 1 << (position % 8);
            // A cipher that has failed is out of step: a fresh one for each.
            let mut next = HopCipher::<Portable>::new(1, &keys(1)).unwrap();
            assert_eq!(
                next.open_forward(PacketSize::Control, &mut packet),
                Err(BadPacket),
                "bit {position}"
            );
        }
        let mut next = HopCipher::<Portable>::new(1, &keys(1)).unwrap();
        next.open_forward(PacketSize::Control, &mut sealed).unwrap();
    }

    #[test]
    fn bytes_in_the_filler_are_refused_on_the_way_back() {
        for size in SIZES {
            for layer in 0..5_usize {
                let covered = size.layer(layer + 1);
                for position in covered..size.body() {
                    let mut packet = body(size, 7);
                    packet[position] = 1;
                    let mut hop = hops(5).swap_remove(layer);
                    assert_eq!(hop.seal_backward(size, &mut packet), Err(BadPacket));
                }
            }
        }
    }

    #[test]
    fn replay_gap_size_and_direction_are_caught() {
        let sealed = |count: usize| {
            let mut hop = hops(1);
            (0..count)
                .map(|_| {
                    let mut packet = body(PacketSize::Control, 7);
                    hop[0].seal_forward(PacketSize::Control, &mut packet).unwrap();
                    packet
                })
                .collect::<Vec<_>>()
        };
        let packets = sealed(2);
        let mut relay = hops(1);
        relay[0]
            .open_forward(PacketSize::Control, &mut packets[0].clone())
            .unwrap();
        assert!(
            relay[0]
                .open_forward(PacketSize::Control, &mut packets[0].clone())
                .is_err(),
            "replay"
        );
        let mut relay = hops(1);
        assert!(
            relay[0]
                .open_forward(PacketSize::Control, &mut packets[1].clone())
                .is_err(),
            "gap"
        );
        let mut relay = hops(1);
        assert!(
            relay[0]
                .open_backward(PacketSize::Control, &mut packets[0].clone())
                .is_err(),
            "direction"
        );
        let mut relay = hops(1);
        let mut longer = packets[0].clone();
        longer.resize(PacketSize::Block.body(), 0);
        assert!(
            relay[0].open_forward(PacketSize::Block, &mut longer).is_err(),
            "size"
        );
        for len in [
            0,
            1,
            TAG_LEN,
            PacketSize::Control.body() - 1,
            PacketSize::Control.body() + 1,
        ] {
            let mut relay = hops(1);
            assert!(
                relay[0]
                    .open_forward(PacketSize::Control, &mut vec![0; len])
                    .is_err(),
                "length {len}"
            );
            assert!(
                relay[0]
                    .seal_backward(PacketSize::Control, &mut vec![0; len])
                    .is_err(),
                "length {len}"
            );
        }
    }

    #[test]
    fn sizes_share_one_counter() {
        let mut client = hops(1);
        let (mut control, mut block) = (body(PacketSize::Control, 1), body(PacketSize::Block, 2));
        client[0].seal_forward(PacketSize::Control, &mut control).unwrap();
        client[0].seal_forward(PacketSize::Block, &mut block).unwrap();
        let mut relay = hops(1);
        assert!(relay[0].open_forward(PacketSize::Block, &mut block).is_err());
    }

    #[test]
    fn vectors() {
        let keys: Vec<HopKeys> = stanzas("ntor")
            .map(|vector| HopKeys {
                forward: vector.bytes("forward").try_into().unwrap(),
                backward: vector.bytes("backward").try_into().unwrap(),
            })
            .collect();
        let mut hops: Hops = (0..)
            .zip(&keys)
            .map(|(layer, keys)| HopCipher::new(layer, keys).unwrap())
            .collect();
        let mut seen = 0;
        for vector in stanzas("onion") {
            let size = if vector.text("size") == "block" {
                PacketSize::Block
            } else {
                PacketSize::Control
            };
            let packet: usize = vector.text("packet").parse().unwrap();
            let mut forward: Vec<u8> = (0..size.payload())
                .map(|i| u8::try_from((i * 7 + packet) % 251).unwrap())
                .collect();
            forward.resize(size.body(), 0);
            let mut backward = forward.clone();
            for hop in hops.iter_mut().rev() {
                hop.seal_forward(size, &mut forward).unwrap();
                hop.seal_backward(size, &mut backward).unwrap();
            }
            for (body, name) in [(forward, "forward"), (backward, "backward")] {
                assert_eq!(body[size.body() - 64..], hex(vector.text(&format!("{name}_end"))));
                assert_eq!(Sha256::digest(&body)[..], vector.bytes(&format!("{name}_sha256")));
            }
            seen += 1;
        }
        assert_eq!(seen, 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn random_bytes_never_open(mut bytes in proptest::collection::vec(any::<u8>(), PacketSize::Control.body())) {
            bytes[PacketSize::Control.layer(2)..].fill(0);
            prop_assert!(hops(3)[2].open_forward(PacketSize::Control, &mut bytes).is_err());
        }
    }
}
