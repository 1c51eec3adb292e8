//! What this node says of itself and does for others, as far as that changes while it runs.
//!
//! # Invariants
//!
//! - The descriptor on new links, the one that the core spreads, and what the node does agree: all change here, under one lock.
//! - A later descriptor has a later date, however quickly one follows another: others keep the latest.
//!
//! Deliberately absent: how addresses are found out, and when a month is over.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use warren_proto::{
    descriptor::{MAX_ADDRESSES, Services, Statement, is_dialable, is_due, next_date},
    topology::Reachability,
};

use crate::{
    core_task::{Desk, Seen},
    net::{Net, bandwidth::volume::Allowance},
};

/// What nobody carries.
const NO_SERVICES: Services = Services {
    relay: false,
    exit: false,
    store: false,
};

/// See the [module documentation](self).
pub(crate) struct Own {
    net: Arc<Net>,
    desk: Arc<Desk>,
    state: Mutex<State>,
}

struct State {
    /// What the owner wants to offer.
    services: Services,
    allowance: Allowance,
    addresses: Addresses,
}

/// Where others may reach this node, as far as it knows.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    /// What the owner says; it settles the matter.
    announced: Vec<SocketAddr>,
    /// What the node listens on, without wildcards.
    listening: Vec<SocketAddr>,
    /// What the router gives it.
    mapped: Option<SocketAddr>,
    /// Under which addresses others see it.
    observed: Vec<IpAddr>,
    reachability: Reachability,
    /// The port of the first listener, wildcards included.
    port: Option<u16>,
}

impl Addresses {
    /// Of a node that listens on `listening`, and whose owner says `announced`, or nothing.
    pub(crate) fn new(announced: &[SocketAddr], listening: &[SocketAddr]) -> Self {
        let concrete = |address: &&SocketAddr| !address.ip().is_unspecified();
        Self {
            announced: announced.to_vec(),
            listening: listening.iter().filter(concrete).copied().collect(),
            mapped: None,
            observed: Vec::new(),
            reachability: Reachability::Unknown,
            port: listening.first().map(SocketAddr::port),
        }
    }

    /// The port at which others are to try to reach this node.
    pub(crate) fn port(&self) -> Option<u16> {
        let chosen = self.announced.first().or(self.mapped.as_ref());
        chosen.map(SocketAddr::port).or(self.port)
    }

    /// What the descriptor says, best first. No more than a descriptor holds, so that what is published is what is meant.
    ///
    /// What the owner says settles it. Else a node that nobody can reach publishes nothing, and what others see counts more than what
    /// a router says: only its port is believed, as far as others got through there.
    pub(crate) fn published(&self) -> Vec<SocketAddr> {
        let mut all = Vec::new();
        if !self.announced.is_empty() {
            all.extend(&self.announced);
        } else if self.reachability != Reachability::NotReachable {
            if let (Reachability::Reachable, Some(port)) = (self.reachability, self.port()) {
                let outside = self.observed.iter().map(|ip| SocketAddr::new(*ip, port));
                all.extend(outside);
                if all.is_empty() {
                    all.extend(self.mapped);
                }
            }
            let more = self.listening.iter().filter(|address| !all.contains(address));
            let more: Vec<SocketAddr> = more.copied().collect();
            all.extend(more);
        }
        all.retain(is_dialable);
        all.truncate(MAX_ADDRESSES);
        all
    }
}

