//! What the local user of a node can ask for.

use std::time::Duration;

use warren_keys::{Block, BlockId, Uri, root::KeyChoice, splitfile::FileKey};
use warren_proto::{
    client::{Download, DownloadFailure, UploadFailure, UploadTarget, Uploaded},
    core::api::{ClientCommand, FetchFailure, InsertFailure},
    crypto::Aead,
    ids::{JobId, OpId},
};

use super::{BlockEnd, FileEnd, Net, node::Input};

/// Longer than any operation on a block may take (45 and 120 s).
const BLOCK_TIME: Duration = Duration::from_secs(300);
/// Longer than any file of these tests takes, retries included.
const FILE_TIME: Duration = Duration::from_secs(1800);

/// A block operation that has been begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockOp {
    node: usize,
    /// The job that it belongs to.
    pub job: JobId,
    op: OpId,
}

/// A file's job that has been begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileJob {
    node: usize,
    job: JobId,
}

impl<A: Aead> Net<A> {
    fn command(&mut self, node: usize, command: ClientCommand) {
        self.input(node, Input::Client(command));
    }

    /// Opens a job for single blocks.
    pub fn open_job(&mut self, node: usize) -> JobId {
        let job = self.nodes[node].jobs.blocks();
        self.command(node, ClientCommand::OpenJob { job, bulk: false });
        job
    }

    /// Opens a job for many blocks.
    pub fn open_bulk_job(&mut self, node: usize) -> JobId {
        let job = self.nodes[node].jobs.blocks();
        self.command(node, ClientCommand::OpenJob { job, bulk: true });
        job
    }

    /// Ends a job.
    pub fn close_job(&mut self, node: usize, job: JobId) {
        self.nodes[node].jobs.close(job);
        self.command(node, ClientCommand::CloseJob(job));
    }

    /// Begins to fetch a block for a job. `op` is unique in it.
    pub fn begin_fetch(&mut self, node: usize, job: JobId, op: u64, block: BlockId) -> BlockOp {
        let op = OpId(op);
        self.command(
            node,
            ClientCommand::Fetch {
                job,
                op,
                block,
                expendable: false,
                wait: Duration::ZERO,
            },
        );
        BlockOp { node, job, op }
    }

    /// Begins to fetch a block for a job of its own, and to wait so long for it if it is not there yet.
    pub fn begin_wait(&mut self, node: usize, block: BlockId, wait: Duration) -> BlockOp {
        let (job, op) = (self.open_job(node), OpId(1));
        let fetch = ClientCommand::Fetch {
            job,
            op,
            block,
            expendable: false,
            wait,
        };
        self.command(node, fetch);
        BlockOp { node, job, op }
    }

    /// Begins to insert a block for a job, through so many exits.
    pub fn begin_insert(&mut self, node: usize, job: JobId, op: u64, block: Block, exits: u8) -> BlockOp {
        let op = OpId(op);
        self.command(
            node,
            ClientCommand::Insert {
                job,
                op,
                block,
                exits,
                read_back: exits > 1,
            },
        );
        BlockOp { node, job, op }
    }

    /// How an operation ended, if it has. Each end is given once.
    pub fn end_of(&mut self, op: BlockOp) -> Option<BlockEnd> {
        self.nodes[op.node].jobs.take_block(op.job, op.op)
    }

