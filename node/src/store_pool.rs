//! The datastore's questions, off the event loops: a bounded queue and a few blocking workers.
//!
//! # Invariants
//!
//! - Every question that is taken gets exactly one answer, also when the backend panics.
//! - At most [`QUEUE`] questions wait; what comes above that is refused at once, and its asker answers "failed".
//! - At most [`WORKERS`] threads are busy for one node; none exists while nothing is asked.
//! - What was kept is made durable within [`SYNC_DELAY`] by one grouped sync, however much was kept.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warren_keys::{Block, BlockId};
use warren_proto::{
    core::api::{Shelf, StoreAnswer, StoreQuestion},
    ids::StoreTicket,
};

/// Questions that may wait. Those with a block are bounded by the router's own limits; a disk that is further behind than
/// this is overloaded, and the network is better off asking elsewhere.
pub(crate) const QUEUE: usize = 2048;

/// Workers of one node. One waits for the disk while the other computes; more only queue inside the kernel.
pub(crate) const WORKERS: usize = 2;

/// Questions that a worker takes at a time, so that their answers wake the core once.
const BATCH: usize = 16;

/// The longest that a kept block waits for its sync. Bounds what a power cut can take (a kill takes nothing).
pub(crate) const SYNC_DELAY: Duration = Duration::from_secs(5);

/// What answers the questions; blocking.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Looks a block up.
    fn find(&self, id: &BlockId) -> StoreAnswer;
    /// Keeps a block.
    fn keep(&self, block: Block, shelf: Shelf) -> StoreAnswer;
    /// Names blocks of the store region.
    fn survey(&self, from: u64, most: usize) -> StoreAnswer;
    /// Whether these blocks are in the store region; without disk access.
    fn holds(&self, ids: &[BlockId]) -> StoreAnswer;
    /// Moves a block from the store region to the cache.
    fn demote(&self, id: &BlockId) -> StoreAnswer;
    /// Makes all that was kept durable. Returns whether it worked, and says itself why not: it is called again and again.
    fn sync(&self) -> bool;
}

/// The pool; see the [module documentation](self).
pub(crate) struct StorePool<B> {
    shared: Arc<Shared<B>>,
    tasks: TaskTracker,
}

struct Shared<B> {
    backend: B,
    queue: Mutex<Queue>,
    answer: Box<dyn Fn(StoreTicket, StoreAnswer) + Send + Sync>,
    dirty: AtomicBool,
    wake_sync: Notify,
    counts: Counts,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(StoreTicket, StoreQuestion)>,
    workers: usize,
}

#[derive(Default)]
struct Counts {
    found: AtomicU64,
    missing: AtomicU64,
    kept: AtomicU64,
    surveyed: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    panics: AtomicU64,
}

/// What the pool did since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreCounts {
    /// Lookups that found a block.
    pub found: u64,
    /// Lookups that did not.
    pub missing: u64,
    /// Blocks kept, or found to be there already.
    pub kept: u64,
    /// Questions of the census.
    pub surveyed: u64,
    /// Questions that the disk could not answer.
    pub failed: u64,
    /// Questions refused because too many waited.
    pub refused: u64,
    /// Questions whose worker panicked.
    pub panics: u64,
}

