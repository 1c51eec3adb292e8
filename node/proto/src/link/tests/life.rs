//! Links over time: introductions, silence, stalls, order of what is sent.

use core::time::Duration;

use warren_keys::Location;

use crate::{
    geometry::RECORD_LEN,
    ids::{OriginId, RequestId},
    link::{
        CloseReason,
        api::{LinkCommand, LinkEvent},
        testing::{Net, block, exit_with, fetch},
    },
    wire::{ExitOp, ExitRequest, Frame, Refusal, Routed},
};

#[test]
fn both_ends_come_up_and_know_who_dialled() {
    let mut net = Net::new(2);
    net.connect(0, 1);
    net.run();
    let [zero, one] = [net.told(0), net.told(1)];
    let (a, b) = (net.nodes[0].descriptor.identity, net.nodes[1].descriptor.identity);
    assert!(matches!(&zero[..], [LinkEvent::Up { peer, dialled: true, .. }] if peer.identity == b));
    assert!(matches!(&one[..], [LinkEvent::Up { peer, dialled: false, .. }] if peer.identity == a));
}

#[test]
fn a_peer_that_does_not_introduce_itself_is_given_up() {
    let mut net = Net::new(2);
    net.connect(0, 1);
    net.flowing = false;
    net.advance(Duration::from_secs(11));
    assert_eq!(net.nodes[0].closed.len(), 1);
    assert!(net.told(0).is_empty());
}

#[test]
fn an_idle_link_lives_for_hours_on_little() {
    let mut net = Net::chain(2);
    net.told(0);
    net.advance(Duration::from_secs(2 * 3600));
    assert!(net.nodes[0].closed.is_empty());
    assert!(
        net.told(0).iter().all(|event| matches!(event, LinkEvent::Alive)),
        "of the link's own pings the core hears that they come"
    );
}

#[test]
fn a_silent_link_is_dead_and_says_so() {
    let mut net = Net::chain(3);
    net.open(7, &[0, 1, 2]);
    net.told(0);
    net.flowing = false;
    net.ask(0, 1, 7, fetch(1, &block(1)));
    net.advance(Duration::from_secs(21));
    assert_eq!(net.nodes[0].closed.len(), 1);
    // Of the other line nobody asks anything: that takes longer.
    assert_eq!(net.nodes[2].closed.len(), 0);
    net.advance(Duration::from_secs(440));
    let reasons: Vec<CloseReason> = net
        .nodes
        .iter()
        .flat_map(|node| node.closed.values().copied())
        .collect();
    assert!(
        reasons.contains(&CloseReason::Dead) && reasons.iter().all(|reason| !reason.misbehaved()),
        "{reasons:?}"
    );
    assert!(net.told(0).iter().any(|event| matches!(
        event,
        LinkEvent::OriginClosed {
            origin: OriginId(7),
            ..
        }
    )));
}

#[test]
fn the_core_closes_a_link() {
    let mut net = Net::chain(3);
    net.open(7, &[0, 1, 2]);
    net.command(1, 2, LinkCommand::Close);
    net.run();
    assert!(
        net.nodes[1]
            .closed
            .values()
            .any(|reason| *reason == CloseReason::Requested)
    );
    assert!(
        net.nodes[2]
            .closed
            .values()
            .any(|reason| *reason == CloseReason::Disconnected)
    );
    assert_eq!(net.circuits(), 0);
}

#[test]
fn pings_gossip_and_routed_messages_pass() {
    let mut net = Net::chain(2);
    net.told(0);
    net.told(1);
    let near = Location::new(5);
    let descriptor = (*net.nodes[0].descriptor).clone();
    net.command(0, 1, LinkCommand::Send(Frame::Ping(9)));
    net.command(0, 1, LinkCommand::Send(Frame::AskDescriptors { near }));
    net.command(0, 1, LinkCommand::Send(Frame::Descriptors(vec![descriptor])));
    let found = Routed::Found {
        id: RequestId(4),
        block: block(1),
        copy: true,
    };
    net.command(0, 1, LinkCommand::Send(Frame::Routed(found)));
    net.run();
    assert!(matches!(net.told(0)[..], [LinkEvent::Pong(9)]));
    let told = net.told(1);
    assert!(
        matches!(
            &told[..],
            [
                LinkEvent::Alive,
                LinkEvent::Gossip(Frame::AskDescriptors { .. }),
                LinkEvent::Gossip(Frame::Descriptors(_)),
                LinkEvent::Routed(Routed::Found { block: found, .. }),
            ] if *found == block(1)
        ),
        "{told:?}"
    );
}

