//! Census and repair: blocks stay on the nodes nearest to their keys while nodes come and go (protocol §9).
//!
//! [`Repair`] is a machine beside the [`Router`](crate::routing::Router), driven in the same way. It learns from links which
//! storing nodes are around (*members*), walks through the store once a day in small slices, compares with the online ones of
//! each block's five holders, pushes what is missing, and gives up copies that are others' to keep.
//!
//! - `members`, `view`: who counts as a holder, online or not, and in which order
//! - `walk`: the pace of the census, and of hand-overs to newcomers
//! - `census`: one slice: whom to ask, and what follows from the answers
//! - `push`, `allowance`: blocks on their way, within the budget
//! - `serve`: what neighbours ask and bring
//! - `memory`: what a restart must not forget
//!
//! # Invariants
//!
//! 1. One question of its own to the datastore at a time, of at most one block or one slice of names; so requests of others never
//!    queue behind it. (Questions of neighbours are extra, and bounded in `serve`.)
//! 2. Pushed bytes stay within a share of what is stored, for each day and for each neighbour, whatever neighbours say.
//! 3. A key is named only to a member that is, as far as this node knows, one of its five holders.
//! 4. Whatever one neighbour claims costs its own row: two other holders look after each block.
//! 5. Everything open has a time at which it is given up, and every table is bounded.
//!
//! # What is deliberately absent
//!
//! Who the neighbours should be (see [`crate::topology`]), storing new blocks (see [`crate::routing`]), and the disk: which block a
//! full store gives up is decided there, by distance.

mod allowance;
mod census;
mod limits;
mod members;
mod memory;
mod push;
mod serve;
mod stats;
#[cfg(test)]
mod tests;
mod turn;
mod view;
mod walk;

use std::collections::VecDeque;

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use warren_keys::{Block, BlockId, Location};

use self::{
    allowance::{Allowance, Rate},
    census::{Answer, Slice},
    limits::{NEAR_RANK, PUSH_COST, START_DELAY},
    members::Members,
    push::Pushes,
    serve::Guests,
    turn::Disk,
    view::{Standing, View},
    walk::{Census, HandOvers},
};
pub use self::{
    limits::{COPIES, DAY, GRACE, HAND_OVER_AFTER, RepairLimits},
    members::MemberRecord,
    memory::RepairMemory,
    stats::{OpenRepairs, RepairStats},
    walk::CensusMark,
};
use crate::{
    core::api::{Shelf, StoreAnswer, StoreQuestion},
    ids::{LinkId, RequestId, StoreTicket},
    random::jittered,
    time::{Time, WallTime},
    wire::{Holding, Receipt, RepairMessage},
};

/// Tickets of this machine begin here, so that its driver can tell them from the router's.
pub const FIRST_TICKET: StoreTicket = StoreTicket(1 << 63);

/// The view is made anew at least this often: members go, and settle, with time alone.
const VIEW_TIME: core::time::Duration = core::time::Duration::from_secs(600);

/// What repair wants done.
#[derive(Debug)]
pub enum RepairOutput {
    /// Send to a neighbour.
    Send(LinkId, RepairMessage),
    /// Ask the datastore; ends in [`Repair::store`]. Except for `Holds` and `Keep`, nobody waits for the answer.
    Store(StoreTicket, StoreQuestion),
    /// A neighbour brought a block that is being kept here.
    Arrived(Block),
    /// A neighbour sent what no honest node sends.
    Offence(LinkId),
}

/// A point in time, by all the clocks that matter here.
#[derive(Clone, Copy, Debug)]
struct Moment {
    now: Time,
    wall: WallTime,
    /// Own uptime of all runs, seconds.
    uptime: u64,
}

