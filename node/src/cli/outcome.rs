//! How commands end: an exit code that means something, and one sentence that says what to do.

use std::{fmt::Display, io, process::ExitCode};

use crate::control::api::{ErrorCode, ErrorReport};

/// Why a command did not do what it was asked to.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// For people.
    pub message: String,
}

/// Exit codes of the program, part of its interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Anything that has no code of its own.
    Failed = 1,
    /// The command line makes no sense. `clap` uses the same code.
    Usage = 2,
    /// The network was searched.
    NotFound = 3,
    /// The network could not answer.
    Unreachable = 4,
    /// No node is running.
    NoNode = 5,
    /// Not a valid key.
    BadKey = 6,
    /// Another document is stored under the key.
    Collision = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Failure {
    /// A failure without a code of its own.
    pub fn new(message: impl Display) -> Self {
        Self {
            exit: Exit::Failed,
            message: message.to_string(),
        }
    }

    /// A command line that makes no sense.
    pub fn usage(message: impl Display) -> Self {
        Self {
            exit: Exit::Usage,
            message: message.to_string(),
        }
    }

    /// A failed operation on something that has a name.
    pub fn io(what: impl Display, error: &io::Error) -> Self {
        Self::new(format!("{what}: {error}"))
    }

    /// Name of the kind for `--json`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self.exit {
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::NotFound => "not_found",
            Exit::Unreachable => "unreachable",
            Exit::NoNode => "no_node",
            Exit::BadKey => "bad_key",
            Exit::Collision => "collision",
        }
    }
}

impl From<ErrorReport> for Failure {
    fn from(report: ErrorReport) -> Self {
        let exit = match report.code {
            ErrorCode::NotFound => Exit::NotFound,
            ErrorCode::Unreachable => Exit::Unreachable,
            ErrorCode::BadKey => Exit::BadKey,
            ErrorCode::Collision => Exit::Collision,
            ErrorCode::NoNode => Exit::NoNode,
            ErrorCode::Failed => Exit::Failed,
        };
        Self {
            exit,
            message: report.message,
        }
    }
}
