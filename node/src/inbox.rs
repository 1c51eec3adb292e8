//! A bounded queue with one consumer that takes everything at once.
//!
//! All tasks of a node talk through these. Producers never wait: [`Inbox::push`] hands the item back when the queue is
//! full, and the producer decides what that means (a circuit dies, a question fails, a socket is not read for a while).
//! The consumer is woken once per batch, not once per item, which keeps wake-ups far below the packet rate under load.
//!
//! # Invariants
//!
//! - Order is kept, also between [`Inbox::push`] and [`Inbox::push_reserved`].
//! - A wake-up is never lost: a consumer that was told [`Poll::Pending`] is woken by the next push.
//! - After [`Inbox::close`] every push fails.
//!
//! # What this deliberately is not
//!
//! A channel with waiting senders: nothing in an event loop awaits a send.

use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// Batches above this many items give their memory back when the queue has calmed down.
const KEEP_CAPACITY: usize = 64;

/// A bounded queue of `T`; see the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    limit: usize,
}

#[derive(Debug)]
struct State<T> {
    queue: Vec<T>,
    closed: bool,
    nudged: bool,
    consumer: Option<Waker>,
    producers: Vec<Waker>,
}

/// Why an item was not taken; carries it back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused<T> {
    /// The queue is full.
    Full(T),
    /// The consumer is gone.
    Closed(T),
}

impl<T> Refused<T> {
    /// The item.
    pub(crate) fn into_inner(self) -> T {
        match self {
            Self::Full(item) | Self::Closed(item) => item,
        }
    }
}

/// The queue was closed; nothing will come any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Closed;

impl<T> Inbox<T> {
    /// An empty queue that takes up to `limit` items.
    #[must_use]
    pub(crate) const fn new(limit: usize) -> Self {
        let state = State {
            queue: Vec::new(),
            closed: false,
            nudged: false,
            consumer: None,
            producers: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            limit,
        }
    }

    /// A poisoned lock only means that some thread panicked between two whole operations on the queue.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an item.
    ///
    /// # Errors
    /// The item, when the queue is full or closed.
    pub(crate) fn push(&self, item: T) -> Result<(), Refused<T>> {
        self.append(item, self.limit)
    }

    /// Appends an item even to a full queue. Only for what is bounded elsewhere (one answer per bounded question) or must
    /// not be lost and is small (the end of a link or circuit); such items are still limited to as many again as the queue
    /// holds.
    ///
    /// # Errors
    /// The item, when twice the limit is reached or the queue is closed.
    pub(crate) fn push_reserved(&self, item: T) -> Result<(), Refused<T>> {
        self.append(item, self.limit.saturating_mul(2))
    }

