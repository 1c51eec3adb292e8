//! Asking a router for a mapping: PCP, NAT-PMP where the router knows only that, then UPnP.
//!
//! Invariant: what comes back is checked here, whatever the library has checked: an address that is not public, port 0 or a
//! lifetime of nothing is a refusal.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp};
use igd_next::{
    AddPortError, GatewayIpVersion, PortMappingProtocol, SearchOptions,
    aio::{
        Gateway,
        tokio::{Tokio, search_gateway},
    },
};
use warren_proto::topology::is_public;

use super::local;

/// What is asked for. Half of what RFC 6886 recommends: a mapping that a crash leaves behind is gone the sooner.
const LIFETIME: Duration = Duration::from_secs(3600);
/// What the mapping is called in a router's list (UPnP). It says no more than the open port does.
const DESCRIPTION: &str = "warren";
/// A request to a router in the same house is answered within this, or sent again: 0.25, 0.5, 1 and 2 seconds in all.
const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 3,
    max_retry_timeout: None,
};
/// How long routers have to answer a UPnP search (they may wait three seconds) and to describe themselves.
const SEARCH: Duration = Duration::from_secs(8);

/// Where routers are looked for, and what is to be mapped.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    gateway: Whereabouts,
    /// Where UPnP searches go.
    search: SocketAddr,
    /// Where routers may say that they are, beside where they answer from.
    trusted: Vec<IpAddr>,
    /// The address that this node listens on, perhaps a wildcard.
    inside: Ipv4Addr,
    port: NonZeroU16,
}

/// Where PCP and NAT-PMP go.
#[derive(Clone, Copy, Debug)]
enum Whereabouts {
    /// To the default route's router, which may be another one each time.
    DefaultRoute,
    #[cfg(test)]
    At(Option<Ipv4Addr>),
}

/// A mapping that a router has granted.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(super) outside: SocketAddr,
    pub(super) lifetime: Duration,
    by: By,
}

#[derive(Clone, Debug)]
enum By {
    Pcp(Box<PortMapping>),
    Upnp(Box<Gateway<Tokio>>),
}

impl Grant {
    pub(super) fn protocol(&self) -> &'static str {
        match &self.by {
            By::Pcp(mapping) => match mapping.mapping_type() {
                PortMappingType::NatPmp => "NAT-PMP",
                PortMappingType::Pcp { .. } => "PCP",
            },
            By::Upnp(_) => "UPnP",
        }
    }
}

impl Router {
    /// The router of the network that this machine is in.
    pub(crate) fn of_this_network(inside: Ipv4Addr, port: NonZeroU16) -> Self {
        Self {
            gateway: Whereabouts::DefaultRoute,
            search: SearchOptions::default().broadcast_address,
            trusted: Vec::new(),
            inside,
            port,
        }
    }

    /// A router at the given addresses.
    #[cfg(test)]
    pub(super) fn at(
        gateway: Option<Ipv4Addr>,
        search: SocketAddr,
        inside: Ipv4Addr,
        port: NonZeroU16,
    ) -> Self {
        Self {
            gateway: Whereabouts::At(gateway),
            search,
            // The library believes nobody on loopback.
            trusted: vec![Ipv4Addr::LOCALHOST.into()],
            inside,
            port,
        }
    }

    /// Asks until a router grants a mapping.
    pub(super) async fn open(&self) -> Result<Grant, String> {
        let mut refusals = Vec::new();
        let gateway = match self.gateway {
            Whereabouts::DefaultRoute => local::router(),
            #[cfg(test)]
            Whereabouts::At(gateway) => gateway,
        };
        match gateway {
            Some(gateway) => match self.by_pcp(gateway).await {
                Ok(grant) => return Ok(grant),
                Err(why) => refusals.push(why),
            },
            None => refusals.push("no default route".to_owned()),
        }
        match self.by_upnp().await {
            Ok(grant) => return Ok(grant),
            Err(why) => refusals.push(why),
        }
        Err(refusals.join("; "))
    }

    /// Asks the same router for more time.
    pub(super) async fn renew(&self, grant: &Grant) -> Result<Grant, String> {
        match &grant.by {
            By::Pcp(mapping) => {
                let mut mapping = PortMapping::clone(mapping);
                mapping
                    .renew()
                    .await
                    .map_err(|error| format!("renewing: {error}"))?;
                checked(mapping).await
            }
            By::Upnp(gateway) => {
                self.at_gateway(Gateway::clone(gateway), grant.outside.port())
                    .await
            }
        }
    }

