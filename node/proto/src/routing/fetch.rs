//! Searches: greedy towards the key, with an allowance of failed branches (protocol §7.3).
//!
//! A node looks into its own datastore first, then asks one neighbour after another, nearest first, until one has the
//! block, the allowance is used up, nobody is left, or time is up. It never asks whom the request came from.
//!
//! The allowance is shared out: a node keeps one branch back for itself and passes the rest on. A neighbour that lies, or
//! that leads to a liar, can use up what it was given and no more. A neighbour that the search has already been to costs
//! one branch too: without that, a search in vain asks everybody near the key again for each branch (decision 0007).

use warren_keys::{Block, BlockId, Location};

use super::{
    Asker, End, Offence, Router, RouterOutput, TicketUse,
    limits::{LOOKUP_WAIT, MAX_BRANCHES, MAX_HTL, MAX_JOINED, MAX_STALE, MAX_TRIES, USEFUL_WAIT},
    table::Timed,
    waits::{Reach, Source, Waiter},
};
use crate::{
    core::api::{StoreAnswer, StoreQuestion},
    ids::{LinkId, RequestId, StoreTicket},
    time::Time,
    wire::{ExitResult, Refusal, Routed},
};

/// How far a search may go from this node on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Width {
    pub(super) htl: u8,
    /// Hops without progress so far, this node included.
    pub(super) stale: u8,
    pub(super) branches: u8,
    /// Whether a search in vain leaves a wait.
    pub(super) wait: bool,
}

impl Width {
    /// Whether a search of this width would have found all that one of `other` can find, and waits where that one would.
    pub(super) fn covers(self, other: Self) -> bool {
        let as_far = self.htl >= other.htl && self.stale <= other.stale && self.branches >= other.branches;
        as_far && (self.wait || !other.wait)
    }
}

/// What one request asks of this node.
#[derive(Clone, Copy, Debug)]
struct Ask {
    asker: Asker,
    width: Width,
    /// Distance from the key to the nearest node on the path, this node included.
    best: u64,
    deadline: Time,
}

/// An open search.
#[derive(Debug)]
pub(super) struct Search {
    block: BlockId,
    key: Location,
    ask: Ask,
    /// Whether the first asker still waits.
    wanted: bool,
    joined: Vec<(RequestId, Ask)>,
    /// Failed branches left.
    left: u8,
    tried: Vec<LinkId>,
    step: Step,
    /// When the step has taken too long.
    until: Time,
    /// A neighbour was passed over or refused, for overload.
    crowded: bool,
    /// A neighbour searched and did not find.
    denied: bool,
    /// A neighbour had already been asked on another branch.
    looped: bool,
    /// A neighbour went away or stayed silent.
    silent: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    LookingUp(StoreTicket),
    Waiting {
        link: LinkId,
        given: u8,
        since: Time,
    },
    /// Between two steps, inside one call.
    Deciding,
}

impl Timed for Search {
    fn wake(&self) -> Time {
        self.joined
            .iter()
            .map(|(_, ask)| ask.deadline)
            .fold(self.until, Time::min)
    }
}

/// What a neighbour gets of `left` branches: all but one, which this node keeps to try another way. Where the search begins,
/// half of them are kept: nobody before it could try another way round a first neighbour that uses up all that it gets.
fn share(left: u8, begins: bool) -> u8 {
    let kept = if begins { left / 2 } else { 1 };
    left.saturating_sub(kept.max(1)).max(1)
}

impl Router {
    /// A search on behalf of this node.
    pub(super) fn begin_search(
        &mut self,
        now: Time,
        id: RequestId,
        asker: Asker,
        block: BlockId,
        branches: u8,
        wait: bool,
    ) {
        let width = Width {
            htl: MAX_HTL,
            stale: 0,
            branches: branches.clamp(1, MAX_BRANCHES),
            wait,
        };
        let deadline = now + self.fetch_pace.allowance(width.htl);
        let ask = Ask {
            asker,
            width,
            best: self.me.distance(block.key.location()),
            deadline,
        };
        self.search(now, id, block, ask);
    }

