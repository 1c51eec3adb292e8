//! Real `warren` processes for tests: started on loopback with data directories of their own, watched, killed, and gone at the end.
//!
//! - [`node`]: one process of `warren run`, and the commands against it
//! - [`network`]: several of them, linked
//! - [`command`]: programs run to their end, within a time
//! - [`http`]: a few requests to a node's own interfaces
//! - [`chaos`]: many of them behind lines that are slow, stop and are cut
//! - [`liar`]: a seed that lies about everyone
//! - [`relay`]: TCP in between, which records and changes what passes
//! - [`data`]: files to send, and the hashes of streams
//! - [`secrets`]: what must not be seen of a file; [`search`]: many strings looked for in gigabytes; [`statistics`]: whether bytes are random
//!
//! Invariants: a process is ended by the id under which it was started, when its owner goes out of scope, whether the test passed or
//! not; nothing waits without a bound; waiting is for a condition, never for an amount of time.
//!
//! Deliberately absent: anything of the node's code (but for the reading of its references, and the machines that a liar speaks by). What is tested is the program.

pub mod chaos;
pub mod command;
pub mod data;
pub mod http;
pub mod liar;
pub mod network;
pub mod node;
pub mod relay;
pub mod search;
pub mod secrets;
pub mod statistics;

use std::{
    env,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);

/// The program under test: built with the profile of the tests themselves, once; `WARREN_BIN` names another.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("WARREN_BIN") {
        Some(path) => path.into(),
        None => build(),
    })
}

/// Where Cargo puts what is built with the profile of the tests.
fn profile_folder() -> PathBuf {
    // …/target/PROFILE/deps/it-HASH
    let exe = env::current_exe().unwrap();
    exe.ancestors().nth(2).unwrap().to_owned()
}

fn build() -> PathBuf {
    let folder = profile_folder();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "warren-node", "--bin", "warren"])
        .args(["--profile", profile, "--target-dir"])
        .arg(folder.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success(), "warren does not build");
    folder.join("warren")
}

/// A new folder on the disk that holds the build, which has room for datastores; `/tmp` may be memory.
///
/// # Panics
/// When the disk refuses.
pub fn scratch() -> tempfile::TempDir {
    let parent = profile_folder().parent().unwrap().join("tmp");
    std::fs::create_dir_all(&parent).unwrap();
    tempfile::Builder::new()
        .prefix("warren-")
        .tempdir_in(parent)
        .unwrap()
}

/// An address that nobody listens on now.
///
/// # Panics
/// When there is none.
pub fn free_address() -> SocketAddr {
    free_address_at(Ipv4Addr::LOCALHOST.into())
}

/// An address that nobody listens on now, with this IP.
///
/// # Panics
/// When there is none.
pub fn free_address_at(ip: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// Looks until there is something to see.
///
/// # Panics
/// When there is nothing within `limit`; `what` says what was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        thread::sleep(POLL);
    }
}
