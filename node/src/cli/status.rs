//! `warren status` and `warren peers`.

use std::{fmt::Write, path::Path, time::Duration};

use super::{Failure, args::PeersArgs, terminal::Terminal};
use crate::{
    config::ByteSize,
    control::ControlClient,
    overview::{Peer, Status},
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
        ("listening on", status.listening.join(", ")),
        (
            "links",
            format!("{} (of {} nodes known)", status.links, status.known_nodes),
        ),
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
    let mut text = format!("{} links", peers.len());
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
