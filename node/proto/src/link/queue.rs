//! What waits for a link's socket, and in which order it goes (protocol §6.7).
//!
//! Link control goes first: it is small, bounded, and others wait for it. Routed messages and circuits share what is left
//! evenly, byte for byte. Within the circuits each gets its turn (deficit round robin: Shreedhar, Varghese 1995), and a circuit
//! that had nothing waiting comes before those that have (RFC 8290, the flow-queueing half of fq_codel), so that one
//! request of a person goes before a stranger's bulk. Within the routed messages the short ones and the blocks are two such flows.
//!
//! Invariants: frames of one circuit keep their order; every byte that waits is counted; no flow goes over its budget;
//! nothing is encoded before the socket can take it, so a frame that arrives late can still go first.
//!
//! Deliberately absent: time. Frames carry the moment of their arrival only to tell which waited longest.

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;

use crate::{
    circuit::CIRCUIT_BUDGET,
    geometry::{BLOCK_BODY, PacketSize},
    ids::CircuitId,
    time::Time,
    wire::{Frame, RepairMessage, Routed},
};

/// What a flow may send in one turn, bytes: the largest frame, so that each turn sends something.
const QUANTUM: usize = BLOCK_BODY;
/// What a frame costs beside its payload, bytes: more than any frame's fixed part. Keeps floods of small frames in budget.
const FRAME_COST: usize = 128;
/// Gossip that may wait, bytes: a few full messages. It repeats itself, so what is over the bound is dropped.
const GOSSIP_BUDGET: usize = 64 * 1024;
/// What one descriptor costs, bytes: near the longest, with a few addresses.
const DESCRIPTOR_COST: usize = 320;
/// What one block's name in a census costs, bytes.
const CENSUS_COST: usize = 40;
/// Pings and pongs that may wait: the driver sends one every few seconds, the rest is a peer's flood.
const PINGS: usize = 16;
/// Routed messages that may wait, bytes: two seconds at 4 MB/s. More would be answered after their askers gave up.
const ROUTED_BUDGET: usize = 8 * 1024 * 1024;

/// Routed messages that may wait before this node takes no more questions over this link, bytes: one second at 4 MB/s. Who
/// asks faster than it takes the answers is told so, and asks elsewhere, before the answers to its own urgent questions wait
/// behind those.
const CROWDED: usize = ROUTED_BUDGET / 2;

/// The frame does not fit in its flow's budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OverBudget;

/// An onion packet that waits.
#[derive(Debug)]
struct Packet {
    size: PacketSize,
    body: BytesMut,
}

/// The flows of routed messages. Repair has its own, so that it takes turns with what somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum RoutedFlow {
    Short,
    Block,
    Repair,
}

/// All that waits on one link.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    control: VecDeque<Frame>,
    control_bytes: usize,
    gossip_bytes: usize,
    pings: usize,
    routed: Fair<RoutedFlow, Routed>,
    circuits: Fair<CircuitId, Packet>,
    /// Bytes that routed messages are ahead of circuits since both wait.
    lead: isize,
}

impl SendQueue {
    /// Adds a frame of link control: introductions, pings, gossip, the opening and ending of circuits. False when it was
    /// dropped, which is harmless: only gossip and pings have a bound here.
    pub(crate) fn push_control(&mut self, frame: Frame) -> bool {
        let cost = cost(&frame);
        match control_kind(&frame) {
            ControlKind::Gossip if self.gossip_bytes + cost > GOSSIP_BUDGET => return false,
            ControlKind::Gossip => self.gossip_bytes += cost,
            ControlKind::Ping if self.pings >= PINGS => return false,
            ControlKind::Ping => self.pings += 1,
            ControlKind::Other => {}
        }
        self.control_bytes += cost;
        self.control.push_back(frame);
        true
    }

    /// Adds a routed message; gives it back when it is over budget.
    pub(crate) fn push_routed(&mut self, now: Time, message: Routed) -> Result<(), Routed> {
        let cost = routed_cost(&message);
        if self.routed.bytes + cost > ROUTED_BUDGET {
            return Err(message);
        }
        let flow = if matches!(message, Routed::Repair(_)) {
            RoutedFlow::Repair
        } else if cost > BLOCK_BODY / 2 {
            RoutedFlow::Block
        } else {
            RoutedFlow::Short
        };
        self.routed.push(now, flow, cost, message);
        Ok(())
    }

    /// Adds an onion packet.
    ///
    /// # Errors
    /// The circuit's budget is used up: its other end does not keep to the window.
    pub(crate) fn push_packet(
        &mut self,
        now: Time,
        circuit: CircuitId,
        size: PacketSize,
        body: BytesMut,
    ) -> Result<(), OverBudget> {
        let cost = body.len() + FRAME_COST;
        if self.circuits.waiting(circuit) + cost > CIRCUIT_BUDGET {
            return Err(OverBudget);
        }
        self.circuits.push(now, circuit, cost, Packet { size, body });
        Ok(())
    }

    /// Drops all packets of a circuit.
    pub(crate) fn clear(&mut self, circuit: CircuitId) {
        self.circuits.clear(circuit);
    }

