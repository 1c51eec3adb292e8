//! How many jobs of one client get along.

use super::*;

/// Bulk jobs with `blocks` operations each; the numbers of a job's operations follow one another.
fn bulk(net: &mut Net, jobs: u64, blocks: u64) {
    net.put(block(1));
    for job in 0..jobs {
        net.command(ClientCommand::OpenJob {
            job: JobId(job),
            bulk: true,
        });
        for op in 0..blocks {
            net.command(ClientCommand::Fetch {
                job: JobId(job),
                op: OpId(job * blocks + op),
                block: block(1).id(),
                expendable: true,
                wait: Duration::ZERO,
            });
        }
    }
}

/// How many operations of each bulk job have ended.
fn standing(net: &Net, jobs: u64, blocks: u64) -> Vec<u64> {
    let mut standing = vec![0; usize::try_from(jobs).unwrap()];
    for op in net.ended_at.keys() {
        if let Some(of_job) = standing.get_mut(usize::try_from(op.0 / blocks).unwrap()) {
            *of_job += 1;
        }
    }
    standing
}

/// What somebody waits for one block, in a job of its own.
fn person(net: &mut Net, number: u64) -> Duration {
    let begun = net.now;
    net.fetch(JobId(number), number, block(1).id(), false);
    while !net.ended_at.contains_key(&OpId(number)) {
        net.run_for(Duration::from_micros(100));
    }
    net.command(ClientCommand::CloseJob(JobId(number)));
    net.ended_at[&OpId(number)].since(begun)
}

#[test]
fn bulk_jobs_go_equally_fast_and_a_person_does_not_wait_for_them() {
    const JOBS: u64 = 12;
    const BLOCKS: u64 = 600;
    const PERSONS: u64 = 1 << 20;
    let mut net = Net::new(16, 70);
    net.default_delay = Duration::from_millis(20);
    net.service = Duration::from_micros(200);
    net.put(block(1));
    net.run_for(seconds(2));
    let idle = person(&mut net, PERSONS);
    let begun = net.now;
    bulk(&mut net, JOBS, BLOCKS);
    // All have circuits by then.
    net.run_for(Duration::from_millis(200));
    let before = standing(&net, JOBS, BLOCKS);
    let (mut waits, mut after) = (Vec::new(), before.clone());
    while !after.contains(&BLOCKS) {
        net.run_for(Duration::from_millis(15));
        waits.push(person(&mut net, PERSONS + 1 + waits.len() as u64));
        after = standing(&net, JOBS, BLOCKS);
    }
    waits.sort_unstable();
    let median = waits[waits.len() / 2];
    assert!(median < idle * 3, "{median:?} beside them, {idle:?} alone");
    let got = || after.iter().zip(&before).map(|(after, before)| after - before);
    let (least, most) = (got().min().unwrap(), got().max().unwrap());
    assert!(least * 10 >= most * 9, "{before:?} to {after:?}");
    net.run_until_idle();
    let took = net.now.since(begun);
    let needed = net.service * u32::try_from(JOBS * BLOCKS).unwrap();
    assert!(took < needed * 3 / 2, "{took:?} for {needed:?} of work");
}

#[test]
fn a_long_way_is_filled_within_a_few_round_trips() {
    const BLOCKS: u64 = 3000;
    let mut net = Net::new(16, 71);
    net.default_delay = Duration::from_millis(100);
    net.run_for(seconds(2));
    let begun = net.now;
    bulk(&mut net, 1, BLOCKS);
    net.run_until_idle();
    // Six circuits of 64 carry 384 in a round trip, after some that double.
    let took = net.now.since(begun);
    assert!(took < Duration::from_millis(1600), "{took:?}");
}

#[test]
fn a_closed_job_leaves_its_room_to_the_others() {
    let mut net = Net::new(16, 72);
    net.service = seconds(5);
    bulk(&mut net, 4, 100);
    net.run_for(seconds(2));
    // Nothing has been answered, so this is the window.
    let open = |net: &Net| -> usize { net.standing().iter().map(|origin| net.in_flight(*origin)).sum() };
    let before = open(&net);
    assert!(before < 100);
    net.command(ClientCommand::CloseJob(JobId(0)));
    assert_eq!(open(&net), before);
}
