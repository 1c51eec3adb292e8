//! Circuits for jobs.

use std::collections::{BTreeMap, BTreeSet};

use warren_keys::NodeId;

use crate::{
    client::{
        circuit::Circuit,
        job::Job,
        op::{Ending, Next},
        path::{self, RelayView},
        pool::{EXTRA_CIRCUITS, MAX_CIRCUITS, Pool, PoolOutput},
    },
    descriptor::Descriptor,
    ids::{JobId, OpId, OriginId},
    time::Time,
};

/// A bulk job takes a further circuit for so many open operations.
const OPS_PER_CIRCUIT: usize = 8;
/// Waiting attempts with special wishes that are looked at in one go, so that serving a job costs a bounded time.
pub(super) const MAX_URGENT_SCAN: usize = 256;
/// Further circuits that such wishes may ask for in one go.
const MAX_WISHES: usize = 4;

/// What came of the wish for a circuit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hired {
    /// There is one more.
    Yes,
    /// Not now: a bound, a pause after failures, or no entry.
    NotNow,
    /// The directory has no exit like that.
    NoSuchExit,
}

impl Pool {
    /// Brings one job's circuits and attempts into line with what it wants.
    pub(super) fn serve<V: RelayView + ?Sized>(&mut self, now: Time, view: &V, id: JobId) {
        // Taken out while it is served, so that job and circuits can both change.
        let Some(mut job) = self.jobs.remove(&id) else {
            return;
        };
        self.staff(now, view, id, &mut job);
        let ended = self.grant_wishes(now, view, id, &mut job);
        self.assign(now, id, &mut job);
        self.close_retired(&mut job);
        let stands = job
            .circuits
            .iter()
            .any(|origin| self.circuits.get(origin).is_some_and(|circuit| circuit.ready));
        job.stalled = if stands || !job.waiting() {
            None
        } else {
            job.stalled.or(Some(now))
        };
        self.jobs.insert(id, job);
        for (op, next) in ended {
            if let Next::Done(ending) = next {
                self.end(id, op, ending);
            }
        }
    }

    /// As many circuits as the load is worth, with different exits.
    fn staff<V: RelayView + ?Sized>(&mut self, now: Time, view: &V, id: JobId, job: &mut Job) {
        let load = job.ops.len();
        let wanted = match (load, job.bulk) {
            (0, _) => 0,
            (_, false) => 1,
            (_, true) => load
                .div_ceil(OPS_PER_CIRCUIT)
                .min(self.settings.bulk_circuits.max(1)),
        };
        let mut counted = self.counted(now, job).count();
        while counted < wanted && job.circuits.len() < wanted + EXTRA_CIRCUITS {
            let exits = self.exits_of(job);
            let mut hired = self.hire(now, view, id, job, |exit| exits.contains(exit));
            if hired == Hired::NoSuchExit && counted == 0 {
                hired = self.hire(now, view, id, job, |_| false);
            }
            if hired != Hired::Yes {
                break;
            }
            counted += 1;
        }
    }

    fn counted<'a>(&'a self, now: Time, job: &'a Job) -> impl Iterator<Item = &'a Circuit> {
        let patience = self.build_patience();
        job.circuits
            .iter()
            .filter_map(|origin| self.circuits.get(origin))
            .filter(move |circuit| circuit.counts(now, patience))
    }

    fn exits_of(&self, job: &Job) -> Vec<NodeId> {
        job.circuits
            .iter()
            .filter_map(|origin| self.circuits.get(origin))
            .map(|circuit| circuit.exit)
            .collect()
    }

