//! What the local user of a node has open: single blocks, and files.
//!
//! The machines of files are driven as the daemon drives them, but for their byte work, which is done on the spot and takes
//! no simulated time.

use std::collections::BTreeMap;

use bytes::BytesMut;
use warren_keys::{
    Block,
    splitfile::{Coder, FileKey},
    stream::{StreamSummary, StreamWriter, choose_compression},
};
use warren_proto::{
    client::{
        Download, DownloadFailure, DownloadOutput, Upload, UploadFailure, UploadOutput, UploadTarget,
        Uploaded,
    },
    core::api::{ClientCommand, ClientEvent, FetchFailure, InsertFailure},
    ids::{JobId, OpId},
    time::Time,
};

/// How a single block's operation ended.
#[derive(Debug)]
pub enum BlockEnd {
    /// A fetch.
    Fetched(Result<Block, FetchFailure>),
    /// An insert.
    Inserted(Result<u8, InsertFailure>),
}

/// How a file's job ended.
#[derive(Debug)]
pub enum FileEnd {
    /// A fetch, with the bytes.
    Fetched(Result<Vec<u8>, DownloadFailure>),
    /// An insert.
    Inserted(Result<Box<Uploaded>, UploadFailure>),
}

enum Job {
    Blocks(BTreeMap<OpId, BlockEnd>),
    Download(Box<Fetching>),
    Upload(Box<Inserting>),
}

struct Fetching {
    machine: Download,
    got: Vec<u8>,
    end: Option<Result<(), DownloadFailure>>,
}

struct Inserting {
    machine: Upload,
    rest: BytesMut,
    summary: StreamSummary,
    told: bool,
    end: Option<Result<Box<Uploaded>, UploadFailure>>,
}

/// All jobs of a node.
#[derive(Default)]
pub(super) struct Jobs {
    jobs: BTreeMap<JobId, Job>,
    last: u64,
    coder: Coder,
}

impl Jobs {
    fn add(&mut self, job: Job) -> JobId {
        self.last += 1;
        self.jobs.insert(JobId(self.last), job);
        JobId(self.last)
    }

    pub(super) fn blocks(&mut self) -> JobId {
        self.add(Job::Blocks(BTreeMap::new()))
    }

    pub(super) fn download(&mut self, now: Time, mut machine: Download) -> (JobId, Vec<ClientCommand>) {
        machine.read(now, 0..u64::MAX);
        let job = self.add(Job::Download(Box::new(Fetching {
            machine,
            got: Vec::new(),
            end: None,
        })));
        (job, self.drive(now, job))
    }

    pub(super) fn upload(
        &mut self,
        now: Time,
        plain: &[u8],
        key: Option<FileKey>,
        target: UploadTarget,
    ) -> (JobId, Vec<ClientCommand>) {
        let compression = choose_compression(plain).expect("zstd works");
        let mut writer = StreamWriter::new(compression).expect("zstd works");
        let mut rest = BytesMut::new();
        writer.push(plain, &mut rest).expect("zstd works");
        let summary = writer.finish(&mut rest).expect("zstd works");
        let expected = key.is_none().then_some(summary);
        let key = key.unwrap_or_else(|| FileKey::reproducible(&summary.stream_hash, summary.stream_len));
        let job = self.add(Job::Upload(Box::new(Inserting {
            machine: Upload::new(now, key, target, None, expected),
            rest,
            summary,
            told: false,
            end: None,
        })));
        (job, self.drive(now, job))
    }

    /// An operation of a job ended. Gives what the core is to do next.
    pub(super) fn event(&mut self, now: Time, event: ClientEvent) -> Vec<ClientCommand> {
        let (ClientEvent::Fetched { job, op, .. } | ClientEvent::Inserted { job, op, .. }) = &event;
        let (job, op) = (*job, *op);
        match (self.jobs.get_mut(&job), event) {
            (Some(Job::Blocks(ends)), ClientEvent::Fetched { result, .. }) => {
                ends.insert(op, BlockEnd::Fetched(result));
            }
            (Some(Job::Blocks(ends)), ClientEvent::Inserted { result, .. }) => {
                ends.insert(op, BlockEnd::Inserted(result));
            }
            (Some(Job::Download(job)), ClientEvent::Fetched { result, .. }) => {
                job.machine.fetched(now, op, result);
            }
            (Some(Job::Download(job)), ClientEvent::Inserted { result, .. }) => {
                job.machine.healed(now, op, &result);
            }
            (Some(Job::Upload(job)), ClientEvent::Inserted { result, .. }) => {
                job.machine.inserted(now, op, result);
            }
            (Some(Job::Upload(_)), ClientEvent::Fetched { .. }) | (None, _) => {}
        }
        self.drive(now, job)
    }

    pub(super) fn wake(&mut self, now: Time, job: JobId) -> Vec<ClientCommand> {
        match self.jobs.get_mut(&job) {
            Some(Job::Download(job)) => job.machine.handle_timeout(now),
            Some(Job::Upload(job)) => job.machine.handle_timeout(now),
            Some(Job::Blocks(_)) | None => {}
        }
        self.drive(now, job)
    }

