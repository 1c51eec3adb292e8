use proptest::prelude::*;
use warren_keys::Location;

use super::*;
use crate::{
    ids::RequestId,
    link::testing::block,
    wire::{Create, Refusal},
};

const NOW: Time = Time(0);

fn body(size: PacketSize) -> BytesMut {
    BytesMut::zeroed(size.body())
}

fn packet(queue: &mut SendQueue, circuit: u32, size: PacketSize) {
    queue
        .push_packet(NOW, CircuitId(circuit), size, body(size))
        .unwrap();
}

fn routed_block(queue: &mut SendQueue, id: u64) {
    let found = Routed::Found {
        id: RequestId(id),
        block: block(1),
        copy: false,
    };
    queue.push_routed(NOW, found).unwrap();
}

fn refusal(id: u64) -> Routed {
    Routed::Refused {
        id: RequestId(id),
        why: Refusal::Busy,
    }
}

/// The circuits whose packets come out, in order.
fn order(queue: &mut SendQueue) -> Vec<u32> {
    let frames = core::iter::from_fn(|| queue.pop());
    frames
        .map(|frame| match frame {
            Frame::Packet { circuit, .. } => circuit.0,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn control_goes_first() {
    let mut queue = SendQueue::default();
    packet(&mut queue, 1, PacketSize::Block);
    routed_block(&mut queue, 1);
    queue.push_control(Frame::Destroy(CircuitId(3)));
    assert!(matches!(queue.pop(), Some(Frame::Destroy(CircuitId(3)))));
}

#[test]
fn bulk_circuits_take_turns() {
    let mut queue = SendQueue::default();
    for circuit in [1, 2, 3] {
        (0..3).for_each(|_| packet(&mut queue, circuit, PacketSize::Block));
    }
    assert_eq!(order(&mut queue), [1, 2, 3, 1, 2, 3, 1, 2, 3]);
}

#[test]
fn turns_are_by_bytes_not_by_packets() {
    let mut queue = SendQueue::default();
    for _ in 0..200 {
        packet(&mut queue, 1, PacketSize::Control);
    }
    (0..7).for_each(|_| packet(&mut queue, 2, PacketSize::Block));
    let order = order(&mut queue);
    let blocks: Vec<usize> = (0..order.len()).filter(|at| order[*at] == 2).collect();
    for pair in blocks[..6].windows(2) {
        assert!((28..=31).contains(&(pair[1] - pair[0])), "{blocks:?}");
    }
}

#[test]
fn who_had_nothing_waiting_goes_before_bulk_but_cannot_starve_it() {
    let mut queue = SendQueue::default();
    (0..50).for_each(|_| packet(&mut queue, 1, PacketSize::Block));
    (0..50).for_each(|_| packet(&mut queue, 2, PacketSize::Block));
    queue.pop();
    packet(&mut queue, 3, PacketSize::Control);
    assert!(
        matches!(queue.pop(), Some(Frame::Packet { circuit, .. }) if circuit.0 == 2),
        "whose first turn had come"
    );
    assert!(matches!(queue.pop(), Some(Frame::Packet { circuit, .. }) if circuit.0 == 3));
    // One that always adds its next packet when the last is gone gets no more than its share.
    let mut greedy = 0;
    for _ in 0..40 {
        if queue.circuits.waiting(CircuitId(3)) == 0 {
            packet(&mut queue, 3, PacketSize::Block);
        }
        if matches!(queue.pop(), Some(Frame::Packet { circuit, .. }) if circuit.0 == 3) {
            greedy += 1;
        }
    }
    assert!(greedy <= 15, "{greedy} of 40");
}

#[test]
fn routed_messages_and_circuits_share_evenly() {
    let mut queue = SendQueue::default();
    for circuit in 1..=4 {
        (0..20).for_each(|_| packet(&mut queue, circuit, PacketSize::Block));
    }
    (0..40).for_each(|id| routed_block(&mut queue, id));
    let first: Vec<bool> = (0..60)
        .map(|_| matches!(queue.pop(), Some(Frame::Routed(_))))
        .collect();
    let routed = first.iter().filter(|routed| **routed).count();
    assert!((28..=32).contains(&routed), "{routed} of 60");
    assert!(
        first
            .windows(3)
            .all(|three| three.contains(&true) && three.contains(&false))
    );
}

#[test]
fn short_routed_messages_overtake_blocks() {
    let mut queue = SendQueue::default();
    (0..20).for_each(|id| routed_block(&mut queue, id));
    queue.pop();
    queue.push_routed(NOW, refusal(99)).unwrap();
    let place = (0..).find(|_| matches!(queue.pop(), Some(Frame::Routed(Routed::Refused { .. }))));
    assert!(place.is_some_and(|place| place <= 1));
}

#[test]
fn budgets_bound_each_kind_by_itself() {
    let mut queue = SendQueue::default();
    let mut packets = 0;
    while queue
        .push_packet(NOW, CircuitId(1), PacketSize::Block, body(PacketSize::Block))
        .is_ok()
    {
        packets += 1;
    }
    assert!(packets > crate::circuit::WINDOW, "a window fits: {packets}");
    packet(&mut queue, 2, PacketSize::Block);

    let mut blocks = 0;
    while queue
        .push_routed(
            NOW,
            Routed::Replicate {
                id: RequestId(1),
                block: block(1),
            },
        )
        .is_ok()
    {
        blocks += 1;
    }
    assert_eq!(blocks, ROUTED_BUDGET / (FRAME_COST + 32_768));

    let ask = || Frame::AskDescriptors {
        near: Location::new(1),
    };
    while queue.push_control(ask()) {}
    assert!(!queue.push_control(Frame::Descriptors(vec![])));
    while queue.push_control(Frame::Pong(1)) {}
    let create = Create {
        layer: 0,
        ephemeral: [0; 32],
    };
    let circuit = CircuitId(9);
    assert!(
        queue.push_control(Frame::Create { circuit, create }),
        "never refused"
    );
    while queue.pop().is_some() {}
    assert!(
        queue.push_control(ask()) && queue.push_control(Frame::Ping(1)),
        "room again"
    );
}

#[test]
fn clearing_takes_a_circuit_out_of_every_account() {
    let mut queue = SendQueue::default();
    packet(&mut queue, 1, PacketSize::Block);
    packet(&mut queue, 2, PacketSize::Control);
    queue.clear(CircuitId(1));
    assert_eq!(queue.bytes(), CONTROL + FRAME_COST);
    assert_eq!(order(&mut queue), [2]);
    queue.clear(CircuitId(2));
    assert!(queue.is_empty() && queue.bytes() == 0);
    packet(&mut queue, 2, PacketSize::Control);
    assert_eq!(order(&mut queue), [2]);
}

const CONTROL: usize = PacketSize::Control.body();

#[test]
fn the_oldest_is_the_one_whose_first_packet_waits_longest() {
    let mut queue = SendQueue::default();
    assert_eq!(queue.oldest_circuit(), None);
    for (time, circuit) in [(5, 4), (6, 2), (7, 4), (9, 9)] {
        let size = PacketSize::Control;
        queue
            .push_packet(Time(time), CircuitId(circuit), size, body(size))
            .unwrap();
    }
    assert_eq!(queue.oldest_circuit(), Some((Time(5), CircuitId(4))));
    queue.pop();
    assert_eq!(queue.oldest_circuit(), Some((Time(6), CircuitId(2))));
}

#[derive(Clone, Debug)]
enum Act {
    Packet(u32, bool),
    Routed(bool),
    Control,
    Clear(u32),
    Pop,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..6_u32, any::<bool>()).prop_map(|(circuit, block)| Act::Packet(circuit, block)),
        2 => any::<bool>().prop_map(Act::Routed),
        1 => Just(Act::Control),
        1 => (0..6_u32).prop_map(Act::Clear),
        6 => Just(Act::Pop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a model of one list: nothing is lost, doubled or reordered within its flow, and the account is exact.
    #[test]
    fn nothing_is_lost_or_reordered(acts in proptest::collection::vec(act(), 1..120)) {
        let mut queue = SendQueue::default();
        // Flow (circuit, or 100 for short and 101 for long routed messages), cost, serial number.
        let mut model: Vec<(u32, usize, u64)> = Vec::new();
        let mut control = 0;
        let shared = block(1);
        for (serial, act) in (0..).zip(acts) {
            match act {
                Act::Packet(circuit, long) => {
                    let size = if long { PacketSize::Block } else { PacketSize::Control };
                    let mut body = body(size);
                    body[..8].copy_from_slice(&u64::to_be_bytes(serial));
                    queue.push_packet(NOW, CircuitId(circuit), size, body).unwrap();
                    model.push((circuit, size.body() + FRAME_COST, serial));
                }
                Act::Routed(true) => {
                    let insert = Routed::Insert { id: RequestId(serial), block: shared.clone(), htl: 1 };
                    queue.push_routed(NOW, insert).unwrap();
                    model.push((101, 32_768 + FRAME_COST, serial));
                }
                Act::Routed(false) => {
                    queue.push_routed(NOW, refusal(serial)).unwrap();
                    model.push((100, FRAME_COST, serial));
                }
                Act::Control => {
                    queue.push_control(Frame::Destroy(CircuitId(1)));
                    control += 1;
                }
                Act::Clear(circuit) => {
                    queue.clear(CircuitId(circuit));
                    model.retain(|(flow, ..)| *flow != circuit);
                }
                Act::Pop => match queue.pop() {
                    None => prop_assert!(model.is_empty() && control == 0),
                    Some(Frame::Destroy(_)) => control -= 1,
                    Some(frame) => {
                        prop_assert_eq!(control, 0);
                        let (flow, serial) = match frame {
                            Frame::Packet { circuit, body, .. } => {
                                (circuit.0, u64::from_be_bytes(body[..8].try_into().unwrap()))
                            }
                            Frame::Routed(Routed::Insert { id, .. }) => (101, id.0),
                            Frame::Routed(Routed::Refused { id, .. }) => (100, id.0),
                            other => panic!("{other:?}"),
                        };
                        let first = model.iter().position(|(other, ..)| *other == flow);
                        prop_assert_eq!(first.map(|at| model.remove(at).2), Some(serial));
                    }
                },
            }
            let waiting: usize = model.iter().map(|(_, cost, _)| cost).sum();
            prop_assert_eq!(queue.bytes(), waiting + control * FRAME_COST);
            prop_assert_eq!(queue.is_empty(), model.is_empty() && control == 0);
        }
    }
}