/// The repair machine.
#[derive(Debug)]
pub struct Repair {
    me: Location,
    stores: bool,
    limits: RepairLimits,
    rng: ChaCha20Rng,
    /// When this run began, and the uptime of those before.
    begun: Time,
    earlier: u64,
    members: Members,
    view: Option<(Time, View)>,
    census: Census,
    hand_overs: HandOvers,
    /// Blocks in the store region, as far as known.
    held: u64,
    budget: Allowance,
    disk: Option<Disk>,
    slice: Option<Slice>,
    pushes: Pushes,
    demotions: VecDeque<BlockId>,
    guests: Guests,
    last_ticket: u64,
    output: VecDeque<RepairOutput>,
    stats: RepairStats,
}

impl Repair {
    /// A machine for the node at `me`, without neighbours. `stores`: whether this node keeps blocks.
    #[must_use]
    pub fn new(
        now: Time,
        wall: WallTime,
        me: Location,
        stores: bool,
        limits: RepairLimits,
        mut rng: ChaCha20Rng,
    ) -> Self {
        // Not before it has had a day to learn who is around, the absent too; and not when everybody else does it.
        let first = DAY / 2 + jittered(&mut rng, DAY);
        Self {
            me,
            stores,
            limits,
            begun: now,
            earlier: 0,
            members: Members::new(me),
            view: None,
            census: Census::first(now, wall, first),
            hand_overs: HandOvers::default(),
            held: 0,
            // Half, so that restarts do not add up to more than the rate.
            budget: Allowance::new(now, Rate::of_store(&limits, 0).most / 2),
            disk: None,
            slice: None,
            pushes: Pushes::new(),
            demotions: VecDeque::new(),
            guests: Guests::default(),
            last_ticket: FIRST_TICKET.0,
            output: VecDeque::new(),
            stats: RepairStats::default(),
            rng,
        }
    }

    /// Takes up what an earlier run remembered. To be called before anything else.
    pub fn restore(&mut self, now: Time, wall: WallTime, memory: &RepairMemory) {
        self.begun = now;
        self.earlier = memory.uptime;
        self.members.restore(self.moment(now, wall), &memory.members);
        if let Some(mark) = memory.census {
            let delay = jittered(&mut self.rng, START_DELAY);
            self.census = Census::resume(now, wall, mark, delay);
        }
    }

    /// A link to a neighbour is up. `stores`: whether that node keeps blocks.
    pub fn neighbour_up(
        &mut self,
        now: Time,
        wall: WallTime,
        link: LinkId,
        location: Location,
        stores: bool,
    ) {
        let moment = self.moment(now, wall);
        self.view = None;
        self.guests.up(now, link);
        if !stores {
            self.members.forget(location);
            return;
        }
        if self.members.up(moment, link, location) && self.stores {
            let shares = self.view(moment).shares_blocks(location);
            if shares {
                let due = now + jittered(&mut self.rng, HAND_OVER_AFTER);
                self.hand_overs.add(due, location);
            }
        }
    }

    /// Whether the node at the other end of a link keeps blocks, as it says now.
    pub fn set_neighbour_stores(
        &mut self,
        now: Time,
        wall: WallTime,
        link: LinkId,
        location: Location,
        stores: bool,
    ) {
        if self.guests.known(link) && stores != self.members.place_of(link).is_some() {
            self.neighbour_up(now, wall, link, location, stores);
        }
    }

    /// A link is gone.
    pub fn neighbour_down(&mut self, now: Time, wall: WallTime, link: LinkId) {
        let moment = self.moment(now, wall);
        let place = self.members.place_of(link);
        self.members.down(moment, link);
        self.view = None;
        self.guests.down(link);
        self.pushes.lost_link(link);
        if let Some(place) = place
            && self
                .members
                .find(place)
                .is_none_or(|member| member.link().is_none())
        {
            self.hand_overs.remove(place);
        }
        if let Some(slice) = &mut self.slice {
            slice.lost_link(link);
        }
        self.turn(moment);
    }

