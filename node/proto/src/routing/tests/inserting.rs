//! The end of an insert's way: the sink, its neighbours, and what may go wrong there.

use core::time::Duration;

use bytes::Bytes;
use warren_keys::{BLOCK_SIZE, Block, BlockId, BlockKind, RoutingKey};

use super::network::{Conduct, Network, block};
use crate::{
    core::api::Shelf,
    ids::RequestId,
    wire::{ExitResult, Routed},
};

/// `count` nodes, all linked to each other.
fn clique(count: usize) -> Network {
    let mut network = Network::new(count, 1);
    for node in 0..count {
        for other in 0..node {
            network.link(node, other);
        }
    }
    network
}

/// A signed block with that content; its signature was checked elsewhere.
fn signed(content: u8) -> Block {
    let id = BlockId::signed(RoutingKey::from_bytes([0x33; 32]));
    Block::from_store(id, Bytes::from(vec![content; BLOCK_SIZE])).unwrap()
}

#[test]
fn a_second_document_under_a_key_collides_and_is_not_pushed() {
    let mut network = clique(8);
    assert!(matches!(network.insert_now(0, signed(1)), ExitResult::Stored(5)));
    assert!(matches!(network.insert_now(3, signed(1)), ExitResult::Stored(5)));
    assert!(matches!(network.insert_now(5, signed(2)), ExitResult::Collision(first) if first == signed(1)));
    for node in network.holders(signed(1).id(), Shelf::Store) {
        assert_eq!(network.stores[node][&signed(1).id()].0, signed(1));
    }
    network.assert_idle();
}

#[test]
fn a_collision_that_is_none_is_an_offence_and_the_insert_goes_on() {
    for answer in [block(2), block(1)] {
        let mut network = clique(3);
        let order = network.nearest(block(1).key(), 3);
        network.conduct[order[0]] = Conduct::Dropper;
        let request = network.insert(order[2], block(1)).unwrap();
        network.run_for(Duration::from_millis(1));
        network.inject(
            order[0],
            order[2],
            Routed::Collision {
                id: request,
                block: answer,
            },
        );
        assert_eq!(network.offences, 1);
        network.settle();
        assert!(matches!(
            network.answers[&(order[2], request)],
            ExitResult::Stored(_)
        ));
        network.assert_idle();
    }
}

#[test]
fn neighbours_make_up_for_a_sink_whose_disk_fails() {
    let mut network = clique(8);
    let sink = network.nearest(block(1).key(), 1)[0];
    network.broken_disks.insert(sink);
    assert!(matches!(network.insert_now(0, block(1)), ExitResult::Stored(4)));
    network.broken_disks.extend(0..8);
    assert!(matches!(network.insert_now(0, block(2)), ExitResult::Failed));
    network.assert_idle();
}

#[test]
fn who_is_too_busy_to_write_is_asked_again_and_no_copy_is_lost() {
    let mut network = clique(8);
    network.busy_disks = (0..8).map(|node| (node, 3)).collect();
    assert!(matches!(network.insert_now(0, block(1)), ExitResult::Stored(5)));
    network.assert_idle();
}

#[test]
fn an_insert_for_which_all_are_too_busy_is_to_come_again() {
    let mut network = clique(8);
    network.busy_disks = (0..8).map(|node| (node, u32::MAX)).collect();
    let before = network.messages;
    assert!(matches!(network.insert_now(0, block(1)), ExitResult::Busy));
    assert!(
        network.messages - before < 50,
        "{} messages",
        network.messages - before
    );
    network.assert_idle();
    // One that can is enough.
    let other = network.nearest(block(2).key(), 3)[2];
    network.busy_disks.remove(&other);
    assert!(matches!(network.insert_now(0, block(2)), ExitResult::Stored(1)));
    network.assert_idle();
}

#[test]
fn a_node_that_does_not_store_passes_the_copies_on() {
    let mut network = clique(8);
    let sink = network.nearest(block(1).key(), 1)[0];
    network.routers[sink].set_stores(false);
    let from = (sink + 1) % 8;
    assert!(matches!(
        network.insert_now(from, block(1)),
        ExitResult::Stored(4)
    ));
    assert!(network.stores[sink].is_empty());
}

