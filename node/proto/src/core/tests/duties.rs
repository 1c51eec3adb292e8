//! Exit duty and extension duty, and their limits.

use core::time::Duration;

use super::network::{NO_SERVICES, Network, block};
use crate::{
    core::exits::MAX_PER_CIRCUIT,
    descriptor::{Descriptor, fixtures},
    ids::{CircuitId, LinkId},
    link::api::{LinkCommand, LinkEvent},
    wire::{Create, ExitOp, ExitRequest, ExitResult},
};

const CIRCUIT: CircuitId = CircuitId(7001);

/// Node 0 of eight, all linked, and its link to node 1.
fn formed() -> (Network, LinkId) {
    let mut network = Network::new(8, 1, 3);
    network.run_for(Duration::from_secs(2));
    let link = network.link(0, 1).unwrap();
    network.dialled.clear();
    (network, link)
}

fn ask(network: &mut Network, link: LinkId, number: u32) {
    let op = ExitOp::Fetch {
        block: block(500 + u64::from(number)).id(),
        branches: 3,
        wait: false,
    };
    let request = ExitRequest { id: number, op };
    network.event(
        0,
        link,
        LinkEvent::ExitRequest {
            circuit: CIRCUIT,
            request,
        },
    );
}

fn extend(network: &mut Network, link: LinkId, circuit: u32, target: Descriptor) {
    let create = Create {
        layer: 2,
        ephemeral: [9; 32],
    };
    let target = Box::new(target);
    network.event(
        0,
        link,
        LinkEvent::ExtendWanted {
            circuit: CircuitId(circuit),
            target,
            create,
        },
    );
}

fn opened(network: &Network) -> usize {
    let opens =
        |command: &&(usize, LinkId, LinkCommand)| matches!(command.2, LinkCommand::OpenThrough { .. });
    network.commands.iter().filter(opens).count()
}

fn failed(network: &Network) -> usize {
    let fails = |command: &&(usize, LinkId, LinkCommand)| matches!(command.2, LinkCommand::ExtendFailed(_));
    network.commands.iter().filter(fails).count()
}

fn replies(network: &Network, wanted: impl Fn(&ExitResult) -> bool) -> usize {
    let fits = |command: &&(usize, LinkId, LinkCommand)| match &command.2 {
        LinkCommand::ExitReply { reply, .. } => wanted(&reply.result),
        _ => false,
    };
    network.commands.iter().filter(fits).count()
}

#[test]
fn a_circuit_beyond_its_share_is_told_busy() {
    let (mut network, link) = formed();
    let share = u32::try_from(MAX_PER_CIRCUIT).unwrap();
    for number in 0..share + 3 {
        ask(&mut network, link, number);
    }
    assert_eq!(replies(&network, |result| matches!(result, ExitResult::Busy)), 3);
    network.run_for(Duration::from_secs(30));
    assert_eq!(
        replies(&network, |result| matches!(result, ExitResult::NotFound)),
        MAX_PER_CIRCUIT
    );
    assert_eq!(network.cores[0].status(network.now).exit_requests, 0);
}

#[test]
fn a_number_used_twice_ends_the_circuit() {
    let (mut network, link) = formed();
    ask(&mut network, link, 1);
    ask(&mut network, link, 1);
    assert!(matches!(network.commands[..], [(0, at, LinkCommand::Destroy(CIRCUIT))] if at == link));
    let status = network.cores[0].status(network.now);
    assert_eq!((status.exit_requests, status.open.searches), (0, 0));
}

#[test]
fn what_a_circuit_asked_ends_with_it() {
    let (mut network, link) = formed();
    ask(&mut network, link, 1);
    ask(&mut network, link, 2);
    network.event(0, link, LinkEvent::CircuitGone(CIRCUIT));
    assert_eq!(network.cores[0].status(network.now).open.searches, 0);
    ask(&mut network, link, 3);
    network.disconnect(link, false);
    network.run_for(Duration::from_secs(30));
    assert!(network.commands.is_empty());
}

#[test]
fn services_that_are_not_offered_are_refused() {
    let mut network = Network::new(4, 1, 3);
    network.run_for(Duration::from_secs(2));
    let modest = network.resigned(0, |statement| {
        statement.services = NO_SERVICES;
        statement.published += 1;
    });
    let (now, wall) = (network.now, network.wall());
    network.cores[0].set_descriptor(now, wall, modest);
    let link = network.link(0, 1).unwrap();
    ask(&mut network, link, 1);
    assert_eq!(
        replies(&network, |result| matches!(result, ExitResult::Failed)),
        1
    );
    let other = network.descriptors[2].clone();
    extend(&mut network, link, 5, other);
    assert_eq!((failed(&network), opened(&network)), (1, 0));
}

