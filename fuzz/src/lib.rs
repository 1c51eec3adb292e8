//! Fuzz targets of Warren: every parser that meets foreign bytes, and every machine under sequences of operations.
//!
//! A target is a plain function of bytes. [`TARGETS`] lists them all; the programs in `fuzz_targets` hand them to libFuzzer,
//! `tests/replay.rs` runs them over their corpora with any compiler, and the program `seeds` writes the corpora.
//!
//! Invariants that all targets assert beside "no panic": what is parsed and printed again is the same bytes; what was
//! changed does not authenticate; tables and queues stay within their bounds and are empty at the end; whoever waits for
//! an answer gets one. No target reads a clock or draws randomness that is not from its input (the datastore apart,
//! which salts what it writes).

pub mod cipher;
pub mod fixtures;
pub mod input;
pub mod keys;
pub mod local;
pub mod machines;
pub mod seed;
pub mod storage;
pub mod wire;

pub use input::Input;
pub use seed::Seed;

/// A fuzz target.
pub struct Target {
    /// Name of its program in `fuzz_targets` and of its folder in `corpus`.
    pub name: &'static str,
    /// Its module.
    pub path: &'static str,
    /// Runs it on one input. Panics when an invariant does not hold.
    pub run: fn(&[u8]),
    /// Inputs to start from: valid ones of every kind, and the test vectors.
    pub seeds: fn() -> Vec<Seed>,
}

macro_rules! targets {
    ($($name:literal => $module:path;)*) => {
        /// All targets.
        pub const TARGETS: &[Target] = &[$({
            use $module as module;
            Target { name: $name, path: stringify!($module), run: module::run, seeds: module::seeds }
        }),*];
    };
}

targets! {
    "uri" => keys::uri;
    "block" => keys::block;
    "root" => keys::root;
    "splitfile" => keys::splitfile;
    "stream" => keys::stream;
    "frame" => wire::frame;
    "onion" => wire::onion;
    "descriptor" => wire::descriptor;
    "records" => wire::records;
    "handshake" => wire::handshake;
    "link" => machines::link;
    "link_pair" => machines::link_pair;
    "circuits" => machines::circuits;
    "send_queue" => machines::send_queue;
    "router" => machines::router;
    "topology" => machines::topology;
    "repair" => machines::repair;
    "core" => machines::core;
    "pool" => machines::pool;
    "download" => machines::download;
    "upload" => machines::upload;
    "storage_files" => storage::files;
    "datastore" => storage::datastore;
    "config" => local::config;
    "control" => local::control;
    "http" => local::http;
}

/// Makes the program of a target: with cargo-fuzz a fuzzer, else one that runs the files named as its arguments.
#[macro_export]
macro_rules! program {
    ($target:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            use $target as target;
            target::run(data)
        });

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            use $target as target;
            $crate::run_files(target::run)
        }
    };
}

/// Runs a target on the files named on the command line.
///
/// # Errors
/// A file cannot be read.
pub fn run_files(run: fn(&[u8])) -> std::io::Result<()> {
    std::env::args_os().skip(1).try_for_each(|path| {
        run(&std::fs::read(path)?);
        Ok(())
    })
}
