//! Exit duty: requests of clients, whose circuits end here, become routed requests of this node (protocol §7.10).
//!
//! Routed requests carry random numbers and the full HTL. Nothing in them tells one circuit from another, or that the
//! exit is not the client.
//!
//! Invariants: a circuit has at most [`MAX_PER_CIRCUIT`] requests open; an answer reaches only the circuit that asked; what a
//! circuit that is gone had asked for is forgotten.

use std::collections::BTreeMap;

use crate::ids::{CircuitAddr, LinkId, OriginId, RequestId};

/// Requests that one circuit may have open; clients know the number (decision 0005).
pub const MAX_PER_CIRCUIT: usize = 64;
/// Requests that all circuits together may have open here: as many as the router takes searches.
pub(super) const MAX_OPEN: usize = 4096;

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
}

impl Exits {
    pub(super) fn admit(&self, client: Client, number: u32) -> Admission {
        let open = self.by_client.get(&client);
        if open.is_some_and(|open| open.contains_key(&number)) {
            Admission::Duplicate
        } else if open.is_some_and(|open| open.len() >= MAX_PER_CIRCUIT) || self.by_request.len() >= MAX_OPEN
        {
            Admission::Busy
        } else {
            Admission::Welcome
        }
    }

    pub(super) fn opened(&mut self, client: Client, number: u32, request: RequestId) {
        self.by_client.entry(client).or_default().insert(number, request);
        self.by_request.insert(request, (client, number));
    }

    /// Whose request has been answered.
    pub(super) fn answered(&mut self, request: RequestId) -> Option<(Client, u32)> {
        let (client, number) = self.by_request.remove(&request)?;
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
        }
        requests
    }

    /// A link is gone, and all circuits on it: their open requests.
    pub(super) fn link_gone(&mut self, link: LinkId) -> Vec<RequestId> {
        let on_link = |client: &&Client| matches!(client, Client::Circuit(addr) if addr.link == link);
        let clients: Vec<Client> = self.by_client.keys().filter(on_link).copied().collect();
        clients.into_iter().flat_map(|client| self.gone(client)).collect()
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

    #[test]
    fn a_circuit_is_capped_and_its_numbers_are_its_own() {
        let mut exits = Exits::default();
        for number in 0..64 {
            assert_eq!(exits.admit(client(1, 1), number), Admission::Welcome);
            exits.opened(client(1, 1), number, RequestId(number.into()));
        }
        assert_eq!(exits.admit(client(1, 1), 64), Admission::Busy);
        assert_eq!(exits.admit(client(1, 1), 3), Admission::Duplicate);
        assert_eq!(exits.admit(client(1, 2), 3), Admission::Welcome);
        assert_eq!(exits.answered(RequestId(3)), Some((client(1, 1), 3)));
        assert_eq!(exits.answered(RequestId(3)), None);
        assert_eq!(exits.admit(client(1, 1), 3), Admission::Welcome);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut exits = Exits::default();
        exits.opened(client(1, 1), 1, RequestId(1));
        exits.opened(client(1, 2), 1, RequestId(2));
        exits.opened(client(2, 1), 1, RequestId(3));
        exits.opened(Client::Own(OriginId(1)), 1, RequestId(4));
        assert_eq!(exits.gone(client(1, 1)), [RequestId(1)]);
        assert_eq!(exits.link_gone(LinkId(1)), [RequestId(2)]);
        assert_eq!((exits.answered(RequestId(2)), exits.open()), (None, 2));
        assert_eq!(exits.answered(RequestId(3)), Some((client(2, 1), 1)));
        assert_eq!(exits.gone(Client::Own(OriginId(1))), [RequestId(4)]);
        assert!(exits.by_client.is_empty() && exits.by_request.is_empty());
    }
}
