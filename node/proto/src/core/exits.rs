//! Exit duty: requests of clients, whose circuits end here, become routed requests of this node (protocol §7.10).
//!
//! Routed requests carry random numbers and the full HTL. Nothing in them tells one circuit from another, or that the
//! exit is not the client.
//!
//! Invariants: a circuit has at most [`MAX_PER_CIRCUIT`] requests open, of which [`MAX_WAITS_PER_CIRCUIT`] may wait for a block
//! that is not there yet; an answer reaches only the circuit that asked; what a
//! circuit that is gone had asked for is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    core::api::Pressure,
    ids::{CircuitAddr, LinkId, OriginId, RequestId},
    time::Time,
    topology::Bucket,
};

/// Requests that one circuit may have open; clients know the number (decision 0005).
pub const MAX_PER_CIRCUIT: usize = 64;
/// Requests that all circuits together may have open here: as many as the router takes searches.
pub(super) const MAX_OPEN: usize = 4096;

/// Requests that all circuits of one link may have open: a quarter of all, and fewer than the datastore's queue takes, so that
/// who holds many circuits leaves room for the others.
pub(super) const MAX_PER_LINK: usize = 1024;
/// Requests that a circuit may make at once, beside those that are open…
const BURST: u32 = 512;
/// …and in a second after that: 16 MiB of blocks, and a large file uses several circuits. A flood of searches in vain costs the
/// network thirty messages each.
const RATE: u32 = 512;
/// Requests that a circuit may have open while memory is short.
const FEW: usize = 8;
/// Requests of one circuit that may wait for a block: a reader waits for the three places of one root, and renews before the
/// earlier waits have ended. Beyond, a search in vain is the last word.
pub(super) const MAX_WAITS_PER_CIRCUIT: usize = 8;
/// Requests of all circuits together that may wait: half of what may be open, so that waiting keeps nobody from fetching.
const MAX_WAITING: usize = MAX_OPEN / 2;

/// On whose behalf the exit asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Client {
    /// Somebody's circuit.
    Circuit(CircuitAddr),
    /// This node's own user, without circuits.
    Own(OriginId),
}

/// What becomes of a client's request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// Route it.
    Welcome,
    /// Too many are open.
    Busy,
    /// Its number is in use: an error of the client.
    Duplicate,
}

#[derive(Debug, Default)]
pub(super) struct Exits {
    by_client: BTreeMap<Client, BTreeMap<u32, RequestId>>,
    by_request: BTreeMap<RequestId, (Client, u32)>,
    /// Requests that have been allowed to wait.
    waits: BTreeSet<(Client, RequestId)>,
    /// What each circuit that has asked may ask for now.
    rates: BTreeMap<Client, Bucket>,
    of_link: BTreeMap<LinkId, usize>,
}

impl Exits {
    pub(super) fn admit(&mut self, now: Time, client: Client, number: u32, pressure: Pressure) -> Admission {
        let own = self.by_client.get(&client);
        if own.is_some_and(|open| open.contains_key(&number)) {
            return Admission::Duplicate;
        }
        let (most, of_link) = match (client, pressure) {
            // The own user's window is the job's.
            (Client::Own(_), _) => (MAX_PER_CIRCUIT, 0),
            (Client::Circuit(addr), pressure) => {
                let of_link = self.of_link.get(&addr.link).copied().unwrap_or_default();
                let few = pressure >= Pressure::Busy;
                (if few { FEW } else { MAX_PER_CIRCUIT }, of_link)
            }
        };
        let crowded = own.is_some_and(|open| open.len() >= most)
            || of_link >= MAX_PER_LINK
            || self.by_request.len() >= MAX_OPEN;
        let mut rate = || {
            let fresh = || Bucket::new(now, BURST, RATE);
            self.rates.entry(client).or_insert_with(fresh).take(now, 1)
        };
        if crowded || matches!(client, Client::Circuit(_)) && !rate() {
            Admission::Busy
        } else {
            Admission::Welcome
        }
    }

