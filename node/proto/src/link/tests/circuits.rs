//! Circuits that work.

use crate::{
    circuit::{CIRCUIT_IDLE, HOP_TIMEOUT, WINDOW},
    descriptor::Services,
    ids::OriginId,
    link::{
        api::{LinkCommand, LinkEvent},
        testing::{Net, block, exit_with, fetch},
    },
    wire::{ExitOp, ExitReply, ExitRequest, ExitResult},
};

const ORIGIN: OriginId = OriginId(7);

fn replies(events: &[LinkEvent]) -> Vec<&ExitReply> {
    events
        .iter()
        .filter_map(|event| match event {
            LinkEvent::OriginReply {
                origin: ORIGIN,
                reply,
            } => Some(reply),
            _ => None,
        })
        .collect()
}

fn is_ready(events: &[LinkEvent]) -> bool {
    events
        .iter()
        .any(|event| matches!(event, LinkEvent::OriginReady(ORIGIN)))
}

#[test]
fn circuits_of_one_to_five_hops_carry_blocks_both_ways() {
    for hops in 1..=5_u8 {
        let mut net = Net::chain(hops + 1);
        let path: Vec<usize> = (0..=usize::from(hops)).collect();
        net.nodes[usize::from(hops)].exit = exit_with(vec![block(1)]);
        net.open(7, &path);
        assert!(is_ready(&net.told(0)), "{hops} hops");
        assert_eq!(
            net.circuits(),
            2 * usize::from(hops),
            "an entry at both ends of each link"
        );

        net.ask(0, 1, 7, fetch(1, &block(1)));
        net.ask(0, 1, 7, fetch(2, &block(2)));
        net.ask(
            0,
            1,
            7,
            ExitRequest {
                id: 3,
                op: ExitOp::Insert(block(3)),
            },
        );
        let told = net.told(0);
        let replies = replies(&told);
        assert_eq!(replies.len(), 3);
        assert!(matches!(&replies[0].result, ExitResult::Found(found) if *found == block(1)));
        assert!(matches!(replies[1].result, ExitResult::NotFound));
        assert!(matches!(replies[2].result, ExitResult::Stored(5)));

        let at_exit = net.told(usize::from(hops));
        let inserted = at_exit.iter().find_map(|event| match event {
            LinkEvent::ExitRequest {
                request:
                    ExitRequest {
                        op: ExitOp::Insert(block),
                        ..
                    },
                ..
            } => Some(block),
            _ => None,
        });
        assert_eq!(inserted, Some(&block(3)));

        net.command(0, 1, LinkCommand::CloseOrigin(ORIGIN));
        net.run();
        assert_eq!(net.circuits(), 0);
        assert!(
            net.told(usize::from(hops))
                .iter()
                .any(|event| matches!(event, LinkEvent::CircuitGone(_)))
        );
        assert!(
            net.told(0)
                .iter()
                .all(|event| !matches!(event, LinkEvent::OriginClosed { .. })),
            "own wish"
        );
        assert!(
            net.nodes.iter().all(|node| node.closed.is_empty()),
            "no link suffered"
        );
    }
}

