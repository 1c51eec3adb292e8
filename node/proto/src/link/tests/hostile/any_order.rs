//! Random frames of a peer, in random order, some of them fitting.

use proptest::prelude::*;
use warren_keys::Location;

use super::*;
use crate::ids::RequestId;
use crate::wire::{Refusal, Routed};

fn frame() -> impl Strategy<Value = Frame> {
    let circuit = (0..12_u32).prop_map(CircuitId);
    prop_oneof![
        any::<u64>().prop_map(Frame::Ping),
        (0..3_u64).prop_map(Frame::Pong),
        Just(Frame::AskDescriptors {
            near: Location::new(1)
        }),
        Just(Frame::Descriptors(vec![])),
        (circuit.clone(), 0..5_u8, any::<[u8; 32]>()).prop_map(|(circuit, layer, ephemeral)| {
            Frame::Create {
                circuit,
                create: Create { layer, ephemeral },
            }
        }),
        circuit.clone().prop_map(|circuit| Frame::Created {
            circuit,
            created: created()
        }),
        circuit.clone().prop_map(Frame::Destroy),
        (circuit, any::<bool>()).prop_map(|(circuit, large)| {
            let size = if large {
                PacketSize::Block
            } else {
                PacketSize::Control
            };
            Frame::Packet {
                circuit,
                size,
                body: BytesMut::zeroed(size.body()),
            }
        }),
        any::<u64>().prop_map(|id| Frame::Routed(Routed::Refused {
            id: RequestId(id),
            why: Refusal::Busy
        })),
    ]
}

fn command() -> impl Strategy<Value = u8> {
    0..9_u8
}

fn obey(raw: &mut Raw, command: u8, number: u32) {
    let (circuit, addr) = (
        CircuitId(number),
        CircuitAddr {
            link: LinkId(5),
            circuit: CircuitId(number),
        },
    );
    let body = BytesMut::zeroed(PacketSize::Control.body());
    let peer = Descriptor::clone(&node(PEER, Services::ALL).1);
    let origin = OriginId(number.into());
    raw.link.command(
        raw.now,
        match command {
            0 => LinkCommand::OpenOrigin {
                origin,
                path: vec![peer],
            },
            1 => LinkCommand::OriginSend {
                origin,
                request: fetch(number, &block(1)),
            },
            2 => LinkCommand::CloseOrigin(origin),
            3 => LinkCommand::OpenThrough {
                from: addr,
                create: create(1),
            },
            4 => LinkCommand::ExtendFailed(circuit),
            5 => LinkCommand::Extended {
                circuit,
                next: addr,
                created: created(),
            },
            6 => LinkCommand::Forward {
                circuit,
                size: PacketSize::Control,
                body,
            },
            7 => LinkCommand::Backward {
                circuit,
                size: PacketSize::Control,
                body,
            },
            _ => LinkCommand::Destroy(circuit),
        },
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn never_panics_and_accounts_for_all(
        steps in proptest::collection::vec((frame(), proptest::option::of((command(), 0..12_u32)), 0..40_u64), 1..60)
    ) {
        let mut raw = Raw::up();
        for (frame, inside, seconds) in steps {
            raw.now = raw.now + Duration::from_secs(seconds);
            raw.link.handle_timeout(raw.now);
            if let Some((kind, number)) = inside {
                obey(&mut raw, kind, number);
            }
            raw.send(&frame);
            raw.frames();
            prop_assert_eq!(raw.link.queued_bytes(), 0, "all was taken");
            if raw.fault().is_some() {
                prop_assert_eq!(raw.link.circuits(), 0);
                prop_assert_eq!(raw.link.poll_timeout(), None);
            }
        }
    }
}
