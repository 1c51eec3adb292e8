//! More than a link or a circuit may hold.

use super::*;

#[test]
fn create_floods_meet_the_rate_then_the_cap() {
    let mut raw = Raw::up();
    let mut opened = 0;
    let mut numbers = (1..).step_by(2).map(CircuitId);
    let mut flood = || -> Vec<Frame> {
        numbers
            .by_ref()
            .take(512)
            .map(|circuit| Frame::Create {
                circuit,
                create: create(0),
            })
            .collect()
    };
    for second in 0..30 {
        raw.send_all(flood());
        opened += raw
            .frames()
            .iter()
            .filter(|frame| matches!(frame, Frame::Created { .. }))
            .count();
        assert_eq!(opened, (256 + 32 * second).min(MAX_CIRCUITS), "after {second} s");
        raw.now = raw.now + Duration::from_secs(1);
    }
    assert_eq!(raw.fault(), None);
    assert_eq!(raw.link.circuits(), MAX_CIRCUITS);
}

#[test]
fn a_peer_that_provokes_and_does_not_read_is_cut_off() {
    let mut raw = Raw::up();
    let mut numbers = (1..).step_by(2).map(CircuitId);
    for _ in 0..100 {
        let weak = Create {
            layer: 0,
            ephemeral: [0; 32],
        };
        let flood = |circuit| {
            [
                Frame::Create {
                    circuit,
                    create: weak.clone(),
                },
                Frame::Ping(1),
            ]
        };
        raw.send_all(numbers.by_ref().take(100).flat_map(flood));
        assert!(raw.link.queued_bytes() < 2 * 1024 * 1024);
    }
    assert!(raw.fault().is_some_and(|fault| fault.misbehaved()));
    assert_eq!(raw.link.queued_bytes(), 0);
}

#[test]
fn a_flood_over_budget_ends_its_circuit_only() {
    let mut net = Net::chain(3);
    net.nodes[2].exit = exit_with(vec![block(1)]);
    net.open(7, &[0, 1, 2]);
    net.open(8, &[0, 1, 2]);
    net.told(0);
    // The exit's own link queue fills: as if the exit sent without end and nobody read.
    let before = net.circuits();
    net.flowing = false;
    let body = || BytesMut::zeroed(PacketSize::Block.body());
    let through = CircuitId(1);
    let mut sent = 0;
    while net.link(1, 2).circuits() == 2 && sent < 1000 {
        net.command(
            1,
            2,
            LinkCommand::Forward {
                circuit: through,
                size: PacketSize::Block,
                body: body(),
            },
        );
        sent += 1;
        assert!(net.link(1, 2).queued_bytes() <= CIRCUIT_BUDGET);
    }
    assert_eq!(net.link(1, 2).circuits(), 1, "after {sent} packets");
    assert_eq!(
        net.link(1, 2).oldest_queued(),
        None,
        "its packets are gone with it"
    );
    net.flowing = true;
    net.run();
    assert_eq!(net.circuits(), before / 2);
    net.ask(0, 1, 8, fetch(1, &block(1)));
    let told = net.told(0);
    assert!(
        told.iter().any(|event| matches!(
            event,
            LinkEvent::OriginReply {
                origin: OriginId(8),
                ..
            }
        )),
        "{told:?}"
    );
    assert!(
        told.iter().any(|event| matches!(
            event,
            LinkEvent::OriginClosed {
                origin: OriginId(7),
                ..
            }
        )),
        "{told:?}"
    );
}

#[test]
fn over_the_links_budget_the_oldest_data_dies_first() {
    let mut net = Net::chain(3);
    for origin in 0..12 {
        net.open(origin, &[0, 1, 2]);
    }
    net.told(0);
    net.flowing = false;
    // Circuits fill one after the other, none over its own budget.
    for circuit in (1..24).step_by(2) {
        net.now = net.now + Duration::from_millis(1);
        for _ in 0..60 {
            let body = BytesMut::zeroed(PacketSize::Block.body());
            net.command(
                1,
                2,
                LinkCommand::Forward {
                    circuit: CircuitId(circuit),
                    size: PacketSize::Block,
                    body,
                },
            );
        }
    }
    assert!(net.link(1, 2).queued_bytes() <= 16 * 1024 * 1024);
    assert_eq!(net.link(1, 2).circuits(), 8, "the first four gave way");
    let now = net.now;
    assert!(net.link(1, 2).shed(now), "the node can ask for more");
    assert_eq!(net.link(1, 2).circuits(), 7);
    net.run();
    // Destroyed the other way: towards the client nothing is stuck once bytes flow again.
    net.flowing = true;
    net.run();
    let closed = |event: &LinkEvent| match event {
        LinkEvent::OriginClosed { origin, .. } => Some(origin.0),
        _ => None,
    };
    let closed: Vec<u64> = net.told(0).iter().filter_map(closed).collect();
    assert_eq!(closed[..5], [0, 1, 2, 3, 4]);
}
