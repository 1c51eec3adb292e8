//! Attempts for circuits: who may send now, and through which circuit (protocol §8.4).
//!
//! A small job sends what its circuits take: a person waits for it. Bulk jobs share a window, and take turns for the room in it,
//! one request each, so that all go equally fast whatever circuits they have.
//!
//! Invariant: a bulk job with something to send is in `turns`, or gets there when its circuits have room again.

use crate::{
    client::{
        circuit::{Attempt, Kind},
        job::Job,
        op::{FIRST_BRANCHES, InFlight, Op, Standing},
        pool::{Pool, PoolOutput, staff::MAX_URGENT_SCAN},
        shared::SharedWindow,
    },
    ids::{JobId, OpId, OriginId},
    time::Time,
    wire::{ExitOp, ExitRequest},
};

/// Attempts with special wishes that are looked at in one turn.
const MAX_TURN_SCAN: usize = 16;

/// What came of a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Sent,
    /// The window is full.
    Full,
    /// Nothing to send, or no circuit for it.
    Over,
}

impl Pool {
    /// Sends what can be sent, special wishes first; a bulk job waits for its turn.
    pub(super) fn assign(&mut self, now: Time, id: JobId, job: &mut Job) {
        if job.bulk {
            if job.waiting() && !std::mem::replace(&mut job.in_turn, true) {
                self.turns.push_back(id);
            }
            return;
        }
        for _ in 0..job.urgent.len().min(MAX_URGENT_SCAN) {
            let Some(id) = job.urgent.pop_front() else { break };
            match self.best_circuit(now, job, id) {
                _ if !job.ops.contains_key(&id) => {}
                None => job.urgent.push_back(id),
                Some(origin) => self.send(now, job, id, origin),
            }
        }
        while let Some(id) = job.fresh.front().copied() {
            if job.ops.contains_key(&id) {
                let Some(origin) = self.best_circuit(now, job, id) else {
                    break;
                };
                self.send(now, job, id, origin);
            }
            job.fresh.pop_front();
        }
    }

    /// Lets bulk jobs send, one request each in turn, while there is room.
    pub(super) fn take_turns(&mut self, now: Time) {
        let mut at = 0;
        while let Some(id) = self.turns.get(at).copied() {
            let Some(mut job) = self.jobs.remove(&id) else {
                self.turns.remove(at);
                continue;
            };
            let turn = self.turn(now, &mut job);
            if turn == Turn::Full {
                at += 1;
            } else {
                self.turns.remove(at);
                job.in_turn = turn == Turn::Sent && job.waiting();
                if job.in_turn {
                    self.turns.push_back(id);
                }
            }
            self.jobs.insert(id, job);
        }
    }

    /// One request of a bulk job.
    fn turn(&mut self, now: Time, job: &mut Job) -> Turn {
        for _ in 0..job.urgent.len().min(MAX_TURN_SCAN) {
            let Some(id) = job.urgent.pop_front() else { break };
            let Some(kind) = job.ops.get(&id).map(|op| kind_of(&op.request())) else {
                continue;
            };
            if !self.shared(kind).admits() {
                job.urgent.push_front(id);
                return Turn::Full;
            }
            match self.best_circuit(now, job, id) {
                None => job.urgent.push_back(id),
                Some(origin) => {
                    self.send(now, job, id, origin);
                    return Turn::Sent;
                }
            }
        }
        while let Some(id) = job.fresh.front().copied() {
            if let Some(kind) = job.ops.get(&id).map(|op| kind_of(&op.request())) {
                if !self.shared(kind).admits() {
                    return Turn::Full;
                }
                let Some(origin) = self.best_circuit(now, job, id) else {
                    return Turn::Over;
                };
                job.fresh.pop_front();
                self.send(now, job, id, origin);
                return Turn::Sent;
            }
            job.fresh.pop_front();
        }
        Turn::Over
    }

    fn shared(&mut self, kind: Kind) -> &mut SharedWindow {
        match kind {
            Kind::Insert => &mut self.inserts,
            Kind::Fetch | Kind::WideFetch => &mut self.fetches,
        }
    }

    /// An attempt is over, however: its place in the shared window is free. `telling` when its time tells of the load.
    pub(super) fn vacate(&mut self, now: Time, attempt: &Attempt, telling: bool) {
        if let Some(place) = attempt.place {
            let took = telling.then(|| now.since(attempt.sent));
            self.shared(attempt.kind).ended(now, place, took);
        }
    }

    fn best_circuit(&self, now: Time, job: &Job, id: OpId) -> Option<OriginId> {
        let op = job.ops.get(&id)?;
        let kind = kind_of(&op.request());
        let circuits = job
            .circuits
            .iter()
            .filter_map(|origin| Some((*origin, self.circuits.get(origin)?)));
        circuits
            .filter(|(origin, each)| {
                each.has_room(now) && !op.spoiled.contains(origin) && !op.refuses(&each.exit)
            })
            .min_by_key(|(origin, each)| (each.expected(kind), *origin))
            .map(|(origin, _)| origin)
    }

    fn send(&mut self, now: Time, job: &mut Job, id: OpId, origin: OriginId) {
        if !job.dequeued(id) || !self.circuits.contains_key(&origin) {
            return;
        }
        let Some(asked) = job.ops.get(&id).map(Op::request) else {
            return;
        };
        let kind = kind_of(&asked);
        let place = job.bulk.then(|| self.shared(kind).opened(now));
        let (Some(op), Some(circuit)) = (job.ops.get_mut(&id), self.circuits.get_mut(&origin)) else {
            return;
        };
        let request = circuit.begin(id, op.stage(), kind, place, now);
        op.in_flight.push(InFlight {
            origin,
            request,
            exit: circuit.exit,
            sent: now,
            standing: Standing::No,
        });
        op.deadline = op.deadline.or(Some(now + op.time_allowed(now)));
        let local = circuit.path.is_empty();
        let request = ExitRequest {
            id: request,
            op: asked,
        };
        self.out.push_back(match local {
            true => PoolOutput::LocalExit { origin, request },
            false => PoolOutput::Send { origin, request },
        });
    }
}

fn kind_of(request: &ExitOp) -> Kind {
    match request {
        ExitOp::Insert(_) => Kind::Insert,
        ExitOp::Fetch { branches, .. } if *branches > FIRST_BRANCHES => Kind::WideFetch,
        ExitOp::Fetch { .. } => Kind::Fetch,
    }
}
