//! The real program, `warren`: processes of it with settings of their own, as benchmarks need them.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use warren_proto::descriptor::NodeReference;

use crate::process::http::Control;

/// Environment variable that names the program; else it is looked for beside this one.
const PROGRAM: &str = "WARREN_BIN";
/// Nothing that the benchmarks wait for takes so long.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what cannot be waited for.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// The program, running. Killed when dropped.
pub(super) struct Running {
    child: Child,
    folder: PathBuf,
    control: Control,
    proxy: SocketAddr,
    /// From its start to its ready line.
    pub(super) started: Duration,
    /// How others find it.
    pub(super) reference: NodeReference,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Where the program is.
///
/// # Errors
/// When it has not been built.
pub(super) fn find() -> anyhow::Result<PathBuf> {
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

/// Settings of a node of the network `name` on any port of the loopback interface: what every benchmark needs. Tables may follow.
#[must_use]
pub(super) fn settings(name: &str, seeds: &[&NodeReference]) -> String {
    let seeds: Vec<_> = seeds.iter().map(ToString::to_string).collect();
    format!(
        "[node]\nnetwork = {name:?}\nlisten = [\"127.0.0.1:0\"]\nallow_private = true\nseeds = {seeds:?}\n\
         [proxy]\nlisten = \"127.0.0.1:0\"\n"
    )
}

impl Running {
    /// Starts a node in a folder, which is made if it is not there, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub(super) fn start(program: &Path, folder: &Path, settings: &str) -> anyhow::Result<Self> {
        if !folder.exists() {
            fs::DirBuilder::new().mode(0o700).create(folder)?;
        }
        fs::write(folder.join("warren.toml"), settings)?;
        let begun = Instant::now();
        let mut child = command(program, folder)
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
        match ready(&line).zip(Control::find(folder).ok()) {
            Some(((reference, proxy), control)) => Ok(Self {
                child,
                folder: folder.to_owned(),
                control,
                proxy,
                started,
                reference,
            }),
            None => {
                child.kill().ok();
                child.wait()?;
                bail!("the node did not say that it is ready, but {line:?}")
            }
        }
    }

    /// Its process.
    #[must_use]
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// A number of `warren status --json`.
    ///
    /// # Errors
    /// When the node does not answer, or not with that.
    pub(super) fn status(&self, field: &str) -> anyhow::Result<u64> {
        let status = self.control.get("/v1/status")?;
        status[field]
            .as_u64()
            .with_context(|| format!("the status has no {field}"))
    }

    /// Waits until a number of its status is at least this.
    ///
    /// # Errors
    /// When it never is.
    pub(super) fn wait_for(&self, field: &str, least: u64) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.status(field)? < least {
            ensure!(
                begun.elapsed() < PATIENCE,
                "waited in vain for {least} {field}, the node has {}",
                self.status(field)?
            );
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Inserts a file with the program's own command; gives its key.
    ///
    /// # Errors
    /// When the insert fails.
    pub(super) fn insert(&self, program: &Path, file: &Path) -> anyhow::Result<String> {
        let ended = command(program, &self.folder).arg("put").arg(file).output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "an insert failed: {said}");
        let line = String::from_utf8(ended.stdout)?;
        let last: Value = serde_json::from_str(line.lines().last().unwrap_or_default())?;
        let key = last["key"].as_str().context("no key was printed")?;
        Ok(key.to_owned())
    }

    /// Fetches a file of `bytes` through the proxy, as a browser would, and forgets it.
    ///
    /// # Errors
    /// When it does not come through whole.
    pub(super) fn fetch(&self, key: &str, bytes: u64) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(self.proxy)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /{key} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.proxy
        )?;
        let mut answer = BufReader::with_capacity(PIECE, stream);
        let length = head(&mut answer)?;
        ensure!(length == bytes, "{length} bytes announced, not {bytes}");
        let came = io::copy(&mut answer.take(bytes), &mut io::sink())?;
        ensure!(came == bytes, "{came} of {bytes} bytes came");
        Ok(())
    }
}

fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--json", "--data-dir"]).arg(folder);
    command.env_remove("WARREN_HOME").env_remove("WARREN_LOG");
    command
}

fn ready(line: &str) -> Option<(NodeReference, SocketAddr)> {
    let value: Value = serde_json::from_str(line).ok()?;
    let ready = &value["ready"];
    let proxy = ready["proxy"].as_str()?;
    let proxy = proxy.trim_start_matches("http://").trim_end_matches('/');
    Some((ready["reference"].as_str()?.parse().ok()?, proxy.parse().ok()?))
}

/// Reads the head of a good answer; gives the length of the body.
fn head(answer: &mut impl BufRead) -> anyhow::Result<u64> {
    let mut length = None;
    let mut line = String::new();
    answer.read_line(&mut line)?;
    ensure!(
        line.split(' ').nth(1) == Some("200"),
        "the proxy answered {line:?}"
    );
    loop {
        line.clear();
        answer.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = Some(value.trim().parse()?);
            }
            Some(_) => {}
            None => return length.context("an answer without a length"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_head_of_an_answer() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 5\r\n\r\nhello";
        let mut bytes = answer.as_bytes();
        assert_eq!(head(&mut bytes).unwrap(), 5);
        assert_eq!(bytes, b"hello");
        assert!(head(&mut &b"HTTP/1.1 404 Not Found\r\n\r\n"[..]).is_err());
        assert!(head(&mut &b"HTTP/1.1 200 OK\r\n\r\n"[..]).is_err());
    }

    #[test]
    fn settings_are_a_configuration() {
        warren_node::config::Config::parse(&settings("bench", &[]), "settings").unwrap();
    }
}