    /// A search for those who wait here, after a way on was lost.
    pub(super) fn search_again(&mut self, now: Time, block: BlockId, reach: Reach) {
        // The failure that is remembered has waited where nobody can tell any more.
        self.failed.remove(&block);
        let id = self.fresh_id(now);
        let ask = Ask {
            asker: Asker::Again,
            width: reach.width,
            best: reach.best,
            deadline: now + self.fetch_pace.allowance(reach.width.htl),
        };
        self.search(now, id, block, ask);
    }

    /// A search that a neighbour passes on. Numbers beyond the rules are cut down to them.
    pub(super) fn passed_search(
        &mut self,
        now: Time,
        id: RequestId,
        from: LinkId,
        block: BlockId,
        width: Width,
        best: u64,
    ) {
        let distance = self.me.distance(block.key.location());
        let width = Width {
            htl: width.htl.min(MAX_HTL),
            stale: if distance < best {
                0
            } else {
                width.stale.saturating_add(1).min(MAX_STALE)
            },
            branches: width.branches.clamp(1, MAX_BRANCHES),
            wait: width.wait,
        };
        let deadline = now + self.fetch_pace.allowance(width.htl);
        let ask = Ask {
            asker: Asker::Link(from),
            width,
            best: best.min(distance),
            deadline,
        };
        self.search(now, id, block, ask);
    }

    fn search(&mut self, now: Time, id: RequestId, block: BlockId, ask: Ask) {
        if self
            .failed
            .find(now, &block)
            .is_some_and(|failed| failed.covers(ask.width))
        {
            self.stats.failed_lately += 1;
            let left = ask.width.branches - 1;
            self.answer(now, id, block, &ask, End::NotFound { left });
            return;
        }
        let Some(ask) = self.join(id, block, ask) else {
            return;
        };
        let mut search = Search {
            block,
            key: block.key.location(),
            ask,
            wanted: true,
            joined: Vec::new(),
            left: ask.width.branches,
            tried: Vec::new(),
            step: Step::Deciding,
            until: ask.deadline,
            crowded: false,
            denied: false,
            looped: false,
            silent: false,
        };
        if ask.asker != Asker::Own {
            self.by_block.insert((block, id));
        }
        if self.stores && ask.asker != Asker::Own {
            search.step = Step::LookingUp(self.ask_store(TicketUse::Lookup(id), StoreQuestion::Find(block)));
            search.until = ask.deadline.min(now + LOOKUP_WAIT);
            self.searches.put(id, search);
        } else {
            self.forward_search(now, id, search);
        }
    }

    /// Lets a request wait for an open search of the same block with a smaller number; gives it back where there is none.
    fn join(&mut self, id: RequestId, block: BlockId, ask: Ask) -> Option<Ask> {
        let first = self.by_block.range((block, RequestId(0))..).next().copied();
        let leader = match first {
            Some((of, leader)) if of == block && leader < id && ask.asker != Asker::Own => leader,
            _ => return Some(ask),
        };
        let Some(mut search) = self.searches.take(leader) else {
            return Some(ask);
        };
        let joins = search.joined.len() < MAX_JOINED;
        if joins {
            search.joined.push((id, ask));
            self.joined.insert(id, leader);
            self.stats.joined += 1;
        }
        self.searches.put(leader, search);
        (!joins).then_some(ask)
    }

    pub(super) fn looked_up(&mut self, now: Time, id: RequestId, answer: StoreAnswer) {
        let Some(mut search) = self.searches.take(id) else {
            return;
        };
        search.step = Step::Deciding;
        match answer {
            StoreAnswer::Found(block, _) if block.id() == search.block => {
                self.stats.found_here += 1;
                self.end_search(now, id, search, End::Found { block, copy: true });
            }
            _ => self.forward_search(now, id, search),
        }
    }

