//! What time does to the pool: limits, hedges, pauses, ageing.
//!
//! One coarse tick looks at everything that is open. Timers for each request would cost more than they tell: the shortest
//! limit is several ticks long.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    client::{
        circuit::{BUILD_TIME, Circuit, Kind, SLOW_BUILD},
        job::Job,
        op::{Op, Outcome, Standing},
        pool::{Pool, PoolOutput},
    },
    ids::{JobId, OpId, OriginId},
    time::Time,
};

/// While something is open.
const TICK: Duration = Duration::from_millis(50);
/// While what is open only waits for blocks that are not there yet: waits are minutes long.
const WAIT_TICK: Duration = Duration::from_millis(500);
/// While nothing is: spares age, and missing ones are tried again.
const IDLE_TICK: Duration = Duration::from_secs(5);
/// A node that failed is avoided so long, if there are others.
pub(super) const AVOID: Duration = Duration::from_secs(20);
/// A node that sent what no honest node sends.
pub(super) const AVOID_LIAR: Duration = Duration::from_secs(600);
/// A spare is replaced at this age: nodes come and go, and a job that starts should not find dead circuits.
const SPARE_AGE: Duration = Duration::from_secs(900);
/// Without any circuit for so long, waiting operations end.
const STALL_TIME: Duration = Duration::from_secs(60);
/// The least time before a second circuit is asked for a block.
const HEDGE_FLOOR: Duration = Duration::from_millis(300);
/// The same while no usual time is known.
const HEDGE_UNKNOWN: Duration = Duration::from_millis(1500);
/// An attempt through a circuit without a record, and the building of a circuit, are late after so many times what the others
/// usually take.
const LATE: u32 = 4;
/// A circuit whose building takes so many times as long as usual will not stand any more.
const HOPELESS: u32 = 16;
/// The least time before another circuit is begun beside one that is being built.
const BUILD_FLOOR: Duration = Duration::from_millis(500);
/// Share of operations that may be asked twice because they are slow: enough for stragglers, too little to burden a network
/// that is slow as a whole.
pub(super) const HEDGE_SHARE: f32 = 0.05;
/// Second attempts that may be saved up, for all jobs together.
pub(super) const MAX_HEDGES: f32 = 8.0;
/// How often a bulk job's circuits are compared.
const REVIEW: Duration = Duration::from_secs(5);
/// A circuit that takes so many times as long as the job's middle one is replaced…
const SLOWER: u32 = 4;
/// …if that is at least so long.
const SLOW: Duration = Duration::from_millis(800);
/// Fewer circuits than this are not compared.
const REVIEWED_FROM: usize = 3;

/// Pause before another spare after `failures` in a row.
pub(super) fn spare_pause(failures: u32) -> Duration {
    Duration::from_millis(500) * (1 << failures.min(7))
}

/// Pause before another circuit for a job after `failures` in a row.
pub(super) fn build_pause(failures: u32) -> Duration {
    match failures {
        // A few failures are a few dead nodes, and someone waits.
        0..=2 => Duration::ZERO,
        more => Duration::from_millis(25) * (1 << more.min(8)),
    }
}

