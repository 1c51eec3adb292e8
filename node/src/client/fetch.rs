//! Fetching one file: drives a download machine in a task of its own.
//!
//! The task lives from [`open`](super::Client) until the file is through (and what was found missing is healed), or until
//! the reader has gone. It hands bytes over one piece at a time and tells the machine when they are taken, so a slow reader holds the
//! download back and not the memory full.

use std::{collections::VecDeque, ops::Range, time::Duration};

use bytes::Bytes;
use tokio::sync::oneshot;
use warren_keys::Uri;
use warren_proto::{
    client::download::{Download, DownloadFailure, DownloadOutput, Worked},
    core::api::ClientEvent,
};

use super::{
    Client, Content, ContentInfo, ContentSink, ContentStream, FetchError, Phase, Reporter,
    budget::{Budget, JobSlot, WorkLost},
    until,
    work::Crew,
};
use crate::{
    clock::Clock,
    jobs::{Job, NodeStopped},
    memory::Share,
};

/// Pieces on their way to the reader beside those that the machine counts: it hands over a MiB at most at a time.
const PIECES_AHEAD: usize = 2;

/// What the reader asks the task for, once.
struct Order {
    range: Range<u64>,
    sink: ContentSink,
}

/// Begins a fetch and waits for its root.
pub(super) async fn open(client: &Client, uri: &Uri, wait: Duration) -> Result<Content, FetchError> {
    let waits = !wait.is_zero();
    let slot = if waits {
        client.budget.waiting()
    } else {
        client.budget.job()
    };
    let slot = slot.ok_or(FetchError::Busy)?;
    let clock = client.clock;
    let mut download =
        Download::new(clock.now(), uri).map_err(|error| FetchError::BadKey(error.to_string()))?;
    if waits {
        download = download.waiting(clock.now() + wait);
    }
    let job = client.jobs.open(false).await?;
    let memory = job.memory();
    let (reporter, progress) = Reporter::new();
    let (tell_root, root) = oneshot::channel();
    let (order, ordered) = oneshot::channel();
    let task = Task {
        download,
        job,
        crew: Crew::new(client.budget.clone()),
        budget: client.budget.clone(),
        clock,
        reporter,
        tell_root: Some(tell_root),
        ordered: Some(ordered),
        sink: None,
        pieces: VecDeque::new(),
        ended: None,
        memory,
        waits,
        slot,
    };
    tokio::spawn(task.run());
    // The task ends without an answer only when the node stops.
    let info = root.await.map_err(|_| FetchError::Cancelled)??;
    Ok(Content::new(info, progress, move |range| {
        let (sink, stream) = ContentStream::channel(range.end - range.start, PIECES_AHEAD);
        // If the task has gone, the dropped sink tells the reader.
        let _ = order.send(Order { range, sink });
        stream
    }))
}

struct Task {
    download: Download,
    job: Job,
    crew: Crew<Worked>,
    clock: Clock,
    reporter: Reporter,
    /// Where the root is awaited, until it is known.
    tell_root: Option<oneshot::Sender<Result<ContentInfo, FetchError>>>,
    /// Where the reader's order comes from, until it has come.
    ordered: Option<oneshot::Receiver<Order>>,
    sink: Option<ContentSink>,
    /// Handed over by the machine, not yet taken by the reader.
    pieces: VecDeque<Bytes>,
    ended: Option<Result<(), FetchError>>,
    budget: Budget,
    memory: Share,
    /// Whether the place is one of those that wait for a root.
    waits: bool,
    slot: JobSlot,
}

/// Why a task ends before its time.
enum Stop {
    /// Nobody wants the file any more.
    Unwanted,
    Failed(FetchError),
}

impl Task {
    async fn run(mut self) {
        if let Err(Stop::Failed(error)) = self.fetch().await {
            match (self.tell_root.take(), &self.sink) {
                // Whoever waited may have gone.
                (Some(tell), _) => _ = tell.send(Err(error)),
                (None, Some(sink)) => _ = sink.send(Err(error)).await,
                (None, None) => {}
            }
        }
    }

    async fn fetch(&mut self) -> Result<(), Stop> {
        let mut events = Vec::new();
        loop {
            self.drain().await?;
            if self.pieces.is_empty() {
                match self.ended.take() {
                    Some(Err(error)) => return Err(Stop::Failed(error)),
                    // The stream counts its bytes, so nobody need be told of the end. What is left is healing.
                    Some(Ok(())) => self.sink = None,
                    None => {}
                }
            }
            if self.download.idle() && self.pieces.is_empty() {
                return Ok(());
            }
            let timeout = self.download.poll_timeout();
            tokio::select! {
                result = self.job.events(&mut events) => {
                    result?;
                    self.handle(&mut events);
                }
                done = self.crew.next() => self.download.worked(self.clock.now(), done?),
                () = until(self.clock, timeout) => self.download.handle_timeout(self.clock.now()),
                () = unwanted(&mut self.tell_root) => return Err(Stop::Unwanted),
                order = order(&mut self.ordered) => {
                    self.ordered = None;
                    // Without one the reader has gone: it wanted the root only.
                    let Some(Order { range, sink }) = order else { return Err(Stop::Unwanted) };
                    self.sink = Some(sink);
                    self.download.read(self.clock.now(), range);
                }
                result = hand_over(&self.sink, self.pieces.front()) => {
                    if !result {
                        return Err(Stop::Unwanted);
                    }
                    let taken = self.pieces.pop_front().map_or(0, |piece| piece.len() as u64);
                    self.download.consumed(self.clock.now(), taken);
                }
            }
        }
    }