impl Own {
    /// As the descriptor in `net` says.
    pub(crate) fn new(net: Arc<Net>, desk: Arc<Desk>, addresses: Addresses) -> Self {
        let descriptor = net.descriptor();
        let state = State {
            services: descriptor.services,
            allowance: Allowance::Full,
            addresses,
        };
        Self {
            net,
            desk,
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the owner wants to offer, whether or not the month's volume lets it.
    pub(crate) fn services(&self) -> Services {
        self.lock().services
    }

    /// Offers these services.
    pub(crate) fn set_services(&self, services: Services) {
        let mut state = self.lock();
        state.services = services;
        self.publish(&state);
    }

    /// The router gives this node an address, or none any more.
    pub(crate) fn set_mapped(&self, mapped: Option<SocketAddr>) {
        let mut state = self.lock();
        if state.addresses.mapped != mapped {
            state.addresses.mapped = mapped;
            // What was found out about another port is void.
            state.addresses.reachability = Reachability::Unknown;
            self.desk.set_port(&self.net.core, state.addresses.port());
            self.publish(&state);
        }
    }

    /// How others see this node.
    pub(crate) fn set_seen(&self, seen: Seen) {
        let mut state = self.lock();
        state.addresses.reachability = seen.reachability;
        state.addresses.observed = seen.observed;
        self.publish(&state);
    }

    /// Whether the owner says what to publish.
    pub(crate) fn is_announced(&self) -> bool {
        !self.lock().addresses.announced.is_empty()
    }

    /// Keeps to what the month's volume allows. Whether that is something else than before.
    pub(crate) fn set_allowance(&self, allowance: Allowance) -> bool {
        let mut state = self.lock();
        if state.allowance == allowance {
            return false;
        }
        state.allowance = allowance;
        self.desk
            .set_resting(&self.net.core, allowance != Allowance::Full);
        self.publish(&state);
        // First the links' own end, then the core: it must not dial before that is possible again.
        let paused = allowance == Allowance::Nothing;
        self.net.registry.pause(paused);
        self.desk.set_paused(&self.net.core, paused);
        true
    }

    /// Signs the descriptor anew when it is old.
    pub(crate) fn renew(&self) {
        self.publish(&self.lock());
    }

    /// Signs and spreads a descriptor, if the present one is old or says something else.
    fn publish(&self, state: &State) {
        let (now, old) = (self.net.clock.wall(), self.net.descriptor());
        let services = match state.allowance {
            Allowance::Full => state.services,
            Allowance::Own | Allowance::Nothing => NO_SERVICES,
        };
        let addresses = state.addresses.published();
        if !is_due(now, old.published) && old.services == services && old.addresses == addresses {
            return;
        }
        let statement = Statement {
            addresses,
            services,
            published: next_date(now, old.published),
            ..Statement::clone(&old)
        };
        let descriptor = self.net.secrets.sign(statement, &self.net.network);
        self.net.set_descriptor(Arc::new(descriptor.clone()));
        self.desk.set_descriptor(&self.net.core, descriptor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_what_others_can_reach_is_published() {
        let wildcard = [at("0.0.0.0:7420"), at("[::]:7420")];
        let mut addresses = Addresses::new(&[], &wildcard);
        assert_eq!((addresses.published(), addresses.port()), (vec![], Some(7420)));
        // Seen by others, who got through.
        addresses.observed = vec!["1.2.3.4".parse().unwrap()];
        assert_eq!(addresses.published(), []);
        addresses.reachability = Reachability::Reachable;
        assert_eq!(addresses.published(), [at("1.2.3.4:7420")]);
        // The router's word: its port, where others got through, and not its address.
        addresses.mapped = Some(at("8.8.8.8:9000"));
        assert_eq!(addresses.port(), Some(9000));
        assert_eq!(addresses.published(), [at("1.2.3.4:9000")]);
        addresses.observed.clear();
        assert_eq!(addresses.published(), [at("8.8.8.8:9000")]);
        addresses.reachability = Reachability::Unknown;
        assert_eq!(addresses.published(), []);

        // Listening at an address of its own: published until it turns out to be of no use.
        let mut addresses = Addresses::new(&[], &[at("5.6.7.8:7420")]);
        assert_eq!(addresses.published(), [at("5.6.7.8:7420")]);
        addresses.observed = vec!["5.6.7.8".parse().unwrap()];
        addresses.reachability = Reachability::Reachable;
        assert_eq!(addresses.published(), [at("5.6.7.8:7420")]);
        addresses.reachability = Reachability::NotReachable;
        assert_eq!(addresses.published(), []);

        // The owner knows best.
        let mut addresses = Addresses::new(&[at("9.9.9.9:99")], &wildcard);
        addresses.reachability = Reachability::NotReachable;
        assert_eq!(
            (addresses.published(), addresses.port()),
            (vec![at("9.9.9.9:99")], Some(99))
        );
    }
}