    /// Whether this node keeps blocks from now on. One that does not looks after nothing.
    pub fn set_stores(&mut self, stores: bool) {
        self.stores = stores;
    }

    /// A message from a neighbour. Blocks in it are verified.
    pub fn message(&mut self, now: Time, wall: WallTime, from: LinkId, message: RepairMessage) {
        if !self.guests.known(from) {
            return;
        }
        let moment = self.moment(now, wall);
        match message {
            RepairMessage::Census { id, blocks } => self.asked(moment, from, id, &blocks),
            RepairMessage::HandOver { id, block } => self.brought(moment, from, id, block),
            RepairMessage::Holdings { id, holdings } => self.told(from, id, &holdings),
            RepairMessage::HandedOver { id, receipt } => self.handed_over(now, from, id, receipt),
        }
        self.turn(moment);
    }

    /// The datastore's answer.
    pub fn store(&mut self, now: Time, wall: WallTime, ticket: StoreTicket, answer: StoreAnswer) {
        let moment = self.moment(now, wall);
        if self.disk.as_ref().is_some_and(|disk| disk.ticket == ticket) {
            self.disk_answered(moment, answer);
        } else if let Some(question) = self.guests.asked(ticket) {
            // Without an answer of the datastore the neighbour gets none either.
            if let StoreAnswer::Holdings(held) = answer
                && let Some(holdings) = question.holdings(&held)
                && self.guests.known(question.link)
            {
                self.stats.answered += holdings.len() as u64;
                let id = question.id;
                self.send(question.link, RepairMessage::Holdings { id, holdings });
            }
        } else if let Some((link, id)) = self.guests.written(ticket) {
            let kept = matches!(answer, StoreAnswer::Kept);
            *(if kept {
                &mut self.stats.taken
            } else {
                &mut self.stats.refused
            }) += 1;
            let receipt = if kept { Receipt::Kept } else { Receipt::Refused };
            if self.guests.known(link) {
                self.send(link, RepairMessage::HandedOver { id, receipt });
            }
        }
        self.turn(moment);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<RepairOutput> {
        self.output.pop_front()
    }

    /// When [`Repair::handle_timeout`] must be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let walks = || {
            let idle = self.stores && self.disk.is_none() && self.slice.is_none();
            idle.then(|| self.hand_overs.next().into_iter().chain([self.census.next]))
        };
        self.disk
            .iter()
            .map(|disk| disk.until)
            .chain(self.slice.iter().map(|slice| slice.until))
            .chain(self.pushes.next_expiry())
            .chain(walks().into_iter().flatten())
            .min()
    }

    /// Looks after everything that is due.
    pub fn handle_timeout(&mut self, now: Time, wall: WallTime) {
        let moment = self.moment(now, wall);
        self.give_up(moment);
        self.turn(moment);
    }

    /// What must be kept over a restart; to be asked for at the end, and now and then before.
    pub fn memory(&self, now: Time, wall: WallTime) -> RepairMemory {
        let moment = self.moment(now, wall);
        RepairMemory {
            uptime: moment.uptime,
            census: Some(self.census.mark),
            members: self.members.records(moment).collect(),
        }
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> RepairStats {
        self.stats
    }

    /// How much is open at present.
    #[must_use]
    pub fn open(&self) -> OpenRepairs {
        OpenRepairs {
            queued: self.pushes.queued(),
            pushing: self.pushes.under_way(),
            demotions: self.demotions.len(),
            serving: self.guests.open(),
            members: self.members.len(),
        }
    }

    fn moment(&self, now: Time, wall: WallTime) -> Moment {
        Moment {
            now,
            wall,
            uptime: self.earlier.saturating_add(now.since(self.begun).as_secs()),
        }
    }

    fn view(&mut self, moment: Moment) -> &View {
        let old = |made: Time| moment.now.since(made) >= VIEW_TIME;
        if self.view.as_ref().is_some_and(|(made, _)| old(*made)) {
            self.members.refresh(moment);
            self.view = None;
        }
        let make = || {
            (
                moment.now,
                View::new(moment, self.me, &self.members, self.limits.near_per_side),
            )
        };
        &self.view.get_or_insert_with(make).1
    }

    /// A neighbour asks which blocks are here.
    fn asked(&mut self, moment: Moment, from: LinkId, id: RequestId, blocks: &[BlockId]) {
        if !self.guests.may_ask(moment.now, from, blocks.len()) {
            self.stats.ignored += 1;
            return;
        }
        // Who does not store has no business in knowing.
        let answerable = self.stores && self.members.place_of(from).is_some();
        let view = self.view(moment);
        let standing = |block: &BlockId| match answerable {
            true => view.standing(block.key.location()),
            false => Standing::Far,
        };
        let standings: Vec<Standing> = blocks.iter().map(standing).collect();
        let selected = serve::selected(blocks, &standings);
        if selected.is_empty() {
            let holdings = vec![Holding::Foreign; blocks.len()];
            self.send(from, RepairMessage::Holdings { id, holdings });
            return;
        }
        let ticket = self.ask_store(StoreQuestion::Holds(selected));
        self.guests.asking(ticket, from, id, standings);
    }

    /// A neighbour brings a block.
    fn brought(&mut self, moment: Moment, from: LinkId, id: RequestId, block: Block) {
        let key = block.key().location();
        let welcome = self.stores
            && self.members.place_of(from).is_some()
            && self.view(moment).standing(key) != Standing::Far;
        let receipt = if !welcome {
            Receipt::Refused
        } else if self.guests.may_bring(moment.now, from) {
            self.output.push_back(RepairOutput::Arrived(block.clone()));
            let ticket = self.ask_store(StoreQuestion::Keep(block, Shelf::Store));
            self.guests.writing(ticket, from, id);
            return;
        } else {
            Receipt::Busy
        };
        self.stats.refused += 1;
        self.send(from, RepairMessage::HandedOver { id, receipt });
    }

    /// A neighbour answers a question of the census.
    fn told(&mut self, from: LinkId, id: RequestId, holdings: &[Holding]) {
        let answer = self
            .slice
            .as_mut()
            .map_or(Answer::Unasked, |slice| slice.answer(from, id, holdings));
        match answer {
            Answer::Taken => {
                let lacking = holdings.iter().filter(|holding| **holding == Holding::Lacking);
                self.stats.lacking += lacking.count() as u64;
            }
            Answer::Unasked => self.stats.ignored += 1,
            Answer::Wrong => {
                self.stats.offences += 1;
                self.output.push_back(RepairOutput::Offence(from));
            }
        }
    }

    /// A neighbour says what became of a block.
    fn handed_over(&mut self, now: Time, from: LinkId, id: RequestId, receipt: Receipt) {
        let Some(push) = self.pushes.answered(from, id) else {
            self.stats.ignored += 1;
            return;
        };
        match receipt {
            Receipt::Kept => self.stats.kept += 1,
            Receipt::Refused => {}
            Receipt::Busy => {
                self.pushes.forget(&push);
                self.pause(now, push.place, from);
            }
        }
    }

    fn send(&mut self, link: LinkId, message: RepairMessage) {
        self.output.push_back(RepairOutput::Send(link, message));
    }

    fn ask_store(&mut self, question: StoreQuestion) -> StoreTicket {
        self.last_ticket += 1;
        let ticket = StoreTicket(self.last_ticket);
        self.output.push_back(RepairOutput::Store(ticket, question));
        ticket
    }

    fn fresh_id(&mut self) -> RequestId {
        RequestId(self.rng.next_u64())
    }

    fn rate(&self) -> Rate {
        Rate::of_store(&self.limits, self.held.saturating_mul(PUSH_COST))
    }
}

const _: () = assert!(NEAR_RANK > COPIES);
