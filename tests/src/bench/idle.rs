//! The real program: how fast it starts, and what it holds while nothing happens.

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use warren_proto::descriptor::NodeReference;

use super::{
    latency::milliseconds,
    megabytes,
    meter::{resident, resident_own},
    network::{NODES, Network},
    report::Report,
};

/// Environment variable that names the program; else it is looked for beside this one.
const PROGRAM: &str = "WARREN_BIN";
/// Starts of which the median counts.
const STARTS: usize = 9;
/// How long the node is left alone before it is looked at: it has found its neighbours and built its circuits by then.
const SETTLE: Duration = Duration::from_secs(5);
/// Settings of the node: none of the usual ports. All else is the default, the size of the datastore too: its index is most of what an
/// idle node holds.
const SETTINGS: &str = r#"
[node]
network = "bench-idle"
listen = ["127.0.0.1:0"]
allow_private = true
[proxy]
listen = "127.0.0.1:0"
"#;

/// The program, running. Killed when dropped.
struct Running {
    child: Child,
    started: Duration,
    reference: NodeReference,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn program() -> anyhow::Result<PathBuf> {
    let path = match env::var_os(PROGRAM) {
        Some(path) => PathBuf::from(path),
        None => env::current_exe()?.with_file_name("warren"),
    };
    ensure!(
        path.exists(),
        "{} does not exist: build it with `cargo build --release`, or name it in {PROGRAM}",
        path.display()
    );
    Ok(path)
}

fn start(program: &Path, folder: &Path) -> anyhow::Result<Running> {
    let begun = Instant::now();
    let mut child = Command::new(program)
        .args(["--json", "--data-dir"])
        .arg(folder)
        .arg("run")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    let started = begun.elapsed();
    let ready: Result<serde_json::Value, _> = serde_json::from_str(&line);
    let reference = ready.ok().and_then(|ready| {
        let text = ready["ready"]["reference"].as_str()?;
        text.parse().ok()
    });
    match reference {
        Some(reference) => Ok(Running {
            child,
            started,
            reference,
        }),
        None => {
            child.kill().ok();
            child.wait()?;
            anyhow::bail!("the node did not say that it is ready, but {line:?}")
        }
    }
}

/// Measures.
///
/// # Errors
/// When the program is not there or does not run.
pub async fn bench(report: &mut Report) -> anyhow::Result<()> {
    let program = program()?;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("node");
    let set_up = Command::new(&program)
        .args(["--json", "--data-dir"])
        .arg(&data)
        .args(["init", "--yes"])
        .output()?;
    ensure!(
        set_up.status.success(),
        "the program does not set a node up: {}",
        String::from_utf8_lossy(&set_up.stderr)
    );
    std::fs::write(data.join("warren.toml"), SETTINGS)?;

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(start(&program, &data)?.started);
    }
    starts.sort_unstable();
    report.add("idle.start", milliseconds(starts[STARTS / 2]), "ms");
    report.add("idle.start.fastest", milliseconds(starts[0]), "ms");

    let node = start(&program, &data)?;
    let process = node.child.id();
    let alone = resident(process).context("the node has ended")?;
    let neighbours = Network::start("bench-idle", NODES - 1, Some(node.reference.clone())).await?;
    // The program is the eighth.
    neighbours.linked(NODES - 1).await?;
    tokio::time::sleep(SETTLE).await;
    let linked = resident(process).context("the node has ended")?;
    report.add("idle.resident", megabytes(linked), "MB");
    report.add("idle.resident.alone", megabytes(alone), "MB");
    report.add(
        "idle.resident.own",
        megabytes(resident_own(process).unwrap_or(0)),
        "MB",
    );
    drop(node);
    neighbours.end();
    Ok(())
}
