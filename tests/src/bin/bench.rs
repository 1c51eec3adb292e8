//! `bench`: measures whole networks. See `docs/bench.md`.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    thread::available_parallelism,
};

use clap::{Parser, Subcommand, ValueEnum};
use stats_alloc::StatsAlloc;
use warren_tests::bench::{
    far, floor, handshakes, hop, idle, latency,
    meter::{self, ALLOCATOR},
    net, open,
    report::Report,
    scale, store,
};

/// The system's allocator, with a count of what it is asked for.
#[global_allocator]
static COUNTED: &StatsAlloc<std::alloc::System> = ALLOCATOR;

/// Measures networks of eight nodes on this machine, and their parts.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Args {
    /// What to measure.
    names: Vec<Name>,
    /// Measures everything.
    #[arg(long)]
    all: bool,
    /// Prints one JSON value, for programs and for `compare`.
    #[arg(long)]
    json: bool,
    /// Measures so often; medians count.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// Megabytes of the file that `floor` and `net` send.
    #[arg(long, default_value_t = 100)]
    megabytes: u64,
    /// MiB of the large file that `net` sends through one client; 0 leaves it out.
    #[arg(long, default_value_t = 1024)]
    large: u64,
    /// Of `net` only the one file in and out.
    #[arg(long)]
    one: bool,
    /// MiB of blocks for `store`; 10 GiB, or what the disk has room for, when it is not given.
    #[arg(long)]
    store: Option<u64>,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str =
    "Exit codes: 0 all targets that were measured are met, 1 something failed, 3 a target was missed.";
/// See [`EXIT_CODES`]. 2 is for wrong usage.
const MISSED: u8 = 3;

#[derive(Subcommand)]
enum Command {
    /// Prints two runs side by side.
    Compare {
        /// JSON of the first.
        first: PathBuf,
        /// JSON of the second.
        second: PathBuf,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// What the protocol requires, alone.
    Floor,
    /// Files in and out, one and several, small and large, with the floor beside them.
    Net,
    /// What one relay forwards.
    Hop,
    /// First byte of small files, over loopback and over slow lines.
    Latency,
    /// A file in and out over slow lines.
    Far,
    /// Start and memory of an idle node.
    Idle,
    /// Key exchanges and circuits.
    Handshakes,
    /// More nodes, more circuits.
    Scale,
    /// The datastore beside plain files, redb and fjall.
    Store,
    /// Start-up of a 100 GiB datastore.
    Open,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok((text, code)) => {
            // A reader that has gone has seen what it wanted.
            writeln!(io::stdout(), "{text}").ok();
            code
        }
        Err(error) => {
            writeln!(io::stderr(), "bench: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<(String, ExitCode)> {
    if let Some(Command::Compare { first, second }) = args.command {
        let load =
            |path: PathBuf| -> anyhow::Result<Report> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
        return Ok((load(first)?.compare(&load(second)?), ExitCode::SUCCESS));
    }
    let before = meter::load();
    let runs = (0..args.repeat.max(1))
        .map(|_| measure(&args))
        .collect::<Result<Vec<_>, _>>()?;
    let mut report = Report {
        processors: available_parallelism()?.get(),
        load: [before, meter::load()],
        ..Report::merge(&runs)
    };
    report.judge();
    let code = match report.missed().next() {
        Some(_) => ExitCode::from(MISSED),
        None => ExitCode::SUCCESS,
    };
    let text = if args.json {
        serde_json::to_string_pretty(&report)?
    } else {
        report.to_string()
    };
    Ok((text, code))
}

fn measure(args: &Args) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::default();
    let bytes = args.megabytes * 1_000_000;
    let wanted = |name| args.all || args.names.contains(&name);
    // First, while this process has allocated next to nothing.
    if wanted(Name::Open) {
        open::bench(&mut report)?;
    }
    // `net` measures the floor for itself, with the hops that it took.
    if wanted(Name::Floor) && !wanted(Name::Net) {
        floor::bench(&mut report, bytes)?;
    }
    if wanted(Name::Net) {
        runtime.block_on(net::bench(&mut report, bytes, args.one))?;
        if args.large > 0 && !args.one {
            runtime.block_on(net::large(&mut report, args.large << 20))?;
        }
    }
    if wanted(Name::Hop) {
        hop::bench(&mut report)?;
    }
    if wanted(Name::Latency) {
        runtime.block_on(latency::bench(&mut report))?;
    }
    if wanted(Name::Far) {
        runtime.block_on(far::bench(&mut report))?;
    }
    if wanted(Name::Idle) {
        runtime.block_on(idle::bench(&mut report))?;
    }
    if wanted(Name::Handshakes) {
        handshakes::bench(&mut report)?;
    }
    if wanted(Name::Scale) {
        scale::circuits(&mut report)?;
        runtime.block_on(scale::nodes(&mut report))?;
    }
    if wanted(Name::Store) {
        store::bench(&mut report, args.store.map(|mebibytes| mebibytes << 20))?;
    }
    Ok(report)
}
