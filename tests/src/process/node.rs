//! One `warren run`, its data directory, and the commands against it.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::Value;

use super::{
    binary,
    command::{self, Ended, Ending},
    http::{Control, Reach},
};

/// A node is ready within this, or has failed. It takes a tenth of a second; the rest is for busy machines.
const START: Duration = Duration::from_secs(60);

/// A node that was told to stop has stopped within this.
const STOP: Duration = Duration::from_secs(30);

/// What is in a node's configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the network.
    pub network: String,
    /// Where to listen.
    pub listen: SocketAddr,
    /// What to publish instead.
    pub advertise: Vec<SocketAddr>,
    /// Where its connections to other nodes leave from.
    pub dial_from: Option<IpAddr>,
    /// References of other nodes.
    pub seeds: Vec<String>,
    /// Hops of circuits.
    pub hops: u8,
    /// Size of the store region, as written.
    pub store: &'static str,
    /// Whether its disk space is reserved at once.
    pub reserve: bool,
    /// Memory for what waits to be sent, as written.
    pub queues: &'static str,
    /// Whether to keep blocks.
    pub stores: bool,
    /// Log filter.
    pub log: &'static str,
}

impl Settings {
    /// A node with a small datastore on any port, which knows nobody.
    #[must_use]
    pub fn new(network: &str) -> Self {
        Self {
            network: network.to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: Vec::new(),
            dial_from: None,
            seeds: Vec::new(),
            hops: 3,
            store: "64 MiB",
            reserve: true,
            queues: "256 MiB",
            stores: true,
            log: "debug",
        }
    }

    fn toml(&self) -> String {
        format!(
            "[node]\nnetwork = {:?}\nlisten = [\"{}\"]\nadvertise = {:?}\ndial_from = {:?}\nseeds = {:?}\nallow_private = true\n\
             [store]\nsize = {:?}\ncache = \"16 MiB\"\nreserve = {}\n[limits]\nmemory = {:?}\n[circuits]\nhops = {}\n[services]\nstore = {}\n[proxy]\nlisten = \"127.0.0.1:0\"\n",
            self.network,
            self.listen,
            self.advertise.iter().map(ToString::to_string).collect::<Vec<_>>(),
            self.dial_from.iter().map(ToString::to_string).collect::<Vec<_>>(),
            self.seeds,
            self.store,
            self.reserve,
            self.queues,
            self.hops,
            self.stores,
        )
    }
}

/// A data directory with the log beside it. Stays when its node ends.
#[derive(Debug)]
pub struct Home {
    folder: PathBuf,
    log: &'static str,
    variables: Vec<(&'static str, String)>,
    launcher: Vec<String>,
    namespace: Option<PathBuf>,
}

impl Home {
    /// Makes a data directory with a configuration.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn make(folder: PathBuf, settings: &Settings) -> Self {
        fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        let home = Self::at(folder, settings);
        home.configure(settings);
        home
    }

    /// A data directory that `warren init` makes, or has made.
    pub fn at(folder: PathBuf, settings: &Settings) -> Self {
        Self {
            folder,
            log: settings.log,
            variables: Vec::new(),
            launcher: Vec::new(),
            namespace: None,
        }
    }

    /// Sets an environment variable for all commands.
    #[must_use]
    pub fn with_variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Has the node itself started by a program that becomes it (by `exec`); the words before `warren` in its command line.
    #[must_use]
    pub fn with_launcher(mut self, launcher: Vec<String>) -> Self {
        self.launcher = launcher;
        self
    }

    /// Has the node started in the network namespace of this file.
    #[must_use]
    pub fn with_namespace(mut self, namespace: PathBuf) -> Self {
        let enter = format!("--net={}", namespace.display());
        self.launcher.splice(..0, ["nsenter".to_owned(), enter]);
        self.namespace = Some(namespace);
        self
    }

