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
mod fetch;
mod insert;
mod passes;
mod progress;
mod source;
pub mod spool;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod work;

pub use content::{Content, ContentInfo, ContentSink, ContentStream};
pub use error::{FetchError, InsertError};
pub use progress::{Phase, Progress, Reporter};
pub use source::{ByteStream, Source};

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep_until, timeout},
};
use warren_keys::{InsertUri, Uri};
use warren_proto::time::Time;

use self::budget::Budget;
use crate::{clock::Clock, jobs::JobFactory};

/// Whole files in and out of the network.
pub trait Network: Clone + Send + Sync + 'static {
    /// Finds what a key names and reads its root: enough to know size, type and hash. The URI's path is ignored. A root that
    /// the network does not have yet is waited for so long; for [`Duration::ZERO`], not at all.
    ///
    /// # Errors
    /// [`FetchError`]. Dropping the future cancels.
    fn open(&self, uri: &Uri, wait: Duration) -> impl Future<Output = Result<Content, FetchError>> + Send;

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
    /// The key to fetch it by. A CHK has no file name.
    pub uri: Uri,
    /// Bytes of the file.
    pub size: u64,
}

/// The node's [`Network`]. Clones share one set of bounds.
#[derive(Clone)]
pub struct Client {
    jobs: JobFactory,
    clock: Clock,
    budget: Budget,
    /// Where temporary files are made.
    folder: Arc<PathBuf>,
    /// Number of linked nodes, if it is known.
    neighbours: Option<watch::Receiver<usize>>,
}

/// How long a job waits for the node's first link: a node that has just started finds one well within it.
const FIRST_LINK: Duration = Duration::from_secs(5);

impl Client {
    /// The client of a node. `folder` must exist; encrypted temporary files of uploads are made in it. One for each node, so that
    /// its bounds hold.
    #[must_use]
    pub fn new(jobs: JobFactory, folder: impl Into<PathBuf>) -> Self {
        Self {
            jobs,
            clock: Clock::start(),
            budget: Budget::new(),
            folder: Arc::new(folder.into()),
            neighbours: None,
        }
    }

    /// The same client, which says at once that it cannot answer while `neighbours`, the number of linked nodes, is zero.
    #[must_use]
    pub fn with_neighbours(self, neighbours: watch::Receiver<usize>) -> Self {
        Self {
            neighbours: Some(neighbours),
            ..self
        }
    }

    async fn is_linked(&self, wait: Duration) -> bool {
        let Some(mut neighbours) = self.neighbours.clone() else {
            return true;
        };
        let linked = neighbours.wait_for(|count| *count > 0);
        timeout(FIRST_LINK.max(wait), linked)
            .await
            .is_ok_and(|waited| waited.is_ok())
    }
}

impl Network for Client {
    async fn open(&self, uri: &Uri, wait: Duration) -> Result<Content, FetchError> {
        if !self.is_linked(wait).await {
            return Err(FetchError::NoLinks);
        }
        fetch::open(self, uri, wait).await
    }

    async fn insert(
        &self,
        source: Source,
        options: InsertOptions,
        progress: Reporter,
    ) -> Result<Inserted, InsertError> {
        if !self.is_linked(Duration::ZERO).await {
            return Err(InsertError::NoLinks);
        }
        insert::insert(self, source, options, progress).await
    }
}

/// Waits for a machine's timeout; for ever when it has none.
async fn until(clock: Clock, at: Option<Time>) {
    match at {
        Some(time) => sleep_until(clock.instant(time)).await,
        None => std::future::pending().await,
    }
}
