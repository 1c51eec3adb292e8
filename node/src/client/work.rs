//! The processor work of one job: runs beside it on blocking threads, each with the working memory of an erasure coder that is
//! handed on from one piece of work to the next.

use tokio::task::JoinSet;
use warren_keys::splitfile::Coder;

use super::budget::{Budget, WorkLost};

pub(super) struct Crew<T> {
    budget: Budget,
    running: JoinSet<Result<(Coder, T), WorkLost>>,
    coders: Vec<Coder>,
}

impl<T: Send + 'static> Crew<T> {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            budget,
            running: JoinSet::new(),
            coders: Vec::new(),
        }
    }

    /// Begins a piece of work.
    pub(super) fn begin(&mut self, work: impl FnOnce(&mut Coder) -> T + Send + 'static) {
        let mut coder = self.coders.pop().unwrap_or_default();
        let budget = self.budget.clone();
        self.running.spawn(async move {
            let work = move || {
                let result = work(&mut coder);
                (coder, result)
            };
            budget.run(work).await
        });
    }

    /// Waits for the next result, in any order; for ever when nothing runs. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<T, WorkLost> {
        match self.running.join_next().await {
            None => std::future::pending().await,
            Some(joined) => {
                let (coder, result) = joined.map_err(|_| WorkLost)??;
                self.coders.push(coder);
                Ok(result)
            }
        }
    }
}
