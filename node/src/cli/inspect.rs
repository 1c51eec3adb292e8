//! `warren store`: looks into the datastore of a node that is not running.

use std::path::Path;

use super::{
    Failure,
    args::{StoreAction, StoreArgs},
    run, setup,
    terminal::Terminal,
};
use crate::{
    config::{CONFIG_FILE, Config},
    node::{Node, NodeConfig},
};

/// Prints what is asked for.
///
/// # Errors
/// When the node runs, was never set up, or its files cannot be read. `verify` fails when anything is damaged.
pub(super) fn store(terminal: Terminal, data_dir: &Path, args: &StoreArgs) -> Result<(), Failure> {
    let config = Config::load(&data_dir.join(CONFIG_FILE)).map_err(Failure::new)?;
    let passphrase = setup::passphrase_for(terminal, data_dir)?;
    let config = NodeConfig {
        passphrase,
        ..run::node_config(&config, data_dir.to_owned())?
    };
    let store = Node::open_store(&config).map_err(Failure::new)?;
    let outcome = match args.action {
        StoreAction::Inspect => {
            let inspection = store.inspect();
            let regions: Vec<_> = inspection
                .regions
                .iter()
                .map(|region| {
                    serde_json::json!({
                        "region": format!("{:?}", region.region).to_lowercase(),
                        "slots": region.slots, "used": region.used, "file_bytes": region.file_len,
                        "space": format!("{:?}", region.allocation).to_lowercase(),
                    })
                })
                .collect();
            let value = serde_json::json!({
                "format": inspection.version, "regions": regions, "index_bytes_in_memory": inspection.index_bytes,
                "journal_records": inspection.journal_records, "puts": inspection.puts,
            });
            let lines: Vec<String> = inspection
                .regions
                .iter()
                .map(|region| {
                    format!(
                        "{:?}: {} of {} slots used, file of {} bytes",
                        region.region, region.used, region.slots, region.file_len
                    )
                })
                .collect();
            let text = format!(
                "Format {}, {} puts since it was made\n{}",
                inspection.version,
                inspection.puts,
                lines.join("\n")
            );
            terminal.result(&value, &text);
            Ok(())
        }
        StoreAction::Verify => {
            let verified = store.verify();
            let value = serde_json::json!({
                "sound": verified.sound, "free": verified.free, "damaged": verified.damaged,
                "stale": verified.stale, "unreadable": verified.unreadable,
            });
            let text = format!(
                "{} blocks sound, {} slots free, {} damaged, {} index entries corrected, {} unreadable",
                verified.sound, verified.free, verified.damaged, verified.stale, verified.unreadable
            );
            terminal.result(&value, &text);
            if verified.damaged + verified.unreadable == 0 {
                Ok(())
            } else {
                Err(Failure::new(
                    "damaged blocks count as missing from now on; the network holds other copies",
                ))
            }
        }
    };
    store.close().map_err(Failure::new)?;
    outcome
}