    /// Asks the next neighbour, or ends.
    fn forward_search(&mut self, now: Time, id: RequestId, mut search: Search) {
        let width = search.ask.width;
        if width.htl == 0 || width.stale >= MAX_STALE {
            let left = search.left.saturating_sub(1);
            self.end_search(now, id, search, End::NotFound { left });
            return;
        }
        if search.left == 0 || search.ask.deadline.since(now) < USEFUL_WAIT || search.tried.len() >= MAX_TRIES
        {
            self.exhausted(now, id, search);
            return;
        }
        let choice = self.neighbours.choose(now, search.key, None, |link| {
            search.ask.asker.is_link(link) || search.tried.contains(&link)
        });
        search.crowded |= choice.crowded;
        let Some(link) = choice.link else {
            self.exhausted(now, id, search);
            return;
        };
        let given = share(search.left, !matches!(search.ask.asker, Asker::Link(_)));
        let htl = width.htl - 1;
        search.tried.push(link);
        search.step = Step::Waiting {
            link,
            given,
            since: now,
        };
        search.until = search.ask.deadline.min(now + self.fetch_pace.allowance(htl));
        if let Some(neighbour) = self.neighbours.find_mut(link) {
            neighbour.window.opened();
        }
        self.stats.forwarded += 1;
        let Ask { best, width, .. } = search.ask;
        let (block, stale) = (search.block, width.stale);
        let source = match search.ask.asker {
            Asker::Link(from) => Source::Link(from),
            Asker::Exit | Asker::Own | Asker::Again => Source::Here,
        };
        let wait = width.wait && self.waits.place(now, block, link, source, Reach { width, best });
        self.send(
            link,
            Routed::Request {
                id,
                block,
                htl,
                stale,
                branches: given,
                best,
                wait,
            },
        );
        self.searches.put(id, search);
    }

    /// Nobody else will be asked.
    fn exhausted(&mut self, now: Time, id: RequestId, search: Search) {
        let end = if search.denied || search.looped {
            if search.denied && !search.crowded && !search.silent {
                self.failed.insert(now, search.block, search.ask.width);
            }
            // A neighbour that searched has cost a branch, so something is always charged.
            End::NotFound {
                left: search.left.min(search.ask.width.branches - 1),
            }
        } else if search.crowded {
            End::Busy
        } else if search.silent {
            End::Failed
        } else {
            End::NoWay
        };
        self.end_search(now, id, search, end);
    }

    pub(super) fn found(&mut self, now: Time, from: LinkId, id: RequestId, block: Block, copy: bool) {
        if self.inserts.contains(id) {
            self.offence(from, Offence::WrongAnswer);
            return;
        }
        let Some(mut search) = self.searches.take(id) else {
            self.late(now, id);
            return;
        };
        if !search.tried.contains(&from) {
            self.ignore();
            self.searches.put(id, search);
            return;
        }
        // Also from a neighbour that was given up: the block is the block.
        if block.id() != search.block {
            self.offence(from, Offence::WrongBlock);
            if self.answered(now, &mut search, from).is_some() {
                self.forward_search(now, id, search);
            } else {
                self.searches.put(id, search);
            }
            return;
        }
        self.answered(now, &mut search, from);
        self.stats.found_beyond += 1;
        if copy && search.ask.asker != Asker::Own {
            self.cache(block.clone());
        }
        self.end_search(now, id, search, End::Found { block, copy: false });
    }

    pub(super) fn not_found(&mut self, now: Time, from: LinkId, id: RequestId, reported: u8) {
        if self.inserts.contains(id) {
            self.offence(from, Offence::WrongAnswer);
            return;
        }
        let Some(mut search) = self.searches.take(id) else {
            self.late(now, id);
            return;
        };
        if let Some(given) = self.answered(now, &mut search, from) {
            search.denied = true;
            // What it did not use comes back, but one branch has failed whatever it says.
            search.left = search.left - given + reported.min(given - 1);
            self.forward_search(now, id, search);
        } else {
            self.ignore();
            self.searches.put(id, search);
        }
    }

