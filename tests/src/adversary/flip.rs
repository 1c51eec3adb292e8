//! Changes one bit of one packet on its way out.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use warren_proto::{
    geometry::PacketSize,
    ids::{CircuitId, LinkId},
    wire::{FRAME_HEADER, FrameType},
};

use super::Adversary;

/// Bytes of a packet's frame before its body: the frame's header and the circuit's number.
pub const HEADER: usize = FRAME_HEADER + 4;

/// Which bit to flip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flip {
    /// The link that the packet leaves by.
    pub link: LinkId,
    /// The first packet of this size.
    pub size: PacketSize,
    /// The byte, counted from the first of the frame: type, length (3), circuit (4), body.
    pub byte: usize,
    /// The bit in it.
    pub bit: u8,
}

/// Flips one bit in the first packet that fits, once.
#[derive(Clone, Default)]
pub struct Flipper {
    order: Rc<RefCell<Option<Flip>>>,
    /// The circuit, on its link, of the packet that was changed last.
    victim: Rc<Cell<Option<CircuitId>>>,
    streams: BTreeMap<LinkId, Position>,
}

/// Where in the frames of a link's stream the last record ended.
#[derive(Clone, Copy, Default)]
struct Position {
    /// Bytes of the frame that are still to come.
    left: usize,
    /// Bytes until the one to be changed, which is in this frame.
    change: Option<(usize, u8)>,
    /// Bytes of a header that was cut in two, and how many.
    header: [u8; FRAME_HEADER],
    known: usize,
}

impl Flipper {
    /// One that does nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Flips this bit when it comes by.
    pub fn order(&self, flip: Flip) {
        *self.order.borrow_mut() = Some(flip);
        self.victim.set(None);
    }

    /// The circuit whose packet was changed, on the link that the packet left by.
    #[must_use]
    pub fn victim(&self) -> Option<CircuitId> {
        self.victim.get()
    }

    /// Whether the bit that was ordered has been flipped.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.order.borrow().is_none()
    }
}

impl Adversary for Flipper {
    fn sealing(&mut self, link: LinkId, record: &mut [u8]) {
        let Some((payload, count)) = record.split_last_chunk_mut::<2>() else {
            return;
        };
        let used = usize::from(u16::from_be_bytes(*count)).min(payload.len());
        let position = self.streams.entry(link).or_default();
        let mut rest = &mut payload[..used];
        while !rest.is_empty() {
            if position.left == 0 {
                let (whole, taken) = (position.known == 0, rest.len().min(FRAME_HEADER - position.known));
                position.header[position.known..position.known + taken].copy_from_slice(&rest[..taken]);
                position.known += taken;
                if position.known < FRAME_HEADER {
                    return;
                }
                let [number, a, b, c] = position.header;
                let body = u32::from_be_bytes([0, a, b, c]) as usize;
                // What of the header is in an earlier record has left already.
                (position.left, position.known) = (body + taken, 0);
                let mut order = self.order.borrow_mut();
                position.change = order
                    .filter(|flip| {
                        let fits = FrameType::from_u8(number) == Some(FrameType::Packet(flip.size));
                        // One whose first bytes are cut in two is let go.
                        whole && rest.len() >= HEADER && fits && flip.link == link
                    })
                    .map(|flip| (flip.byte, flip.bit));
                if position.change.is_some() {
                    *order = None;
                    let number = rest[FRAME_HEADER..]
                        .first_chunk()
                        .copied()
                        .map(u32::from_be_bytes);
                    self.victim.set(number.map(CircuitId));
                }
            }
            let here = rest.len().min(position.left);
            match position.change {
                Some((byte, bit)) if byte < here => {
                    rest[byte] ^= 1 << bit;
                    position.change = None;
                }
                Some((byte, bit)) => position.change = Some((byte - here, bit)),
                None => {}
            }
            position.left -= here;
            rest = &mut rest[here..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::FrameStream;

    const PLAIN: usize = warren_proto::geometry::RECORD_PAYLOAD + 2;

    /// Packs frames into records as full as they get.
    fn records(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let stream = frames.concat();
        let filled = stream.chunks(PLAIN - 2).map(|chunk| {
            let mut record = chunk.to_vec();
            record.resize(PLAIN - 2, 0);
            record.extend_from_slice(&u16::try_from(chunk.len()).unwrap().to_be_bytes());
            record
        });
        filled.collect()
    }

    fn packet(size: PacketSize, fill: u8) -> Vec<u8> {
        let body = 4 + size.body();
        let length = u32::try_from(body).unwrap().to_be_bytes();
        let mut frame = vec![FrameType::Packet(size).as_u8(), length[1], length[2], length[3]];
        frame.resize(FRAME_HEADER + body, fill);
        frame
    }

    #[test]
    fn exactly_one_bit_of_the_right_packet_changes() {
        let small = vec![packet(PacketSize::Control, 1); 3];
        let frames = [small, vec![packet(PacketSize::Block, 2); 2]].concat();
        for byte in [0, 3, 7, 8, 1000, 4000, 9000, HEADER + 33_023] {
            let mut flipper = Flipper::new();
            let flip = Flip {
                link: LinkId(1),
                size: PacketSize::Block,
                byte,
                bit: 3,
            };
            flipper.order(flip);
            let mut stream = FrameStream::default();
            for mut record in records(&frames) {
                flipper.sealing(LinkId(2), &mut record.clone());
                flipper.sealing(LinkId(1), &mut record);
                // A changed length would lead the reader astray.
                if byte < HEADER {
                    continue;
                }
                stream.push(&record);
            }
            assert!(flipper.is_done());
            let got: Vec<_> = std::iter::from_fn(|| stream.next()).collect();
            for (number, (got, sent)) in got.iter().zip(&frames).enumerate() {
                let changed: Vec<usize> = (0..sent.len()).filter(|at| got[*at] != sent[*at]).collect();
                let wanted = if number == 3 { vec![byte] } else { Vec::new() };
                assert_eq!(changed, wanted);
            }
        }
    }
}