    /// Writes another configuration.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn configure(&self, settings: &Settings) {
        fs::write(self.folder.join("warren.toml"), settings.toml()).unwrap();
    }

    /// The data directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the node wrote to standard error, over all its starts.
    pub fn log_file(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    /// The log as text.
    ///
    /// # Panics
    /// When there is none.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap()).into_owned()
    }

    /// `warren` with this data directory and `--json`.
    pub fn warren(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("--data-dir").arg(&self.folder).arg("--json");
        command.args(arguments).env_remove("WARREN_HOME");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        command::run(&mut self.warren(arguments), b"")
    }

    /// `warren run`, by the launcher if there is one.
    fn launch(&self) -> Command {
        let run = self.warren(&["run", "--log", self.log]);
        let Some((program, words)) = self.launcher.split_first() else {
            return run;
        };
        let mut command = Command::new(program);
        command.args(words).arg(run.get_program()).args(run.get_args());
        for (name, value) in run.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Starts the node and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(self) -> Node {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .unwrap();
        let child = self
            .launch()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut child = Ending(child);
        let stdout = child.0.stdout.take().unwrap();
        let (send, ready) = mpsc::channel();
        // Ends when the process does.
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            send.send(lines.next()).ok();
            lines.for_each(drop);
        });
        let line = match ready.recv_timeout(START) {
            Ok(Some(Ok(line))) => line,
            _ => panic!("the node does not become ready: {}", self.log()),
        };
        let ready: Value = serde_json::from_str(&line).unwrap();
        let ready = &ready["ready"];
        let proxy = ready["proxy"].as_str().unwrap();
        let proxy = proxy.trim_start_matches("http://").trim_end_matches('/');
        Node {
            reference: ready["reference"].as_str().unwrap().to_owned(),
            proxy: proxy.parse().unwrap(),
            control: Control {
                namespace: self.namespace.clone(),
                ..Control::find(&seen_by(&child, &self.folder)).unwrap()
            },
            child,
            home: self,
        }
    }
}

/// A running node; killed when it goes out of scope.
#[derive(Debug)]
pub struct Node {
    /// What others need to find it.
    pub reference: String,
    /// Its HTTP proxy.
    pub proxy: SocketAddr,
    /// Its control interface.
    pub control: Control,
    /// Its data directory.
    pub home: Home,
    child: Ending,
}

/// A path as a process sees it, whatever is mounted where in its own view of the file system.
fn seen_by(child: &Ending, path: &Path) -> PathBuf {
    let mut seen = PathBuf::from(format!("/proc/{}/root", child.0.id()));
    seen.push(path.strip_prefix("/").unwrap_or(path));
    if seen.exists() { seen } else { path.to_owned() }
}

impl Node {
    /// What `warren status --json` prints.
    ///
    /// # Panics
    /// When the node does not answer.
    pub fn status(&self) -> Value {
        self.control.get("/v1/status").unwrap()
    }

    /// What it says is wrong with its machine.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn problems(&self) -> Vec<String> {
        let problems = self.status()["problems"].take();
        serde_json::from_value(problems).unwrap()
    }

    /// Where it listens for other nodes.
    ///
    /// # Panics
    /// When it does not.
    pub fn listening(&self) -> SocketAddr {
        self.status()["listening"][0].as_str().unwrap().parse().unwrap()
    }

    /// How many connections and messages it refused.
    ///
    /// # Panics
    /// When the node does not answer.
    pub fn rejected(&self) -> u64 {
        self.status()["rejected"].as_u64().unwrap()
    }

    /// How to reach its proxy.
    pub fn reach(&self) -> Reach {
        Reach {
            address: self.proxy,
            namespace: self.home.namespace.clone(),
        }
    }

    /// A path as the node sees it.
    pub fn seen(&self, path: &Path) -> PathBuf {
        seen_by(&self.child, path)
    }

    /// Address of a key in its proxy.
    pub fn url(&self, key: &str) -> String {
        format!("http://{}/{key}", self.proxy)
    }

    /// Memory that it has in use, and the most that it ever had: bytes.
    ///
    /// # Panics
    /// When it does not run.
    pub fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.0.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
            kilobytes * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// Whether the process is still there.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn runs(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_none()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.0), signal).unwrap();
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) -> Home {
        self.child.kill();
        self.home
    }

    /// Asks it to stop with SIGTERM and waits; returns its exit code.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn terminate(self) -> (Option<i32>, Home) {
        self.stop(Signal::TERM)
    }

    /// Asks it to stop with a signal and waits; returns its exit code.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(mut self, signal: Signal) -> (Option<i32>, Home) {
        self.signal(signal);
        let code = self.child.wait(STOP);
        let code = code.unwrap_or_else(|| panic!("does not stop: {}", self.home.log()));
        (code, self.home)
    }
}
