//! Scenario files: what is simulated, how large, and what must come of it.
//!
//! A scenario is a small TOML file in `tests/scenarios`. It has exactly one section that names the experiment; the sections
//! are the structs below, and every field is documented there. What is not a field is an error, with file and line.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use serde::Deserialize;
use toml::Spanned;
use warren_proto::topology::{LONG_PER_SIDE, NEAR_PER_SIDE};

/// A scenario file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One sentence on what it shows.
    pub about: String,
    /// Everything that happens follows from it.
    pub seed: u64,
    /// Nodes at the start.
    pub nodes: usize,
    /// Links and lines.
    #[serde(default)]
    pub network: NetworkSpec,
    /// What must come of it.
    #[serde(default)]
    pub targets: Vec<TargetSpec>,
    lookup: Option<Lookup>,
    missing: Option<Missing>,
    hostile: Option<Hostile>,
    file: Option<FileSpec>,
    hot: Option<Hot>,
    sybil: Option<Sybil>,
    anonymity: Option<Anonymity>,
    joined: Option<Joined>,
    crowd: Option<Crowd>,
    churn: Option<Churn>,
    latency: Option<Latency>,
}

/// Links and lines of the network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSpec {
    /// Nearest nodes on each side that a node is linked to.
    pub near_per_side: usize,
    /// Long links on each side.
    pub long_per_side: usize,
    /// Range of the latencies between pairs of nodes, ms.
    pub latency_ms: [u64; 2],
    /// What each message may take longer, ms.
    pub jitter_ms: u64,
    /// Share of messages that are lost and sent again.
    pub loss: f64,
    /// What a node can send in a second, KiB; without it, any amount.
    pub upload_kib: Option<u64>,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        Self {
            near_per_side: NEAR_PER_SIDE,
            long_per_side: LONG_PER_SIDE,
            latency_ms: [5, 85],
            jitter_ms: 0,
            loss: 0.0,
            upload_kib: None,
        }
    }
}

/// A figure and its bound.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    /// What it is called in the report.
    pub name: String,
    /// The figure.
    pub figure: Spanned<String>,
    /// Not above this.
    pub at_most: Option<f64>,
    /// Not below this.
    pub at_least: Option<f64>,
}

/// Blocks are inserted anywhere and each is fetched once from anywhere else.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// Number of blocks.
    pub blocks: usize,
    /// Share of the nodes that die between inserting and fetching; their links are gone, and nothing takes their place.
    #[serde(default)]
    pub dead: f64,
    /// Fetches begun each second, in the whole network.
    #[serde(default = "default_rate")]
    pub rate: f64,
}

/// Keys that nobody has are searched for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// Number of keys.
    pub searches: usize,
}

/// What hostile nodes do to inserts. To fetches, one third of them never answers, one third says that the block is not
/// found and the search's branches are used up, one third answers with another block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Swallow {
    /// They are honest until all is inserted. The copies that they hold are lost then.
    Never,
    /// What they would have to keep or to push they say that they do and do not. Those that never answer drop it anywhere.
    Sink,
    /// Wherever an insert meets one it ends, "stored on five nodes".
    Path,
}

/// A hostile network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Share of the nodes that die after the inserts, noticed.
    #[serde(default)]
    pub dead: f64,
    /// Share of the nodes that are hostile.
    #[serde(default)]
    pub byzantine: f64,
    /// What they do to inserts.
    pub swallow: Swallow,
}

/// Blocks in a hostile network, each inserted through some exits and fetched through one and through up to three.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hostile {
    /// Number of blocks.
    pub blocks: usize,
    /// Exits through which each block is inserted.
    pub inserts: usize,
    /// Who dies and who lies.
    pub fault: Fault,
}

/// Files in a hostile network, by the rules of `keys §6`: any 128 of a full segment's 192 blocks are enough.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Length of each.
    pub megabytes: u64,
    /// Number of files.
    pub files: usize,
    /// Who dies and who lies.
    pub fault: Fault,
}

/// One block that many want.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hot {
    /// How often it is asked for.
    pub asks: usize,
    /// Asks each second.
    #[serde(default = "default_rate")]
    pub rate: f64,
}

/// Identities that were ground until they lay nearest to one key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sybil {
    /// How many, for each key.
    pub identities: usize,
    /// Number of keys that this is tried with, one after the other.
    pub keys: usize,
    /// Searches for each key and setting.
    pub searches: usize,
}

/// Clients use circuits while a share of the nodes works for one adversary.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anonymity {
    /// Shares of the nodes that are the adversary's.
    pub fractions: Vec<f64>,
    /// Lengths of the circuits.
    pub hops: Vec<usize>,
    /// Circuits that each client uses.
    pub circuits: usize,
    /// Number of clients, for each length and way to choose entries.
    pub clients: usize,
    /// Adversaries that each client is set against.
    pub draws: usize,
}

/// Nodes join one after another, knowing only seeds; then blocks are inserted and fetched over the links that formed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joined {
    /// The first so many nodes are everybody's seeds.
    pub seeds: usize,
    /// Nodes that start each second.
    pub rate: f64,
    /// Seconds after the last start before anything is inserted.
    pub settle_s: u64,
    /// Number of blocks.
    pub blocks: usize,
}

/// All nodes join within a short time through one seed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crowd {
    /// Seconds between the first start and the last.
    pub within_s: f64,
    /// Seconds that are watched after that.
    pub settle_s: u64,
}

