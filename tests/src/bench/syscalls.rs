//! System calls of a process, all threads: the kernel's own count (tracepoint `raw_syscalls:sys_enter`), read through `perf stat`.
//!
//! `/proc/PID/io` would be simpler, and wrong: it leaves out sockets, timers and wake-ups. `strace` counts all, at a cost that changes what
//! is measured. Where `perf` is missing or not permitted there is no figure.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

const EVENT: &str = "raw_syscalls:sys_enter";

/// A count that runs.
pub(super) struct Syscalls {
    perf: Child,
    control: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Syscalls {
    /// Begins to count; none when the machine does not permit it.
    #[must_use]
    pub(super) fn count(process: u32) -> Option<Self> {
        // Off at first, and told to begin: else it could not be known when it has.
        let mut perf = Command::new("perf")
            .args([
                "stat",
                "-x,",
                "-D",
                "-1",
                "--control",
                "fd:0,1",
                "-e",
                EVENT,
                "-p",
            ])
            .arg(process.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let (control, answers) = (perf.stdin.take()?, BufReader::new(perf.stdout.take()?));
        let mut counting = Self {
            perf,
            control,
            answers,
        };
        counting.tell("enable").then_some(counting)
    }

    /// What was counted.
    #[must_use]
    pub(super) fn stop(mut self) -> Option<u64> {
        if !self.tell("disable") {
            return None;
        }
        kill_process(Pid::from_child(&self.perf), Signal::INT).ok()?;
        let mut text = String::new();
        self.perf.stderr.take()?.read_to_string(&mut text).ok()?;
        parse(&text)
    }

    fn tell(&mut self, what: &str) -> bool {
        let mut answer = String::new();
        writeln!(self.control, "{what}").is_ok()
            && self.answers.read_line(&mut answer).is_ok()
            && answer.contains("ack")
    }
}

impl Drop for Syscalls {
    fn drop(&mut self) {
        // It has ended when it was told to.
        self.perf.kill().ok();
        self.perf.wait().ok();
    }
}

fn parse(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(EVENT))?;
    line.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_perf_writes() {
        let text = "Events disabled\nEvents enabled\n1006,,raw_syscalls:sys_enter,427137,100.00,,\n";
        assert_eq!(parse(text), Some(1006));
        assert_eq!(
            parse("<not supported>,,raw_syscalls:sys_enter,0,100.00,,\n"),
            None
        );
    }
}