    pub(super) fn search_refused(&mut self, now: Time, from: LinkId, id: RequestId, why: Refusal) {
        let Some(mut search) = self.searches.take(id) else {
            return;
        };
        let Step::Waiting { link, given, .. } = search.step else {
            self.searches.put(id, search);
            return;
        };
        if link != from {
            self.ignore();
            self.searches.put(id, search);
            return;
        }
        search.step = Step::Deciding;
        if why == Refusal::Busy {
            // It has not taken the request, and will not tell.
            self.waits.unplace(search.block, from);
        }
        let window = self
            .neighbours
            .find_mut(from)
            .map(|neighbour| &mut neighbour.window);
        match why {
            Refusal::Busy => {
                search.crowded = true;
                if let Some(window) = window {
                    window.refused(now);
                }
            }
            Refusal::Loop => {
                search.looped = true;
                search.left = search.left.saturating_sub(1);
                if let Some(window) = window {
                    window.answered();
                }
            }
            Refusal::Failed => {
                search.silent = true;
                search.left = search.left.saturating_sub(given);
                if let Some(window) = window {
                    window.answered();
                }
            }
        }
        self.forward_search(now, id, search);
    }

    /// Takes note of an answer; what `from` was given, if it is the one that is waited for.
    fn answered(&mut self, now: Time, search: &mut Search, from: LinkId) -> Option<u8> {
        let Step::Waiting { link, given, since } = search.step else {
            return None;
        };
        if link != from {
            return None;
        }
        search.step = Step::Deciding;
        self.fetch_pace.sample(now.since(since));
        if let Some(neighbour) = self.neighbours.find_mut(from) {
            neighbour.window.answered();
        }
        Some(given)
    }

    /// An answer to a search that has ended.
    fn late(&mut self, now: Time, id: RequestId) {
        if self.seen.find(now, &id).is_some() && !self.joined.contains_key(&id) {
            self.fetch_pace.late();
        }
        self.ignore();
    }

    pub(super) fn search_due(&mut self, now: Time, id: RequestId) {
        let Some(mut search) = self.searches.take(id) else {
            return;
        };
        let (expired, joined) = search
            .joined
            .into_iter()
            .partition(|(_, ask)| ask.deadline <= now);
        search.joined = joined;
        for (id, ask) in expired {
            self.joined.remove(&id);
            self.answer(now, id, search.block, &ask, End::Failed);
        }
        if !search.wanted && search.joined.is_empty() {
            self.drop_search(id, &search);
            return;
        }
        if search.until > now {
            self.searches.put(id, search);
            return;
        }
        match search.step {
            Step::LookingUp(ticket) => {
                self.tickets.remove(&ticket);
            }
            Step::Waiting { link, given, .. } => {
                self.stats.timeouts += 1;
                search.silent = true;
                search.left = search.left.saturating_sub(given);
                if let Some(neighbour) = self.neighbours.find_mut(link) {
                    neighbour.window.refused(now);
                }
            }
            Step::Deciding => {}
        }
        search.step = Step::Deciding;
        self.forward_search(now, id, search);
    }

    pub(super) fn search_lost_link(&mut self, now: Time, id: RequestId, link: LinkId) {
        let Some(mut search) = self.searches.take(id) else {
            return;
        };
        search.wanted &= !search.ask.asker.is_link(link);
        search.joined.retain(|(id, ask)| {
            let stays = !ask.asker.is_link(link);
            if !stays {
                self.joined.remove(id);
            }
            stays
        });
        if !search.wanted && search.joined.is_empty() {
            self.drop_search(id, &search);
            return;
        }
        match search.step {
            Step::Waiting { link: asked, .. } if asked == link => {
                search.silent = true;
                search.step = Step::Deciding;
                self.forward_search(now, id, search);
            }
            _ => self.searches.put(id, search),
        }
    }

    pub(super) fn cancel_search(&mut self, id: RequestId) {
        let leader = self.joined.get(&id).copied().unwrap_or(id);
        let Some(mut search) = self.searches.take(leader) else {
            return;
        };
        // A request that only waits here may have had its number taken by a neighbour since; that one goes on.
        let asked = search.joined.iter().find(|(joined, _)| *joined == id);
        let ask = asked.map_or(&search.ask, |(_, ask)| ask);
        if matches!(ask.asker, Asker::Link(_)) {
            self.searches.put(leader, search);
            return;
        }
        if leader == id {
            search.wanted = false;
        } else {
            self.joined.remove(&id);
            search.joined.retain(|(joined, _)| *joined != id);
        }
        if !search.wanted && search.joined.is_empty() {
            self.drop_search(leader, &search);
        } else {
            self.searches.put(leader, search);
        }
    }

