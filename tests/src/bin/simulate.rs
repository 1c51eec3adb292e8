//! `simulate`: runs networks of thousands of nodes. See `docs/simulator.md`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use warren_tests::sim::{report::Spread, run};

/// Simulates networks of thousands of nodes and compares what comes of it with the targets.
///
/// Ends with 0 if all targets are met, with 1 if one is missed, with 2 if something could not be run.
#[derive(Parser)]
#[command(arg_required_else_help = true)]
struct Args {
    /// Scenarios: names of files in tests/scenarios, or paths of such files.
    scenarios: Vec<String>,
    /// Runs all scenarios.
    #[arg(long)]
    all: bool,
    /// Lists the scenarios.
    #[arg(long)]
    list: bool,
    /// This many nodes instead of the scenario's own number.
    #[arg(long)]
    nodes: Option<usize>,
    /// This seed instead of the scenario's own.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs each scenario with so many seeds, the next numbers one after the other, and says how the targets' figures vary.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Prints one JSON value: a report for each scenario.
    #[arg(long)]
    json: bool,
    /// Where the charts go.
    #[arg(long, default_value = "target/simulate")]
    plots: PathBuf,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            writeln!(io::stderr(), "simulate: {error:#}").ok();
            ExitCode::from(2)
        }
    }
}

/// Whether all targets were met.
fn run(args: Args) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    let names = if args.all || args.list {
        run::names()?
    } else {
        args.scenarios
    };
    if args.list {
        writeln!(out, "{}", names.join("\n"))?;
        return Ok(true);
    }
    let mut reports = Vec::new();
    for name in &names {
        let first = reports.len();
        for turn in 0..args.seeds.max(1) {
            let mut report = run::run(name, args.nodes, args.seed, turn)?;
            run::write_charts(&mut report, &args.plots)?;
            if !args.json {
                writeln!(out, "{report}")?;
            }
            reports.push(report);
        }
        if !args.json && args.seeds > 1 {
            writeln!(out, "{}", Spread(&reports[first..]))?;
        }
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&reports)?)?;
    }
    Ok(reports.iter().all(|report| report.met()))
}
