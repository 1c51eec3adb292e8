//! Jobs of the local user: how a task that downloads or uploads something talks to the core.
//!
//! # Invariants
//!
//! - Two jobs never share an event: each has its own queue, and circuits are per job in the core.
//! - No event is lost: a job has at most [`MAX_OPS`] operations open, each of which ends in one event, and its queue holds
//!   as many.
//! - A dropped [`Job`] ends in the core too: its operations are forgotten and its circuits closed.
//!
//! Waiting for room towards the core is allowed here, because a job's task is nobody's event loop.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use warren_keys::{Block, BlockId};
use warren_proto::{
    core::api::{ClientCommand, ClientEvent, CoreInput},
    ids::{JobId, OpId},
};

use crate::{
    inbox::{Inbox, Refused},
    memory::{Memory, Share},
};

/// Operations that one job may have open. Their blocks are 32 MiB, several times what a fast job needs to keep its circuits
/// full.
pub const MAX_OPS: usize = 1024;

/// The node is shutting down; the core takes no more commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the node is shutting down")]
pub struct NodeStopped;

/// Where events of jobs go, shared by the core task (which delivers) and the handles (which register).
pub(crate) struct Jobs {
    core: Arc<Inbox<CoreInput>>,
    memory: Arc<Memory>,
    open: Mutex<BTreeMap<JobId, Arc<Inbox<ClientEvent>>>>,
    next_job: AtomicU64,
    next_op: AtomicU64,
}

impl Jobs {
    pub(crate) fn new(core: Arc<Inbox<CoreInput>>, memory: Arc<Memory>) -> Arc<Self> {
        Arc::new(Self {
            core,
            memory,
            open: Mutex::default(),
            next_job: AtomicU64::new(1),
            next_op: AtomicU64::new(1),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Arc<Inbox<ClientEvent>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an event to its job; events of jobs that ended meanwhile are dropped.
    pub(crate) fn deliver(&self, event: ClientEvent) {
        let job = match &event {
            ClientEvent::Fetched { job, .. } | ClientEvent::Inserted { job, .. } => *job,
        };
        let events = self.lock().get(&job).cloned();
        // Room is guaranteed by MAX_OPS; a closed queue is a job that ended.
        let _ = events.map(|events| events.push_reserved(event));
    }

    /// Ends all jobs: their next wait for an event fails.
    pub(crate) fn close(&self) {
        for events in std::mem::take(&mut *self.lock()).into_values() {
            events.close();
        }
    }

    /// Number of open jobs.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}

/// Opens jobs; cheap to clone.
#[derive(Clone)]
pub struct JobFactory(pub(crate) Arc<Jobs>);

impl JobFactory {
    /// Opens a job: one top-level URI, fetched or inserted. `bulk` lets it use several circuits at once.
    ///
    /// # Errors
    /// [`NodeStopped`].
    pub async fn open(&self, bulk: bool) -> Result<Job, NodeStopped> {
        let id = JobId(self.0.next_job.fetch_add(1, Ordering::Relaxed));
        let events = Arc::new(Inbox::new(MAX_OPS));
        self.0.lock().insert(id, Arc::clone(&events));
        let job = Job {
            jobs: Arc::clone(&self.0),
            id,
            events,
            open_ops: 0,
        };
        job.command(ClientCommand::OpenJob { job: id, bulk }).await?;
        Ok(job)
    }
}

/// One job's line to the core. Dropping it ends the job.
pub struct Job {
    jobs: Arc<Jobs>,
    id: JobId,
    events: Arc<Inbox<ClientEvent>>,
    open_ops: usize,
}

impl Job {
    /// The job's name in this node.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Where it books the memory that it holds.
    pub(crate) fn memory(&self) -> Share {
        self.jobs.memory.transfer()
    }

    /// A fresh operation number, unique in this node.
    #[must_use]
    pub fn next_op(&self) -> OpId {
        OpId(self.jobs.next_op.fetch_add(1, Ordering::Relaxed))
    }

    /// Operations that may be started before an event has to be taken.
    #[must_use]
    pub fn room(&self) -> usize {
        MAX_OPS - self.open_ops
    }

    /// Tells the core that many blocks are to come.
    ///
    /// # Errors
    /// [`NodeStopped`].
    pub async fn set_bulk(&self) -> Result<(), NodeStopped> {
        self.command(ClientCommand::SetBulk(self.id)).await
    }

    /// Fetches a block; ends in one [`ClientEvent::Fetched`] with the same `op`. `expendable`: one exit's "not found" is
    /// enough, because siblings can replace the block.
    ///
    /// Waits for room: with [`MAX_OPS`] operations open, call [`events`](Self::events) first, or this fails.
    ///
    /// # Errors
    /// [`NodeStopped`], also when no operation may be started ([`room`](Self::room) is 0).
    pub async fn fetch(
        &mut self,
        op: OpId,
        block: BlockId,
        expendable: bool,
        wait: Duration,
    ) -> Result<(), NodeStopped> {
        let job = self.id;
        self.start(ClientCommand::Fetch {
            job,
            op,
            block,
            expendable,
            wait,
        })
        .await
    }

    /// Inserts a block through `exits` (1 or 2) different exits; ends in one [`ClientEvent::Inserted`] with the same `op`.
    /// `read_back`: fetch it again through another exit before calling it inserted.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub async fn insert(
        &mut self,
        op: OpId,
        block: Block,
        exits: u8,
        read_back: bool,
    ) -> Result<(), NodeStopped> {
        let job = self.id;
        self.start(ClientCommand::Insert {
            job,
            op,
            block,
            exits,
            read_back,
        })
        .await
    }

    /// Passes on a fetch or insert command made elsewhere; its job must be this one.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub async fn start(&mut self, command: ClientCommand) -> Result<(), NodeStopped> {
        if self.room() == 0 {
            return Err(NodeStopped);
        }
        self.command(command).await?;
        self.open_ops += 1;
        Ok(())
    }

    async fn command(&self, command: ClientCommand) -> Result<(), NodeStopped> {
        let mut input = CoreInput::Client(command);
        loop {
            match self.jobs.core.push(input) {
                Ok(()) => return Ok(()),
                Err(Refused::Closed(_)) => return Err(NodeStopped),
                Err(Refused::Full(back)) => {
                    input = back;
                    self.jobs.core.space().await;
                }
            }
        }
    }

    /// Waits for events and appends them to `batch`. Cancel-safe.
    ///
    /// # Errors
    /// [`NodeStopped`].
    pub async fn events(&mut self, batch: &mut Vec<ClientEvent>) -> Result<(), NodeStopped> {
        std::future::poll_fn(|cx| self.poll_events(cx, batch)).await
    }

    /// [`events`](Self::events) as a poll.
    ///
    /// # Errors
    /// [`NodeStopped`].
    pub fn poll_events(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<ClientEvent>,
    ) -> Poll<Result<(), NodeStopped>> {
        let before = batch.len();
        let taken = self.events.poll_take(cx, batch);
        self.open_ops = self.open_ops.saturating_sub(batch.len() - before);
        taken.map_err(|_| NodeStopped)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.jobs.lock().remove(&self.id);
        self.events.close();
        // Reserved room: one per job. If even that is full the core is drowning, and the job's circuits end by their timeouts.
        let _ = self
            .jobs
            .core
            .push_reserved(CoreInput::Client(ClientCommand::CloseJob(self.id)));
    }
}