#[test]
fn a_circuit_goes_on_over_a_link_that_is_there() {
    let (mut network, link) = formed();
    let target = network.descriptors[5].clone();
    extend(&mut network, link, 5, target);
    let to = network.link(0, 5).unwrap();
    assert!(matches!(&network.commands[..],
        [(0, at, LinkCommand::OpenThrough { from, create })]
        if *at == to && from.link == link && from.circuit == CircuitId(5) && create.layer == 2));
    assert!(network.dialled.is_empty());
}

#[test]
fn a_circuit_waits_for_a_link_that_is_dialled() {
    let mut network = Network::new(2, 1, 3);
    // Not known to the others: it has no seed, and nobody has it.
    let hermit = network.add(300, 3, |config| config.topology.seeds.clear());
    network.run_for(Duration::from_secs(2));
    let link = network.link(0, 1).unwrap();
    let target = network.descriptors[hermit].clone();
    extend(&mut network, link, 5, target.clone());
    extend(&mut network, link, 6, target);
    assert_eq!(
        (
            opened(&network),
            network.cores[0].status(network.now).waiting_circuits
        ),
        (0, 2)
    );
    network.run_for(Duration::from_secs(1));
    assert_eq!(
        (
            opened(&network),
            network.cores[0].status(network.now).waiting_circuits
        ),
        (2, 0)
    );
}

#[test]
fn a_circuit_to_nowhere_is_told_so() {
    let (mut network, link) = formed();
    // Nobody there; itself; back to where it came from.
    extend(&mut network, link, 5, fixtures::node(999));
    let (own, back) = (network.descriptors[0].clone(), network.descriptors[1].clone());
    extend(&mut network, link, 6, own);
    extend(&mut network, link, 7, back);
    assert_eq!(failed(&network), 2);
    network.run_for(Duration::from_secs(2));
    assert_eq!((failed(&network), opened(&network)), (3, 0));
    // Out of date: the node may have moved.
    let old = network.resigned(3, |statement| statement.published -= 30 * 24 * 3600);
    network.kill(3);
    network.run_for(Duration::from_millis(500));
    extend(&mut network, link, 8, old);
    assert_eq!(failed(&network), 4);
}

#[test]
fn strangers_cannot_make_a_node_scan() {
    let (mut network, link) = formed();
    for number in 0..300 {
        extend(
            &mut network,
            link,
            1000 + number,
            fixtures::node(u16::try_from(1000 + number).unwrap()),
        );
    }
    network.run_for(Duration::from_secs(1));
    assert!(network.dialled.len() <= 40, "{} dials", network.dialled.len());
    assert_eq!((failed(&network), opened(&network)), (300, 0));
    assert_eq!(network.cores[0].status(network.now).waiting_circuits, 0);
}

#[test]
fn private_addresses_are_not_dialled_for_strangers() {
    let mut network = Network::new(1, 1, 3);
    let shy = network.add(50, 3, |config| config.topology.allow_private = false);
    network.run_for(Duration::from_secs(2));
    let link = network.link(shy, 0).unwrap();
    network.dialled.clear();
    let create = Create {
        layer: 2,
        ephemeral: [9; 32],
    };
    let target = Box::new(fixtures::node(999));
    network.event(
        shy,
        link,
        LinkEvent::ExtendWanted {
            circuit: CIRCUIT,
            target,
            create,
        },
    );
    assert_eq!(failed(&network), 1);
    network.run_for(Duration::from_secs(2));
    assert!(network.dialled.iter().all(|(node, _)| *node != shy));
}

#[test]
fn repair_at_both_ends_hears_at_once_of_a_service_that_changes() {
    let (mut network, _) = formed();
    let members =
        |network: &Network, node: usize| network.cores[node].status(network.now).open_repairs.members;
    for (day, stores) in [(1, false), (2, true), (3, false)] {
        let changed = network.resigned(3, |statement| {
            statement.services.store = stores;
            statement.published += day;
        });
        let (now, wall) = (network.now, network.wall());
        network.cores[3].set_descriptor(now, wall, changed);
        network.flush(3);
        network.run_for(Duration::from_secs(1));
        for node in (0..8).filter(|node| *node != 3) {
            let expected = if stores { 7 } else { 6 };
            assert_eq!(members(&network, node), expected, "seen by node {node}");
            assert_eq!(
                network.connections(node, 3),
                1,
                "a link of its own would tell, too"
            );
        }
        assert_eq!(members(&network, 3), 7, "it still sees who else keeps blocks");
    }
}
