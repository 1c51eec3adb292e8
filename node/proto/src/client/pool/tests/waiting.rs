//! Fetches that wait for a block that is not there yet.

use super::*;
use crate::routing::WAIT_TIME;

const PROMPT: Duration = Duration::from_millis(100);

/// A network in which job 1 waits for block 1, and has asked all whom it will ask.
fn waiting(seed: u64, wait: Duration) -> Net {
    let mut net = Net::new(12, seed);
    net.run_for(seconds(1));
    net.wait = wait;
    net.fetch(JOB, 1, block(1).id(), false);
    net.run_for(seconds(5));
    net
}

fn arrives(net: &mut Net) {
    let published = net.now;
    net.publish(block(1));
    net.run_for(seconds(5));
    assert_eq!(net.fetched(1), Ok(block(1)));
    assert!(net.ended_at[&OpId(1)].since(published) <= PROMPT);
}

#[test]
fn three_exits_wait_and_the_first_push_ends_it() {
    let mut net = waiting(40, seconds(600));
    assert_eq!((net.waiting_exits().len(), net.sends.len()), (3, 3));
    net.run_for(seconds(60));
    assert_eq!(net.sends.len(), 3, "nothing more to do");
    arrives(&mut net);
    assert_eq!(net.events.len(), 1);
}

#[test]
fn waits_are_renewed_before_the_network_forgets_them() {
    let mut net = waiting(41, seconds(3600));
    for _ in 0..30 {
        net.run_for(seconds(60));
        assert!(!net.waiting_exits().is_empty());
        assert!(net.sends.len() as u64 <= 3 + 3 * (net.now.0 / 100_000_000));
    }
    assert!(net.now.since(Time(0)) > WAIT_TIME * 9);
    arrives(&mut net);
}

#[test]
fn a_circuit_that_dies_is_replaced_and_waits_anew() {
    let mut net = waiting(42, seconds(600));
    let circuits: Vec<OriginId> = net.waits.keys().map(|(origin, _)| *origin).collect();
    for origin in &circuits {
        net.kill_circuit(*origin, None);
    }
    net.run_for(seconds(3));
    assert!(net.waits.keys().all(|(origin, _)| !circuits.contains(origin)));
    assert_eq!(net.waiting_exits().len(), 3);
    assert!(
        net.carried.values().all(|jobs| jobs.len() == 1),
        "circuits are never shared"
    );
    arrives(&mut net);
}

#[test]
fn a_network_that_was_away_is_waited_in_again() {
    let mut net = waiting(43, seconds(600));
    for number in 1..12 {
        net.kill_node(node(number));
    }
    net.run_for(seconds(90));
    assert!(
        net.waiting_exits().is_empty() && net.events.is_empty(),
        "it waits for better times"
    );
    for number in 1..12 {
        net.behave(node(number), Behaviour::Honest);
    }
    net.run_for(seconds(60));
    assert!(!net.waiting_exits().is_empty());
    arrives(&mut net);
}

#[test]
fn what_does_not_come_in_time_is_not_found() {
    let mut net = waiting(44, seconds(30));
    net.run_for(seconds(20));
    assert!(net.events.is_empty());
    net.run_for(seconds(10));
    assert_eq!(net.fetched(1), Err(FetchFailure::NotFound));
}

#[test]
fn exits_that_only_say_no_are_asked_again_but_not_often() {
    let mut net = Net::new(12, 45);
    for number in 1..12 {
        net.behave(node(number), Behaviour::Liar);
    }
    net.wait = seconds(400);
    net.fetch(JOB, 1, block(1).id(), false);
    net.run_for(seconds(290));
    assert!(
        net.sends.len() > 100 / 15 && net.sends.len() < 9 * 300 / 15,
        "{}",
        net.sends.len()
    );
    for number in 1..12 {
        net.behave(node(number), Behaviour::Honest);
    }
    net.put(block(1));
    net.run_for(seconds(20));
    assert_eq!(
        net.fetched(1),
        Ok(block(1)),
        "a search finds what no push told of"
    );
}

#[test]
fn two_exits_must_do_where_there_is_no_third_and_one_alone_too() {
    // This node, an entry, a relay and an exit: nothing else fits.
    for (size, exits) in [(4, 1..=2), (5, 1..=3)] {
        let mut net = Net::new(size, 46);
        net.wait = seconds(600);
        net.fetch(JOB, 1, block(1).id(), false);
        net.run_for(seconds(100));
        assert!(
            exits.contains(&net.waiting_exits().len()),
            "{:?}",
            net.waiting_exits()
        );
        assert!(net.sends.len() < 30, "{} questions", net.sends.len());
        arrives(&mut net);
    }
}

#[test]
fn without_circuits_the_node_waits_itself() {
    let mut net = Net::with_hops(1, 47, 0);
    net.wait = seconds(600);
    net.fetch(JOB, 1, block(1).id(), false);
    net.run_for(seconds(200));
    assert!(net.sends.len() <= 3, "{} questions", net.sends.len());
    let published = net.now;
    net.paths.entry(net.waits.keys().next().unwrap().0).or_default();
    net.publish(block(1));
    net.run_for(seconds(1));
    assert_eq!(net.fetched(1), Ok(block(1)));
    assert!(net.ended_at[&OpId(1)].since(published) <= PROMPT);
}

#[test]
fn a_job_that_ends_waits_no_more() {
    let mut net = waiting(48, seconds(600));
    net.command(ClientCommand::CloseJob(JOB));
    assert!(net.waits.is_empty(), "its circuits are closed");
    net.publish(block(1));
    net.run_for(seconds(700));
    assert!(net.events.is_empty());
}
