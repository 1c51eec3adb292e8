//! Clients, relays and exits that misuse circuits.

use super::*;

#[test]
fn extensions_that_would_turn_back_or_skip_are_refused() {
    let target = |seed| Box::new(Descriptor::clone(&node(seed, Services::ALL).1));
    for (seed, layer) in [(RELAY, 1), (PEER, 1), (7, 0), (7, 2)] {
        let mut raw = Raw::up();
        let mut cipher = raw.open(1);
        let told = raw.say(
            1,
            &mut cipher,
            &OnionMessage::Extend {
                target: target(seed),
                create: create(layer),
            },
        );
        assert!(
            !told
                .iter()
                .any(|output| matches!(output, LinkOutput::Core(LinkEvent::ExtendWanted { .. })))
        );
        assert!(raw.destroyed(1), "to {seed} as layer {layer}");
        assert_eq!(raw.fault(), None);
    }
}

#[test]
fn a_circuit_is_extended_once_and_carries_nothing_meanwhile() {
    let target = Box::new(Descriptor::clone(&node(7, Services::ALL).1));
    let extend = OnionMessage::Extend {
        target,
        create: create(1),
    };
    for second in [
        extend.clone(),
        OnionMessage::Drop(PacketSize::Control),
        OnionMessage::Request(fetch(1, &block(1))),
    ] {
        let mut raw = Raw::up();
        let mut cipher = raw.open(1);
        let told = raw.say(1, &mut cipher, &extend);
        assert!(matches!(
            told[..],
            [LinkOutput::Core(LinkEvent::ExtendWanted { .. })]
        ));
        let told = raw.say(1, &mut cipher, &second);
        assert!(
            matches!(told[..], [LinkOutput::Core(LinkEvent::CircuitGone(CircuitId(1)))]),
            "{told:?}"
        );
        assert!(raw.destroyed(1));
        // The next hop answers after all: it is told that nobody waits.
        let next = CircuitAddr {
            link: LinkId(5),
            circuit: CircuitId(2),
        };
        raw.link.command(
            NOW,
            LinkCommand::Extended {
                circuit: CircuitId(1),
                next,
                created: created(),
            },
        );
        assert!(matches!(
            raw.link.poll_output(),
            Some(LinkOutput::Link(LinkId(5), LinkCommand::Destroy(CircuitId(2))))
        ));
    }
}

#[test]
fn services_that_are_not_offered_are_not_given() {
    let none = Services {
        relay: false,
        exit: false,
        store: true,
    };
    let mut raw = Raw::with(none);
    raw.greet();
    raw.send(&Frame::Create {
        circuit: CircuitId(1),
        create: create(0),
    });
    assert!(raw.destroyed(1));

    let mut raw = Raw::with(Services {
        relay: false,
        ..Services::ALL
    });
    raw.greet();
    let mut cipher = raw.open(1);
    let target = Box::new(Descriptor::clone(&node(7, Services::ALL).1));
    raw.say(
        1,
        &mut cipher,
        &OnionMessage::Extend {
            target,
            create: create(1),
        },
    );
    assert!(raw.destroyed(1));

    let mut raw = Raw::with(Services {
        exit: false,
        ..Services::ALL
    });
    raw.greet();
    let mut cipher = raw.open(1);
    let told = raw.say(1, &mut cipher, &OnionMessage::Request(fetch(1, &block(1))));
    assert!(
        !told
            .iter()
            .any(|output| matches!(output, LinkOutput::Core(LinkEvent::ExitRequest { .. })))
    );
    assert!(raw.destroyed(1));
}

#[test]
fn messages_that_only_hops_send_end_the_circuit_of_a_client() {
    let reply = ExitReply {
        id: 1,
        result: ExitResult::NotFound,
    };
    for message in [OnionMessage::Extended(created()), OnionMessage::Reply(reply)] {
        let mut raw = Raw::up();
        let mut cipher = raw.open(1);
        raw.say(1, &mut cipher, &message);
        assert!(raw.destroyed(1));
    }
}

/// An exit that answers `request` with `reply`; tells what became of the circuit.
fn lying_exit(request: ExitRequest, reply: ExitReply) -> Vec<LinkEvent> {
    let mut net = Net::chain(4);
    net.open(7, &[0, 1, 2, 3]);
    net.told(0);
    net.nodes[3].exit = Box::new(move |_| Some(reply.clone()));
    net.ask(0, 1, 7, request);
    let told = net.told(0);
    let exit = net.nodes[3].descriptor.identity;
    let blamed =
        |event: &LinkEvent| matches!(event, LinkEvent::OriginClosed { blame, .. } if *blame == Some(exit));
    assert_eq!(told.iter().any(blamed), net.circuits() == 0);
    told
}