    /// Forgets a search that is out of its table and that nobody waits for.
    fn drop_search(&mut self, id: RequestId, search: &Search) {
        self.by_block.remove(&(search.block, id));
        match search.step {
            Step::LookingUp(ticket) => {
                self.tickets.remove(&ticket);
            }
            Step::Waiting { link, .. } => {
                if let Some(neighbour) = self.neighbours.find_mut(link) {
                    neighbour.window.abandoned();
                }
            }
            Step::Deciding => {}
        }
    }

    fn end_search(&mut self, now: Time, id: RequestId, search: Search, end: End) {
        if let End::Found { block, .. } = &end {
            let block = block.clone();
            self.conclude(now, id, search, end);
            self.deliver(now, &block);
        } else {
            self.conclude(now, id, search, end);
        }
    }

    /// Ends all searches for a block that is here.
    pub(super) fn end_searches_for(&mut self, now: Time, block: &Block) {
        let of = block.id();
        let open = self
            .by_block
            .range((of, RequestId(0))..=(of, RequestId(u64::MAX)));
        for id in open.map(|(_, id)| *id).collect::<Vec<_>>() {
            if let Some(search) = self.searches.take(id) {
                let found = End::Found {
                    block: block.clone(),
                    copy: false,
                };
                self.conclude(now, id, search, found);
            }
        }
    }

    /// Answers all who asked, or lets those search on whose own request reaches further.
    fn conclude(&mut self, now: Time, id: RequestId, search: Search, end: End) {
        self.drop_search(id, &search);
        if matches!(end, End::NotFound { .. }) {
            self.stats.not_found += 1;
        }
        let mut again = Vec::new();
        for (id, ask) in search.joined {
            self.joined.remove(&id);
            let end = match &end {
                End::Found { block, .. } => End::Found {
                    block: block.clone(),
                    copy: false,
                },
                End::Busy => End::Busy,
                End::NotFound { .. } if search.ask.width.covers(ask.width) => End::NotFound {
                    left: ask.width.branches - 1,
                },
                _ if ask.deadline.since(now) < USEFUL_WAIT => End::Failed,
                End::Failed if search.ask.width.covers(ask.width) => End::Failed,
                _ => {
                    again.push((id, ask));
                    continue;
                }
            };
            self.answer(now, id, search.block, &ask, end);
        }
        if search.wanted {
            self.answer(now, id, search.block, &search.ask, end);
        }
        // Smallest number first: the others then join it instead of searching one by one.
        again.sort_unstable_by_key(|(id, _)| *id);
        for (id, ask) in again {
            self.search(now, id, search.block, ask);
        }
    }

    /// Answers one who asked, and remembers it if it waits.
    fn answer(&mut self, now: Time, id: RequestId, block: BlockId, ask: &Ask, end: End) {
        let reach = Reach {
            width: ask.width,
            best: ask.best,
        };
        let waits = ask.width.wait && !matches!(end, End::Found { .. } | End::Busy);
        match ask.asker {
            Asker::Link(link) if waits && self.neighbours.find(link).is_some() => {
                let entered = self.waits.enter(now, block, Waiter::Link(link), reach);
                self.stats.waits += u64::from(entered);
            }
            // Where a neighbour was silent others have heard it, and the block may come by them.
            Asker::Exit | Asker::Own
                if waits
                    && matches!(end, End::NotFound { .. } | End::Failed)
                    && self.waits.enter(now, block, Waiter::Exit(id), reach) =>
            {
                self.stats.waits += 1;
                let told = RouterOutput::Answer(id, ExitResult::Waiting);
                self.output.push_back(told);
                return;
            }
            _ => {}
        }
        self.reply(ask.asker, id, end);
    }
}