/// Nodes come and go for days, and repair keeps what was inserted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// Days that are watched, after three in which the nodes come to know each other.
    pub days: u32,
    /// Number of blocks.
    pub blocks: usize,
    /// How long a node stays on average, hours; memoryless.
    pub online_h: f64,
    /// How long it stays away.
    pub offline_h: f64,
    /// Share of the nodes that are gone for good within a week; new ones come in their place.
    pub gone_per_week: f64,
    /// Searches made each hour.
    pub fetches_per_hour: usize,
}

/// Clients read pages while some nodes never answer; with hedging and without.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Share of the nodes that never answer.
    pub droppers: f64,
    /// Number of clients, one after another.
    pub clients: usize,
    /// Pages that each of them reads.
    pub pages: usize,
    /// Blocks of a page, fetched at once.
    pub blocks: usize,
}

/// The one thing that a scenario does.
#[derive(Clone, Debug)]
pub enum Experiment {
    /// See [`Lookup`].
    Lookup(Lookup),
    /// See [`Missing`].
    Missing(Missing),
    /// See [`Hostile`].
    Hostile(Hostile),
    /// See [`FileSpec`].
    File(FileSpec),
    /// See [`Hot`].
    Hot(Hot),
    /// See [`Sybil`].
    Sybil(Sybil),
    /// See [`Anonymity`].
    Anonymity(Anonymity),
    /// See [`Joined`].
    Joined(Joined),
    /// See [`Crowd`].
    Crowd(Crowd),
    /// See [`Churn`].
    Churn(Churn),
    /// See [`Latency`].
    Latency(Latency),
}

fn default_rate() -> f64 {
    100.0
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// The file cannot be read, or is not a scenario: file, line and what is wrong with it.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not a scenario", path.display()))
    }

    /// Reads a scenario.
    ///
    /// # Errors
    /// As [`Scenario::load`], without the file.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        scenario.experiment()?;
        if scenario.nodes < 2 {
            bail!("nodes = {}: at least 2 are a network", scenario.nodes);
        }
        for target in &scenario.targets {
            if target.at_most.is_some() == target.at_least.is_some() {
                let line = line_of(text, target.figure.span().start);
                bail!("line {line}: a target has one of `at_most` and `at_least`");
            }
        }
        Ok(scenario)
    }

    /// What it does.
    ///
    /// # Errors
    /// The file has no experiment, or several.
    pub fn experiment(&self) -> anyhow::Result<Experiment> {
        let all = [
            self.lookup.clone().map(Experiment::Lookup),
            self.missing.clone().map(Experiment::Missing),
            self.hostile.clone().map(Experiment::Hostile),
            self.file.clone().map(Experiment::File),
            self.hot.clone().map(Experiment::Hot),
            self.sybil.clone().map(Experiment::Sybil),
            self.anonymity.clone().map(Experiment::Anonymity),
            self.joined.clone().map(Experiment::Joined),
            self.crowd.clone().map(Experiment::Crowd),
            self.churn.clone().map(Experiment::Churn),
            self.latency.clone().map(Experiment::Latency),
        ];
        let mut named = all.into_iter().flatten();
        match (named.next(), named.next()) {
            (Some(experiment), None) => Ok(experiment),
            (None, _) => bail!("no experiment: one of the sections {EXPERIMENTS} is needed"),
            (Some(_), Some(_)) => {
                bail!("more than one experiment: only one of the sections {EXPERIMENTS} can be")
            }
        }
    }
}

/// The sections that are experiments.
const EXPERIMENTS: &str = "[lookup], [missing], [hostile], [file], [hot], [sybil], [anonymity], [joined], [crowd], [churn], [latency]";

/// The line that holds the byte at `offset`, from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "about = 'x'\nseed = 1\nnodes = 10\n[hot]\nasks = 3\n";

    fn complaint(text: &str) -> String {
        format!("{:#}", Scenario::parse(text).unwrap_err())
    }

    #[test]
    fn a_scenario_has_one_experiment_and_no_unknown_field() {
        let scenario = Scenario::parse(GOOD).unwrap();
        assert!(matches!(
            scenario.experiment().unwrap(),
            Experiment::Hot(Hot { asks: 3, .. })
        ));
        assert_eq!(scenario.network.long_per_side, LONG_PER_SIDE);
        let twice = format!("{GOOD}[missing]\nsearches = 1\n");
        assert!(complaint(&twice).contains("more than one"));
        assert!(complaint("about = 'x'\nseed = 1\nnodes = 10\n").contains("[lookup]"));
        let unknown = complaint(&format!("{GOOD}aks = 4\n"));
        assert!(unknown.contains("line 6") && unknown.contains("aks"), "{unknown}");
        let wrong = complaint(&GOOD.replace("asks = 3", "asks = 'three'"));
        assert!(wrong.contains("line 5"), "{wrong}");
        assert!(complaint(&GOOD.replace("10", "1")).contains("nodes = 1"));
    }

    #[test]
    fn a_target_has_one_bound() {
        let target = format!("{GOOD}[[targets]]\nname = 'n'\nfigure = 'f'\n");
        assert!(complaint(&target).contains("line 8"));
        assert!(Scenario::parse(&format!("{target}at_most = 1.0\n")).is_ok());
    }

    #[test]
    fn all_files_are_scenarios() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files = fs::read_dir(folder).unwrap();
        let read = files.map(|file| Scenario::load(&file.unwrap().path()).unwrap());
        assert!(read.count() > 10);
    }
}