    /// Takes a mapping back.
    pub(super) async fn close(&self, grant: Grant) {
        let failed = match grant.by {
            By::Pcp(mapping) => mapping.try_drop().await.err().map(|(error, _)| error.to_string()),
            By::Upnp(gateway) => {
                let removed = gateway
                    .remove_port(PortMappingProtocol::TCP, grant.outside.port())
                    .await;
                removed.err().map(|error| error.to_string())
            }
        };
        if let Some(error) = failed {
            tracing::debug!(error, "the port mapping stays until it ends by itself");
        }
    }

    /// The address to be mapped, and whether that makes sense.
    fn inside(&self, router: SocketAddr) -> Result<Ipv4Addr, String> {
        let own = if self.inside.is_unspecified() {
            local::address_towards(router).map_err(|error| format!("no way to the router: {error}"))?
        } else {
            self.inside
        };
        if is_public(own.into()) {
            return Err("this machine has a public address itself".to_owned());
        }
        Ok(own)
    }

    pub(super) async fn by_pcp(&self, gateway: Ipv4Addr) -> Result<Grant, String> {
        let inside = self.inside((gateway, crab_nat::GATEWAY_PORT).into())?;
        let options = PortMappingOptions {
            external_port: Some(self.port),
            // An hour's seconds.
            lifetime_seconds: u32::try_from(LIFETIME.as_secs()).ok(),
            timeout_config: Some(PATIENCE),
        };
        let tcp = InternetProtocol::Tcp;
        let mapping = PortMapping::new(gateway.into(), inside.into(), tcp, self.port, options).await;
        checked(mapping.map_err(|error| error.to_string())?).await
    }

    async fn by_upnp(&self) -> Result<Grant, String> {
        let mut options = SearchOptions::default();
        options.broadcast_address = self.search;
        options.timeout = Some(SEARCH);
        options.allowed_gateway_ips.clone_from(&self.trusted);
        options.gateway_ip_version = GatewayIpVersion::V4;
        let gateway = search_gateway(options)
            .await
            .map_err(|error| format!("UPnP: {error}"))?;
        self.at_gateway(gateway, self.port.get()).await
    }

    /// Asks for `port` outside; when that is taken, for any.
    async fn at_gateway(&self, gateway: Gateway<Tokio>, port: u16) -> Result<Grant, String> {
        let inside = SocketAddr::from((self.inside(gateway.addr)?, self.port.get()));
        let tcp = PortMappingProtocol::TCP;
        // An hour's seconds.
        let lease = u32::try_from(LIFETIME.as_secs()).unwrap_or(0);
        let port = match gateway.add_port(tcp, port, inside, lease, DESCRIPTION).await {
            Ok(()) => port,
            // It is taken back at the end, and renewed as if it had one.
            Err(AddPortError::OnlyPermanentLeasesSupported) => {
                let added = gateway.add_port(tcp, port, inside, 0, DESCRIPTION).await;
                added.map_err(|error| format!("UPnP: {error}"))?;
                port
            }
            Err(AddPortError::PortInUse) => gateway
                .add_any_port(tcp, inside, lease, DESCRIPTION)
                .await
                .map_err(|error| format!("UPnP: {error}"))?,
            Err(error) => return Err(format!("UPnP: {error}")),
        };
        let outside = gateway.get_external_ip().await;
        let outside = outside
            .map_err(|error| format!("UPnP: {error}"))
            .and_then(|ip| usable(ip, port));
        match outside {
            Ok(outside) => Ok(Grant {
                outside,
                lifetime: LIFETIME,
                by: By::Upnp(Box::new(gateway)),
            }),
            Err(why) => {
                // Of no use to anybody: not left open.
                let _ = gateway.remove_port(tcp, port).await;
                Err(why)
            }
        }
    }
}

/// What a router granted by PCP or NAT-PMP, if it makes sense.
async fn checked(mapping: PortMapping) -> Result<Grant, String> {
    let ip: IpAddr = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip,
        PortMappingType::NatPmp => natpmp::external_address(mapping.gateway(), Some(PATIENCE))
            .await
            .map_err(|error| format!("NAT-PMP: {error}"))?
            .into(),
    };
    let lifetime = Duration::from_secs(mapping.lifetime().into());
    let outside = match usable(ip, mapping.external_port().get()) {
        _ if lifetime.is_zero() => Err("the router grants no time".to_owned()),
        outside => outside,
    };
    match outside {
        Ok(outside) => Ok(Grant {
            outside,
            lifetime,
            by: By::Pcp(Box::new(mapping)),
        }),
        Err(why) => {
            let _ = mapping.try_drop().await;
            Err(why)
        }
    }
}

/// An address that others can dial.
fn usable(ip: IpAddr, port: u16) -> Result<SocketAddr, String> {
    let ip = ip.to_canonical();
    if !is_public(ip) {
        return Err("the router has no public address itself: there is another one before it".to_owned());
    }
    if port == 0 {
        return Err("the router grants no port".to_owned());
    }
    Ok(SocketAddr::new(ip, port))
}