#[test]
fn many_circuits_share_links_and_stay_apart() {
    let mut net = Net::chain(4);
    net.nodes[3].exit = exit_with((0..20).map(block).collect());
    for origin in 0..20 {
        net.open(origin, &[0, 1, 2, 3]);
    }
    // All requests are under way at once.
    for origin in 0..20_u8 {
        let request = fetch(u32::from(origin), &block(origin));
        net.command(
            0,
            1,
            LinkCommand::OriginSend {
                origin: OriginId(origin.into()),
                request,
            },
        );
    }
    net.run();
    let mut answered = Vec::new();
    for event in net.told(0) {
        if let LinkEvent::OriginReply { origin, reply } = event {
            assert_eq!(origin.0, u64::from(reply.id));
            let right = block(u8::try_from(reply.id).unwrap());
            assert!(matches!(reply.result, ExitResult::Found(found) if found == right));
            answered.push(reply.id);
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_path_that_does_not_start_at_the_peer_is_refused() {
    let mut net = Net::chain(3);
    net.told(0);
    let path = vec![(*net.nodes[2].descriptor).clone()];
    for path in [path, vec![]] {
        net.command(0, 1, LinkCommand::OpenOrigin { origin: ORIGIN, path });
        net.run();
        let told = net.told(0);
        assert!(
            matches!(
                told[..],
                [LinkEvent::OriginClosed {
                    origin: ORIGIN,
                    blame: None
                }]
            ),
            "{told:?}"
        );
    }
}

#[test]
fn a_hop_that_cannot_be_reached_is_blamed() {
    // Node 2 has no link to node 3: the extension fails at once.
    let mut net = Net::new(4);
    net.connect(0, 1);
    net.connect(1, 2);
    net.run();
    net.open(7, &[0, 1, 2, 3]);
    let unreachable = net.nodes[3].descriptor.identity;
    let told = net.told(0);
    assert!(
        told.iter().any(|event| matches!(event, LinkEvent::OriginClosed { origin: ORIGIN, blame } if *blame == Some(unreachable))),
        "{told:?}"
    );
    assert_eq!(net.circuits(), 0);
}

#[test]
fn a_hop_that_never_answers_is_blamed_after_its_timeout() {
    let mut net = Net::chain(4);
    // Node 1 swallows what would open the circuit at node 2 ... and everything after it.
    net.nodes[2].hook = Some(Box::new(|_| vec![]));
    net.open(7, &[0, 1, 2, 3]);
    assert!(!is_ready(&net.told(0)));
    net.advance(HOP_TIMEOUT * 2);
    let silent = net.nodes[3].descriptor.identity;
    let told = net.told(0);
    assert!(
        told.iter()
            .any(|event| matches!(event, LinkEvent::OriginClosed { blame, .. } if *blame == Some(silent))),
        "{told:?}"
    );
    assert_eq!(net.link(0, 1).circuits(), 0);
}

#[test]
fn a_cut_link_ends_circuits_on_both_sides() {
    let mut net = Net::chain(4);
    net.nodes[3].exit = Box::new(|_| None);
    net.open(7, &[0, 1, 2, 3]);
    net.ask(0, 1, 7, fetch(1, &block(1)));
    net.cut(1, 2);
    assert!(
        net.told(0)
            .iter()
            .any(|event| matches!(event, LinkEvent::OriginClosed { blame: None, .. }))
    );
    assert!(
        net.told(3)
            .iter()
            .any(|event| matches!(event, LinkEvent::CircuitGone(_)))
    );
    assert_eq!(net.circuits(), 0);
}

#[test]
fn a_cut_first_link_is_the_entrys_fault() {
    let mut net = Net::chain(3);
    net.open(7, &[0, 1, 2]);
    net.told(0);
    net.cut(0, 1);
    let entry = net.nodes[1].descriptor.identity;
    assert!(
        net.told(0)
            .iter()
            .any(|event| matches!(event, LinkEvent::OriginClosed { blame, .. } if *blame == Some(entry)))
    );
}

#[test]
fn the_window_is_kept_by_the_client_itself() {
    let mut net = Net::chain(2);
    net.open(7, &[0, 1]);
    net.told(0);
    for id in 0..=u32::try_from(WINDOW).unwrap() {
        net.ask(0, 1, 7, fetch(id, &block(1)));
    }
    let told = net.told(0);
    assert!(
        matches!(told[..], [LinkEvent::OriginReply { reply: ExitReply { id, result: ExitResult::Busy }, .. }] if id as usize == WINDOW),
        "{told:?}"
    );
    assert_eq!(
        net.told(1)
            .iter()
            .filter(|event| matches!(event, LinkEvent::ExitRequest { .. }))
            .count(),
        WINDOW
    );
}

#[test]
fn an_unused_circuit_is_dropped_a_used_one_is_not() {
    let mut net = Net::chain(4);
    net.nodes[3].exit = exit_with(vec![block(1)]);
    net.open(7, &[0, 1, 2, 3]);
    net.open(8, &[0, 1, 2, 3]);
    for id in 0..4 {
        net.advance(CIRCUIT_IDLE / 2);
        net.ask(0, 1, 7, fetch(id, &block(1)));
    }
    let told = net.told(0);
    assert_eq!(replies(&told).len(), 4);
    assert!(told.iter().any(|event| matches!(
        event,
        LinkEvent::OriginClosed {
            origin: OriginId(8),
            ..
        }
    )));
    assert_eq!(net.circuits(), 6);
}

#[test]
fn packets_on_the_two_sides_of_a_relay_have_nothing_in_common() {
    use std::{cell::RefCell, collections::BTreeSet, rc::Rc};
    let mut net = Net::chain(5);
    net.nodes[4].exit = exit_with(vec![block(1)]);
    let seen: Vec<Rc<RefCell<Vec<Vec<u8>>>>> = (0..5).map(|_| Rc::default()).collect();
    for (node, seen) in net.nodes.iter_mut().zip(&seen) {
        let seen = Rc::clone(seen);
        node.hook = Some(Box::new(move |command| {
            if let LinkCommand::Forward { body, .. } | LinkCommand::Backward { body, .. } = &command {
                seen.borrow_mut().push(body.to_vec());
            }
            vec![command]
        }));
    }
    net.open(7, &[0, 1, 2, 3, 4]);
    net.ask(0, 1, 7, fetch(1, &block(1)));
    net.ask(
        0,
        1,
        7,
        ExitRequest {
            id: 2,
            op: ExitOp::Insert(block(3)),
        },
    );
    let windows = |bodies: &Rc<RefCell<Vec<Vec<u8>>>>| {
        let mut windows = BTreeSet::new();
        for body in bodies.borrow().iter() {
            windows.extend(
                body.windows(8)
                    .map(<[u8]>::to_vec)
                    .filter(|window| window[..] != [0; 8]),
            );
        }
        windows
    };
    let windows: Vec<_> = seen.iter().map(windows).collect();
    for (a, b) in [(1, 2), (2, 3), (1, 3)] {
        assert!(
            windows[a].len() > 60_000 && windows[b].len() > 60_000,
            "captures of {a} and {b}"
        );
        // Tails of a few filler bytes after different tags can agree; eight bytes of anything else cannot.
        let shared = windows[a]
            .intersection(&windows[b])
            .filter(|window| !window.ends_with(&[0; 4]));
        assert_eq!(shared.count(), 0, "between {a} and {b}");
    }
}

#[test]
fn a_node_that_offers_less_ends_what_it_does_not_carry_any_more() {
    let relay_and_exit = |relay, exit| {
        LinkCommand::Services(Services {
            relay,
            exit,
            store: true,
        })
    };
    let tell = |net: &mut Net, node: usize, services: &dyn Fn() -> LinkCommand| {
        for other in [node - 1, node + 1] {
            net.command(node, other, services());
        }
        net.run();
    };
    let ended = |events: &[LinkEvent]| {
        events
            .iter()
            .any(|event| matches!(event, LinkEvent::OriginClosed { .. }))
    };

    // A relay: the circuit through it ends at once, for both sides; none is extended from there until it relays again.
    let mut net = Net::chain(4);
    net.open(7, &[0, 1, 2]);
    net.told(0);
    tell(&mut net, 1, &|| relay_and_exit(false, true));
    assert!(ended(&net.told(0)));
    assert_eq!(net.circuits(), 0);
    net.open(7, &[0, 1, 2]);
    let told = net.told(0);
    assert!(ended(&told) && !is_ready(&told));
    tell(&mut net, 1, &|| relay_and_exit(true, true));
    net.open(7, &[0, 1, 2]);
    assert!(is_ready(&net.told(0)));

    // An exit: the circuit stands until its next request.
    net.command(2, 1, relay_and_exit(true, false));
    net.run();
    assert!(!ended(&net.told(0)));
    net.ask(0, 1, 7, fetch(1, &block(1)));
    assert!(ended(&net.told(0)));

    // Neither: what arrived goes, what the node opened for itself stays.
    net.nodes[2].exit = exit_with(vec![block(1)]);
    net.command(2, 1, relay_and_exit(true, true));
    net.open(8, &[0, 1]);
    net.command(1, 2, relay_and_exit(false, false));
    net.command(1, 0, relay_and_exit(false, false));
    net.run();
    assert!(ended(&net.told(0)));
    let path = vec![(*net.nodes[2].descriptor).clone()];
    net.command(1, 2, LinkCommand::OpenOrigin { origin: ORIGIN, path });
    net.run();
    assert!(is_ready(&net.told(1)));
    net.command(1, 2, relay_and_exit(false, false));
    net.run();
    assert!(!ended(&net.told(1)));
}
