//! Inserting one file: the passes over its bytes, and an upload machine driven beside the second.
//!
//! Everything happens within the caller's future, so dropping it ends the insert.

use std::{collections::VecDeque, future::poll_fn, path::PathBuf, pin::Pin};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use warren_keys::{
    Seed,
    root::{KeyChoice, Mime},
    splitfile::{CodingError, EncodedSegment, FileKey},
    stream::StreamSummary,
};
use warren_proto::{
    client::upload::{Upload, UploadFailure, UploadOutput, UploadTarget},
    core::api::ClientEvent,
};

use super::{
    Client, InsertError, InsertKind, InsertOptions, Inserted, Phase, Reporter, Source,
    budget::WorkLost,
    passes::{FirstPass, SecondPass},
    source::ByteStream,
    until,
    work::Crew,
};
use crate::{
    jobs::{Job, NodeStopped},
    memory::Share,
};

/// Bytes of a stream that are gathered for one turn on a blocking thread.
const TURN: usize = 1 << 20;

/// Inserts `source`; returns when the network holds it.
pub(super) async fn insert(
    client: &Client,
    source: Source,
    options: InsertOptions,
    reporter: Reporter,
) -> Result<Inserted, InsertError> {
    let mime = options
        .mime
        .map(Mime::new)
        .transpose()
        .map_err(|error| InsertError::BadType(error.to_string()))?;
    reporter.update(|progress| progress.phase = Phase::Hashing);
    let compress = options.compress;
    let (expected, total, second) = match source {
        // No key follows from its bytes, so nobody has to know them all before.
        Source::Path(path) if options.unpredictable => {
            let opened = client.budget.run(move || SecondPass::only(&path, compress));
            let (only, len) = opened.await??;
            (None, len, only)
        }
        Source::Path(path) => {
            let (summary, second) = of_file(client, path, compress, &reporter).await?;
            (Some(summary), summary.stream_len, second)
        }
        Source::Stream(stream) => {
            let (summary, second) = of_stream(client, stream, compress, &reporter).await?;
            (Some(summary), summary.stream_len, second)
        }
    };
    // Late, so that a slow upload does not keep others waiting; and waiting itself, so that it was not for nothing.
    let _slot = client.budget.wait_for_job().await;
    let (key, target) = keys(options.kind, expected.filter(|_| !options.unpredictable))?;
    let job = client.jobs.open(false).await?;
    let memory = job.memory();
    let driver = Driver {
        upload: Upload::new(client.clock.now(), key, target, mime, expected),
        job,
        crew: Crew::new(client.budget.clone()),
        client,
        reporter,
        expected,
        total,
        size: 0,
        second: Some(Box::new(second)),
        pieces: VecDeque::new(),
        taken: Vec::new(),
        memory,
    };
    driver.run().await
}

/// The key follows from what it is given, or else is random.
fn keys(kind: InsertKind, from: Option<StreamSummary>) -> Result<(FileKey, UploadTarget), InsertError> {
    let (file, choice) = match from {
        None => (FileKey::unpredictable(seed()?), KeyChoice::Unpredictable(seed()?)),
        Some(summary) => (
            FileKey::reproducible(&summary.stream_hash, summary.stream_len),
            KeyChoice::Reproducible,
        ),
    };
    let target = match kind {
        InsertKind::Chk => UploadTarget::Chk(choice),
        InsertKind::Key(key) => UploadTarget::Named(key),
    };
    Ok((file, target))
}

fn seed() -> Result<Seed, InsertError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| InsertError::Internal(error.to_string()))?;
    Ok(Seed::from_bytes(bytes))
}

async fn of_file(
    client: &Client,
    path: PathBuf,
    compress: bool,
    reporter: &Reporter,
) -> Result<(StreamSummary, SecondPass), InsertError> {
    let opened = client
        .budget
        .run(move || FirstPass::of_file(&path, compress))
        .await?;
    let (mut pass, len) = opened?;
    reporter.update(|progress| progress.total_bytes = Some(len));
    loop {
        let more;
        (pass, more) = client
            .budget
            .run(move || {
                let more = pass.read();
                (pass, more)
            })
            .await?;
        reporter.update(|progress| progress.bytes = pass.plain_len());
        if !more? {
            return client.budget.run(move || pass.finish()).await?;
        }
    }
}

async fn of_stream(
    client: &Client,
    mut stream: ByteStream,
    compress: bool,
    reporter: &Reporter,
) -> Result<(StreamSummary, SecondPass), InsertError> {
    let mut pass = FirstPass::of_stream(&client.folder, compress);
    loop {
        let (bytes, ended) = gather(&mut stream).await?;
        let pushed;
        (pass, pushed) = client
            .budget
            .run(move || {
                let pushed = pass.push(&bytes);
                (pass, pushed)
            })
            .await?;
        pushed?;
        reporter.update(|progress| progress.bytes = pass.plain_len());
        if ended {
            return client.budget.run(move || pass.finish()).await?;
        }
    }
}

/// The next bytes of a stream, enough for a turn, and whether it ended with them.
async fn gather(stream: &mut ByteStream) -> Result<(BytesMut, bool), InsertError> {
    let mut gathered = BytesMut::new();
    while gathered.len() < TURN {
        match poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await {
            Some(piece) => gathered.extend_from_slice(&piece.map_err(InsertError::Source)?),
            None => return Ok((gathered, true)),
        }
    }
    Ok((gathered, false))
}