    /// Does what the machine wants.
    async fn drain(&mut self) -> Result<(), Stop> {
        while let Some(output) = self.download.poll_output() {
            match output {
                DownloadOutput::Opened => {
                    if std::mem::take(&mut self.waits) {
                        let slot = self.budget.wait_for_job().await;
                        self.slot = slot.ok_or(Stop::Failed(FetchError::Cancelled))?;
                    }
                    self.opened();
                }
                DownloadOutput::Bulk => self.job.set_bulk().await?,
                DownloadOutput::Fetch {
                    op,
                    block,
                    expendable,
                    wait,
                } => {
                    self.job.fetch(op, block, expendable, wait).await?;
                }
                DownloadOutput::Heal { op, block } => {
                    self.job.insert(op, block, 1, false).await?;
                }
                DownloadOutput::Work(work) => self.crew.begin(move |coder| work.run(coder)),
                DownloadOutput::Data { bytes, .. } => self.pieces.push_back(bytes),
                DownloadOutput::Done => self.ended = Some(Ok(())),
                DownloadOutput::Failed(why) => self.ended = Some(Err(why.into())),
            }
        }
        let ready: usize = self.pieces.iter().map(Bytes::len).sum();
        let frugal = self.memory.set(self.download.memory() + ready);
        self.download.set_frugal(frugal);
        let now = self.download.progress();
        self.reporter.update(|progress| {
            progress.bytes = now.bytes;
            progress.total_bytes = now.total_bytes;
            progress.blocks = now.blocks;
            progress.total_blocks = now.total_blocks;
            progress.failed_blocks = now.failed_blocks;
            if matches!(self.ended, Some(Ok(()))) {
                progress.phase = Phase::Done;
            }
        });
        Ok(())
    }

    fn opened(&mut self) {
        let Some(root) = self.download.root() else { return };
        let info = ContentInfo {
            size: root.size(),
            mime: root.mime().map(|mime| mime.as_str().to_owned()),
            hash: *root.hash(),
        };
        self.reporter
            .update(|progress| progress.phase = Phase::Transferring);
        if let Some(tell) = self.tell_root.take() {
            // Whoever waited may have gone; then no order comes either.
            let _ = tell.send(Ok(info));
        }
    }

    fn handle(&mut self, events: &mut Vec<ClientEvent>) {
        let now = self.clock.now();
        for event in events.drain(..) {
            match event {
                ClientEvent::Fetched { op, result, .. } => self.download.fetched(now, op, result),
                ClientEvent::Inserted { op, result, .. } => self.download.healed(now, op, &result),
            }
        }
    }
}

/// Ready when whoever waited for the root has gone.
async fn unwanted(tell_root: &mut Option<oneshot::Sender<Result<ContentInfo, FetchError>>>) {
    match tell_root {
        Some(tell) => tell.closed().await,
        None => std::future::pending().await,
    }
}

/// The reader's order, or none when it has gone without one.
async fn order(ordered: &mut Option<oneshot::Receiver<Order>>) -> Option<Order> {
    match ordered {
        Some(ordered) => ordered.await.ok(),
        None => std::future::pending().await,
    }
}

/// Hands a piece to the reader; without a piece, waits until the reader has gone. False when it has.
async fn hand_over(sink: &Option<ContentSink>, piece: Option<&Bytes>) -> bool {
    match (sink, piece) {
        (Some(sink), Some(piece)) => sink.send(Ok(piece.clone())).await,
        (Some(sink), None) => {
            sink.closed().await;
            false
        }
        (None, _) => std::future::pending().await,
    }
}

impl From<NodeStopped> for FetchError {
    fn from(_: NodeStopped) -> Self {
        Self::Cancelled
    }
}

impl From<DownloadFailure> for FetchError {
    fn from(why: DownloadFailure) -> Self {
        match why {
            DownloadFailure::NotFound => Self::NotFound,
            DownloadFailure::Unreachable => Self::Unreachable,
            DownloadFailure::Root(_) | DownloadFailure::Segment(_) | DownloadFailure::Stream(_) => {
                Self::BadData(why.to_string())
            }
        }
    }
}

impl From<NodeStopped> for Stop {
    fn from(stopped: NodeStopped) -> Self {
        Self::Failed(stopped.into())
    }
}

impl From<WorkLost> for Stop {
    fn from(_: WorkLost) -> Self {
        Self::Failed(FetchError::Internal("a piece of work did not end".to_owned()))
    }
}
