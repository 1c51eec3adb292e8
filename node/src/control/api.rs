//! The JSON that the two ends of the control interface exchange.
//!
//! Fields are only ever added; a reader ignores those that it does not know. `docs/control.md` describes them for other programs.

use serde::{Deserialize, Serialize};

/// Header that carries the JSON of a request whose body is a file.
pub const REQUEST_HEADER: &str = "warren-request";

/// `POST /v1/insert`, in [`REQUEST_HEADER`]; the body is the file.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InsertRequest {
    /// A private SSK with its document name, or a KSK; a CHK is made otherwise.
    pub key: Option<String>,
    /// Name to put at the end of a CHK.
    pub name: Option<String>,
    /// Media type to record.
    pub mime: Option<String>,
    /// Encrypt under a random key.
    pub unpredictable: bool,
    /// Store as it is.
    pub no_compress: bool,
}

/// `POST /v1/fetch`, in the body.
#[derive(Clone, Serialize, Deserialize)]
pub struct FetchRequest {
    /// The key.
    pub key: String,
    /// Seconds to wait for a file that is not there yet.
    #[serde(default)]
    pub wait: u64,
}

/// First frame of a fetch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileInfo {
    /// Bytes.
    pub size: u64,
    /// Media type, as the publisher declared it.
    pub mime: Option<String>,
}

/// A progress frame.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressReport {
    /// `starting`, `hashing`, `transferring` or `done`.
    pub phase: String,
    /// Bytes of the file that are through.
    pub bytes: u64,
    /// Bytes of the file, when known.
    pub total_bytes: Option<u64>,
    /// Blocks that are through.
    pub blocks: u64,
    /// Blocks that it takes, as far as known.
    pub total_blocks: u64,
    /// Blocks that failed, though others may stand in for them.
    pub failed_blocks: u64,
}

/// Last frame of an insert.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InsertDone {
    /// The key to fetch it by.
    pub key: String,
    /// Bytes inserted.
    pub size: u64,
}

/// Last frame of a fetch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FetchDone {
    /// Bytes handed out.
    pub size: u64,
}

/// `POST /v1/peers`
#[derive(Clone, Serialize, Deserialize)]
pub struct AddPeer {
    /// A node reference.
    pub reference: String,
}

/// An error frame, or the body of an answer whose status is not 200.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ErrorReport {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what happened and what to do.
    pub message: String,
}

/// Kinds of failure, as exit codes and HTTP answers tell them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Searched for and not found.
    NotFound,
    /// The network could not answer.
    Unreachable,
    /// Not a valid key, or not one for this purpose.
    BadKey,
    /// Another document is stored under the key.
    Collision,
    /// No node is running, or it cannot be reached.
    NoNode,
    /// Anything else.
    #[serde(other)]
    Failed,
}