    /// Whether one more request of the client may wait.
    pub(super) fn may_wait(&self, client: Client) -> bool {
        let all = (client, RequestId(0))..=(client, RequestId(u64::MAX));
        self.waits.len() < MAX_WAITING && self.waits.range(all).count() < MAX_WAITS_PER_CIRCUIT
    }

    pub(super) fn opened(&mut self, client: Client, number: u32, request: RequestId, waits: bool) {
        self.by_client.entry(client).or_default().insert(number, request);
        self.by_request.insert(request, (client, number));
        if let Client::Circuit(addr) = client {
            *self.of_link.entry(addr.link).or_default() += 1;
        }
        if waits {
            self.waits.insert((client, request));
        }
    }

    /// Whose request this is.
    pub(super) fn of(&self, request: RequestId) -> Option<(Client, u32)> {
        self.by_request.get(&request).copied()
    }

    /// Whose request has been answered.
    pub(super) fn answered(&mut self, request: RequestId) -> Option<(Client, u32)> {
        let (client, number) = self.by_request.remove(&request)?;
        self.settle(client, 1);
        self.waits.remove(&(client, request));
        if let Some(open) = self.by_client.get_mut(&client) {
            open.remove(&number);
            if open.is_empty() {
                self.by_client.remove(&client);
            }
        }
        Some((client, number))
    }

    /// A client is gone: its open requests.
    pub(super) fn gone(&mut self, client: Client) -> Vec<RequestId> {
        let requests: Vec<RequestId> = self
            .by_client
            .remove(&client)
            .into_iter()
            .flat_map(BTreeMap::into_values)
            .collect();
        for request in &requests {
            self.by_request.remove(request);
            self.waits.remove(&(client, *request));
        }
        self.settle(client, requests.len());
        self.rates.remove(&client);
        requests
    }

    /// A link is gone, and all circuits on it: their open requests.
    pub(super) fn link_gone(&mut self, link: LinkId) -> Vec<RequestId> {
        let on_link = |client: &&Client| matches!(client, Client::Circuit(addr) if addr.link == link);
        // Each that has ever asked has a rate.
        let clients: Vec<Client> = self.rates.keys().filter(on_link).copied().collect();
        clients.into_iter().flat_map(|client| self.gone(client)).collect()
    }

    fn settle(&mut self, client: Client, requests: usize) {
        if let Client::Circuit(addr) = client
            && let Some(open) = self.of_link.get_mut(&addr.link)
        {
            *open = open.saturating_sub(requests);
            if *open == 0 {
                self.of_link.remove(&addr.link);
            }
        }
    }