#[test]
fn an_insert_goes_on_without_whoever_sent_it() {
    let mut network = clique(8);
    let order = network.nearest(block(1).key(), 8);
    let (sink, asker) = (order[0], order[7]);
    network.insert(asker, block(1)).unwrap();
    network.run_for(Duration::from_millis(1));
    // The message is on its way; now the asker goes.
    while network.routers[sink].stats().inserts == 0 {
        assert!(network.step());
    }
    network.kill(asker);
    network.settle();
    let mut holders = network.holders(block(1).id(), Shelf::Store);
    holders.retain(|node| *node != asker);
    let mut nearest = order[..5].to_vec();
    nearest.sort_unstable();
    assert_eq!(holders, nearest);
    network.assert_idle();
}

#[test]
fn who_is_pushed_a_copy_of_what_passes_by_is_not_asked_to_keep_it_twice() {
    let mut network = clique(8);
    let order = network.nearest(block(1).key(), 8);
    for (from, near) in [(order[2], 0), (order[7], 1)] {
        assert!(matches!(
            network.insert_now(from, block(1)),
            ExitResult::Stored(5)
        ));
        assert_eq!(network.routers[from].stats().near, near);
    }
    assert_eq!(network.holders(block(1).id(), Shelf::Store).len(), 6);
    network.assert_idle();
}

#[test]
fn another_block_under_the_number_of_an_insert_does_not_pass_for_it() {
    let other = |first: &Block| match first.id().kind {
        BlockKind::Content => block(2),
        BlockKind::Signed => signed(2),
    };
    for inserted in [block(1), signed(1)] {
        for broken in [false, true] {
            let mut network = clique(8);
            let order = network.nearest(inserted.key(), 8);
            let (sink, asker) = (order[0], order[2]);
            network.conduct[sink] = Conduct::Dropper;
            let id = network.insert(asker, inserted.clone()).unwrap();
            network.run_for(Duration::from_millis(1));
            // The same one counts only if the datastore takes it.
            let pushed = if broken {
                inserted.clone()
            } else {
                other(&inserted)
            };
            if broken {
                network.broken_disks.insert(asker);
            }
            network.inject(sink, asker, Routed::Replicate { id, block: pushed });
            network.run_for(Duration::from_millis(20));
            network.inject(sink, asker, Routed::Stored { id, copies: 5 });
            network.settle();
            assert_eq!(network.routers[asker].stats().near, 1);
        }
    }
}

#[test]
fn a_dead_or_silent_next_hop_is_gone_round() {
    for dies in [true, false] {
        let mut network = clique(8);
        let order = network.nearest(block(1).key(), 8);
        if !dies {
            network.conduct[order[0]] = Conduct::Dropper;
        }
        let request = network.insert(order[7], block(1)).unwrap();
        if dies {
            network.kill(order[0]);
        }
        network.settle();
        assert!(matches!(
            network.answers[&(order[7], request)],
            ExitResult::Stored(4 | 5)
        ));
        assert!(network.stores[order[1]].contains_key(&block(1).id()));
        network.assert_idle();
    }
}

#[test]
fn only_nodes_near_the_key_take_a_pushed_copy() {
    let mut network = clique(20);
    let order = network.nearest(block(1).key(), 20);
    let (near, far) = (order[6], order[15]);
    for to in [near, far] {
        let from = order[19];
        network.inject(
            from,
            to,
            Routed::Replicate {
                id: RequestId(1),
                block: block(1),
            },
        );
    }
    network.settle();
    assert_eq!(network.holders(block(1).id(), Shelf::Store), [near]);
    network.assert_idle();
}

#[test]
fn nodes_near_the_key_keep_what_a_false_sink_drops() {
    let mut network = clique(20);
    let order = network.nearest(block(1).key(), 20);
    network.conduct[order[0]] = Conduct::Liar;
    let (near, far) = (order[7], order[15]);
    assert!(matches!(network.insert_now(far, block(1)), ExitResult::Stored(5)));
    assert!(network.holders(block(1).id(), Shelf::Store).is_empty());
    assert!(matches!(
        network.insert_now(near, block(1)),
        ExitResult::Stored(5)
    ));
    assert_eq!(network.holders(block(1).id(), Shelf::Store), [near]);
    network.assert_idle();
}

#[test]
fn without_neighbours_the_own_copy_is_all() {
    let mut network = Network::new(1, 1);
    assert!(matches!(network.insert_now(0, block(1)), ExitResult::Stored(1)));
}
