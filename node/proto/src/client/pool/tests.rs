//! The pool against a scripted network in memory, time jumping from event to event.

mod net;
mod random;
mod sharing;
mod waiting;

use std::{collections::BTreeSet, time::Duration};

use net::{Behaviour, Net};
use rand_core::SeedableRng;

use super::*;
use crate::{
    client::testing::{block, node, signed_block},
    core::api::{FetchFailure, InsertFailure},
    wire::ExitOp,
};

const JOB: JobId = JobId(1);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_block_comes_through_three_distinct_hops() {
    let mut net = Net::new(12, 1);
    net.put(block(1));
    net.fetch(JOB, 1, block(1).id(), false);
    net.run_until_idle();
    assert_eq!(net.fetched(1), Ok(block(1)));
    let path = &net.paths[&net.sends[0].origin];
    assert_eq!(path.iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(!path.contains(&node(0)));
}

#[test]
fn spares_are_ready_before_the_first_job_and_all_have_one_entry() {
    let mut net = Net::new(12, 2);
    net.run_for(seconds(1));
    assert_eq!(net.pool.circuit_count(), (3, 0));
    net.put(block(1));
    let before = net.now;
    net.fetch(JOB, 1, block(1).id(), false);
    net.run_until_idle();
    assert_eq!(net.fetched(1), Ok(block(1)));
    assert!(
        net.ended_at[&OpId(1)].since(before) < Duration::from_millis(100),
        "no circuit had to be built"
    );
    for number in 2..30 {
        net.put(block(number));
        net.fetch(JobId(number), number, block(number).id(), false);
        net.run_until_idle();
        net.command(ClientCommand::CloseJob(JobId(number)));
    }
    assert_eq!(
        net.paths
            .values()
            .map(|path| path[0])
            .collect::<BTreeSet<_>>()
            .len(),
        1
    );
    assert_eq!(net.pool.entries().len(), 1);
    assert!(
        net.saved_entries
            .iter()
            .any(|entry| entry.node == net.pool.entries()[0])
    );
}

#[test]
fn a_missing_block_is_searched_by_three_exits_more_widely_each_time() {
    let mut net = Net::new(12, 3);
    net.fetch(JOB, 1, block(1).id(), false);
    net.run_until_idle();
    assert_eq!(net.fetched(1), Err(FetchFailure::NotFound));
    let exits: BTreeSet<_> = net.sends.iter().map(|send| send.exit).collect();
    assert_eq!((net.sends.len(), exits.len()), (3, 3));
    let branches = net.sends.iter().map(|send| match send.op {
        ExitOp::Fetch { branches, .. } => branches,
        ExitOp::Insert(_) => 0,
    });
    assert_eq!(branches.collect::<Vec<_>>(), [3, 8, 8]);
}

#[test]
fn an_expendable_block_is_searched_once() {
    let mut net = Net::new(12, 3);
    net.fetch(JOB, 1, block(1).id(), true);
    net.run_until_idle();
    assert_eq!(net.fetched(1), Err(FetchFailure::NotFound));
    assert_eq!(net.sends.len(), 1);
}

#[test]
fn two_liars_are_outvoted() {
    let mut net = Net::new(12, 4);
    net.put(block(1));
    net.lie_first(2);
    net.fetch(JOB, 1, block(1).id(), false);
    net.run_until_idle();
    assert_eq!(net.fetched(1), Ok(block(1)));
    assert_eq!(net.sends.len(), 3);
}

#[test]
fn a_wrong_block_costs_its_exit_the_circuit() {
    let mut net = Net::new(12, 5);
    net.put(block(1));
    net.all_exits_but_one(Behaviour::Wrong);
    net.fetch(JOB, 1, block(1).id(), false);
    net.run_until_idle();
    assert_eq!(net.fetched(1), Ok(block(1)));
    assert!(net.sends.len() > 1);
    let liars: Vec<_> = net
        .sends
        .iter()
        .filter(|send| net.behaviour(send.exit) == Behaviour::Wrong)
        .collect();
    assert!(liars.iter().all(|send| net.closed.contains(&send.origin)));
    assert_eq!(
        liars.iter().map(|send| send.exit).collect::<BTreeSet<_>>().len(),
        liars.len(),
        "none is asked twice"
    );
}

#[test]
fn requests_of_a_dying_circuit_go_on_through_another() {
    let mut net = Net::new(12, 6);
    net.default_delay = Duration::from_millis(200);
    for number in 1..=20 {
        net.put(block(number));
        net.fetch(JOB, number, block(number).id(), false);
    }
    net.run_for(Duration::from_millis(250));
    let first = net.sends[0].origin;
    assert!(net.in_flight(first) > 0);
    net.kill_circuit(first, None);
    net.run_until_idle();
    for number in 1..=20 {
        assert_eq!(net.fetched(number), Ok(block(number)));
    }
}

#[test]
fn what_is_usual_tells_of_a_fresh_circuit_that_it_is_late() {
    let mut net = Net::new(12, 60);
    for number in 1..20 {
        net.put(block(number));
        net.fetch(JobId(number), number, block(number).id(), false);
        net.run_until_idle();
        net.command(ClientCommand::CloseJob(JobId(number)));
    }
    // The usual is 50 ms; this job's circuit has no record of its own.
    net.put(block(50));
    net.run_for(seconds(1));
    net.deaf_first(1);
    let begun = net.now;
    net.fetch(JobId(50), 50, block(50).id(), false);
    net.run_until_idle();
    assert_eq!(net.fetched(50), Ok(block(50)));
    assert!(net.ended_at[&OpId(50)].since(begun) < Duration::from_millis(600));
}

#[test]
fn second_attempts_are_a_small_share_of_all() {
    let mut net = Net::new(12, 61);
    let count = 400;
    for number in 1..12 {
        // Each exit is slow now and then; the pool cannot tell when.
        net.behave(node(number), Behaviour::Honest);
    }
    for number in 1..=count {
        net.put(block(number));
        if number % 3 == 0 {
            net.deaf_first(1);
        }
        net.fetch(JobId(number), number, block(number).id(), false);
        net.run_until_idle();
        net.command(ClientCommand::CloseJob(JobId(number)));
    }
    let extra = net.sends.len() as u64 - count;
    // What was hedged, and what ran into its time limit instead: each is asked again once.
    assert!(extra >= count / 3);
    let quick = net.ended_at.len();
    assert_eq!(quick as u64, count);
    assert!(
        net.hedged() <= 8 + count / 20 + 1,
        "{} second attempts",
        net.hedged()
    );
}

#[test]
fn a_deaf_exit_is_hedged_against() {
    for hedging in [true, false] {
        let mut net = Net::new(12, 7);
        net.pool.settings.hedging = hedging;
        net.put(block(1));
        net.deaf_first(1);
        net.fetch(JOB, 1, block(1).id(), false);
        net.run_until_idle();
        assert_eq!(net.fetched(1), Ok(block(1)));
        assert_eq!(net.now.since(Time(0)) < seconds(3), hedging, "{:?}", net.now);
        assert_eq!(net.hedged(), u64::from(hedging));
    }
}

#[test]
fn an_entry_that_carries_nothing_is_not_kept() {
    for behaviour in [Behaviour::Swallow, Behaviour::Cut] {
        let mut net = Net::new(12, 8);
        net.run_for(seconds(1));
        let first = net.pool.entries()[0];
        net.behave(first, behaviour);
        for number in 1..12 {
            net.put(block(number));
            net.fetch(JobId(number), number, block(number).id(), false);
            net.run_until_idle();
            assert_eq!(net.fetched(number), Ok(block(number)), "{behaviour:?} {number}");
            net.command(ClientCommand::CloseJob(JobId(number)));
            net.run_for(seconds(30));
        }
        assert!(
            net.pool.entries().len() <= 3,
            "one bad entry does not use up the list"
        );
        // When it carries again it is the preferred one again.
        net.behave(first, Behaviour::Honest);
        net.run_for(seconds(600));
        for number in 20..24 {
            net.put(block(number));
            net.fetch(JobId(number), number, block(number).id(), false);
            net.run_until_idle();
            net.command(ClientCommand::CloseJob(JobId(number)));
        }
        assert_eq!(
            net.paths[&net.sends.last().unwrap().origin][0],
            first,
            "{behaviour:?}"
        );
    }
}

#[test]
fn a_busy_exit_is_left_alone_for_a_while() {
    let mut net = Net::new(12, 8);
    net.all_exits_but_one(Behaviour::Busy);
    for number in 1..=8 {
        net.put(block(number));
        net.fetch(JOB, number, block(number).id(), false);
    }
    net.run_until_idle();
    for number in 1..=8 {
        assert_eq!(net.fetched(number), Ok(block(number)));
    }
    let busy = net
        .sends
        .iter()
        .filter(|send| net.behaviour(send.exit) == Behaviour::Busy)
        .count();
    assert!(busy < 200, "{busy} requests to busy exits");
}

#[test]
fn a_bulk_job_spreads_over_several_exits_within_their_windows() {
    let mut net = Net::new(40, 9);
    net.command(ClientCommand::OpenJob { job: JOB, bulk: true });
    for number in 1..=1500 {
        net.put(block(number));
        net.fetch(JOB, number, block(number).id(), false);
    }
    net.run_until_idle();
    for number in 1..=1500 {
        assert_eq!(net.fetched(number), Ok(block(number)));
    }
    let exits: BTreeSet<_> = net.sends.iter().map(|send| send.exit).collect();
    assert!((6..=9).contains(&exits.len()), "{} exits", exits.len());
    assert!(net.most_open > 20 && net.most_open <= 64, "{}", net.most_open);
}

#[test]
fn a_crawling_circuit_of_a_bulk_job_is_replaced() {
    let mut net = Net::new(40, 10);
    net.command(ClientCommand::OpenJob { job: JOB, bulk: true });
    net.run_for(seconds(1));
    net.default_delay = Duration::from_millis(100);
    for number in 1..=50 {
        net.put(block(number));
        net.fetch(JOB, number, block(number).id(), false);
    }
    net.run_for(Duration::from_millis(150));
    let slow = net.sends[0].exit;
    net.behave(slow, Behaviour::Slow(Duration::from_secs(2)));
    for wave in 1_u64..=200 {
        for number in wave * 50 + 1..=wave * 50 + 50 {
            net.put(block(number));
            net.fetch(JOB, number, block(number).id(), false);
        }
        net.run_for(Duration::from_millis(100));
    }
    net.run_until_idle();
    assert!(
        net.sends
            .iter()
            .any(|send| send.exit == slow && net.closed.contains(&send.origin))
    );
    let last = net.sends.iter().rev().take(500);
    assert_eq!(last.filter(|send| send.exit == slow).count(), 0);
}

#[test]
fn important_blocks_go_through_two_exits_and_a_third_reads_them_back() {
    let mut net = Net::new(12, 11);
    net.insert(JOB, 1, block(1), 2, true);
    net.run_until_idle();
    assert!(matches!(net.inserted(1), Ok(5)));
    let kinds = net.sends.iter().map(|send| matches!(send.op, ExitOp::Insert(_)));
    assert_eq!(kinds.collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(
        net.sends
            .iter()
            .map(|send| send.exit)
            .collect::<BTreeSet<_>>()
            .len(),
        3
    );
}

#[test]
fn an_insert_that_was_only_pretended_is_noticed_and_repeated() {
    let mut net = Net::new(12, 12);
    net.forget_first(2);
    net.insert(JOB, 1, block(1), 2, true);
    net.run_until_idle();
    assert!(matches!(net.inserted(1), Ok(5)));
    assert!(net.store.contains_key(&block(1).id()));
    let inserts = net
        .sends
        .iter()
        .filter(|send| matches!(send.op, ExitOp::Insert(_)))
        .count();
    assert_eq!(inserts, 4);
}

#[test]
fn a_collision_is_reported_with_the_block_that_was_there_first() {
    let mut net = Net::new(12, 13);
    net.put(signed_block("theirs"));
    net.insert(JOB, 1, signed_block("mine"), 2, true);
    net.run_until_idle();
    assert!(
        matches!(net.inserted(1), Err(InsertFailure::Collision(other)) if other == signed_block("theirs"))
    );
}

#[test]
fn closing_a_job_closes_its_circuits_and_silences_it() {
    let mut net = Net::new(12, 14);
    for number in 1..=20 {
        net.put(block(number));
        net.fetch(JOB, number, block(number).id(), false);
    }
    net.run_for(Duration::from_millis(160));
    let (used, events) = (net.sends[0].origin, net.events.len());
    net.command(ClientCommand::CloseJob(JOB));
    assert!(net.closed.contains(&used));
    net.run_for(seconds(60));
    assert_eq!(net.events.len(), events);
}

#[test]
fn without_a_network_everything_ends_as_unreachable() {
    for (size, seed) in [(1, 20), (3, 21)] {
        let mut net = Net::new(size, seed);
        net.fetch(JOB, 1, block(1).id(), false);
        net.insert(JOB, 2, block(2), 2, true);
        net.run_until_idle();
        assert_eq!(net.fetched(1), Err(FetchFailure::Unreachable));
        assert!(matches!(net.inserted(2), Err(InsertFailure::Unreachable)));
        assert!(net.now.since(Time(0)) < seconds(90));
    }
}

#[test]
fn a_network_of_four_is_enough() {
    let mut net = Net::new(4, 22);
    net.insert(JOB, 1, block(1), 2, true);
    net.run_until_idle();
    assert!(matches!(net.inserted(1), Ok(5)));
    net.fetch(JOB, 2, block(1).id(), false);
    net.fetch(JOB, 3, block(3).id(), false);
    net.run_until_idle();
    assert_eq!(net.fetched(2), Ok(block(1)));
    assert_eq!(
        net.fetched(3),
        Err(FetchFailure::NotFound),
        "both exits have searched"
    );
}

#[test]
fn three_of_eight_nodes_may_die_in_the_middle() {
    for seed in 0..20 {
        let mut net = Net::new(8, 100 + seed);
        net.command(ClientCommand::OpenJob { job: JOB, bulk: true });
        for number in 1..=300 {
            net.put(block(number));
            net.fetch(JOB, number, block(number).id(), false);
        }
        net.run_for(Duration::from_millis(170));
        assert!(!net.sends.is_empty() && net.ended_at.len() < 300);
        // The entry and the exit in use are among them.
        let path = net.paths[&net.sends[0].origin].clone();
        for dead in [path[0], path[1], path[2]] {
            net.kill_node(dead);
        }
        net.run_until_idle();
        for number in 1..=300 {
            assert_eq!(net.fetched(number), Ok(block(number)), "seed {seed}");
        }
        assert!(
            net.now.since(Time(0)) < seconds(30),
            "{:?} at seed {seed}",
            net.now
        );
    }
}

#[test]
fn a_hop_that_hangs_is_found_out() {
    let mut net = Net::new(8, 23);
    net.run_for(seconds(1));
    for hanging in 1..4 {
        net.behave(node(hanging), Behaviour::Hang);
    }
    net.put(block(1));
    net.fetch(JOB, 1, block(1).id(), false);
    net.run_until_idle();
    assert_eq!(net.fetched(1), Ok(block(1)));
}

#[test]
fn with_no_hops_this_node_is_its_own_exit() {
    let mut net = Net::with_hops(5, 24, 0);
    net.put(block(1));
    net.fetch(JOB, 1, block(1).id(), false);
    net.fetch(JOB, 2, block(2).id(), false);
    net.insert(JOB, 3, block(3), 2, true);
    net.run_until_idle();
    assert_eq!(net.fetched(1), Ok(block(1)));
    assert_eq!(net.fetched(2), Err(FetchFailure::NotFound));
    assert!(matches!(net.inserted(3), Ok(5)));
    assert!(net.paths.is_empty() && net.sends.iter().all(|send| send.exit == node(0)));
}

#[test]
fn any_number_of_hops_works() {
    for hops in 1..=5 {
        let mut net = Net::with_hops(12, 25, hops);
        net.put(block(1));
        net.fetch(JOB, 1, block(1).id(), false);
        net.run_until_idle();
        assert_eq!(net.fetched(1), Ok(block(1)));
        assert!(net.paths.values().all(|path| path.len() == hops));
    }
}

#[test]
fn what_exceeds_a_bound_fails_at_once() {
    let mut net = Net::new(1, 26);
    net.fetch(JOB, 0, block(1).id(), false);
    for number in 1..=MAX_OPS as u64 {
        net.fetch(JOB, number, block(1).id(), false);
    }
    assert_eq!(net.fetched(MAX_OPS as u64), Err(FetchFailure::Unreachable));
    net.pool.command(
        net.now,
        ClientCommand::Fetch {
            job: JobId(99),
            op: OpId(77_777),
            block: block(1).id(),
            expendable: false,
            wait: Duration::ZERO,
        },
    );
    net.drain();
    assert_eq!(net.fetched(77_777), Err(FetchFailure::Unreachable), "no such job");
}

/// Its answers come without time passing, so whoever asks again at once never stops.
#[test]
fn without_circuits_a_busy_router_is_not_asked_again_at_once() {
    let settings = PoolSettings {
        hops: 0,
        ..PoolSettings::new(node(0))
    };
    let mut pool = Pool::new(settings, ChaCha20Rng::from_seed([1; 32]));
    let nobody: BTreeMap<NodeId, Descriptor> = BTreeMap::new();
    pool.command(
        Time(0),
        ClientCommand::OpenJob {
            job: JOB,
            bulk: false,
        },
    );
    for (op, number) in [(OpId(1), 1), (OpId(2), 2)] {
        let (block, expendable) = (block(number).id(), false);
        pool.command(
            Time(0),
            ClientCommand::Fetch {
                job: JOB,
                op,
                block,
                expendable,
                wait: Duration::ZERO,
            },
        );
    }
    let (mut now, mut outputs, mut ended) = (Time(0), 0, 0);
    while ended < 2 {
        while let Some(output) = pool.poll(now, WallTime(0), &nobody) {
            outputs += 1;
            assert!(outputs < 500, "{outputs} outputs by {now:?}");
            match output {
                // The first search takes its time; while it does, there is no room for anything else.
                PoolOutput::LocalExit { request, .. } if outputs == 1 => assert_eq!(request.id, 0),
                PoolOutput::LocalExit { origin, request } => {
                    let (id, result) = (request.id, ExitResult::Busy);
                    pool.origin_reply(now, origin, ExitReply { id, result });
                }
                PoolOutput::Client(_) => ended += 1,
                _ => {}
            }
        }
        now = now.max(pool.poll_timeout().unwrap_or(now));
        pool.handle_timeout(now);
    }
    assert!(now <= Time(60_000_000));
}