    pub(super) fn open(&self) -> usize {
        self.by_request.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CircuitId;

    fn client(link: u64, circuit: u32) -> Client {
        Client::Circuit(CircuitAddr {
            link: LinkId(link),
            circuit: CircuitId(circuit),
        })
    }

    /// Whether a circuit may make this request now.
    fn admit(exits: &mut Exits, client: Client, number: u32) -> Admission {
        exits.admit(Time(0), client, number, Pressure::None)
    }

    #[test]
    fn a_circuit_has_a_rate_of_its_own() {
        let mut exits = Exits::default();
        let mut asked = 0;
        let mut ask = |exits: &mut Exits, now, client| {
            asked += 1;
            let welcome = exits.admit(now, client, asked, Pressure::None) == Admission::Welcome;
            if welcome {
                exits.opened(client, asked, RequestId(asked.into()), false);
                exits.answered(RequestId(asked.into()));
            }
            welcome
        };
        let mut count =
            |exits: &mut Exits, now, client| (0..3000).filter(|_| ask(exits, now, client)).count();
        assert_eq!(count(&mut exits, Time(0), client(1, 1)), 512);
        assert_eq!(
            count(&mut exits, Time(0), client(1, 2)),
            512,
            "another has its own"
        );
        assert_eq!(count(&mut exits, Time(500_000), client(1, 1)), 256);
        exits.gone(client(1, 1));
        exits.link_gone(LinkId(1));
        assert!(exits.rates.is_empty() && exits.of_link.is_empty());
    }

    #[test]
    fn while_memory_is_short_a_circuit_has_few_requests_open() {
        let mut exits = Exits::default();
        let mut welcome = 0;
        for number in 0..64 {
            if exits.admit(Time(0), client(1, 1), number, Pressure::Busy) == Admission::Welcome {
                exits.opened(client(1, 1), number, RequestId(number.into()), false);
                welcome += 1;
            }
        }
        assert_eq!(welcome, FEW);
        let other = exits.admit(Time(0), client(1, 2), 1, Pressure::Lean);
        assert_eq!(other, Admission::Welcome, "who asks for little is served");
    }

    #[test]
    fn many_circuits_of_one_link_leave_room_for_others() {
        let mut exits = Exits::default();
        let mut taken = 0;
        for circuit in 0..200 {
            for number in 0..60 {
                if admit(&mut exits, client(1, circuit), number) == Admission::Welcome {
                    exits.opened(client(1, circuit), number, RequestId(taken), false);
                    taken += 1;
                }
            }
        }
        assert_eq!(taken, MAX_PER_LINK as u64);
        assert_eq!(admit(&mut exits, client(2, 1), 1), Admission::Welcome);
        exits.link_gone(LinkId(1));
        assert_eq!(admit(&mut exits, client(1, 1), 1), Admission::Welcome);
    }

    #[test]
    fn a_circuit_is_capped_and_its_numbers_are_its_own() {
        let mut exits = Exits::default();
        for number in 0..64 {
            assert_eq!(admit(&mut exits, client(1, 1), number), Admission::Welcome);
            exits.opened(client(1, 1), number, RequestId(number.into()), false);
        }
        assert_eq!(admit(&mut exits, client(1, 1), 64), Admission::Busy);
        assert_eq!(admit(&mut exits, client(1, 1), 3), Admission::Duplicate);
        assert_eq!(admit(&mut exits, client(1, 2), 3), Admission::Welcome);
        assert_eq!(exits.answered(RequestId(3)), Some((client(1, 1), 3)));
        assert_eq!(exits.answered(RequestId(3)), None);
        assert_eq!(admit(&mut exits, client(1, 1), 3), Admission::Welcome);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut exits = Exits::default();
        for circuit in [client(1, 1), client(1, 2), client(2, 1)] {
            assert_eq!(admit(&mut exits, circuit, 1), Admission::Welcome);
        }
        exits.opened(client(1, 1), 1, RequestId(1), false);
        exits.opened(client(1, 2), 1, RequestId(2), false);
        exits.opened(client(2, 1), 1, RequestId(3), false);
        exits.opened(Client::Own(OriginId(1)), 1, RequestId(4), false);
        assert_eq!(exits.gone(client(1, 1)), [RequestId(1)]);
        assert_eq!(exits.link_gone(LinkId(1)), [RequestId(2)]);
        assert_eq!((exits.answered(RequestId(2)), exits.open()), (None, 2));
        assert_eq!(exits.answered(RequestId(3)), Some((client(2, 1), 1)));
        assert_eq!(exits.gone(Client::Own(OriginId(1))), [RequestId(4)]);
        assert!(exits.by_client.is_empty() && exits.by_request.is_empty());
    }

    #[test]
    fn waiting_is_bounded_for_a_circuit_and_for_all() {
        let mut exits = Exits::default();
        let mut allowed = 0;
        for number in 0..20 {
            let waits = exits.may_wait(client(1, 1));
            allowed += usize::from(waits);
            exits.opened(client(1, 1), number, RequestId(number.into()), waits);
        }
        assert_eq!(allowed, MAX_WAITS_PER_CIRCUIT);
        assert!(exits.may_wait(client(1, 2)));
        exits.answered(RequestId(0));
        assert!(exits.may_wait(client(1, 1)), "one has ended");
        for circuit in 2..2000 {
            for number in 0..4 {
                let waits = exits.may_wait(client(1, circuit));
                let request = RequestId(u64::from(circuit * 100 + number));
                exits.opened(client(1, circuit), number, request, waits);
            }
        }
        assert_eq!(exits.waits.len(), MAX_WAITING);
        for circuit in 1..2000 {
            exits.gone(client(1, circuit));
        }
        assert!(exits.waits.is_empty());
    }
}