    pub(super) fn timeouts(&self) -> Vec<(JobId, Time)> {
        let due = |job: &Job| match job {
            Job::Blocks(_) => None,
            Job::Download(job) => job.machine.poll_timeout(),
            Job::Upload(job) => job.machine.poll_timeout(),
        };
        self.jobs
            .iter()
            .filter_map(|(id, job)| Some((*id, due(job)?)))
            .collect()
    }

    pub(super) fn take_block(&mut self, job: JobId, op: OpId) -> Option<BlockEnd> {
        match self.jobs.get_mut(&job) {
            Some(Job::Blocks(ends)) => ends.remove(&op),
            _ => None,
        }
    }

    /// How a file's job ended, if it has.
    pub(super) fn take_file(&mut self, job: JobId) -> Option<FileEnd> {
        match self.jobs.get_mut(&job) {
            Some(Job::Download(job)) => {
                let end = job.end.take()?;
                let got = std::mem::take(&mut job.got);
                Some(FileEnd::Fetched(end.map(|()| got)))
            }
            Some(Job::Upload(job)) => job.end.take().map(FileEnd::Inserted),
            Some(Job::Blocks(_)) | None => None,
        }
    }

    /// Bytes that a download has handed over so far.
    pub(super) fn received(&self, job: JobId) -> &[u8] {
        match self.jobs.get(&job) {
            Some(Job::Download(job)) => &job.got,
            _ => &[],
        }
    }

    /// Blocks that a file's job has fetched or inserted so far, and how many it knows of.
    pub(super) fn progress(&self, job: JobId) -> (u64, u64) {
        match self.jobs.get(&job) {
            Some(Job::Download(job)) => {
                let progress = job.machine.progress();
                (progress.blocks, progress.total_blocks)
            }
            Some(Job::Upload(job)) => {
                let progress = job.machine.progress();
                (progress.blocks, progress.total_blocks)
            }
            Some(Job::Blocks(_)) | None => (0, 0),
        }
    }

    pub(super) fn close(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }

    /// Does what a file's machine wants, and gives what the core has to do.
    fn drive(&mut self, now: Time, id: JobId) -> Vec<ClientCommand> {
        match self.jobs.get_mut(&id) {
            Some(Job::Download(job)) => job.drive(now, id, &mut self.coder),
            Some(Job::Upload(job)) => job.drive(now, id, &mut self.coder),
            Some(Job::Blocks(_)) | None => Vec::new(),
        }
    }
}

impl Fetching {
    fn drive(&mut self, now: Time, job: JobId, coder: &mut Coder) -> Vec<ClientCommand> {
        let mut commands = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            match output {
                DownloadOutput::Opened => {}
                DownloadOutput::Bulk => commands.push(ClientCommand::SetBulk(job)),
                DownloadOutput::Fetch {
                    op,
                    block,
                    expendable,
                    wait,
                } => {
                    commands.push(ClientCommand::Fetch {
                        job,
                        op,
                        block,
                        expendable,
                        wait,
                    });
                }
                DownloadOutput::Work(work) => {
                    let done = work.run(coder);
                    self.machine.worked(now, done);
                }
                DownloadOutput::Data { offset, bytes } => {
                    assert_eq!(offset, self.got.len() as u64, "bytes come in order");
                    self.got.extend_from_slice(&bytes);
                    self.machine.consumed(now, bytes.len() as u64);
                }
                DownloadOutput::Heal { op, block } => commands.push(ClientCommand::Insert {
                    job,
                    op,
                    block,
                    exits: 1,
                    read_back: false,
                }),
                DownloadOutput::Done => self.end = Some(Ok(())),
                DownloadOutput::Failed(why) => self.end = Some(Err(why)),
            }
        }
        commands
    }
}

impl Inserting {
    fn drive(&mut self, now: Time, job: JobId, coder: &mut Coder) -> Vec<ClientCommand> {
        let mut commands = Vec::new();
        loop {
            while let Some(output) = self.machine.poll_output() {
                match output {
                    UploadOutput::Bulk => commands.push(ClientCommand::SetBulk(job)),
                    UploadOutput::Encode(segment) => {
                        let encoded = segment.encode(coder).expect("a segment can be encoded");
                        self.machine.encoded(now, encoded);
                    }
                    UploadOutput::Insert {
                        op,
                        block,
                        exits,
                        read_back,
                    } => commands.push(ClientCommand::Insert {
                        job,
                        op,
                        block,
                        exits,
                        read_back,
                    }),
                    UploadOutput::Done(uploaded) => self.end = Some(Ok(uploaded)),
                    UploadOutput::Failed(why) => self.end = Some(Err(why)),
                }
            }
            let wants = self.machine.wants().min(self.rest.len());
            if wants > 0 {
                let portion = self.rest.split_to(wants);
                self.machine.stream(now, &portion);
            } else if self.rest.is_empty() && !self.told {
                self.told = true;
                self.machine.end(now, &self.summary);
            } else {
                return commands;
            }
        }
    }
}