#[test]
fn an_exit_that_lies_is_caught_and_blamed() {
    use crate::wire::ExitOp;
    let insert = || ExitRequest {
        id: 1,
        op: ExitOp::Insert(block(1)),
    };
    let wrong = [
        (fetch(1, &block(1)), 1, ExitResult::Found(block(2))),
        (fetch(1, &block(1)), 2, ExitResult::Found(block(1))),
        (fetch(1, &block(1)), 2, ExitResult::NotFound),
        (fetch(1, &block(1)), 1, ExitResult::Stored(5)),
        (fetch(1, &block(1)), 1, ExitResult::Collision(block(1))),
        (insert(), 1, ExitResult::Found(block(1))),
        (insert(), 1, ExitResult::NotFound),
        // Two content blocks under one key would be a broken hash.
        (insert(), 1, ExitResult::Collision(block(1))),
        (insert(), 1, ExitResult::Collision(block(2))),
    ];
    for (request, id, result) in wrong {
        let told = lying_exit(request, ExitReply { id, result });
        assert!(
            matches!(
                told[..],
                [LinkEvent::Carries(false), LinkEvent::OriginClosed { .. }]
            ),
            "{told:?}"
        );
    }
    let right = [
        (fetch(1, &block(1)), ExitResult::Found(block(1))),
        (fetch(1, &block(1)), ExitResult::NotFound),
        (insert(), ExitResult::Stored(5)),
        (insert(), ExitResult::Busy),
        (fetch(1, &block(1)), ExitResult::Failed),
    ];
    for (request, result) in right {
        let told = lying_exit(request, ExitReply { id: 1, result });
        assert!(matches!(told[..], [LinkEvent::OriginReply { .. }]), "{told:?}");
    }
}

#[test]
fn an_answer_twice_ends_the_circuit() {
    let mut raw = Raw::up();
    let mut cipher = raw.open(1);
    raw.say(1, &mut cipher, &OnionMessage::Request(fetch(1, &block(1))));
    let reply = || ExitReply {
        id: 1,
        result: ExitResult::NotFound,
    };
    for _ in 0..2 {
        raw.link.command(
            NOW,
            LinkCommand::ExitReply {
                circuit: CircuitId(1),
                reply: reply(),
            },
        );
    }
    // The honest exit's machine refuses to send the second.
    assert!(
        raw.frames()
            .iter()
            .any(|frame| matches!(frame, Frame::Destroy(CircuitId(1))))
    );
}

#[test]
fn a_circuit_that_goes_on_to_a_silent_peer_is_dropped_in_the_end() {
    let mut raw = Raw::up();
    let from = CircuitAddr {
        link: LinkId(5),
        circuit: CircuitId(8),
    };
    raw.link.command(
        NOW,
        LinkCommand::OpenThrough {
            from,
            create: create(1),
        },
    );
    raw.send(&Frame::Created {
        circuit: CircuitId(2),
        created: created(),
    });
    raw.frames();
    let mut steps = 0;
    while raw.link.circuits() == 1 {
        raw.now = raw.now + Duration::from_secs(30);
        raw.send(&Frame::Ping(1));
        raw.link.handle_timeout(raw.now);
        raw.frames();
        steps += 1;
        assert!(Duration::from_secs(30) * steps <= CIRCUIT_IDLE + Duration::from_secs(30));
    }
    assert_eq!(raw.fault(), None);
    assert!(matches!(
        raw.link.poll_output(),
        Some(LinkOutput::Link(LinkId(5), LinkCommand::Destroy(CircuitId(8))))
    ));
}

#[test]
fn an_extension_that_cannot_be_delivered_ends_the_circuit() {
    let target = Box::new(Descriptor::clone(&node(7, Services::ALL).1));
    let next = CircuitAddr {
        link: LinkId(5),
        circuit: CircuitId(2),
    };
    let extended = || {
        let mut raw = Raw::up();
        let mut cipher = raw.open(1);
        raw.say(
            1,
            &mut cipher,
            &OnionMessage::Extend {
                target: target.clone(),
                create: create(1),
            },
        );
        raw.link.command(
            NOW,
            LinkCommand::Extended {
                circuit: CircuitId(1),
                next,
                created: created(),
            },
        );
        assert!(matches!(raw.frames()[..], [Frame::Packet { .. }]));
        raw
    };
    let mut raw = extended();
    raw.link.undeliverable(NOW, LinkId(6));
    assert_eq!(raw.link.circuits(), 1, "another link");
    raw.link.undeliverable(NOW, LinkId(5));
    assert!(raw.destroyed(1));

    let mut raw = extended();
    raw.link.refused(
        NOW,
        CircuitAddr {
            circuit: CircuitId(4),
            ..next
        },
    );
    assert_eq!(raw.link.circuits(), 1, "another circuit");
    raw.link.refused(NOW, next);
    assert!(raw.destroyed(1));
    assert!(matches!(
        raw.link.poll_output(),
        Some(LinkOutput::Link(LinkId(5), LinkCommand::Destroy(CircuitId(2))))
    ));
}
