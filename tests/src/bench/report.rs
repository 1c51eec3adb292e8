//! What the benchmarks found: a flat list of named figures, the targets that they meet or miss, and two runs side by side.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use super::{median, targets};

/// One figure.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// `benchmark.what`, the same in every run.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: String,
}

/// Which side of a bound is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// The figure is to be this or more.
    AtLeast,
    /// The figure is to be this or less.
    AtMost,
    /// The figure is to be less.
    Below,
}

impl Bound {
    /// As people write it.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::AtLeast => ">=",
            Self::AtMost => "<=",
            Self::Below => "<",
        }
    }

    /// Whether a value is on the good side.
    #[must_use]
    pub fn admits(self, value: f64, limit: f64) -> bool {
        match self {
            Self::AtLeast => value >= limit,
            Self::AtMost => value <= limit,
            Self::Below => value < limit,
        }
    }
}

/// What a figure is to reach.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Target {
    /// The figure's name.
    pub name: String,
    /// What it was; none when its benchmark did not run.
    pub measured: Option<f64>,
    /// What it is to be, in words: `>= 20 MB/s`.
    pub target: String,
    /// Whether it is.
    pub met: Option<bool>,
}

/// A run.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Processors that this process may use.
    pub processors: usize,
    /// Processes that wanted to run when the run began and when it ended; above the number of processors, wall-clock figures
    /// say little.
    pub load: [f64; 2],
    /// The figures, in the order in which they were taken.
    pub figures: Vec<Figure>,
    /// What could not be measured, and why.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The targets.
    pub targets: Vec<Target>,
}

impl Report {
    /// Adds a figure.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &str) {
        self.figures.push(Figure {
            name: name.into(),
            value,
            unit: unit.to_owned(),
        });
    }

    /// Says what could not be measured.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// A figure by its name.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<f64> {
        let figure = self.figures.iter().find(|figure| figure.name == name);
        figure.map(|figure| figure.value)
    }

    /// Holds the figures against the targets.
    pub fn judge(&mut self) {
        self.targets = targets::judge(self);
    }

    /// The targets that were measured and missed.
    pub fn missed(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|target| target.met == Some(false))
    }

    /// Several runs as one: of each figure the median over those that have it.
    #[must_use]
    pub fn merge(runs: &[Self]) -> Self {
        let mut merged = Self::default();
        for figure in runs.iter().flat_map(|run| &run.figures) {
            if merged.figure(&figure.name).is_none() {
                let values = runs.iter().filter_map(|run| run.figure(&figure.name));
                merged.add(figure.name.clone(), median(values), &figure.unit);
            }
        }
        for note in runs.iter().flat_map(|run| &run.notes) {
            if !merged.notes.contains(note) {
                merged.notes.push(note.clone());
            }
        }
        merged
    }

    /// Two runs side by side: a line for each figure that both have, then the figures that only one has, and the targets that changed
    /// sides.
    #[must_use]
    pub fn compare(&self, later: &Self) -> String {
        let mut text = format!(
            "{:<36} {:>12} {:>12} {:>8}\nload {:>44} {:>12}\n",
            "",
            "first",
            "second",
            "ratio",
            format!("{:.1}-{:.1}", self.load[0], self.load[1]),
            format!("{:.1}-{:.1}", later.load[0], later.load[1]),
        );
        for Figure { name, value, unit } in &self.figures {
            let Some(then) = later.figure(name) else { continue };
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{name:<36} {value:>12.3} {then:>12.3} {:>8.3}  {unit}",
                then / value
            );
        }
        for (which, here, there) in [("first", self, later), ("second", later, self)] {
            let only = here
                .figures
                .iter()
                .filter(|figure| there.figure(&figure.name).is_none());
            for Figure { name, value, unit } in only {
                let _ = writeln!(text, "{name:<36} {value:>12.3}  {unit}, only in the {which}");
            }
        }
        for target in &self.targets {
            let then = later.targets.iter().find(|then| then.name == target.name);
            if let (Some(was), Some(is)) = (target.met, then.and_then(|then| then.met))
                && was != is
            {
                let verdict = if is { "met, was missed" } else { "MISSED, was met" };
                let _ = writeln!(text, "target {:<29} {verdict}", target.name);
            }
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Figure { name, value, unit } in &self.figures {
            writeln!(f, "{name:<36} {value:>12.3} {unit}")?;
        }
        writeln!(
            f,
            "\n{} processors, load {:.1} to {:.1}",
            self.processors, self.load[0], self.load[1]
        )?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        for Target {
            name,
            measured,
            target,
            met,
        } in &self.targets
        {
            if let (Some(measured), Some(met)) = (measured, met) {
                let verdict = if *met { "met" } else { "MISSED" };
                writeln!(f, "target {name:<29} {measured:>12.3}  {target:<14} {verdict}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_lists_what_both_have_and_what_one_lacks() {
        let (mut first, mut second) = (Report::default(), Report::default());
        first.add("a", 2.0, "s");
        first.add("b", 1.0, "s");
        second.add("a", 3.0, "s");
        for (report, time) in [(&mut first, 0.5), (&mut second, 1.5)] {
            report.add("open.time", time, "s");
            report.judge();
        }
        let text = first.compare(&second);
        assert!(
            text.contains("1.500") && text.contains("only in the first"),
            "{text}"
        );
        assert!(text.contains("MISSED, was met"), "{text}");
    }

    #[test]
    fn runs_merge_to_their_medians() {
        let run = |value| {
            let mut report = Report::default();
            report.add("a", value, "s");
            report.note("b was left out".into());
            report
        };
        let mut runs = [run(3.0), run(1.0), run(2.0)];
        runs[1].add("c", 7.0, "s");
        let merged = Report::merge(&runs);
        assert_eq!((merged.figure("a"), merged.figure("c")), (Some(2.0), Some(7.0)));
        assert_eq!(merged.notes.len(), 1);
    }
}
