//! The datastore's questions, off the event loops: a bounded queue and a few blocking workers.
//!
//! # Invariants
//!
//! - Every question that is taken gets exactly one answer, also when the backend panics.
//! - At most [`QUEUE`] questions wait; what comes above that is refused at once, and its asker answers "failed".
//! - At most [`WORKERS`] threads exist for one node; none after nothing was asked for [`IDLE`], or when the pool is gone.
//! - Who waits for the pool's tasks to end waits for the questions taken, and then no worker holds the pool.
//! - What was kept is made durable within [`SYNC_DELAY`] by one grouped sync, however much was kept.
//!
//! The workers are threads of the pool's own and not the runtime's blocking ones: these share one lock, which whoever is woken finds
//! taken by who wakes it, so that each question cost two or three system calls more (measured: half of all futex calls of
//! an insert).

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
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

/// How often a worker that has nothing to do lets others run and looks again before it waits to be called. On an idle machine that is over
/// within a microsecond; on a busy one questions gather meanwhile, which wake nobody then (measured: a fifth of the waits are left, and 5 % of the
/// processor time of an insert is saved).
const LINGER: usize = 4;

/// A worker that was not needed for so long ends. Making a thread costs as much as some ten questions.
const IDLE: Duration = Duration::from_secs(10);

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

/// Where answers go; takes all that it is given.
type Answer = dyn Fn(&mut Vec<(StoreTicket, StoreAnswer)>) + Send + Sync;

/// The pool; see the [module documentation](self).
pub(crate) struct StorePool<B> {
    shared: Arc<Shared<B>>,
    tasks: TaskTracker,
}

struct Shared<B> {
    backend: B,
    desk: Desk,
    answer: Box<Answer>,
    dirty: AtomicBool,
    wake_sync: Notify,
    counts: Counts,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(StoreTicket, StoreQuestion)>,
    /// One for each worker that has been called and not yet found the queue empty: whoever waits for the tasks waits for these.
    called: Vec<TaskTrackerToken>,
    /// Workers that wait to be called.
    idle: Vec<Thread>,
}

/// The pool's hold on the queue. Idle workers hold the queue too, but not the pool.
#[derive(Default)]
struct Desk(Arc<Mutex<Queue>>);

impl Drop for Desk {
    /// The pool is gone: its workers are called to notice.
    fn drop(&mut self) {
        lock(&self.0).idle.drain(..).for_each(|worker| worker.unpark());
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// A pool in front of `backend`. `answer` is called from worker threads with the answers of a batch of questions, one for each
    /// question taken; it empties the list and must not block.
    /// The grouped sync runs on `tasks` until `stop`.
    pub(crate) fn start(
        backend: B,
        tasks: &TaskTracker,
        stop: CancellationToken,
        answer: impl Fn(&mut Vec<(StoreTicket, StoreAnswer)>) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            backend,
            desk: Desk::default(),
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
        if queue.called.len() >= wanted {
            return true;
        }
        queue.called.push(self.tasks.token());
        if let Some(worker) = queue.idle.pop() {
            drop(queue);
            worker.unpark();
            return true;
        }
        let shared = Arc::clone(&self.shared);
        let begun = thread::Builder::new()
            .name("datastore".to_owned())
            .spawn(move || work(shared));
        if begun.is_err() {
            queue.called.pop();
            // Others will come to it, if there are any.
            if queue.called.is_empty() {
                queue.waiting.pop_back();
                self.shared.counts.refused.fetch_add(1, Ordering::Relaxed);
                return false;
            }
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
        lock(&self.desk.0)
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

/// The life of a worker.
fn work<B: Backend>(mut shared: Arc<Shared<B>>) {
    let mut lingered = 0;
    let mut batch = Vec::with_capacity(BATCH);
    let mut answers = Vec::with_capacity(BATCH);
    loop {
        let mut queue = shared.lock();
        let count = queue.waiting.len().min(BATCH);
        if count > 0 {
            lingered = 0;
            batch.extend(queue.waiting.drain(..count));
            drop(queue);
            let answered = |(ticket, question)| (ticket, shared.answer(question));
            answers.extend(batch.drain(..).map(answered));
            (shared.answer)(&mut answers);
            continue;
        }
        if lingered < LINGER {
            lingered += 1;
            drop(queue);
            thread::yield_now();
            continue;
        }
        lingered = 0;
        queue.idle.push(thread::current());
        let done = queue.called.pop();
        drop(queue);
        let (pool, desk) = (Arc::downgrade(&shared), Arc::clone(&shared.desk.0));
        drop(shared);
        // Only now does nobody wait for this worker any more.
        drop(done);
        if !is_called(&desk) {
            return;
        }
        match pool.upgrade() {
            Some(again) => shared = again,
            None => return,
        }
    }
}

/// Waits until this idle worker is called; false when it has waited long enough.
fn is_called(desk: &Mutex<Queue>) -> bool {
    let end = Instant::now() + IDLE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        thread::park_timeout(left);
        let mut queue = lock(desk);
        let me = thread::current().id();
        let Some(place) = queue.idle.iter().position(|worker| worker.id() == me) else {
            return true;
        };
        if left.is_zero() {
            queue.idle.swap_remove(place);
            return false;
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
