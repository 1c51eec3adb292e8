//! What the benchmarks found: a flat list of named figures, the targets that they meet or miss, and two runs side by side.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

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
    /// The figure is to be less.
    Below,
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
    /// The targets.
    pub targets: Vec<Target>,
}

/// What this stage of the project is to reach.
const TARGETS: [(&str, Bound, f64, &str); 7] = [
    ("net.in.speed", Bound::AtLeast, 20.0, "MB/s"),
    ("net.out.speed", Bound::AtLeast, 30.0, "MB/s"),
    ("net.in.ratio", Bound::Below, 3.0, "x floor"),
    ("net.out.ratio", Bound::Below, 3.0, "x floor"),
    ("idle.resident", Bound::Below, 30.0, "MB"),
    ("idle.start", Bound::Below, 200.0, "ms"),
    ("latency.first_byte", Bound::Below, 50.0, "ms"),
];

impl Report {
    /// Adds a figure.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &str) {
        self.figures.push(Figure {
            name: name.into(),
            value,
            unit: unit.to_owned(),
        });
    }

    /// A figure by its name.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<f64> {
        let figure = self.figures.iter().find(|figure| figure.name == name);
        figure.map(|figure| figure.value)
    }

    /// Holds the figures against the targets.
    pub fn judge(&mut self) {
        self.targets = TARGETS
            .iter()
            .map(|&(name, bound, limit, unit)| {
                let measured = self.figure(name);
                let (sign, met) = match bound {
                    Bound::AtLeast => (">=", measured.map(|value| value >= limit)),
                    Bound::Below => ("<", measured.map(|value| value < limit)),
                };
                Target {
                    name: name.to_owned(),
                    measured,
                    target: format!("{sign} {limit} {unit}"),
                    met,
                }
            })
            .collect();
    }

    /// Two runs side by side: a line for each figure that both have.
    #[must_use]
    pub fn compare(&self, later: &Self) -> String {
        let mut text = format!(
            "{:<32} {:>12} {:>12} {:>8}\nload {:>40} {:>12}\n",
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
                "{name:<32} {value:>12.3} {then:>12.3} {:>8.3}  {unit}",
                then / value
            );
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Figure { name, value, unit } in &self.figures {
            writeln!(f, "{name:<32} {value:>12.3} {unit}")?;
        }
        writeln!(
            f,
            "\n{} processors, load {:.1} to {:.1}",
            self.processors, self.load[0], self.load[1]
        )?;
        for Target {
            name,
            measured,
            target,
            met,
        } in &self.targets
        {
            if let (Some(measured), Some(met)) = (measured, met) {
                let verdict = if *met { "met" } else { "MISSED" };
                writeln!(f, "target {name:<25} {measured:>12.3}  {target:<14} {verdict}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_judged_by_their_side_and_only_when_measured() {
        let mut report = Report::default();
        report.add("net.in.speed", 20.0, "MB/s");
        report.add("net.in.ratio", 3.0, "x floor");
        report.judge();
        let met = |name: &str| {
            let target = report.targets.iter().find(|target| target.name == name);
            target.and_then(|target| target.met)
        };
        assert_eq!(met("net.in.speed"), Some(true));
        assert_eq!(met("net.in.ratio"), Some(false));
        assert_eq!(met("net.out.speed"), None);
        let back: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(back, report);
    }

    #[test]
    fn comparison_lists_what_both_have() {
        let (mut first, mut second) = (Report::default(), Report::default());
        first.add("a", 2.0, "s");
        first.add("b", 1.0, "s");
        second.add("a", 3.0, "s");
        let text = first.compare(&second);
        assert!(text.contains("1.500") && !text.contains("\nb"), "{text}");
    }
}
