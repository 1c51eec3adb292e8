//! What this node does by itself: reads slices, asks about them, pushes, gives up. One step at a time.

use warren_keys::{BlockId, Location};

use super::{
    Moment, Repair, RepairOutput,
    census::{Newcomers, Slice, Wish},
    limits::{
        CENSUS_WAIT, COPIES, DISK_WAIT, EXPERIENCED, FEW_COPIES, FIRST_RANK, MAX_DEMOTIONS, PUSH_COST,
        PUSH_PAUSE,
    },
    walk,
};
use crate::{
    core::api::{StoreAnswer, StoreQuestion},
    ids::{LinkId, StoreTicket},
    time::Time,
    wire::{MAX_CENSUS, RepairMessage},
};

/// The question that this machine has for the datastore.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) ticket: StoreTicket,
    job: Job,
    /// When it counts as failed.
    pub(super) until: Time,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Job {
    /// The names of a slice.
    Survey(Walk),
    /// The block of the push that is being read.
    Read,
    Demote,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walk {
    Census,
    HandOver,
}

impl Repair {
    /// Does what can be done now. Called after every input.
    pub(super) fn turn(&mut self, moment: Moment) {
        if self.slice.as_ref().is_some_and(Slice::complete) {
            self.conclude(moment);
        }
        if self.disk.is_some() || !self.stores {
            return;
        }
        if let Some(push) = self.pushes.start_reading() {
            self.use_disk(moment, Job::Read, StoreQuestion::Find(push.block));
        } else if let Some(block) = self.demotions.pop_front() {
            self.use_disk(moment, Job::Demote, StoreQuestion::Demote(block));
        } else if self.slice.is_none() {
            self.walk_on(moment);
        }
    }

    fn walk_on(&mut self, moment: Moment) {
        let most = walk::slice_len(self.held);
        if self.census.next <= moment.now {
            let from = self.census.mark.cursor;
            self.use_disk(
                moment,
                Job::Survey(Walk::Census),
                StoreQuestion::Survey { from, most },
            );
        } else if let Some(from) = self.hand_overs.due(moment.now) {
            let most = MAX_CENSUS;
            self.use_disk(
                moment,
                Job::Survey(Walk::HandOver),
                StoreQuestion::Survey { from, most },
            );
        }
    }

    fn use_disk(&mut self, moment: Moment, job: Job, question: StoreQuestion) {
        let ticket = self.ask_store(question);
        let until = moment.now + DISK_WAIT;
        self.disk = Some(Disk { ticket, job, until });
    }

    pub(super) fn disk_answered(&mut self, moment: Moment, answer: StoreAnswer) {
        let Some(Disk { job, .. }) = self.disk.take() else {
            return;
        };
        match (job, answer) {
            (Job::Survey(walk), StoreAnswer::Surveyed { blocks, next, held }) => {
                self.surveyed(moment, walk, &blocks, next, held);
            }
            (Job::Survey(Walk::Census), _) => self.census.put_off(moment.now),
            (Job::Survey(Walk::HandOver), _) => self.hand_overs.put_off(moment.now),
            (Job::Read, StoreAnswer::Found(block, _)) => {
                // The link may have gone meanwhile.
                if let Some(push) = self.pushes.read()
                    && push.block == block.id()
                {
                    let id = self.fresh_id();
                    self.pushes.sent(moment.now, id, push);
                    self.stats.pushed += 1;
                    self.send(push.link, RepairMessage::HandOver { id, block });
                }
            }
            (Job::Read, _) => {
                self.pushes.read();
            }
            (Job::Demote, StoreAnswer::Kept) => self.stats.demoted += 1,
            (Job::Demote, _) => {}
        }
    }

    fn surveyed(&mut self, moment: Moment, walk: Walk, blocks: &[BlockId], next: Option<u64>, held: u64) {
        let blocks = &blocks[..blocks.len().min(MAX_CENSUS)];
        self.held = held;
        self.stats.surveyed += blocks.len() as u64;
        let until = moment.now + CENSUS_WAIT;
        let slice = match walk {
            Walk::Census => {
                self.stats.rounds += u64::from(next.is_none());
                self.census.advance(moment, blocks.len(), next, held);
                Slice::new(self.view(moment), blocks, None, until)
            }
            Walk::HandOver => {
                let places: Vec<Location> = self.hand_overs.newcomers().to_vec();
                let experienced = moment.uptime >= EXPERIENCED.as_secs();
                let rank = if experienced { COPIES } else { FIRST_RANK };
                if next.is_none() {
                    self.stats.newcomers += places.len() as u64;
                }
                // A slice may need as many pushes as it has blocks. The lower half is for blocks that have few copies.
                let rate = self.rate();
                let slice_cost = (blocks.len() as u64 * PUSH_COST).min(rate.most / 4);
                let wait = self.budget.wait(moment.now, rate, slice_cost, rate.most / 2);
                self.hand_overs
                    .advance(moment.now, blocks.len(), next, held, wait);
                let newcomers = Newcomers {
                    places: &places,
                    rank,
                };
                Slice::new(self.view(moment), blocks, Some(newcomers), until)
            }
        };
        self.ask(slice);
    }

    fn ask(&mut self, mut slice: Slice) {
        for (link, id, blocks) in slice.questions(|| self.fresh_id()) {
            self.stats.asked += blocks.len() as u64;
            self.output
                .push_back(RepairOutput::Send(link, RepairMessage::Census { id, blocks }));
        }
        self.slice = Some(slice);
    }

    /// A slice has all the answers that it will get.
    fn conclude(&mut self, moment: Moment) {
        let Some(slice) = self.slice.take() else { return };
        let verdict = slice.verdict();
        for wish in &verdict.pushes {
            self.consider(moment.now, wish);
        }
        let room = MAX_DEMOTIONS.saturating_sub(self.demotions.len());
        self.demotions.extend(verdict.demotions.iter().take(room));
    }

    /// Queues a push if it is neither repeated nor over the budget.
    fn consider(&mut self, now: Time, wish: &Wish) {
        if !self.pushes.wanted(now, wish) {
            self.stats.not_again += 1;
            return;
        }
        let rate = self.rate();
        let reserve = if wish.copies <= FEW_COPIES {
            0
        } else {
            rate.most / 2
        };
        let affordable = self.budget.has(now, rate, PUSH_COST, reserve)
            && self.members.find_mut(wish.place).is_some_and(|member| {
                let own = rate.of_neighbour();
                member.paused <= now && member.allowance.take(now, own, PUSH_COST, 0)
            });
        if affordable && self.budget.take(now, rate, PUSH_COST, reserve) {
            self.pushes.add(wish);
        } else {
            self.stats.over_budget += 1;
        }
    }

    /// Gives up what has taken too long.
    pub(super) fn give_up(&mut self, moment: Moment) {
        if self.disk.as_ref().is_some_and(|disk| disk.until <= moment.now) {
            self.disk_answered(moment, StoreAnswer::Failed);
        }
        if self.slice.as_ref().is_some_and(|slice| slice.until <= moment.now) {
            self.stats.timeouts += 1;
            self.conclude(moment);
        }
        while let Some(push) = self.pushes.expired(moment.now) {
            self.stats.timeouts += 1;
            self.pause(moment.now, push.place, push.link);
        }
    }

    /// Leaves a neighbour alone for a while: it is busy or silent.
    pub(super) fn pause(&mut self, now: Time, place: Location, link: LinkId) {
        self.pushes.clear(link);
        if let Some(member) = self.members.find_mut(place) {
            member.paused = now + PUSH_PAUSE;
        }
    }
}
