//! The command line as parsed; what to do about it is in the modules named after the commands.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use warren_proto::client::MAX_WAIT;

/// An anonymous storage network: run a node, insert files and get keys, fetch by key.
#[derive(Parser, Debug)]
#[command(name = "warren", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// Where this node keeps its identity, datastore and settings.
    #[arg(long, global = true, value_name = "DIR", env = "WARREN_HOME")]
    pub data_dir: Option<PathBuf>,

    /// Print results and progress as JSON, a value a line.
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "First steps: `warren demo` shows a file travel through a private network on this machine. `warren init --seed REF`, \
then `warren run`, joins a network; with that running, `warren put FILE` prints a key and `warren get KEY` fetches it.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 searched for and not found, \
4 the network could not answer, 5 no node is running, 6 not a valid key, 7 another document is already there.";

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Set up a node: identity, datastore, configuration.
    Init(InitArgs),
    /// Run the node until Ctrl-C.
    Run(RunArgs),
    /// Insert a file, or standard input, and print its key.
    Put(PutArgs),
    /// Fetch what a key names.
    Get(GetArgs),
    /// Make a key pair for publishing under a name that only you can update.
    Keygen,
    /// Show how the running node is doing.
    Status,
    /// Show the running node's links, or introduce it to another node.
    Peers(PeersArgs),
    /// Show or change what the running node does for others and what it may use.
    Set(SetArgs),
    /// Destroy the key of this node's storage: everything in it becomes unreadable at once.
    Wipe(WipeArgs),
    /// Run a private network of eight nodes on this machine and send a file through it.
    Demo(DemoArgs),
    /// Examine the datastore of a node that is not running.
    Store(StoreArgs),
}

/// `warren init`
#[derive(Args, Debug)]
pub struct InitArgs {
    /// Take every default and ask nothing.
    #[arg(long)]
    pub yes: bool,
    /// Reference of a node to learn the network from; may be given again.
    #[arg(long = "seed", value_name = "REFERENCE")]
    pub seeds: Vec<String>,
    /// Address to listen on; may be given again.
    #[arg(long = "listen", value_name = "ADDRESS:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Seal the storage key with a passphrase (asked for, or read from WARREN_PASSPHRASE).
    #[arg(long)]
    pub passphrase: bool,
}

/// `warren run`
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Reference of a node to learn the network from, beside those in the configuration; may be given again.
    #[arg(long = "seed", value_name = "REFERENCE")]
    pub seeds: Vec<String>,
    /// File of such references, one a line, with comments after a "#"; may be given again.
    #[arg(long = "seeds", value_name = "FILE")]
    pub seed_files: Vec<PathBuf>,
    /// Log filter, for example "info" or "warren_node=debug".
    #[arg(long, value_name = "FILTER", env = "WARREN_LOG", default_value = "info")]
    pub log: String,
}

/// `warren put`
#[derive(Args, Debug)]
pub struct PutArgs {
    /// The file; "-" reads standard input.
    #[arg(value_name = "FILE|-")]
    pub source: PathBuf,
    /// Insert under this key: KSK@words, or a private SSK from `warren keygen` followed by a document's name. Other users of this
    /// machine can see what is on a command line: for a private key prefer --key-file.
    #[arg(long, value_name = "KEY", conflicts_with = "key_file")]
    pub key: Option<String>,
    /// Read that key from the first line of a file.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Media type to record; guessed from the file's name otherwise.
    #[arg(long, value_name = "TYPE/SUBTYPE")]
    pub mime: Option<String>,
    /// Encrypt under a random key, so that nobody who has the file can tell that it is inserted. The same file then gets another
    /// key each time.
    #[arg(long)]
    pub unpredictable: bool,
    /// Do not compress.
    #[arg(long)]
    pub no_compress: bool,
}

