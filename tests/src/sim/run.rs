//! Runs scenarios: finds their files, does the experiment, judges the figures, writes the charts.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, bail};

use super::{
    Level,
    anonymity::anonymity,
    churn::month::churn,
    cores::join::{crowd, joined},
    latency::latency,
    report::{Findings, Report, Target},
    routers::{faulty, file, hot, lookup, sybil},
    scenario::{Experiment, Scenario, TargetSpec, line_of},
};
use crate::bench::meter::peak_resident;

/// Where the scenario files are.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// The names of all scenarios, in order.
///
/// # Errors
/// The folder cannot be read.
pub fn names() -> anyhow::Result<Vec<String>> {
    let folder = folder();
    let files = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|end| end == "toml") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Runs the scenario that is named so, or whose file this is. `nodes` and `seed` take the place of its own; `turn` is added to
/// the seed.
///
/// # Errors
/// There is no such scenario, or it is not valid: with file and line.
pub fn run(name: &str, nodes: Option<usize>, seed: Option<u64>, turn: u64) -> anyhow::Result<Report> {
    let path = if Path::new(name).extension().is_some() {
        PathBuf::from(name)
    } else {
        folder().join(format!("{name}.toml"))
    };
    if !path.exists() {
        bail!("no scenario {name}; there are {}", names()?.join(", "));
    }
    let mut scenario = Scenario::load(&path)?;
    scenario.nodes = nodes.unwrap_or(scenario.nodes);
    scenario.seed = seed.unwrap_or(scenario.seed).wrapping_add(turn);
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let text = fs::read_to_string(&path)?;
    let place = |offset| format!("{} line {}", path.display(), line_of(&text, offset));
    perform(&stem.unwrap_or_default(), &scenario, place)
}

/// Does what a scenario says. `place` tells where in its file something stands, for complaints.
///
/// # Errors
/// A target names a figure that the experiment does not have.
pub fn perform(name: &str, scenario: &Scenario, place: impl Fn(usize) -> String) -> anyhow::Result<Report> {
    let begun = Instant::now();
    let (level, findings) = experiment(scenario)?;
    let targets = scenario
        .targets
        .iter()
        .map(|target| judge(target, &findings, &place));
    Ok(Report {
        scenario: name.to_owned(),
        about: scenario.about.clone(),
        level: level.name(),
        nodes: scenario.nodes,
        seed: scenario.seed,
        trace: blake3::Hash::from(findings.trace).to_hex().to_string(),
        seconds: begun.elapsed().as_secs_f64(),
        peak_mib: peak_resident(std::process::id()).unwrap_or_default() / (1 << 20),
        targets: targets.collect::<anyhow::Result<_>>()?,
        figures: findings.figures,
        notes: findings.notes,
        plots: Vec::new(),
        charts: findings.charts,
    })
}

fn experiment(scenario: &Scenario) -> anyhow::Result<(Level, Findings)> {
    let (network, nodes, seed) = (&scenario.network, scenario.nodes, scenario.seed);
    Ok(match scenario.experiment()? {
        Experiment::Lookup(spec) => (Level::Routing, lookup::lookup(&spec, network, nodes, seed)),
        Experiment::Missing(spec) => (Level::Routing, lookup::missing(&spec, network, nodes, seed)),
        Experiment::Hostile(spec) => (Level::Routing, faulty::hostile(&spec, network, nodes, seed)),
        Experiment::File(spec) => (Level::Routing, file::file(&spec, network, nodes, seed)),
        Experiment::Hot(spec) => (Level::Routing, hot::hot(&spec, network, nodes, seed)),
        Experiment::Sybil(spec) => (Level::Routing, sybil::sybil(&spec, network, nodes, seed)),
        Experiment::Anonymity(spec) => (Level::Routing, anonymity(&spec, network, nodes, seed)),
        Experiment::Latency(spec) => (Level::Routing, latency(&spec, network, nodes, seed)),
        Experiment::Churn(spec) => (Level::Repair, churn(&spec, network, nodes, seed)),
        Experiment::Joined(spec) => (Level::Core, joined(&spec, network, nodes, seed)),
        Experiment::Crowd(spec) => (Level::Core, crowd(&spec, network, nodes, seed)),
    })
}

fn judge(spec: &TargetSpec, findings: &Findings, place: &impl Fn(usize) -> String) -> anyhow::Result<Target> {
    let Some(measured) = findings.figures.get(spec.figure.get_ref()).copied() else {
        let known: Vec<&str> = findings.figures.keys().map(String::as_str).collect();
        bail!(
            "{}: no figure {:?}; there are {known:?}",
            place(spec.figure.span().start),
            spec.figure.get_ref()
        );
    };
    let (target, met) = match (spec.at_most, spec.at_least) {
        (Some(most), _) => (format!("at most {most}"), measured <= most),
        (None, Some(least)) => (format!("at least {least}"), measured >= least),
        (None, None) => ("none".to_owned(), true),
    };
    Ok(Target {
        name: spec.name.clone(),
        measured,
        target,
        met,
    })
}

/// Writes a report's charts into a folder and names the files in the report.
///
/// # Errors
/// The folder cannot be written.
pub fn write_charts(report: &mut Report, folder: &Path) -> anyhow::Result<()> {
    if report.charts.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for chart in &report.charts {
        let path = folder.join(format!("{}-{}.svg", report.scenario, chart.name));
        fs::write(&path, chart.svg()).with_context(|| format!("cannot write {}", path.display()))?;
        report.plots.push(path.display().to_string());
    }
    Ok(())
}