#[test]
fn routed_messages_over_budget_come_back_as_busy() {
    let mut net = Net::chain(2);
    net.told(0);
    net.flowing = false;
    for id in 0..400 {
        let insert = Routed::Insert {
            id: RequestId(id),
            block: block(1),
            htl: 18,
        };
        net.command(0, 1, LinkCommand::Send(Frame::Routed(insert)));
    }
    assert!(net.link(0, 1).queued_bytes() < 9 * 1024 * 1024);
    net.run();
    let told = net.told(0);
    assert!(!told.is_empty());
    assert!(
        told.iter().all(|event| matches!(
            event,
            LinkEvent::Routed(Routed::Refused {
                why: Refusal::Busy,
                ..
            })
        )),
        "{told:?}"
    );
    net.flowing = true;
    net.run();
    assert_eq!(
        net.told(1)
            .iter()
            .filter(|event| matches!(event, LinkEvent::Routed(_)))
            .count(),
        400 - told.len()
    );
}

#[test]
fn gossip_over_its_bound_is_dropped() {
    let mut net = Net::chain(2);
    net.told(1);
    net.flowing = false;
    for near in 0..10_000 {
        net.command(
            0,
            1,
            LinkCommand::Send(Frame::AskDescriptors {
                near: Location::new(near),
            }),
        );
    }
    assert!(net.link(0, 1).queued_bytes() <= 64 * 1024);
    net.flowing = true;
    net.run();
    assert!(!net.told(1).is_empty());
}

#[test]
fn short_messages_share_records_and_long_ones_fill_them() {
    let mut net = Net::chain(2);
    let now = net.now;
    for number in 0..8 {
        net.command(0, 1, LinkCommand::Send(Frame::Ping(number)));
    }
    assert_eq!(net.link(0, 1).poll_transmit(now, 1).unwrap().len(), RECORD_LEN);
    assert_eq!(net.link(0, 1).poll_transmit(now, 1), None);
    for id in 0..4 {
        let found = Routed::Found {
            id: RequestId(id),
            block: block(1),
            copy: false,
        };
        net.command(0, 1, LinkCommand::Send(Frame::Routed(found)));
    }
    let mut records = 0;
    while let Some(bytes) = net.link(0, 1).poll_transmit(now, RECORD_LEN) {
        records += bytes.len() / RECORD_LEN;
    }
    assert_eq!(
        records,
        (4 * 32_800_usize).div_ceil(RECORD_LEN - 18),
        "padded only at the end"
    );
}

#[test]
fn a_late_small_packet_overtakes_bulk() {
    let mut net = Net::chain(2);
    net.nodes[1].exit = exit_with(vec![block(1)]);
    net.open(7, &[0, 1]);
    net.open(8, &[0, 1]);
    net.told(0);
    net.told(1);
    net.flowing = false;
    for id in 0..40 {
        net.ask(
            0,
            1,
            7,
            ExitRequest {
                id,
                op: ExitOp::Insert(block(2)),
            },
        );
    }
    net.ask(0, 1, 8, fetch(1, &block(1)));
    // What is taken first holds the small request although forty blocks came before it.
    let now = net.now;
    let first = net.link(0, 1).poll_transmit(now, 80 * 1024).unwrap();
    assert!(first.len() < 4 * 40 * 1024);
    let receiver = net.link(1, 0);
    receiver.buffer().extend_from_slice(&first);
    receiver.received(now);
    net.flowing = true;
    net.run();
    let asked: Vec<u32> = net
        .told(1)
        .iter()
        .filter_map(|event| match event {
            LinkEvent::ExitRequest { request, .. } => match request.op {
                ExitOp::Fetch { .. } => Some(0),
                ExitOp::Insert(_) => Some(1),
            },
            _ => None,
        })
        .collect();
    let place = asked.iter().position(|kind| *kind == 0).unwrap();
    assert!(place <= 2, "served as number {place} of {}", asked.len());
}