/// What runs on blocking threads.
enum Done {
    Encoded(Result<EncodedSegment, CodingError>),
    Read(Box<SecondPass>, Result<Vec<Bytes>, InsertError>),
}

struct Driver<'a> {
    upload: Upload,
    job: Job,
    crew: Crew<Done>,
    client: &'a Client,
    reporter: Reporter,
    /// Absent in a single pass.
    expected: Option<StreamSummary>,
    /// Bytes of stream to expect, for whoever watches.
    total: u64,
    /// Bytes of plaintext, once the stream has ended.
    size: u64,
    /// Absent while it is being read, and after its end.
    second: Option<Box<SecondPass>>,
    /// Read, not yet taken by the machine: one batch ahead.
    pieces: VecDeque<Bytes>,
    /// Taken by the machine: memory for the next batch.
    taken: Vec<Bytes>,
    memory: Share,
}

impl Driver<'_> {
    async fn run(mut self) -> Result<Inserted, InsertError> {
        let mut events = Vec::new();
        loop {
            if let Some(inserted) = self.drain().await? {
                return Ok(inserted);
            }
            let clock = self.client.clock;
            tokio::select! {
                result = self.job.events(&mut events) => {
                    result?;
                    for event in events.drain(..) {
                        if let ClientEvent::Inserted { op, result, .. } = event {
                            self.upload.inserted(clock.now(), op, result);
                        }
                    }
                }
                done = self.crew.next() => self.done(done?)?,
                () = until(clock, self.upload.poll_timeout()) => self.upload.handle_timeout(clock.now()),
            }
        }
    }

    /// Feeds the machine and does what it wants; the result when it has ended.
    async fn drain(&mut self) -> Result<Option<Inserted>, InsertError> {
        loop {
            while let Some(output) = self.upload.poll_output() {
                match output {
                    UploadOutput::Bulk => self.job.set_bulk().await?,
                    UploadOutput::Encode(segment) => {
                        self.crew.begin(move |coder| Done::Encoded(segment.encode(coder)));
                    }
                    UploadOutput::Insert {
                        op,
                        block,
                        exits,
                        read_back,
                    } => {
                        self.job.insert(op, block, exits, read_back).await?;
                    }
                    UploadOutput::Done(uploaded) => {
                        self.report(Phase::Done);
                        return Ok(Some(Inserted {
                            uri: uploaded.uri,
                            size: self.size,
                        }));
                    }
                    UploadOutput::Failed(why) => return Err(why.into()),
                }
            }
            self.report(Phase::Transferring);
            let ready: usize = self.pieces.iter().map(Bytes::len).sum();
            // What is read ahead is what two segments take; there is nothing to give up.
            self.memory.set(self.upload.memory() + ready);
            if self.upload.wants() == 0 {
                break;
            }
            let Some(piece) = self.pieces.pop_front() else {
                break;
            };
            self.upload.stream(self.client.clock.now(), &piece);
            self.taken.push(piece);
        }
        if self.pieces.is_empty()
            && let Some(mut second) = self.second.take()
        {
            let taken = std::mem::take(&mut self.taken);
            self.crew.begin(move |_| {
                taken.into_iter().for_each(|piece| second.recycle(piece));
                let batch = second.batch();
                Done::Read(second, batch)
            });
        }
        Ok(None)
    }

    fn done(&mut self, done: Done) -> Result<(), InsertError> {
        let now = self.client.clock.now();
        match done {
            Done::Encoded(encoded) => {
                let encoded = encoded.map_err(|error| InsertError::Internal(error.to_string()))?;
                self.upload.encoded(now, encoded);
            }
            Done::Read(second, batch) => {
                let batch = batch?;
                if batch.is_empty() {
                    let measured = self.expected.or_else(|| second.measured());
                    let summary = measured.ok_or(InsertError::Internal("no measures".to_owned()))?;
                    self.size = summary.size;
                    self.upload.end(now, &summary);
                } else {
                    self.pieces.extend(batch);
                    self.second = Some(second);
                }
            }
        }
        Ok(())
    }

    fn report(&self, phase: Phase) {
        let now = self.upload.progress();
        self.reporter.update(|progress| {
            progress.phase = phase;
            progress.bytes = now.bytes;
            progress.total_bytes = Some(self.total.max(now.bytes));
            progress.blocks = now.blocks;
            progress.total_blocks = now.total_blocks;
            progress.failed_blocks = now.failed_blocks;
        });
    }
}

impl From<NodeStopped> for InsertError {
    fn from(_: NodeStopped) -> Self {
        Self::Cancelled
    }
}

impl From<WorkLost> for InsertError {
    fn from(_: WorkLost) -> Self {
        Self::Internal("a piece of work did not end".to_owned())
    }
}

impl From<UploadFailure> for InsertError {
    fn from(why: UploadFailure) -> Self {
        match why {
            UploadFailure::Collision(_) => Self::Collision,
            UploadFailure::Unreachable => Self::Unreachable,
            UploadFailure::Changed => Self::Changed,
            UploadFailure::Encoder(_) | UploadFailure::Splitfile(_) | UploadFailure::Root(_) => {
                Self::Internal(why.to_string())
            }
        }
    }
}
