//! A program run to its end: input given, output kept, a bound on the time.

use std::{
    io::{self, Read, Write},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::POLL;

/// Longest that a command may take unless told otherwise. Generous: it ends a hanging test, and measures nothing.
pub const LIMIT: Duration = Duration::from_secs(120);

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// Standard output as text, trimmed.
    ///
    /// # Panics
    /// When it is no text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap().trim()
    }

    /// The last line of standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        let line = self.text().lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}: {self:?}"))
    }

    /// Checks that it went well.
    ///
    /// # Panics
    /// When it did not.
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// Checks the exit code.
    ///
    /// # Panics
    /// When it is another.
    pub fn code(self, code: i32) -> Self {
        let shown = String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(2000)]);
        assert_eq!(self.code, Some(code), "out: {shown}\nerr: {}", self.stderr);
        self
    }
}

/// Runs a program with `input` as its standard input.
///
/// # Panics
/// When it cannot be started, or is not over after [`LIMIT`].
pub fn run(command: &mut Command, input: &[u8]) -> Ended {
    let input = io::Cursor::new(input.to_vec());
    let mut stdout = Vec::new();
    let (code, stderr) = pipe(command, LIMIT, input, |output| {
        output.read_to_end(&mut stdout).unwrap();
    });
    Ended { code, stdout, stderr }
}

/// Runs a program that streams: `input` is copied to its standard input while `take` reads its standard output. Returns the exit code
/// and what came on standard error.
///
/// # Panics
/// When it cannot be started, or is not over after `limit`.
pub fn pipe(
    command: &mut Command,
    limit: Duration,
    mut input: impl Read + Send,
    take: impl FnOnce(&mut dyn Read),
) -> (Option<i32>, String) {
    let shown = format!("{command:?}");
    let spawned = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = Ending(spawned.unwrap_or_else(|error| panic!("{shown}: {error}")));
    let (mut stdin, mut stdout, mut stderr) = (
        child.0.stdin.take().unwrap(),
        child.0.stdout.take().unwrap(),
        child.0.stderr.take().unwrap(),
    );
    thread::scope(|scope| {
        scope.spawn(move || {
            // A program that does not want all of its input closes the pipe, and says why by its exit code.
            io::copy(&mut input, &mut stdin).and_then(|_| stdin.flush()).ok();
        });
        let errors = scope.spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).ok();
            String::from_utf8_lossy(&text).into_owned()
        });
        let ended = scope.spawn(move || child.wait(limit));
        take(&mut stdout);
        drop(stdout);
        let code = ended.join().unwrap();
        let stderr = errors.join().unwrap();
        let code = code.unwrap_or_else(|| panic!("{shown} still runs after {limit:?}: {stderr}"));
        (code, stderr)
    })
}

/// A child process that does not outlive its owner.
#[derive(Debug)]
pub struct Ending(pub Child);

impl Ending {
    /// Starts a program that has nothing to read, and to whom nobody listens.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Self {
        for stream in [Command::stdin, Command::stdout, Command::stderr] {
            stream(&mut command, Stdio::null());
        }
        Self(command.spawn().unwrap())
    }

    /// Waits until it has ended and returns its exit code; when it has not after `limit`, it is killed and there is none.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn wait(&mut self, limit: Duration) -> Option<Option<i32>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status.code());
            }
            if Instant::now() >= deadline {
                self.kill();
                return None;
            }
            thread::sleep(POLL);
        }
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        // Fails only when it has ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.kill();
    }
}
