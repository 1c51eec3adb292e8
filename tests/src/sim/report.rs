//! What a scenario found, for people and for programs.
//!
//! All of it follows from the scenario and its seed, except the time and the memory that the run took, which stand apart.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::chart::Chart;

/// The outcome of one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// What it is about.
    pub about: String,
    /// How much of a node is real: see [`super::Level`].
    pub level: &'static str,
    /// Nodes at the start.
    pub nodes: usize,
    /// The seed.
    pub seed: u64,
    /// A hash of everything that happened, in hexadecimal: the same for the same seed.
    pub trace: String,
    /// Processor time is not measured: this is what the clock on the wall says, seconds.
    pub seconds: f64,
    /// The most memory that the process has had so far, MiB.
    pub peak_mib: u64,
    /// What was measured, by name.
    pub figures: BTreeMap<String, f64>,
    /// What must be known to read the figures.
    pub notes: Vec<String>,
    /// Files of the charts, once written.
    pub plots: Vec<String>,
    /// The charts.
    #[serde(skip)]
    pub charts: Vec<Chart>,
    /// What was asked of the figures, and what came of it.
    pub targets: Vec<Target>,
}

/// One figure that must be reached.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Target {
    /// What it is.
    pub name: String,
    /// What was measured.
    pub measured: f64,
    /// What was asked for: the bound, and on which side of it to be.
    pub target: String,
    /// Whether it is so.
    pub met: bool,
}

/// What an experiment gives its scenario.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// See [`Report::figures`].
    pub figures: BTreeMap<String, f64>,
    /// See [`Report::notes`].
    pub notes: Vec<String>,
    /// See [`Report::charts`].
    pub charts: Vec<Chart>,
    /// See [`Report::trace`].
    pub trace: [u8; 32],
}

impl Findings {
    /// Adds a figure.
    pub fn figure(&mut self, name: impl Into<String>, value: f64) {
        self.figures.insert(name.into(), value);
    }

    /// Adds a remark.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

impl Report {
    /// Whether all targets were met.
    #[must_use]
    pub fn met(&self) -> bool {
        self.targets.iter().all(|target| target.met)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.scenario, self.about)?;
        writeln!(
            f,
            "  {} level, {} nodes, seed {}, {:.1} s, {} MiB, trace {:.16}",
            self.level, self.nodes, self.seed, self.seconds, self.peak_mib, self.trace
        )?;
        for (name, value) in &self.figures {
            writeln!(f, "  {name:<44} {}", short(*value))?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        for target in &self.targets {
            let word = if target.met { "met" } else { "MISSED" };
            let (measured, wanted) = (short(target.measured), &target.target);
            writeln!(f, "  {word:<6} {}: {measured}, target {wanted}", target.name)?;
        }
        Ok(())
    }
}

/// One scenario with several seeds: how the figures of its targets vary.
pub struct Spread<'a>(pub &'a [Report]);

impl fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(first), count) = (self.0.first(), self.0.len()) else {
            return Ok(());
        };
        writeln!(f, "{} with {count} seeds", first.scenario)?;
        for (place, target) in first.targets.iter().enumerate() {
            let all = self.0.iter().filter_map(|report| report.targets.get(place));
            let measured: Vec<f64> = all.clone().map(|target| target.measured).collect();
            let mean = measured.iter().sum::<f64>() / count as f64;
            let least = measured.iter().copied().fold(f64::INFINITY, f64::min);
            let most = measured.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            writeln!(
                f,
                "  {}: {} ({} to {}), target {}, met by {} of {count}",
                target.name,
                short(mean),
                short(least),
                short(most),
                target.target,
                all.filter(|target| target.met).count()
            )?;
        }
        Ok(())
    }
}

/// A number with as many digits as mean something.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    if value.fract() == 0.0 {
        format!("{value}")
    } else if size >= 100.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.3}")
    } else if size >= 0.0001 {
        format!("{value:.5}")
    } else {
        format!("{value:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_names_mean_and_ends() {
        let report = |measured: f64| Report {
            scenario: "name".into(),
            about: String::new(),
            level: "routing",
            nodes: 1,
            seed: 1,
            trace: String::new(),
            seconds: 0.0,
            peak_mib: 0,
            figures: BTreeMap::new(),
            notes: Vec::new(),
            plots: Vec::new(),
            charts: Vec::new(),
            targets: vec![Target {
                name: "found".into(),
                measured,
                target: "at least 0.5".into(),
                met: measured >= 0.5,
            }],
        };
        let text = Spread(&[report(0.25), report(1.0)]).to_string();
        let line = "found: 0.62500 (0.25000 to 1), target at least 0.5, met by 1 of 2";
        assert!(text.contains(line), "{text}");
        assert_eq!(Spread(&[]).to_string(), "");
    }

    #[test]
    fn numbers_keep_what_means_something() {
        let shorts = [12.0, 123.456, 4.8149, 0.99871, 0.000_000_42].map(short);
        assert_eq!(shorts, ["12", "123.5", "4.815", "0.99871", "4.2e-7"]);
    }
}