    /// Finds circuits for attempts that none of the job's circuits may carry. Gives the operations that end by this.
    fn grant_wishes<V: RelayView + ?Sized>(
        &mut self,
        now: Time,
        view: &V,
        id: JobId,
        job: &mut Job,
    ) -> Vec<(OpId, Next<Ending>)> {
        if self.rules.hops == 0 {
            // There is no other exit than this node. When it is busy, its answers come at once, and so would the next attempt.
            for op_id in job.urgent.iter().take(MAX_URGENT_SCAN) {
                if let Some(op) = job.ops.get_mut(op_id) {
                    op.spoiled.clear();
                }
            }
            return Vec::new();
        }
        let mut ended = Vec::new();
        let mut wishes = 0;
        // Several attempts of one operation need as many different exits.
        let mut places: BTreeMap<OpId, usize> = BTreeMap::new();
        let most = EXTRA_CIRCUITS
            + if job.bulk {
                self.settings.bulk_circuits.max(1)
            } else {
                2
            };
        for index in 0..job.urgent.len().min(MAX_URGENT_SCAN) {
            let op_id = job.urgent[index];
            let Some(op) = job.ops.get(&op_id) else { continue };
            let patience = self.build_patience();
            let suits = |origin: &OriginId, circuit: &Circuit| {
                circuit.counts(now, patience) && !op.spoiled.contains(origin) && !op.refuses(&circuit.exit)
            };
            let of_job = job
                .circuits
                .iter()
                .filter_map(|origin| Some((origin, self.circuits.get(origin)?)));
            let suiting: BTreeSet<NodeId> = of_job
                .filter(|(origin, each)| suits(origin, each))
                .map(|(_, each)| each.exit)
                .collect();
            let place = places.entry(op_id).or_default();
            *place += 1;
            if suiting.len() >= *place {
                continue;
            }
            let mut refused = self.refused_exits(view, job, op_id);
            refused.extend(suiting);
            let room = wishes < MAX_WISHES && (job.circuits.len() < most || self.dismiss_idle(job));
            let hired = match room {
                true => self.hire(now, view, id, job, |exit| refused.contains(exit)),
                false => Hired::NotNow,
            };
            let Some(op) = job.ops.get_mut(&op_id) else {
                continue;
            };
            match hired {
                Hired::Yes => wishes += 1,
                // Better one that served badly than none.
                Hired::NotNow => op.spoiled.clear(),
                Hired::NoSuchExit => {
                    op.spoiled.clear();
                    match op.no_other_exit() {
                        Next::Continue => {}
                        next => ended.push((op_id, next)),
                    }
                }
            }
        }
        for (op_id, _) in &ended {
            job.urgent.retain(|each| each != op_id);
        }
        ended
    }

    fn refused_exits<V: RelayView + ?Sized>(&self, view: &V, job: &Job, op: OpId) -> BTreeSet<NodeId> {
        let Some(op) = job.ops.get(&op) else {
            return BTreeSet::new();
        };
        let spoiled = op
            .spoiled
            .iter()
            .filter_map(|origin| self.circuits.get(origin))
            .map(|circuit| circuit.exit);
        let exits = view
            .relays()
            .filter(|node| node.services.exit)
            .map(|node| node.identity);
        exits.filter(|exit| op.refuses(exit)).chain(spoiled).collect()
    }

    /// A further circuit for a job: a spare, else a new one.
    fn hire<V: RelayView + ?Sized>(
        &mut self,
        now: Time,
        view: &V,
        id: JobId,
        job: &mut Job,
        refuse_exit: impl Fn(&NodeId) -> bool,
    ) -> Hired {
        let avoided = |node: &NodeId| self.avoid.get(node).is_some_and(|until| *until > now);
        let spares = self.circuits.iter().filter(|(_, each)| {
            each.owner.is_none() && !refuse_exit(&each.exit) && !each.path.iter().any(avoided)
        });
        let spare = spares
            .min_by_key(|(origin, each)| (!each.ready, **origin))
            .map(|(origin, _)| *origin);
        let origin = match spare {
            Some(origin) => {
                self.spares_dirty = true;
                origin
            }
            None if job.build_after > now || self.circuits.len() >= MAX_CIRCUITS => return Hired::NotNow,
            None => match self.open(now, view, refuse_exit) {
                Ok(origin) => origin,
                Err(hired) => return hired,
            },
        };
        if let Some(circuit) = self.circuits.get_mut(&origin) {
            circuit.owner = Some(id);
            job.circuits.push(origin);
        }
        Hired::Yes
    }

