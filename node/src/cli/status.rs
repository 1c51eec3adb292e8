//! `warren status` and `warren peers`.

use std::{fmt::Write, path::Path, time::Duration};

use super::{Failure, args::PeersArgs, terminal::Terminal};
use crate::{
    config::ByteSize,
    control::ControlClient,
    overview::{Offered, Peer, Status},
};

/// Shows how the running node is doing.
///
/// # Errors
/// When none is running.
pub(super) async fn status(terminal: Terminal, data_dir: &Path) -> Result<(), Failure> {
    let status: Status = ControlClient::find(data_dir)?.get("/v1/status").await?;
    let rows = [
        (
            "version",
            format!("{} on network {:?}", status.version, status.network),
        ),
        (
            "running for",
            format!("{:?}", Duration::from_secs(status.uptime_seconds)),
        ),
        ("standing", status.standing.text.clone()),
        ("from outside", status.reach.text.clone()),
        ("listening on", status.listening.join(", ")),
        (
            "links",
            format!("{} (of {} nodes known)", status.links, status.known_nodes),
        ),
        ("offers", offers(&status.services)),
        ("this month", this_month(&status)),
        ("circuits ready", status.circuits_ready.to_string()),
        ("transfers", status.jobs.to_string()),
        (
            "store",
            format!(
                "{} of {}",
                ByteSize(status.store.used_bytes),
                ByteSize(status.store.capacity_bytes)
            ),
        ),
        (
            "cache",
            format!(
                "{} of {}",
                ByteSize(status.cache.used_bytes),
                ByteSize(status.cache.capacity_bytes)
            ),
        ),
        (
            "done for others",
            format!("{} requests routed, {} as exit", status.routed, status.exit),
        ),
        (
            "refused",
            format!(
                "{} times by the node, {} by proxy and control interface",
                status.rejected, status.refused
            ),
        ),
        (
            "reference",
            status
                .references
                .first()
                .cloned()
                .unwrap_or_else(|| "none: it publishes no address".to_owned()),
        ),
    ];
    let mut text = String::new();
    let problems = status.problems.iter().map(|problem| ("problem", problem.clone()));
    for (name, value) in problems.chain(rows) {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:>16}  {value}");
    }
    terminal.result(&status, text.trim_end());
    Ok(())
}

fn offers(services: &Offered) -> String {
    let all = [
        ("relay", services.relay),
        ("exit", services.exit),
        ("store", services.store),
    ];
    let on: Vec<&str> = all.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    if on.is_empty() {
        "nothing to others".to_owned()
    } else {
        on.join(", ")
    }
}

fn this_month(status: &Status) -> String {
    let (month, limits) = (&status.month, &status.limits);
    let moved = ByteSize(month.up_bytes.saturating_add(month.down_bytes));
    let of = match limits.monthly.0 {
        Some(limit) => format!(" of {}", ByteSize(limit)),
        None => String::new(),
    };
    let (up, down) = (ByteSize(month.up_bytes), ByteSize(month.down_bytes));
    let mut text = format!("{moved}{of} ({up} up, {down} down)");
    if limits.up.0.is_some() || limits.down.0.is_some() {
        // Writing to a String does not fail.
        let _ = write!(text, "; at most {} up, {} down", limits.up, limits.down);
    }
    text
}

/// Shows the running node's links, or introduces it to another node.
///
/// # Errors
/// When none is running, or the reference is malformed.
pub(super) async fn peers(terminal: Terminal, data_dir: &Path, args: PeersArgs) -> Result<(), Failure> {
    let node = ControlClient::find(data_dir)?;
    if let Some(reference) = args.add {
        node.add_peer(&reference).await?;
        terminal.result(
            &serde_json::json!({ "added": reference }),
            "The node will connect to it.",
        );
        return Ok(());
    }
    let peers: Vec<Peer> = node.get("/v1/peers").await?;
    let status: Status = node.get("/v1/status").await?;
    let mut text = format!("{} links; {}", peers.len(), status.standing.text);
    for peer in &peers {
        let direction = if peer.dialled { "to  " } else { "from" };
        let time = peer
            .round_trip_ms
            .map_or_else(String::new, |time| format!("  {time:.1} ms"));
        // Writing to a String does not fail.
        let _ = write!(text, "\n  {direction} {}{time}", peer.identity);
    }
    terminal.result(&peers, &text);
    Ok(())
}
