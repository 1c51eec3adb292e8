//! How far a fetch or an insert is, for progress bars and the queue page.

use tokio::sync::watch;

/// What a job is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phase {
    /// Waiting for its turn, or for the root block.
    #[default]
    Starting,
    /// Reading the source once to derive its key (inserts only).
    Hashing,
    /// Blocks are on their way.
    Transferring,
    /// All done.
    Done,
}

/// A snapshot of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Bytes of the file that are through: handed to the reader, or read from the source.
    pub bytes: u64,
    /// Bytes of the whole file, or of the range asked for, once known.
    pub total_bytes: Option<u64>,
    /// Blocks fetched or inserted.
    pub blocks: u64,
    /// Blocks that it takes, as far as known; grows while manifests are read. Fetches may end below it.
    pub total_blocks: u64,
    /// Blocks that failed so far, though others may stand in for them.
    pub failed_blocks: u64,
}

/// The end of a progress report that a job writes to. Reports overwrite each other: a slow reader sees the latest.
#[derive(Debug)]
pub struct Reporter(watch::Sender<Progress>);

impl Reporter {
    /// A report and its reader.
    #[must_use]
    pub fn new() -> (Self, watch::Receiver<Progress>) {
        let (sender, receiver) = watch::channel(Progress::default());
        (Self(sender), receiver)
    }

    /// A report that nobody reads.
    #[must_use]
    pub fn ignored() -> Self {
        Self::new().0
    }

    /// Changes the report and wakes its readers.
    pub fn update(&self, change: impl FnOnce(&mut Progress)) {
        self.0.send_modify(change);
    }
}
