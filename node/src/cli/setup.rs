//! `warren init` and `warren wipe`, and where a node's data is.

use std::{
    env, fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use warren_proto::descriptor::NodeReference;
use warren_storage::{KeyFile, Passphrase};
use zeroize::Zeroizing;

use super::{
    Failure,
    args::{InitArgs, WipeArgs},
    terminal::Terminal,
};
use crate::{
    config::{CONFIG_FILE, Config, EXAMPLE},
    control::token::ControlFile,
    node::{KEY_FILE, Node, NodeConfig},
};

/// Environment variable that holds the passphrase of a sealed key file.
pub(super) const PASSPHRASE_VARIABLE: &str = "WARREN_PASSPHRASE";

/// The data directory: what the command line or `WARREN_HOME` says, else the user's data folder.
///
/// # Errors
/// When neither is known.
pub(super) fn data_dir(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        return Ok(given);
    }
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("warren"))
        .ok_or_else(|| Failure::usage("no home directory; say where the node's data is with --data-dir"))
}

/// Sets up a node.
///
/// # Errors
/// When a node is already there, or the disk refuses.
pub(super) async fn init(terminal: Terminal, data_dir: PathBuf, mut args: InitArgs) -> Result<(), Failure> {
    let config_path = data_dir.join(CONFIG_FILE);
    if config_path.exists() || data_dir.join(KEY_FILE).exists() {
        return Err(Failure::usage(format!(
            "a node is already set up in {}; `warren run` starts it, or choose another --data-dir",
            data_dir.display()
        )));
    }
    if !args.yes {
        interview(terminal, &mut args)?;
    }
    for seed in &args.seeds {
        seed.parse::<NodeReference>()
            .map_err(|error| Failure::usage(format!("{seed:?} is not a node reference: {error}")))?;
    }
    let passphrase = args.passphrase.then(|| new_passphrase(terminal)).transpose()?;
    let text = configuration(&args);
    let config = Config::parse(&text, CONFIG_FILE).map_err(Failure::usage)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data_dir)
        .map_err(|error| Failure::io(data_dir.display(), &error))?;
    let node = NodeConfig {
        passphrase,
        ..super::run::node_config(&config, data_dir.clone())?
    };
    // The configuration comes last: with it in place the set-up is complete.
    let id = Node::prepare(node).await.map_err(Failure::new)?;
    write_config(&config_path, &text).map_err(|error| Failure::io(config_path.display(), &error))?;
    let value = serde_json::json!({ "data_dir": data_dir.display().to_string(), "identity": id.to_string() });
    terminal.result(
        &value,
        &format!(
            "A node is set up in {}.\nIts settings are in {}.\nStart it with: warren run",
            data_dir.display(),
            config_path.display()
        ),
    );
    Ok(())
}

fn interview(terminal: Terminal, args: &mut InitArgs) -> Result<(), Failure> {
    if !terminal.is_interactive() {
        return Err(Failure::usage(
            "there is nobody to ask; `warren init --yes` takes every default",
        ));
    }
    if args.seeds.is_empty() {
        let question = "Reference of a node that you know (empty for none):";
        args.seeds
            .extend(Some(terminal.ask(question)?).filter(|seed| !seed.is_empty()));
    }
    if !args.passphrase {
        let question = "Seal the storage key with a passphrase, to be typed at each start? [y/N]";
        args.passphrase = matches!(terminal.ask(question)?.as_str(), "y" | "Y" | "yes");
    }
    Ok(())
}

/// The example with what the command line sets filled in.
fn configuration(args: &InitArgs) -> String {
    let list = |items: Vec<String>| toml::Value::Array(items.into_iter().map(toml::Value::String).collect());
    let mut text = EXAMPLE.to_owned();
    let mut set = |default: &str, name: &str, value: toml::Value| {
        text = text.replacen(default, &format!("{name} = {value}"), 1);
    };
    if !args.seeds.is_empty() {
        set("#seeds = []", "seeds", list(args.seeds.clone()));
    }
    if !args.listen.is_empty() {
        let listen = args.listen.iter().map(ToString::to_string).collect();
        set("#listen = [\"0.0.0.0:7420\"]", "listen", list(listen));
    }
    text
}

fn write_config(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn new_passphrase(terminal: Terminal) -> Result<Passphrase, Failure> {
    let text = match env::var(PASSPHRASE_VARIABLE) {
        Ok(text) => Zeroizing::new(text),
        Err(_) => {
            let first = terminal.passphrase("New passphrase")?;
            if *terminal.passphrase("Again")? != *first {
                return Err(Failure::usage("the two are not the same; nothing was set up"));
            }
            first
        }
    };
    Passphrase::new(text.as_str()).map_err(Failure::usage)
}

/// The passphrase of an existing node, when its key file is sealed.
///
/// # Errors
/// When the key file cannot be read or nobody can be asked.
pub(super) fn passphrase_for(terminal: Terminal, data_dir: &Path) -> Result<Option<Passphrase>, Failure> {
    let path = data_dir.join(KEY_FILE);
    if !path.exists() || !KeyFile::at(&path).is_sealed().map_err(Failure::new)? {
        return Ok(None);
    }
    let text = match env::var(PASSPHRASE_VARIABLE) {
        Ok(text) => Zeroizing::new(text),
        Err(_) => terminal.passphrase("Passphrase")?,
    };
    Passphrase::new(text.as_str()).map(Some).map_err(Failure::new)
}

/// Destroys the key file.
///
/// # Errors
/// When there is none, the answer is not yes, or the disk refuses.
pub(super) fn wipe(terminal: Terminal, data_dir: &Path, args: &WipeArgs) -> Result<(), Failure> {
    let path = data_dir.join(KEY_FILE);
    if !path.exists() {
        return Err(Failure::usage(format!(
            "there is no key file in {}",
            data_dir.display()
        )));
    }
    if !args.yes {
        let question = format!(
            "This makes everything in {} unreadable for good: identity, datastore, peers. Type \"wipe\" to do it:",
            data_dir.display()
        );
        if !terminal.is_interactive() || terminal.ask(&question)? != "wipe" {
            return Err(Failure::usage("nothing was wiped; --yes does it without asking"));
        }
    }
    KeyFile::at(&path).wipe().map_err(Failure::new)?;
    let running = ControlFile::read(data_dir).is_ok_and(|file| file.is_some());
    let more = if running {
        " A node is still running here and has the key in memory: end it."
    } else {
        ""
    };
    let value = serde_json::json!({ "wiped": path.display().to_string(), "node_running": running });
    terminal.result(&value, &format!("The key is destroyed.{more}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::REFERENCE;

    #[test]
    fn what_init_writes_is_a_valid_configuration() {
        let args = InitArgs {
            yes: true,
            seeds: vec![REFERENCE.to_owned()],
            listen: vec!["127.0.0.1:0".parse().unwrap(), "[::1]:5".parse().unwrap()],
            passphrase: false,
        };
        let config = Config::parse(&configuration(&args), "test").unwrap();
        assert_eq!(config.node.seeds, args.seeds);
        assert_eq!(config.node.listen, args.listen);
        let plain = InitArgs {
            yes: true,
            seeds: Vec::new(),
            listen: Vec::new(),
            passphrase: false,
        };
        assert_eq!(configuration(&plain), EXAMPLE);
    }
}
