//! Random networks, commands and deaths: what must hold whatever happens.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    net::{Behaviour, Net},
    *,
};
use crate::client::testing::{block, node};

#[derive(Clone, Debug)]
enum Step {
    Fetch {
        job: u64,
        block: u64,
        expendable: bool,
    },
    Insert {
        job: u64,
        block: u64,
        exits: u8,
        read_back: bool,
    },
    Bulk(u64),
    Close(u64),
    KillCircuit(usize),
    KillNode(u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..5_u64, 0..20_u64, any::<bool>())
            .prop_map(|(job, block, expendable)| Step::Fetch { job, block, expendable }),
        4 => (1..5_u64, 0..20_u64, 0..3_u8, any::<bool>())
            .prop_map(|(job, block, exits, read_back)| Step::Insert { job, block, exits, read_back }),
        1 => (1..5_u64).prop_map(Step::Bulk),
        1 => (1..5_u64).prop_map(Step::Close),
        2 => (0..20_usize).prop_map(Step::KillCircuit),
        1 => (1..12_u64).prop_map(Step::KillNode),
        4 => (0..3000_u64).prop_map(Step::Wait),
    ]
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        6 => Just(Behaviour::Honest),
        1 => (0..5000_u64).prop_map(|delay| Behaviour::Slow(Duration::from_millis(delay))),
        1 => Just(Behaviour::Deaf),
        1 => Just(Behaviour::Liar),
        1 => Just(Behaviour::Wrong),
        1 => Just(Behaviour::Busy),
        1 => Just(Behaviour::Failing),
        1 => Just(Behaviour::Forgetful),
        1 => Just(Behaviour::Dead),
        1 => Just(Behaviour::Hang),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_operation_ends_and_no_circuit_carries_two_jobs(
        seed: u64,
        hops in 0..5_usize,
        behaviours in proptest::collection::vec(behaviour(), 3..14),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut net = Net::with_hops(behaviours.len(), seed, hops);
        for (index, behaviour) in (0_u64..).zip(behaviours) {
            net.behave(node(index), behaviour);
        }
        // Blocks are told apart by job, so that the network can see whose request a circuit carries.
        let of_job = |job: u64, number: u64| block(job * 1000 + number);
        for job in 1..5 {
            for number in 0..10 {
                net.put(of_job(job, number));
            }
        }
        let (mut op, mut expected, mut closed) = (0, Vec::new(), BTreeSet::new());
        for step in steps {
            op += 1;
            match step {
                Step::Fetch { job, block, expendable } if !closed.contains(&job) => {
                    net.fetch(JobId(job), op, of_job(job, block).id(), expendable);
                    expected.push((job, op, block));
                }
                Step::Insert { job, block, exits, read_back } if !closed.contains(&job) => {
                    net.insert(JobId(job), op, of_job(job, block), exits, read_back);
                    expected.push((job, op, block));
                }
                Step::Close(job) => {
                    closed.insert(job);
                    net.command(ClientCommand::CloseJob(JobId(job)));
                }
                Step::Bulk(job) => net.command(ClientCommand::SetBulk(JobId(job))),
                Step::KillCircuit(index) => {
                    let standing = net.standing();
                    if let Some(origin) = standing.get(index) {
                        net.kill_circuit(*origin, None);
                    }
                }
                Step::KillNode(index) => net.kill_node(node(index)),
                Step::Wait(millis) => net.run_for(Duration::from_millis(millis)),
                _ => {}
            }
            let places = net.pool.circuits.values().flat_map(|circuit| circuit.open.values());
            let places = places.filter(|attempt| attempt.place.is_some()).count();
            prop_assert_eq!(places, net.pool.fetches.open() + net.pool.inserts.open());
        }
        let last_command = net.now;
        net.run_until_idle();
        // Time counts from an operation's first attempt; where all is busy, few have theirs at a time.
        let longest = Duration::from_secs(150) * (1 + u32::try_from(expected.len()).unwrap() / 2);
        prop_assert!(net.now.since(last_command) < longest, "{:?}", net.now.since(last_command));
        for (job, op, block) in expected {
            let ended = net.events.iter().filter(|event| match event {
                ClientEvent::Fetched { op: ended, result, .. } if ended.0 == op => {
                    result.as_ref().is_ok_and(|found| *found == of_job(job, block)) || result.is_err()
                }
                ClientEvent::Inserted { op: ended, .. } => ended.0 == op,
                ClientEvent::Fetched { .. } => false,
            });
            let ended = ended.count();
            prop_assert!(ended == 1 || ended == 0 && closed.contains(&job), "operation {op} ended {ended} times");
        }
        prop_assert!(net.carried.values().all(|jobs| jobs.len() <= 1), "a circuit carried two jobs");
        prop_assert!(net.most_open <= 64);
        prop_assert!(net.paths.values().all(|path| path.len() == hops && !path.contains(&node(0))));
    }
}
