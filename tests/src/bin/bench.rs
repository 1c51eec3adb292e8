//! `bench`: measures whole networks. See `docs/bench.md`.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    thread::available_parallelism,
};

use clap::{Parser, Subcommand, ValueEnum};
use warren_tests::bench::{floor, handshakes, idle, latency, meter, net, report::Report};

/// Measures networks of eight nodes on this machine.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
struct Args {
    /// What to measure.
    names: Vec<Name>,
    /// Measures everything.
    #[arg(long)]
    all: bool,
    /// Prints one JSON value, for programs and for `compare`.
    #[arg(long)]
    json: bool,
    /// Megabytes of the file that `floor` and `net` send.
    #[arg(long, default_value_t = 100)]
    megabytes: u64,
    #[command(subcommand)]
    command: Option<Command>,
}

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
    /// A file in and out, with the floor beside it.
    Net,
    /// First byte of small files.
    Latency,
    /// Start and memory of an idle node.
    Idle,
    /// Key exchanges.
    Handshakes,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(text) => {
            // A reader that has gone has seen what it wanted.
            writeln!(io::stdout(), "{text}").ok();
            ExitCode::SUCCESS
        }
        Err(error) => {
            writeln!(io::stderr(), "bench: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<String> {
    if let Some(Command::Compare { first, second }) = args.command {
        let load =
            |path: PathBuf| -> anyhow::Result<Report> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
        return Ok(load(first)?.compare(&load(second)?));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report {
        processors: available_parallelism()?.get(),
        load: [meter::load(); 2],
        ..Report::default()
    };
    let bytes = args.megabytes * 1_000_000;
    let wanted = |name| args.all || args.names.contains(&name);
    // `net` measures the floor for itself, with the hops that it took.
    if wanted(Name::Floor) && !wanted(Name::Net) {
        floor::bench(&mut report, bytes)?;
    }
    if wanted(Name::Net) {
        runtime.block_on(net::bench(&mut report, bytes))?;
    }
    if wanted(Name::Latency) {
        runtime.block_on(latency::bench(&mut report))?;
    }
    if wanted(Name::Idle) {
        runtime.block_on(idle::bench(&mut report))?;
    }
    if wanted(Name::Handshakes) {
        handshakes::bench(&mut report)?;
    }
    report.load[1] = meter::load();
    report.judge();
    if args.json {
        Ok(serde_json::to_string_pretty(&report)?)
    } else {
        Ok(report.to_string())
    }
}
