//! Shared bounds of all jobs: how many there are, and how many processors they keep busy.

use std::{sync::Arc, thread::available_parallelism};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

/// Fetches and inserts at once. Each holds 64 MiB and a segment at most, by the protocol's machines, and far less while
/// its reader keeps up.
pub(super) const MAX_JOBS: usize = 32;

/// Fetches that wait for a root at once. Each holds a few circuits and no data; it becomes a job when the root has come.
pub(super) const MAX_WAITING: usize = 64;

/// The bounds; clones share them.
#[derive(Clone)]
pub(super) struct Budget {
    jobs: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    workers: Arc<Semaphore>,
}

/// The right to be a job.
pub(super) struct JobSlot(#[expect(dead_code, reason = "given back when dropped")] OwnedSemaphorePermit);

/// The work panicked, or the runtime is shutting down.
#[derive(Debug)]
pub(super) struct WorkLost;

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            jobs: Arc::new(Semaphore::new(MAX_JOBS)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            workers: Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))),
        }
    }

    /// A place among the jobs, if there is one.
    pub(super) fn job(&self) -> Option<JobSlot> {
        Arc::clone(&self.jobs).try_acquire_owned().ok().map(JobSlot)
    }

    /// A place among those that wait for a root, if there is one.
    pub(super) fn waiting(&self) -> Option<JobSlot> {
        Arc::clone(&self.waiting).try_acquire_owned().ok().map(JobSlot)
    }

    /// A place among the jobs, when there is one.
    pub(super) async fn wait_for_job(&self) -> Option<JobSlot> {
        // The semaphore is never closed.
        Arc::clone(&self.jobs).acquire_owned().await.ok().map(JobSlot)
    }

    /// Runs processor work on a blocking thread, no more of it at once than there are processors. Dropping the future forgets
    /// the result; work that began runs to its end.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkLost> {
        let worker = Arc::clone(&self.workers)
            .acquire_owned()
            .await
            .map_err(|_| WorkLost)?;
        let work = move || {
            let result = work();
            drop(worker);
            result
        };
        spawn_blocking(work).await.map_err(|_| WorkLost)
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, MAX_JOBS, MAX_WAITING};

    #[test]
    fn jobs_are_bounded() {
        let budget = Budget::new();
        let jobs: Vec<_> = std::iter::from_fn(|| budget.job()).collect();
        assert_eq!(jobs.len(), MAX_JOBS);
        let waiting: Vec<_> = std::iter::from_fn(|| budget.waiting()).collect();
        assert_eq!(waiting.len(), MAX_WAITING, "who waits is no job yet");
        drop(jobs);
        assert!(budget.job().is_some());
    }

    #[tokio::test]
    async fn a_panic_in_the_work_is_lost_work() {
        let budget = Budget::new();
        assert!(budget.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(budget.run(|| 7).await.unwrap(), 7);
    }
}