/// `warren get`
#[derive(Args, Debug)]
pub struct GetArgs {
    /// The key.
    pub key: String,
    /// Where to write; "-" is standard output. Otherwise the name at the end of the key, in this folder.
    #[arg(short, long, value_name = "FILE|-")]
    pub output: Option<PathBuf>,
    /// Replace an existing file.
    #[arg(long)]
    pub force: bool,
    /// If the network does not have the file yet, wait so long for it: a number of seconds, or with s, m or h at its end. At
    /// most 24h.
    #[arg(long, value_name = "TIME", value_parser = wait, default_value = "0", hide_default_value = true)]
    pub wait: Duration,
}

/// A time to wait.
fn wait(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((end, 's')) => (&text[..end], 1),
        Some((end, 'm')) => (&text[..end], 60),
        Some((end, 'h')) => (&text[..end], 3600),
        _ => (text, 1),
    };
    let seconds = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit));
    let time = seconds
        .map(Duration::from_secs)
        .ok_or("a number of seconds, or with s, m or h at its end, as in 10m")?;
    if time > MAX_WAIT {
        return Err("at most 24h".to_owned());
    }
    Ok(time)
}

/// `warren peers`
#[derive(Args, Debug)]
pub struct PeersArgs {
    /// Reference of a node to connect to.
    #[arg(long, value_name = "REFERENCE")]
    pub add: Option<String>,
}

/// `warren set`
#[derive(Args, Debug)]
#[command(after_help = SETTINGS)]
pub struct SetArgs {
    /// What to change; all settings are shown without it.
    pub name: Option<String>,
    /// To what.
    #[arg(value_name = "VALUE", requires = "name")]
    pub values: Vec<String>,
    /// Take the values out of a list instead of adding them.
    #[arg(long, requires = "name")]
    pub remove: bool,
    /// Write it to the configuration too; otherwise it holds until the node ends.
    #[arg(long, requires = "name")]
    pub save: bool,
}

const SETTINGS: &str = "Settings:\n  \
relay, exit, store       on or off: carry circuits, ask for circuits that end here, keep blocks\n  \
up, down                 bytes a second for all links together: 500KiB/s, or unlimited\n  \
monthly                  bytes in a calendar month (UTC), both directions: 500GiB, or unlimited\n  \
links                    most links at once\n  \
allow, deny              ranges of addresses and identities of nodes; values are added to the list, or with --remove taken out\n\n\
Examples:\n  warren set relay off\n  warren set up 500KiB/s --save\n  warren set deny 203.0.113.0/24\n  \
warren set deny 203.0.113.0/24 --remove";

/// `warren wipe`
#[derive(Args, Debug)]
pub struct WipeArgs {
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

/// `warren demo`
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// The file to send; a document of the project otherwise.
    pub file: Option<PathBuf>,
    /// End after the check instead of keeping the network up.
    #[arg(long)]
    pub exit: bool,
    /// Log filter.
    #[arg(long, value_name = "FILTER", env = "WARREN_LOG", default_value = "warn")]
    pub log: String,
}

/// `warren store`
#[derive(Args, Debug)]
pub struct StoreArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: StoreAction,
}

/// `warren store …`
#[derive(Subcommand, Debug)]
pub enum StoreAction {
    /// Print geometry and occupancy.
    Inspect,
    /// Read every slot and count what is sound and what is damaged.
    Verify,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_to_wait() {
        let read = |text: &str| wait(text).map(|time| time.as_secs()).ok();
        for (text, seconds) in [("0", 0), ("90", 90), ("90s", 90), ("10m", 600), ("24h", 86_400)] {
            assert_eq!(read(text), Some(seconds), "{text}");
        }
        for text in [
            "",
            "m",
            "-1",
            "1d",
            "1.5m",
            "25h",
            "99999999999999999999",
            "18446744073709551615h",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn keys_and_dashes_are_taken_as_they_are() {
        let cli = Cli::parse_from(["warren", "get", "CHK@a,b,c/name", "-o", "-"]);
        let Command::Get(get) = cli.command else {
            panic!("not get")
        };
        assert_eq!(
            (get.key.as_str(), get.output.unwrap().to_str()),
            ("CHK@a,b,c/name", Some("-"))
        );
    }
}