    fn append(&self, item: T, limit: usize) -> Result<(), Refused<T>> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed(item));
        }
        if state.queue.len() >= limit {
            return Err(Refused::Full(item));
        }
        state.queue.push(item);
        let consumer = state.consumer.take();
        drop(state);
        wake(consumer);
        Ok(())
    }

    /// [`push_reserved`](Self::push_reserved) for several: the consumer is woken once. What the queue does not take is dropped.
    pub(crate) fn push_all_reserved(&self, items: impl ExactSizeIterator<Item = T>) {
        let mut state = self.lock();
        let room = self.limit.saturating_mul(2).saturating_sub(state.queue.len());
        if state.closed || room == 0 || items.len() == 0 {
            return;
        }
        state.queue.extend(items.take(room));
        let consumer = state.consumer.take();
        drop(state);
        wake(consumer);
    }

    /// Moves items from the front of `items` as far as there is room; the others stay. Returns whether all were taken.
    pub(crate) fn push_all(&self, items: &mut Vec<T>) -> bool {
        if items.is_empty() {
            return true;
        }
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        let room = self.limit.saturating_sub(state.queue.len()).min(items.len());
        if room == 0 {
            return false;
        }
        state.queue.extend(items.drain(..room));
        let consumer = state.consumer.take();
        drop(state);
        wake(consumer);
        items.is_empty()
    }

    /// Moves everything queued to the end of `batch`; pending when there is nothing and nobody called
    /// [`nudge`](Self::nudge). The task of `cx` is then woken by the next push; there may be only one such task.
    ///
    /// # Errors
    /// [`Closed`] once the queue was closed.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, batch: &mut Vec<T>) -> Poll<Result<(), Closed>> {
        let mut state = self.lock();
        if state.closed {
            return Poll::Ready(Err(Closed));
        }
        let nudged = std::mem::take(&mut state.nudged);
        if state.queue.is_empty() {
            if nudged {
                return Poll::Ready(Ok(()));
            }
            if !state
                .consumer
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                state.consumer = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        if batch.is_empty() {
            if batch.capacity() > KEEP_CAPACITY && state.queue.len() < KEEP_CAPACITY {
                *batch = Vec::new();
            }
            std::mem::swap(&mut state.queue, batch);
        } else {
            batch.append(&mut state.queue);
        }
        let producers = std::mem::take(&mut state.producers);
        drop(state);
        producers.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }

    /// [`poll_take`](Self::poll_take) as a future.
    #[cfg(test)]
    pub(crate) async fn take(&self, batch: &mut Vec<T>) -> Result<(), Closed> {
        poll_fn(|cx| self.poll_take(cx, batch)).await
    }

    /// Wakes the consumer although nothing is queued.
    pub(crate) fn nudge(&self) {
        let mut state = self.lock();
        state.nudged = true;
        let consumer = state.consumer.take();
        drop(state);
        wake(consumer);
    }

    /// Ready when there is room or the queue was closed; otherwise the task of `cx` is woken when it is next emptied.
    pub(crate) fn poll_space(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.closed || state.queue.len() < self.limit {
            return Poll::Ready(());
        }
        if !state.producers.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.producers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// [`poll_space`](Self::poll_space) as a future. For the local user's tasks, never for an event loop.
    pub(crate) async fn space(&self) {
        poll_fn(|cx| self.poll_space(cx)).await;
    }

    /// Ends the queue: what is in it is dropped, every push fails from now on.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let rest = std::mem::take(&mut state.queue);
        let consumer = state.consumer.take();
        let producers = std::mem::take(&mut state.producers);
        drop(state);
        drop(rest);
        wake(consumer);
        producers.into_iter().for_each(Waker::wake);
    }

    /// Whether [`close`](Self::close) was called.
    #[must_use]
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn take<T>(inbox: &Inbox<T>) -> Vec<T> {
        let mut batch = Vec::new();
        let _ = inbox.poll_take(&mut Context::from_waker(Waker::noop()), &mut batch);
        batch
    }

    #[test]
    fn full_queue_hands_the_item_back_and_keeps_a_reserve() {
        let inbox = Inbox::new(2);
        assert_eq!(inbox.push(1), Ok(()));
        assert_eq!(inbox.push(2), Ok(()));
        assert_eq!(inbox.push(3), Err(Refused::Full(3)));
        assert_eq!(inbox.push_reserved(4), Ok(()));
        assert_eq!(inbox.push_reserved(5), Ok(()));
        assert_eq!(inbox.push_reserved(6), Err(Refused::Full(6)));
        assert_eq!(take(&inbox), [1, 2, 4, 5]);
        assert!(take(&inbox).is_empty());
    }

    #[test]
    fn push_all_takes_what_fits() {
        let inbox = Inbox::new(3);
        let mut items = vec![1, 2, 3, 4];
        assert!(!inbox.push_all(&mut items));
        assert_eq!(items, [4]);
        take(&inbox);
        assert!(inbox.push_all(&mut items));
        inbox.close();
        let mut items = vec![9];
        assert!(!inbox.push_all(&mut items));
        assert_eq!(inbox.push_reserved(1), Err(Refused::Closed(1)));
    }

    #[tokio::test]
    async fn a_nudge_wakes_without_an_item_and_closing_ends() {
        let inbox = Inbox::<u8>::new(1);
        inbox.nudge();
        let mut batch = Vec::new();
        assert_eq!(inbox.take(&mut batch).await, Ok(()));
        assert!(batch.is_empty());
        let (taken, ()) = tokio::join!(inbox.take(&mut batch), async { inbox.close() });
        assert_eq!(taken, Err(Closed));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_item_arrives_in_order_under_contention() {
        let inbox = Arc::new(Inbox::new(8));
        let producer = Arc::clone(&inbox);
        let sender = tokio::spawn(async move {
            for n in 0..10_000u32 {
                let mut item = n;
                while let Err(refused) = producer.push(item) {
                    item = refused.into_inner();
                    producer.space().await;
                }
            }
        });
        let mut got = Vec::new();
        let mut batch = Vec::new();
        while got.len() < 10_000 {
            inbox.take(&mut batch).await.unwrap();
            got.append(&mut batch);
        }
        sender.await.unwrap();
        assert!(got.iter().copied().eq(0..10_000));
    }
}