    /// Runs until an operation has ended.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait(&mut self, op: BlockOp) -> BlockEnd {
        let mut end = None;
        self.run_until(BLOCK_TIME, |net| {
            end = net.end_of(op);
            end.is_some()
        });
        end.expect("every operation ends")
    }

    /// Fetches a block in a job of its own.
    ///
    /// # Errors
    /// As the operation ends.
    pub fn fetch(&mut self, node: usize, block: BlockId) -> Result<Block, FetchFailure> {
        let job = self.open_job(node);
        let op = self.begin_fetch(node, job, 1, block);
        let end = self.wait(op);
        self.close_job(node, job);
        match end {
            BlockEnd::Fetched(result) => result,
            BlockEnd::Inserted(_) => unreachable!("a fetch was begun"),
        }
    }

    /// Inserts a block in a job of its own, through so many exits.
    ///
    /// # Errors
    /// As the operation ends.
    pub fn insert(&mut self, node: usize, block: Block, exits: u8) -> Result<u8, InsertFailure> {
        let job = self.open_job(node);
        let op = self.begin_insert(node, job, 1, block, exits);
        let end = self.wait(op);
        self.close_job(node, job);
        match end {
            BlockEnd::Inserted(result) => result,
            BlockEnd::Fetched(_) => unreachable!("an insert was begun"),
        }
    }

    /// Begins to fetch a file.
    ///
    /// # Panics
    /// When the URI has no valid address, which no known URI has.
    pub fn begin_download(&mut self, node: usize, uri: &Uri) -> FileJob {
        let machine = Download::new(self.now, uri).expect("a valid address");
        let (job, commands) = self.nodes[node].jobs.download(self.now, machine);
        self.begin_file(node, job, commands)
    }

    /// Begins to insert a file. Without a key of its own, the file's follows from its content.
    pub fn begin_upload(
        &mut self,
        node: usize,
        plain: &[u8],
        key: Option<FileKey>,
        target: UploadTarget,
    ) -> FileJob {
        let (job, commands) = self.nodes[node].jobs.upload(self.now, plain, key, target);
        self.begin_file(node, job, commands)
    }

    /// Begins to fetch a file, and to wait so long for its root if it is not there yet.
    ///
    /// # Panics
    /// As [`Net::begin_download`].
    pub fn begin_waiting_download(&mut self, node: usize, uri: &Uri, wait: Duration) -> FileJob {
        let machine = Download::new(self.now, uri)
            .expect("a valid address")
            .waiting(self.now + wait);
        let (job, commands) = self.nodes[node].jobs.download(self.now, machine);
        self.begin_file(node, job, commands)
    }

    fn begin_file(&mut self, node: usize, job: JobId, commands: Vec<ClientCommand>) -> FileJob {
        self.command(node, ClientCommand::OpenJob { job, bulk: false });
        commands
            .into_iter()
            .for_each(|command| self.command(node, command));
        FileJob { node, job }
    }

    /// Blocks that a file's job is through with, and those it knows of.
    #[must_use]
    pub fn progress(&self, job: FileJob) -> (u64, u64) {
        self.nodes[job.node].jobs.progress(job.job)
    }

    /// The bytes that a download has handed over so far.
    #[must_use]
    pub fn received(&self, job: FileJob) -> &[u8] {
        self.nodes[job.node].jobs.received(job.job)
    }

    /// Runs until a file's job has ended, and closes it.
    ///
    /// # Panics
    /// When it does not end.
    pub fn finish(&mut self, job: FileJob) -> FileEnd {
        let mut end = None;
        self.run_until(FILE_TIME, |net| {
            end = net.nodes[job.node].jobs.take_file(job.job);
            end.is_some()
        });
        self.close_job(job.node, job.job);
        end.expect("every job ends")
    }

    /// Fetches a file.
    ///
    /// # Errors
    /// As the download ends.
    pub fn download(&mut self, node: usize, uri: &Uri) -> Result<Vec<u8>, DownloadFailure> {
        let job = self.begin_download(node, uri);
        match self.finish(job) {
            FileEnd::Fetched(result) => result,
            FileEnd::Inserted(_) => unreachable!("a download was begun"),
        }
    }

    /// Inserts a file under a reproducible key.
    ///
    /// # Errors
    /// As the upload ends.
    pub fn upload(&mut self, node: usize, plain: &[u8]) -> Result<Uploaded, UploadFailure> {
        let target = UploadTarget::Chk(KeyChoice::Reproducible);
        let job = self.begin_upload(node, plain, None, target);
        match self.finish(job) {
            FileEnd::Inserted(result) => result.map(|uploaded| *uploaded),
            FileEnd::Fetched(_) => unreachable!("an upload was begun"),
        }
    }
}