impl Pool {
    /// When [`Pool::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        (self.active() || self.settings.spares > 0 && self.settings.hops > 0).then_some(self.next_tick)
    }

    fn active(&self) -> bool {
        self.jobs.values().any(|job| !job.ops.is_empty()) || self.circuits.values().any(|each| !each.ready)
    }

    fn rests(&self) -> bool {
        let resting = |job: &Job| job.ops.values().all(Op::rests);
        self.jobs.values().all(resting) && self.circuits.values().all(|each| each.ready)
    }

    /// Brings the next tick near when something has begun.
    pub(super) fn arm(&mut self, now: Time) {
        self.next_tick = self.next_tick.min(now + TICK);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        if now < self.next_tick {
            return;
        }
        self.end_overdue(now);
        self.age_waits(now);
        self.write_off(now);
        self.time_out_requests(now);
        self.time_out_builds(now);
        self.hedge(now);
        self.review(now);
        self.renew_spares(now);
        self.avoid.retain(|_, until| *until > now);
        self.dirty.extend(
            self.jobs
                .iter()
                .filter(|(_, job)| job.waiting())
                .map(|(id, _)| *id),
        );
        let tick = match (self.active(), self.rests()) {
            (false, _) => IDLE_TICK,
            (true, true) => WAIT_TICK,
            (true, false) => TICK,
        };
        self.next_tick = now + tick;
    }

    /// Renews waits, and ends those whose time is over.
    fn age_waits(&mut self, now: Time) {
        let mut ended = Vec::new();
        for (id, job) in &mut self.jobs {
            let (over, queued) = job.age(now);
            ended.extend(over.into_iter().map(|(op, ending)| (*id, op, ending)));
            if queued {
                self.dirty.insert(*id);
            }
        }
        for (job, op, ending) in ended {
            self.end(job, op, ending);
        }
    }

    fn end_overdue(&mut self, now: Time) {
        let mut overdue: Vec<(JobId, OpId)> = Vec::new();
        for (id, job) in &self.jobs {
            let stalled = job.stalled.is_some_and(|since| now.since(since) >= STALL_TIME);
            let is_overdue = |op: &Op| {
                let stalled = stalled && op.in_flight.is_empty() && !op.patient(now);
                op.deadline.is_some_and(|deadline| deadline <= now) || stalled
            };
            overdue.extend(
                job.ops
                    .iter()
                    .filter(|(_, op)| is_overdue(op))
                    .map(|(op, _)| (*id, *op)),
            );
        }
        for (job, op) in overdue {
            let ending = self
                .jobs
                .get(&job)
                .and_then(|job| job.ops.get(&op))
                .map(|op| op.what.give_up());
            if let Some(ending) = ending {
                self.end(job, op, ending);
            }
        }
    }

    fn time_out_requests(&mut self, now: Time) {
        let mut late: Vec<(OriginId, u32)> = Vec::new();
        for (origin, circuit) in &self.circuits {
            let requests = circuit.open.iter().filter(|(_, attempt)| attempt.deadline <= now);
            late.extend(requests.map(|(request, _)| (*origin, *request)));
        }
        for (origin, request) in late {
            let Some(circuit) = self.circuits.get_mut(&origin) else {
                continue;
            };
            let Some(attempt) = circuit.open.remove(&request) else {
                continue;
            };
            let (exit, owner) = (circuit.exit, circuit.owner);
            let dead = circuit.lost(now, &attempt);
            if circuit.complain() {
                let path = circuit.path.clone();
                self.silent(now, &path);
            }
            self.vacate(now, &attempt, false);
            if let (Some(owner), Some(op)) = (owner, attempt.op) {
                self.outcome(
                    now,
                    owner,
                    op,
                    (origin, request),
                    attempt.stage,
                    exit,
                    Outcome::TimedOut,
                );
            }
            if dead {
                self.out.push_back(PoolOutput::Close(origin));
                self.drop_circuit(now, origin, None);
                self.avoid.insert(exit, now + AVOID);
            }
        }
    }

    /// Frees the places in the shared windows of requests that have gone astray. They may still be answered.
    fn write_off(&mut self, now: Time) {
        let mut astray = Vec::new();
        for circuit in self.circuits.values_mut() {
            for attempt in circuit.open.values_mut() {
                let window = match attempt.kind {
                    Kind::Insert => &self.inserts,
                    Kind::Fetch | Kind::WideFetch => &self.fetches,
                };
                if attempt.place.is_some() && now.since(attempt.sent) >= window.astray() {
                    astray.push(*attempt);
                    attempt.place = None;
                }
            }
        }
        for attempt in astray {
            self.vacate(now, &attempt, false);
        }
    }

    fn time_out_builds(&mut self, now: Time) {
        let usual = self.build_pace.median();
        let most = usual.map_or(BUILD_TIME, |usual| {
            (usual * HOPELESS).clamp(SLOW_BUILD, BUILD_TIME)
        });
        let slow = |circuit: &Circuit| !circuit.ready && now.since(circuit.begun) >= most;
        let late: Vec<OriginId> = self
            .circuits
            .iter()
            .filter(|(_, circuit)| slow(circuit))
            .map(|(origin, _)| *origin)
            .collect();
        for origin in late {
            // Any hop behind the entry may be the one that hangs.
            let suspects = self
                .circuits
                .get(&origin)
                .map(|circuit| circuit.path.clone())
                .unwrap_or_default();
            self.avoid
                .extend(suspects.into_iter().skip(1).map(|node| (node, now + AVOID)));
            self.out.push_back(PoolOutput::Close(origin));
            self.drop_circuit(now, origin, None);
        }
    }

    /// How long a circuit may take to stand before another is begun beside it.
    pub(super) fn build_patience(&self) -> Duration {
        let usual = self.build_pace.median();
        usual.map_or(SLOW_BUILD, |usual| (usual * LATE).clamp(BUILD_FLOOR, SLOW_BUILD))
    }

    /// Asks a second circuit for what takes longer than nearly everything did.
    fn hedge(&mut self, now: Time) {
        if !self.settings.hedging {
            return;
        }
        let circuits = &self.circuits;
        let usual = self.fetch_pace.median().map(|usual| usual * LATE);
        let patience = |origin: &OriginId| {
            let late = circuits
                .get(origin)
                .and_then(|circuit| circuit.rtt(Kind::Fetch).late());
            late.or(usual).unwrap_or(HEDGE_UNKNOWN).max(HEDGE_FLOOR)
        };
        for (id, job) in &mut self.jobs {
            let mut late: Vec<OpId> = Vec::new();
            for (op_id, op) in &job.ops {
                if let ([attempt], 0, true) = (&op.in_flight[..], op.queued, op.hedges())
                    && attempt.standing == Standing::No
                    && now.since(attempt.sent) >= patience(&attempt.origin)
                {
                    late.push(*op_id);
                }
            }
            for op in late {
                if self.hedges >= 1.0 && job.hedge(op) {
                    self.hedges -= 1.0;
                    self.hedged += 1;
                    self.dirty.insert(*id);
                }
            }
        }
    }

    /// Replaces the slowest circuit of a bulk job when it lags far behind the others.
    fn review(&mut self, now: Time) {
        for (id, job) in &mut self.jobs {
            if !job.bulk || now.since(job.reviewed) < REVIEW {
                continue;
            }
            job.reviewed = now;
            let Some(slowest) = lagging(job, &self.circuits) else {
                continue;
            };
            if let Some(circuit) = self.circuits.get_mut(&slowest) {
                circuit.retiring = true;
                self.avoid.insert(circuit.exit, now + AVOID);
                self.dirty.insert(*id);
            }
        }
    }

    fn renew_spares(&mut self, now: Time) {
        let old: Vec<OriginId> = self
            .circuits
            .iter()
            .filter(|(_, circuit)| circuit.owner.is_none() && now.since(circuit.begun) >= SPARE_AGE)
            .map(|(origin, _)| *origin)
            .collect();
        for origin in old {
            self.circuits.remove(&origin);
            self.out.push_back(PoolOutput::Close(origin));
        }
        self.spares_dirty = true;
    }
}

fn lagging(job: &Job, circuits: &BTreeMap<OriginId, Circuit>) -> Option<OriginId> {
    for kind in [Kind::Fetch, Kind::Insert] {
        let known = job.circuits.iter().filter_map(|origin| {
            let circuit = circuits.get(origin).filter(|circuit| !circuit.retiring)?;
            Some((circuit.rtt(kind).smoothed()?, *origin))
        });
        let mut times: Vec<(Duration, OriginId)> = known.collect();
        times.sort_unstable();
        if let (true, Some(middle), Some(slowest)) = (
            times.len() >= REVIEWED_FROM,
            times.get(times.len() / 2),
            times.last(),
        ) && slowest.0 >= SLOW
            && slowest.0 >= middle.0 * SLOWER
        {
            return Some(slowest.1);
        }
    }
    None
}
