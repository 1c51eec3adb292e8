//! The pool over a backend whose workers can be held, counted and made to panic.

use std::sync::{Condvar, mpsc};

use super::*;

#[derive(Default)]
struct Held {
    open: Mutex<bool>,
    opened: Condvar,
    syncs: AtomicU64,
    panic: AtomicBool,
}

impl Held {
    fn release(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

struct Fake(Arc<Held>);

impl Backend for Fake {
    fn find(&self, _: &BlockId) -> StoreAnswer {
        let mut open = self.0.open.lock().unwrap();
        while !*open {
            open = self.0.opened.wait(open).unwrap();
        }
        drop(open);
        assert!(!self.0.panic.load(Ordering::Relaxed), "the backend breaks");
        StoreAnswer::Missing
    }

    fn survey(&self, _: u64, _: usize) -> StoreAnswer {
        StoreAnswer::Failed
    }

    fn holds(&self, ids: &[BlockId]) -> StoreAnswer {
        StoreAnswer::Holdings(vec![false; ids.len()])
    }

    fn demote(&self, _: &BlockId) -> StoreAnswer {
        StoreAnswer::Missing
    }

    fn keep(&self, _: Block, _: Shelf) -> StoreAnswer {
        StoreAnswer::Kept
    }

    fn sync(&self) -> bool {
        self.0.syncs.fetch_add(1, Ordering::Relaxed);
        true
    }
}

fn some_block() -> Block {
    crate::testing::content_block(1)
}

struct Fixture {
    pool: StorePool<Fake>,
    held: Arc<Held>,
    answers: mpsc::Receiver<(StoreTicket, StoreAnswer)>,
}

fn fixture() -> Fixture {
    let held = Arc::new(Held::default());
    let (send, answers) = mpsc::channel();
    let backend = Fake(Arc::clone(&held));
    let pool = StorePool::start(
        backend,
        &TaskTracker::new(),
        CancellationToken::new(),
        move |batch| {
            for answer in batch.drain(..) {
                let _ = send.send(answer);
            }
        },
    );
    Fixture { pool, held, answers }
}

#[tokio::test]
async fn overflow_is_refused_and_all_that_was_taken_is_answered() {
    let Fixture { pool, held, answers } = fixture();
    let id = some_block().id();
    let taken = (0..5000)
        .filter(|n| pool.ask(StoreTicket(*n), StoreQuestion::Find(id)))
        .count();
    assert!((QUEUE..=QUEUE + WORKERS * BATCH).contains(&taken), "{taken}");
    assert_eq!(pool.counts().refused, 5000 - taken as u64);
    held.release();
    let mut tickets: Vec<_> = answers.iter().take(taken).map(|(ticket, _)| ticket).collect();
    tickets.sort();
    tickets.dedup();
    assert_eq!(tickets.len(), taken);
}

#[tokio::test]
async fn who_waited_for_the_tasks_gets_the_backend_back() {
    for asked in 0..200 {
        let held = Arc::new(Held::default());
        held.release();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (send, answers) = mpsc::channel();
        let send_all = move |batch: &mut Vec<_>| {
            for answer in batch.drain(..) {
                let _ = send.send(answer);
            }
        };
        let pool = StorePool::start(Fake(held), &tasks, stop.clone(), send_all);
        let id = some_block().id();
        for ticket in 0..asked {
            assert!(pool.ask(StoreTicket(ticket), StoreQuestion::Find(id)));
            // Some find the workers at work, some have to call them.
            if ticket % 3 == 0 {
                answers.recv().unwrap();
            }
        }
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        assert!(
            pool.into_backend().is_some(),
            "a worker holds it after {asked} questions"
        );
    }
}

#[test]
fn a_pool_that_is_gone_calls_its_idle_workers_to_notice() {
    let desk = Desk::default();
    let queue = Arc::clone(&desk.0);
    let begun = Arc::new(std::sync::Barrier::new(2));
    let (waits, idle) = (Arc::clone(&begun), Arc::clone(&queue));
    let worker = thread::spawn(move || {
        lock(&idle).idle.push(thread::current());
        waits.wait();
        is_called(&idle)
    });
    begun.wait();
    drop(desk);
    assert!(worker.join().unwrap(), "long before it would give up");
    assert!(lock(&queue).idle.is_empty());
}

#[tokio::test]
async fn a_panic_is_one_failed_question() {
    let Fixture { pool, held, answers } = fixture();
    held.release();
    held.panic.store(true, Ordering::Relaxed);
    let id = some_block().id();
    assert!(pool.ask(StoreTicket(1), StoreQuestion::Find(id)));
    assert!(matches!(
        answers.recv().unwrap(),
        (StoreTicket(1), StoreAnswer::Failed)
    ));
    held.panic.store(false, Ordering::Relaxed);
    assert!(pool.ask(StoreTicket(2), StoreQuestion::Find(id)));
    assert!(matches!(
        answers.recv().unwrap(),
        (StoreTicket(2), StoreAnswer::Missing)
    ));
    assert_eq!(pool.counts().panics, 1);
}

#[tokio::test(start_paused = true)]
async fn keeps_are_synced_as_a_group() {
    let Fixture { pool, held, answers } = fixture();
    for n in 0..50 {
        assert!(pool.ask(StoreTicket(n), StoreQuestion::Keep(some_block(), Shelf::Store)));
        let _ = answers.recv().unwrap();
    }
    assert_eq!(held.syncs.load(Ordering::Relaxed), 0);
    tokio::time::sleep(2 * SYNC_DELAY).await;
    pool.flush().await;
    assert_eq!(held.syncs.load(Ordering::Relaxed), 1);
}
