//! Port mapping: asks the local network's router to let other nodes in, keeps that up, and takes it back at the end.
//!
//! - [`ask`]: the protocols, PCP with NAT-PMP (RFC 6887, RFC 6886) and UPnP IGD, each by a library
//! - [`local`]: where the router is, and this machine's address towards it
//!
//! # Invariants
//!
//! - A router is a stranger: what it answers is bounded in size and time, checked, and changes nothing but one address that this
//!   node says of itself, which others try before they believe it.
//! - Nothing is asked for a node that listens on loopback or public addresses only, and nothing when the owner says so.
//! - A mapping is taken back at the end of the node; one that is left by a crash ends by itself.

pub(crate) mod ask;
mod local;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use warren_proto::topology::is_public;

use self::ask::{Grant, Router};

/// Longest that finding a router and asking it may take, all protocols together.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Pause after nobody let this node in. A router that is replaced or switched on is found within it.
const RETRY: Duration = Duration::from_secs(15 * 60);
/// Shortest time between two renewals, whatever lifetime the router grants.
const MIN_RENEWAL: Duration = Duration::from_secs(30);
/// Longest time between two renewals: a router that was restarted has forgotten the mapping.
const MAX_RENEWAL: Duration = Duration::from_secs(20 * 60);
/// How long the end of the node waits for the mapping to be taken back. It ends by itself otherwise.
const REMOVAL: Duration = Duration::from_secs(2);

/// How port mapping stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mapping {
    /// Not wanted, or of no use.
    Off,
    /// The first attempt is under way.
    Asking,
    /// No router lets this node in; why, for its owner.
    Refused(String),
    /// Others can reach this node here, as far as the router says.
    Open {
        /// The address outside.
        outside: SocketAddr,
        /// By which protocol.
        protocol: &'static str,
    },
}

/// The port to be mapped, among the addresses that a node listens on; none for a node that needs or wants no mapping.
pub(crate) fn candidate(listening: &[SocketAddr]) -> Option<(Ipv4Addr, NonZeroU16)> {
    listening.iter().find_map(|address| match address.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() && !is_public(ip.into()) => {
            NonZeroU16::new(address.port()).map(|port| (ip, port))
        }
        _ => None,
    })
}

/// Keeps a mapping until `stop`. What comes of it is told through `state`.
pub(crate) async fn keep(router: Arc<Router>, stop: CancellationToken, state: watch::Sender<Mapping>) {
    state.send_replace(Mapping::Asking);
    loop {
        let attempt = stop.run_until_cancelled(timeout(ATTEMPT, router.open()));
        let why = match attempt.await {
            None => return,
            Some(Ok(Ok(grant))) => {
                if hold(&router, grant, &stop, &state).await {
                    return;
                }
                "the router has stopped letting this node in".to_owned()
            }
            Some(Ok(Err(why))) => why,
            Some(Err(_)) => "the router does not answer in time".to_owned(),
        };
        tracing::debug!(why, "no port mapping");
        state.send_replace(Mapping::Refused(why));
        if stop.run_until_cancelled(sleep(RETRY)).await.is_none() {
            return;
        }
    }
}

/// Renews a mapping until `stop` (true), or until the router refuses for as long as the last grant was good for.
async fn hold(
    router: &Router,
    mut grant: Grant,
    stop: &CancellationToken,
    state: &watch::Sender<Mapping>,
) -> bool {
    let mut failed = false;
    loop {
        if !failed {
            let open = Mapping::Open {
                outside: grant.outside,
                protocol: grant.protocol(),
            };
            if state.send_replace(open.clone()) != open {
                tracing::info!(protocol = grant.protocol(), "the router lets others in");
            }
        }
        // Half of the lifetime, and once more after three quarters if that fails.
        let pause = grant.lifetime.mul_f64(if failed { 0.25 } else { 0.5 });
        let pause = pause.clamp(MIN_RENEWAL, MAX_RENEWAL);
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            // Fails only by leaving the mapping to its end.
            let _ = timeout(REMOVAL, router.close(grant)).await;
            return true;
        }
        let Some(renewed) = stop
            .run_until_cancelled(timeout(ATTEMPT, router.renew(&grant)))
            .await
        else {
            let _ = timeout(REMOVAL, router.close(grant)).await;
            return true;
        };
        match renewed {
            Ok(Ok(renewed)) => {
                grant = renewed;
                failed = false;
            }
            _ if failed => return false,
            _ => failed = true,
        }
    }
}
