//! Shared bounds of all jobs: how many there are, how much memory they hold, how many processors they keep busy.

use std::{sync::Arc, thread::available_parallelism};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

/// Fetches and inserts at once. Each may hold a segment and, for an insert, the open ends of its lists (8 MiB a level).
pub const MAX_JOBS: usize = 32;
/// Segments that all jobs together may hold beyond one for each: 64 MiB of 6 MiB (192 blocks).
pub const SPARE_SEGMENTS: usize = 10;
/// Segments that one job may hold: enough to keep its circuits full, and to leave something to the others.
pub const MAX_SEGMENTS: usize = 6;

/// The bounds; clones share them.
#[derive(Clone)]
pub(super) struct Budget {
    jobs: Arc<Semaphore>,
    segments: Arc<Semaphore>,
    workers: Arc<Semaphore>,
}

/// The right to be a job.
pub(super) struct JobSlot(#[expect(dead_code, reason = "given back when dropped")] OwnedSemaphorePermit);

/// The right to hold a segment; none when it is the one that every job may have.
#[derive(Debug)]
pub(super) struct SegmentSlot(
    #[expect(dead_code, reason = "given back when dropped")] Option<OwnedSemaphorePermit>,
);

/// The work panicked, or the runtime is shutting down.
#[derive(Debug)]
pub(super) struct WorkLost;

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            jobs: Arc::new(Semaphore::new(MAX_JOBS)),
            segments: Arc::new(Semaphore::new(SPARE_SEGMENTS)),
            workers: Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))),
        }
    }

    /// A place among the jobs, if there is one.
    pub(super) fn job(&self) -> Option<JobSlot> {
        Arc::clone(&self.jobs).try_acquire_owned().ok().map(JobSlot)
    }

    /// Room for one more segment to a job that holds `held`, if there is any. The first is always granted, so every job gets on.
    pub(super) fn segment(&self, held: usize) -> Option<SegmentSlot> {
        match held {
            0 => Some(SegmentSlot(None)),
            MAX_SEGMENTS.. => None,
            _ => Arc::clone(&self.segments)
                .try_acquire_owned()
                .ok()
                .map(|slot| SegmentSlot(Some(slot))),
        }
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
    use super::{Budget, MAX_JOBS, MAX_SEGMENTS, SPARE_SEGMENTS};

    #[test]
    fn every_job_gets_one_segment_and_none_gets_all() {
        let budget = Budget::new();
        let mut greedy = Vec::new();
        while let Some(slot) = budget.segment(greedy.len()) {
            greedy.push(slot);
        }
        assert_eq!(greedy.len(), MAX_SEGMENTS);
        let mut others = Vec::new();
        while let Some(slot) = budget.segment(1) {
            others.push(slot);
        }
        assert_eq!(greedy.len() - 1 + others.len(), SPARE_SEGMENTS);
        assert!(budget.segment(0).is_some());
        drop(greedy);
        assert!(budget.segment(1).is_some());
    }

    #[test]
    fn jobs_are_bounded() {
        let budget = Budget::new();
        let jobs: Vec<_> = std::iter::from_fn(|| budget.job()).collect();
        assert_eq!(jobs.len(), MAX_JOBS);
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
