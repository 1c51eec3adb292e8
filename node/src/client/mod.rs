//! Fetching and inserting whole files, for the HTTP proxy, the control interface and the command line.
//!
//! [`Network`] is what they are written against; [`Client`] is the node's implementation. It drives one download or upload
//! machine of the protocol for each job, moves the byte work (hashing, compression, erasure code, ciphers) to blocking
//! threads, and keeps memory bounded however large the file is.
//!
//! Invariants: a reader never gets an unverified byte; a job ends, and lets go of its circuits and memory, when whoever
//! asked for it drops the future or the stream; no plaintext is ever written to disk.
//!
//! Deliberately not here: which block is asked for when (the machines decide), which circuit carries it (the core), and
//! queues that outlive the process.

mod budget;
mod content;
mod error;
mod passes;
mod progress;
mod source;
pub mod spool;

pub use content::{Content, ContentInfo, ContentSink, ContentStream};
pub use error::{FetchError, InsertError};
pub use progress::{Phase, Progress, Reporter};
pub use source::{ByteStream, Source};

use warren_keys::{InsertUri, Uri};

/// Whole files in and out of the network.
pub trait Network: Clone + Send + Sync + 'static {
    /// Finds what a key names and reads its root: enough to know size, type and hash. The URI's path is ignored.
    ///
    /// # Errors
    /// [`FetchError`]. Dropping the future cancels.
    fn open(&self, uri: &Uri) -> impl Future<Output = Result<Content, FetchError>> + Send;

    /// Inserts a file and returns when the network holds it.
    ///
    /// # Errors
    /// [`InsertError`]. Dropping the future cancels; blocks already inserted stay in the network.
    fn insert(
        &self,
        source: Source,
        options: InsertOptions,
        progress: Reporter,
    ) -> impl Future<Output = Result<Inserted, InsertError>> + Send;
}

/// Under what kind of key to insert.
#[derive(Clone, Debug, Default)]
pub enum InsertKind {
    /// The key follows from the content.
    #[default]
    Chk,
    /// A document of the holder of a private key, or the words of a KSK.
    Key(Box<InsertUri>),
}

/// How to insert.
#[derive(Clone, Debug)]
pub struct InsertOptions {
    /// Under what key.
    pub kind: InsertKind,
    /// Media type to record in the root.
    pub mime: Option<String>,
    /// Encrypt under a random key: whoever has the same file cannot tell that it was inserted, and the same file gets another
    /// CHK each time.
    pub unpredictable: bool,
    /// Compress where that helps.
    pub compress: bool,
}

impl Default for InsertOptions {
    fn default() -> Self {
        Self {
            kind: InsertKind::Chk,
            mime: None,
            unpredictable: false,
            compress: true,
        }
    }
}

/// A file that the network holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inserted {
    /// The key to fetch it by, without a file name.
    pub uri: Uri,
    /// Bytes of the file.
    pub size: u64,
}
