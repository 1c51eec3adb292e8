//! Where the local network's router is, and which address this machine has towards it. Both without a packet.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

/// Linux's IPv4 routes. Elsewhere there is no such file, and routers are found by their answers to a search only.
const ROUTES: &str = "/proc/net/route";

/// Flag of a route that leads to a router.
const GATEWAY: u32 = 2;

/// The default route's router.
pub(super) fn router() -> Option<Ipv4Addr> {
    parse(&fs::read_to_string(ROUTES).ok()?)
}

/// Columns: interface, destination, gateway, flags, …, metric (7th), mask (8th); addresses in hexadecimal, in this machine's
/// byte order.
fn parse(routes: &str) -> Option<Ipv4Addr> {
    let default = routes.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hexadecimal = |column: usize| u32::from_str_radix(fields.get(column)?, 16).ok();
        let (destination, router, flags) = (hexadecimal(1)?, hexadecimal(2)?, hexadecimal(3)?);
        let metric: u32 = fields.get(6)?.parse().ok()?;
        let leads = destination == 0 && hexadecimal(7)? == 0 && flags & GATEWAY != 0;
        leads.then(|| (metric, Ipv4Addr::from(router.to_ne_bytes())))
    });
    default.min().map(|(_, router)| router)
}

/// This machine's address on the way to `target`.
pub(super) fn address_towards(target: SocketAddr) -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(target)?;
    match socket.local_addr()? {
        SocketAddr::V4(address) => Ok(*address.ip()),
        SocketAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_leads_to_the_router() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let line = |destination: &str, router: Ipv4Addr, flags: &str, metric: u32, mask: &str| {
            let router = u32::from_ne_bytes(router.octets());
            format!("eth0\t{destination}\t{router:08X}\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n")
        };
        let (near, far) = (Ipv4Addr::new(192, 168, 1, 1), Ipv4Addr::new(10, 0, 0, 1));
        let local = line("0001A8C0", Ipv4Addr::UNSPECIFIED, "0001", 0, "00FFFFFF");
        let first = line("00000000", near, "0003", 100, "00000000");
        let second = line("00000000", far, "0003", 600, "00000000");
        assert_eq!(parse(&format!("{head}{second}{local}{first}")), Some(near));
        assert_eq!(parse(&format!("{head}{local}")), None);
        for text in ["", "nonsense", &format!("{head}eth0\tzz\t1\n")] {
            assert_eq!(parse(text), None);
        }
    }

    #[test]
    fn the_own_address_depends_on_the_target() {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, 5351));
        assert_eq!(address_towards(target).unwrap(), Ipv4Addr::LOCALHOST);
    }
}