    /// The frame whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Frame> {
        if let Some(frame) = self.control.pop_front() {
            let cost = cost(&frame);
            self.control_bytes -= cost;
            match control_kind(&frame) {
                ControlKind::Gossip => self.gossip_bytes -= cost,
                ControlKind::Ping => self.pings -= 1,
                ControlKind::Other => {}
            }
            return Some(frame);
        }
        let routed_next = match (self.routed.is_empty(), self.circuits.is_empty()) {
            (true, true) => return None,
            (false, false) => self.lead < 0,
            (alone, _) => {
                // Who is alone owes nothing to the other.
                self.lead = 0;
                !alone
            }
        };
        if routed_next {
            let (cost, _, message) = self.routed.pop()?;
            self.lead = self.lead.saturating_add_unsigned(cost);
            Some(Frame::Routed(message))
        } else {
            let (cost, circuit, Packet { size, body }) = self.circuits.pop()?;
            self.lead = self.lead.saturating_sub_unsigned(cost);
            Some(Frame::Packet { circuit, size, body })
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.routed.is_empty() && self.circuits.is_empty()
    }

    /// Frames of link control that wait.
    pub(crate) fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.control_bytes + self.routed.bytes + self.circuits.bytes
    }

    /// Whether so many answers wait that the peer should ask no more.
    pub(crate) fn is_crowded(&self) -> bool {
        self.routed.bytes > CROWDED
    }

    /// The circuit whose first packet has waited longest, and since when.
    pub(crate) fn oldest_circuit(&self) -> Option<(Time, CircuitId)> {
        self.circuits.oldest()
    }
}

/// What bounds a frame of link control.
enum ControlKind {
    Gossip,
    Ping,
    Other,
}

fn control_kind(frame: &Frame) -> ControlKind {
    match frame {
        frame if frame.is_topology() => ControlKind::Gossip,
        Frame::Ping(_) | Frame::Pong(_) => ControlKind::Ping,
        _ => ControlKind::Other,
    }
}

/// What a frame counts for, bytes.
fn cost(frame: &Frame) -> usize {
    match frame {
        Frame::Descriptors(list)
        | Frame::Announced {
            descriptors: list, ..
        } => FRAME_COST + list.len() * DESCRIPTOR_COST,
        Frame::Announce(_) => FRAME_COST + DESCRIPTOR_COST,
        Frame::Packet { body, .. } => FRAME_COST + body.len(),
        Frame::Routed(message) => routed_cost(message),
        _ => FRAME_COST,
    }
}

fn routed_cost(message: &Routed) -> usize {
    match message {
        Routed::Found { block, .. }
        | Routed::Insert { block, .. }
        | Routed::Collision { block, .. }
        | Routed::Replicate { block, .. }
        | Routed::Arrived { block }
        | Routed::Repair(RepairMessage::HandOver { block, .. }) => FRAME_COST + block.bytes().len(),
        Routed::Repair(RepairMessage::Census { blocks, .. }) => FRAME_COST + blocks.len() * CENSUS_COST,
        Routed::Request { .. }
        | Routed::NotFound { .. }
        | Routed::Refused { .. }
        | Routed::Stored { .. }
        | Routed::Replicated { .. }
        | Routed::Repair(_) => FRAME_COST,
    }
}

/// Flows that take turns; one that had nothing waiting comes first.
#[derive(Debug)]
struct Fair<K, T> {
    flows: BTreeMap<K, Flow<T>>,
    new: VecDeque<K>,
    old: VecDeque<K>,
    bytes: usize,
}

#[derive(Debug)]
struct Flow<T> {
    waiting: VecDeque<Waiting<T>>,
    bytes: usize,
    /// Bytes that the flow may still send in this turn.
    deficit: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    since: Time,
    cost: usize,
    item: T,
}

impl<K, T> Default for Fair<K, T> {
    fn default() -> Self {
        Self {
            flows: BTreeMap::new(),
            new: VecDeque::new(),
            old: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<K: Ord + Copy, T> Fair<K, T> {
    fn push(&mut self, since: Time, key: K, cost: usize, item: T) {
        let flow = self.flows.entry(key).or_insert_with(|| {
            self.new.push_back(key);
            Flow {
                waiting: VecDeque::new(),
                bytes: 0,
                deficit: QUANTUM,
            }
        });
        flow.bytes += cost;
        flow.waiting.push_back(Waiting { since, cost, item });
        self.bytes += cost;
    }

    fn pop(&mut self) -> Option<(usize, K, T)> {
        loop {
            let from_new = !self.new.is_empty();
            let key = *if from_new {
                self.new.front()
            } else {
                self.old.front()
            }?;
            let flow = self.flows.get_mut(&key)?;
            if flow.deficit > 0
                && let Some(Waiting { cost, item, .. }) = flow.waiting.pop_front()
            {
                flow.deficit = flow.deficit.saturating_sub(cost);
                flow.bytes -= cost;
                self.bytes -= cost;
                return Some((cost, key, item));
            }
            // Its turn is over. An empty flow is forgotten only from the old list: otherwise a flow that sends one item at a
            // time would be new each time, and starve the others.
            flow.deficit = QUANTUM;
            let keep = !flow.waiting.is_empty() || (from_new && !self.old.is_empty());
            if from_new {
                self.new.pop_front();
            } else {
                self.old.pop_front();
            }
            if keep {
                self.old.push_back(key);
            } else {
                self.flows.remove(&key);
            }
        }
    }

    /// Forgets a flow with all that waits in it.
    fn clear(&mut self, key: K) {
        if let Some(flow) = self.flows.remove(&key) {
            self.bytes -= flow.bytes;
            self.new.retain(|other| *other != key);
            self.old.retain(|other| *other != key);
        }
    }

    fn waiting(&self, key: K) -> usize {
        self.flows.get(&key).map_or(0, |flow| flow.bytes)
    }

    fn oldest(&self) -> Option<(Time, K)> {
        self.flows
            .iter()
            .filter_map(|(key, flow)| flow.waiting.front().map(|first| (first.since, *key)))
            .min_by_key(|(since, _)| *since)
    }

    /// Whether nothing waits (empty flows may still be listed).
    fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

#[cfg(test)]
mod tests;