    /// Begins a circuit to any exit that is not refused.
    fn open<V: RelayView + ?Sized>(
        &mut self,
        now: Time,
        view: &V,
        refuse_exit: impl Fn(&NodeId) -> bool,
    ) -> Result<OriginId, Hired> {
        let origin = OriginId(self.next_origin);
        if self.rules.hops == 0 {
            if refuse_exit(&self.settings.own) {
                return Err(Hired::NoSuchExit);
            }
            self.next_origin += 1;
            let mut own = Circuit::new(Vec::new(), self.settings.own, now);
            own.ready = true;
            self.circuits.insert(origin, own);
            return Ok(origin);
        }
        let entry = self.entry(now, view)?;
        let avoided = |node: &NodeId| self.avoid.get(node).is_some_and(|until| *until > now);
        let rng = &mut self.rng;
        let path = path::choose(view, &self.rules, entry.as_ref(), avoided, &refuse_exit, rng)
            // Rather a node that failed lately than none.
            .or_else(|| path::choose(view, &self.rules, entry.as_ref(), |_| false, &refuse_exit, rng))
            .ok_or(Hired::NoSuchExit)?;
        let Some(exit) = path.last().map(|node| node.identity) else {
            return Err(Hired::NoSuchExit);
        };
        self.next_origin += 1;
        self.circuits.insert(
            origin,
            Circuit::new(path.iter().map(|node| node.identity).collect(), exit, now),
        );
        self.out.push_back(PoolOutput::Open { origin, path });
        Ok(origin)
    }

    /// The entry to use now; none for circuits of one hop, whose only node is the exit and changes like one.
    fn entry<V: RelayView + ?Sized>(&mut self, now: Time, view: &V) -> Result<Option<Descriptor>, Hired> {
        if self.rules.hops == 1 {
            return Ok(None);
        }
        let (own, avoid) = (self.settings.own, &self.avoid);
        let pinned = self.entries.pinned();
        let fits = |node: &Descriptor| {
            let known = pinned.iter().any(|entry| entry.node == node.identity);
            let avoided = avoid.get(&node.identity).is_some_and(|until| *until > now);
            node.identity != own && node.services.relay && !node.addresses.is_empty() && (known || !avoided)
        };
        let mut entry = self.entries.pick(now, self.wall, view, fits, &mut self.rng);
        if entry.is_none() && pinned.is_empty() {
            // Nothing has ever worked: perhaps the network is only just starting.
            let usable =
                |node: &Descriptor| node.identity != own && node.services.relay && !node.addresses.is_empty();
            entry = self.entries.pick(now, self.wall, view, usable, &mut self.rng);
        }
        entry.map(Some).ok_or(Hired::NotNow)
    }

    /// Closes the job's circuit that has nothing to do, to make room for one to another exit.
    fn dismiss_idle(&mut self, job: &mut Job) -> bool {
        let idle = |origin: &OriginId| {
            self.circuits
                .get(origin)
                .is_some_and(|each| each.ready && each.open.is_empty())
        };
        let Some(index) = job.circuits.iter().position(idle) else {
            return false;
        };
        let origin = job.circuits.remove(index);
        self.circuits.remove(&origin);
        self.out.push_back(PoolOutput::Close(origin));
        true
    }

    fn close_retired(&mut self, job: &mut Job) {
        let (circuits, out) = (&mut self.circuits, &mut self.out);
        job.circuits.retain(|origin| {
            let done = circuits
                .get(origin)
                .is_none_or(|each| each.retiring && each.open.is_empty());
            if done && circuits.remove(origin).is_some() {
                out.push_back(PoolOutput::Close(*origin));
            }
            !done
        });
    }

    /// Keeps the wanted number of spares, with different exits where there are some.
    pub(super) fn keep_spares<V: RelayView + ?Sized>(&mut self, now: Time, view: &V) {
        if self.rules.hops == 0 || self.spares_after > now {
            return;
        }
        let spares = |pool: &Self| {
            pool.circuits
                .values()
                .filter(|circuit| circuit.owner.is_none())
                .count()
        };
        while spares(self) < self.settings.spares && self.circuits.len() < MAX_CIRCUITS {
            let exits: Vec<NodeId> = self
                .circuits
                .values()
                .filter(|each| each.owner.is_none())
                .map(|each| each.exit)
                .collect();
            let opened = match self.open(now, view, |exit| exits.contains(exit)) {
                Err(Hired::NoSuchExit) => self.open(now, view, |_| false),
                other => other,
            };
            if opened.is_err() {
                self.spares_after = now + super::tick::spare_pause(3);
                break;
            }
        }
    }
}