impl<B: Backend> StorePool<B> {
    /// A pool in front of `backend`. `answer` is called from worker threads, once for each question taken, and must not block.
    /// The grouped sync runs on `tasks` until `stop`.
    pub(crate) fn start(
        backend: B,
        tasks: &TaskTracker,
        stop: CancellationToken,
        answer: impl Fn(StoreTicket, StoreAnswer) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            backend,
            queue: Mutex::default(),
            answer: Box::new(answer),
            dirty: AtomicBool::new(false),
            wake_sync: Notify::new(),
            counts: Counts::default(),
        });
        tasks.spawn(sync_when_dirty(Arc::clone(&shared), stop));
        Self {
            shared,
            tasks: tasks.clone(),
        }
    }

    /// Takes a question; false when too many wait, and then no answer comes.
    #[must_use]
    pub(crate) fn ask(&self, ticket: StoreTicket, question: StoreQuestion) -> bool {
        let mut queue = self.shared.lock();
        if queue.waiting.len() >= QUEUE {
            self.shared.counts.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        queue.waiting.push_back((ticket, question));
        // Another worker only when the ones at work have more than a batch before them: two wake-ups for two questions
        // cost more than they save.
        let wanted = (1 + queue.waiting.len() / BATCH).min(WORKERS);
        if queue.workers < wanted {
            queue.workers += 1;
            drop(queue);
            let shared = Arc::clone(&self.shared);
            self.tasks.spawn_blocking(move || work(&shared));
        }
        true
    }

    /// The backend, for status and inspection.
    #[must_use]
    pub(crate) fn backend(&self) -> &B {
        &self.shared.backend
    }

    /// Gives the backend back when nobody else holds the pool or works in it.
    pub(crate) fn into_backend(self) -> Option<B> {
        Arc::into_inner(self.shared).map(|shared| shared.backend)
    }

    /// What was done so far.
    #[must_use]
    pub(crate) fn counts(&self) -> StoreCounts {
        let counts = &self.shared.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreCounts {
            found: read(&counts.found),
            missing: read(&counts.missing),
            kept: read(&counts.kept),
            surveyed: read(&counts.surveyed),
            failed: read(&counts.failed),
            refused: read(&counts.refused),
            panics: read(&counts.panics),
        }
    }

    /// Syncs now, on a blocking thread, if anything was kept since the last sync.
    #[cfg(test)]
    pub(crate) async fn flush(&self) {
        flush(&self.shared).await;
    }
}

impl<B: Backend> Shared<B> {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, question: StoreQuestion) -> StoreAnswer {
        let writing = matches!(question, StoreQuestion::Keep(..) | StoreQuestion::Demote(_));
        // The backend's own invariants hold on disk by authentication of each slot, so carrying on after a panic is safe.
        let answer = catch_unwind(AssertUnwindSafe(|| match question {
            StoreQuestion::Find(id) => self.backend.find(&id),
            StoreQuestion::Keep(block, shelf) => self.backend.keep(block, shelf),
            StoreQuestion::Survey { from, most } => self.backend.survey(from, most),
            StoreQuestion::Holds(ids) => self.backend.holds(&ids),
            StoreQuestion::Demote(id) => self.backend.demote(&id),
        }))
        .unwrap_or_else(|_| {
            self.counts.panics.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("a datastore worker panicked; its question counts as failed");
            StoreAnswer::Failed
        });
        let counter = match &answer {
            StoreAnswer::Found(..) => &self.counts.found,
            StoreAnswer::Missing => &self.counts.missing,
            StoreAnswer::Kept | StoreAnswer::Collision(_) => &self.counts.kept,
            StoreAnswer::Surveyed { .. } | StoreAnswer::Holdings(_) => &self.counts.surveyed,
            // A backend is not asked what there is no room for.
            StoreAnswer::Failed | StoreAnswer::Busy => &self.counts.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if writing && matches!(answer, StoreAnswer::Kept) && !self.dirty.swap(true, Ordering::AcqRel) {
            self.wake_sync.notify_one();
        }
        answer
    }
}

fn work<B: Backend>(shared: &Shared<B>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut answers = Vec::with_capacity(BATCH);
    loop {
        {
            let mut queue = shared.lock();
            let count = queue.waiting.len().min(BATCH);
            if count == 0 {
                queue.workers -= 1;
                return;
            }
            batch.extend(queue.waiting.drain(..count));
        }
        answers.extend(
            batch
                .drain(..)
                .map(|(ticket, question)| (ticket, shared.answer(question))),
        );
        for (ticket, answer) in answers.drain(..) {
            (shared.answer)(ticket, answer);
        }
    }
}

async fn sync_when_dirty<B: Backend>(shared: Arc<Shared<B>>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.wake_sync.notified() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SYNC_DELAY) => {}
        }
        flush(&shared).await;
    }
}

async fn flush<B: Backend>(shared: &Arc<Shared<B>>) {
    if !shared.dirty.swap(false, Ordering::AcqRel) {
        return;
    }
    let worker = Arc::clone(shared);
    let synced = tokio::task::spawn_blocking(move || worker.backend.sync()).await;
    if !matches!(synced, Ok(true)) {
        shared.dirty.store(true, Ordering::Release);
        shared.wake_sync.notify_one();
        if synced.is_err() {
            tracing::warn!("syncing the datastore failed inside the program; trying again");
        }
    }
}

#[cfg(test)]
mod tests;
