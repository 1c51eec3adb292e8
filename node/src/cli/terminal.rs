//! What the commands print: results on standard output, progress and remarks on standard error.
//!
//! With `--json` each result and each progress report is one JSON value a line, on the same two streams; otherwise results are text
//! and progress is a bar, shown only where standard error is a terminal.
#![expect(clippy::print_stderr, reason = "this module is where the program prints")]

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::Failure;
use crate::control::api::ProgressReport;

/// Where a command prints to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    /// Whether to print JSON.
    pub(super) json: bool,
}

impl Terminal {
    /// Prints a result: the value for programs, the text for people.
    pub(super) fn result(self, value: &impl Serialize, text: &str) {
        self.line(io::stdout().lock(), value, text);
    }

    /// Prints something that is not the result: for programs as JSON, for people as a sentence.
    pub(super) fn remark(self, value: &impl Serialize, text: &str) {
        self.line(io::stderr().lock(), value, text);
    }

    /// Prints why a command failed.
    pub(super) fn failure(self, failure: &Failure) {
        let value = serde_json::json!({ "error": { "code": failure.code(), "message": failure.message } });
        self.remark(&value, &format!("warren: {failure}"));
    }

    fn line(self, mut to: impl Write, value: &impl Serialize, text: &str) {
        let line = if self.json {
            serde_json::to_string(value).unwrap_or_default()
        } else {
            text.to_owned()
        };
        // A reader that has gone (a closed pipe) has seen what it wanted.
        writeln!(to, "{line}").ok();
    }

    /// Begins to show the progress of a transfer.
    #[must_use]
    pub(super) fn transfer(self, verb: &'static str) -> TransferBar {
        TransferBar::new(self.json, verb)
    }

    /// Asks for a passphrase without showing it.
    ///
    /// # Errors
    /// When there is no terminal to ask on.
    pub(super) fn passphrase(self, prompt: &str) -> Result<zeroize::Zeroizing<String>, Failure> {
        rpassword::prompt_password(format!("{prompt}: "))
            .map(zeroize::Zeroizing::new)
            .map_err(|error| {
                Failure::new(format!(
                    "cannot ask for the passphrase ({error}); set WARREN_PASSPHRASE instead"
                ))
            })
    }

    /// Asks a question and returns the answer's line, trimmed; empty when there is nobody to ask.
    ///
    /// # Errors
    /// When standard input cannot be read.
    pub(super) fn ask(self, question: &str) -> Result<String, Failure> {
        eprint!("{question} ");
        io::stderr().flush().ok();
        let mut answer = String::new();
        io::stdin()
            .read_line(&mut answer)
            .map_err(|error| Failure::io("standard input", &error))?;
        Ok(answer.trim().to_owned())
    }

    /// Whether somebody is there to answer questions.
    #[must_use]
    pub(super) fn is_interactive(self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }
}

/// Progress of one transfer.
pub(super) struct TransferBar {
    json: bool,
    verb: &'static str,
    bar: ProgressBar,
}

impl TransferBar {
    fn new(json: bool, verb: &'static str) -> Self {
        let target = if !json && io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::default_spinner());
        bar.set_message("looking for a way through the network");
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { json, verb, bar }
    }

    /// Shows a report.
    pub(super) fn report(&self, report: &ProgressReport) {
        if self.json {
            // Progress that cannot be written is not missed.
            let line = serde_json::to_string(&serde_json::json!({ "progress": report })).unwrap_or_default();
            writeln!(io::stderr().lock(), "{line}").ok();
            return;
        }
        if let Some(total) = report.total_bytes.filter(|_| self.bar.length().is_none()) {
            self.bar.set_length(total);
            let template = "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style);
            }
        }
        self.bar.set_position(report.bytes);
        let missing = if report.failed_blocks > 0 {
            format!(", {} missing", report.failed_blocks)
        } else {
            String::new()
        };
        let blocks = format!("{} of {} blocks{missing}", report.blocks, report.total_blocks);
        self.bar.set_message(match report.phase.as_str() {
            "starting" => "looking for a way through the network".to_owned(),
            "hashing" => "reading".to_owned(),
            _ => format!("{}, {blocks}", self.verb),
        });
    }
}

impl Drop for TransferBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
