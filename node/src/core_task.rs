//! The task that owns the node's core machine: decisions only, no byte work, no waiting.
//!
//! # Invariants
//!
//! - Inputs come through one bounded inbox; outputs leave by pushes that cannot wait. What a receiver does not take is
//!   dropped (a link that is full loses a routed message, which its asker retries) or answered here (a refused datastore
//!   question has failed).
//! - All inputs of a wake-up are worked off before their outputs are handed out, so each link is woken once a batch.

use std::{
    future::{Future, poll_fn},
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep_until},
};
use warren_keys::NodeId;
use warren_proto::{
    core::{
        Core, CoreStatus,
        api::{CoreInput, CoreOutput, DialTarget, StoreAnswer},
    },
    descriptor::Descriptor,
    ids::OriginId,
    time::Time,
    topology::{Access, Reachability},
};

use crate::{
    clock::Clock,
    inbox::Inbox,
    jobs::{Jobs, NodeStopped},
    net::{Net, dialer, registry::Outbox},
    state::Remembered,
    store_pool::{Backend, StorePool},
};

/// Batches of inputs that are worked off before other tasks get their turn.
const BATCHES: usize = 16;

/// What others want of the core beside its inputs: rare, and taken between two batches after a nudge of its inbox.
#[derive(Default)]
pub(crate) struct Desk {
    wanted: AtomicBool,
    orders: Mutex<Vec<Order>>,
}

enum Order {
    Report(oneshot::Sender<Report>),
    Descriptor(Descriptor),
    Rest(bool),
    Pause(bool),
    MaxLinks(usize),
    Access(Access),
    Port(Option<u16>),
    Reach(oneshot::Sender<Seen>),
    Seed(DialTarget),
    Path(OriginId, oneshot::Sender<Vec<NodeId>>),
}

/// How others see this node.
pub(crate) struct Seen {
    pub(crate) reachability: Reachability,
    pub(crate) observed: Vec<IpAddr>,
}

/// What the core knows and does.
pub(crate) struct Report {
    pub(crate) status: CoreStatus,
    pub(crate) remembered: Remembered,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Vec<Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, core: &Inbox<CoreInput>, order: Order) {
        let mut orders = self.lock();
        // Checked under the lock that the core task takes after its inbox is closed: nothing is left behind unanswered.
        if !core.is_closed() {
            orders.push(order);
            self.wanted.store(true, Ordering::Release);
        }
        drop(orders);
        core.nudge();
    }

    /// Asks for a report; fails when the core task has ended.
    pub(crate) async fn report(&self, core: &Inbox<CoreInput>) -> Result<Report, NodeStopped> {
        let (answer, answered) = oneshot::channel();
        self.place(core, Order::Report(answer));
        answered.await.map_err(|_| NodeStopped)
    }

    /// Asks which nodes an own circuit passes.
    pub(crate) async fn path(
        &self,
        core: &Inbox<CoreInput>,
        origin: OriginId,
    ) -> Result<Vec<NodeId>, NodeStopped> {
        let (answer, answered) = oneshot::channel();
        self.place(core, Order::Path(origin, answer));
        answered.await.map_err(|_| NodeStopped)
    }

    /// Replaces the node's descriptor.
    pub(crate) fn set_descriptor(&self, core: &Inbox<CoreInput>, descriptor: Descriptor) {
        self.place(core, Order::Descriptor(descriptor));
    }

    /// Says whether the node does nothing for its neighbours.
    pub(crate) fn set_resting(&self, core: &Inbox<CoreInput>, resting: bool) {
        self.place(core, Order::Rest(resting));
    }

    /// Says whether the node wants no links for the time being.
    pub(crate) fn set_paused(&self, core: &Inbox<CoreInput>, paused: bool) {
        self.place(core, Order::Pause(paused));
    }

    /// Keeps at most so many links from now on.
    pub(crate) fn set_max_links(&self, core: &Inbox<CoreInput>, most: usize) {
        self.place(core, Order::MaxLinks(most));
    }

    /// Has links only with whom the owner lets in.
    pub(crate) fn set_access(&self, core: &Inbox<CoreInput>, access: Access) {
        self.place(core, Order::Access(access));
    }

    /// Says at which port others are to try to reach this node.
    pub(crate) fn set_port(&self, core: &Inbox<CoreInput>, port: Option<u16>) {
        self.place(core, Order::Port(port));
    }

    /// Asks how others see this node; fails when the core task has ended.
    pub(crate) async fn seen(&self, core: &Inbox<CoreInput>) -> Result<Seen, NodeStopped> {
        let (answer, answered) = oneshot::channel();
        self.place(core, Order::Reach(answer));
        answered.await.map_err(|_| NodeStopped)
    }

    /// Adds a node to find the network by.
    pub(crate) fn add_seed(&self, core: &Inbox<CoreInput>, seed: DialTarget) {
        self.place(core, Order::Seed(seed));
    }

    fn take(&self) -> Vec<Order> {
        if self.wanted.swap(false, Ordering::AcqRel) {
            std::mem::take(&mut *self.lock())
        } else {
            Vec::new()
        }
    }
}

/// What is worth remembering of the network.
pub(crate) fn remembered(core: &Core, clock: &Clock) -> Remembered {
    Remembered {
        entries: core.entries().to_vec(),
        descriptors: core.known().cloned().collect(),
        repair: core.repair_memory(clock.now(), clock.wall()),
    }
}

pub(crate) struct CoreTask<B> {
    net: Arc<Net>,
    core: Core,
    store: Arc<StorePool<B>>,
    jobs: Arc<Jobs>,
    desk: Arc<Desk>,
    inputs: Vec<CoreInput>,
    outbox: Outbox,
    timer: Pin<Box<Sleep>>,
    armed: Option<Time>,
}

impl<B: Backend> CoreTask<B> {
    pub(crate) fn new(
        net: Arc<Net>,
        core: Core,
        store: Arc<StorePool<B>>,
        jobs: Arc<Jobs>,
        desk: Arc<Desk>,
    ) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        let (inputs, outbox) = (Vec::new(), Outbox::default());
        Self {
            net,
            core,
            store,
            jobs,
            desk,
            inputs,
            outbox,
            timer,
            armed: None,
        }
    }

    /// Runs until the core's inbox is closed, and gives the machine back.
    pub(crate) async fn run(mut self) -> Core {
        poll_fn(|cx| self.poll(cx)).await;
        self.jobs.close();
        self.desk.lock().clear();
        self.core
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..BATCHES {
            let mut worked = false;
            match self.net.core.poll_take(cx, &mut self.inputs) {
                Poll::Ready(Ok(())) => worked = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            let now = self.net.clock.now();
            self.core.set_pressure(self.net.memory.pressure());
            let mut inputs = std::mem::take(&mut self.inputs);
            for input in inputs.drain(..) {
                self.input(now, input);
            }
            self.inputs = inputs;
            worked |= self.timeouts(cx, now);
            self.orders(now);
            self.net.memory.core(self.core.memory());
            self.outbox.flush(&self.net.registry, |_, _, _| {});
            if !worked {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn input(&mut self, now: Time, input: CoreInput) {
        self.core.input(now, self.net.clock.wall(), input);
        self.drain(now);
    }

    fn orders(&mut self, now: Time) {
        let wall = self.net.clock.wall();
        for order in self.desk.take() {
            match order {
                // Who asked may have gone.
                Order::Report(asker) => {
                    let report = Report {
                        status: self.core.status(now),
                        remembered: remembered(&self.core, &self.net.clock),
                    };
                    let _ = asker.send(report);
                }
                Order::Path(origin, asker) => {
                    let path = self.core.path_of(origin).unwrap_or_default().to_vec();
                    let _ = asker.send(path);
                }
                Order::Descriptor(descriptor) => self.core.set_descriptor(now, wall, descriptor),
                Order::Rest(resting) => self.core.set_resting(resting),
                Order::Pause(paused) => self.core.set_paused(now, wall, paused),
                Order::MaxLinks(most) => self.core.set_max_links(now, wall, most),
                Order::Access(access) => self.core.set_access(now, wall, access),
                Order::Port(port) => self.core.set_port(now, wall, port),
                Order::Reach(asker) => {
                    let status = self.core.status(now);
                    let _ = asker.send(Seen {
                        reachability: status.reachability,
                        observed: status.observed,
                    });
                }
                Order::Seed(seed) => self.core.add_seed(now, wall, seed),
            }
            self.drain(now);
        }
    }

    fn timeouts(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        let mut worked = false;
        if self.core.poll_timeout().is_some_and(|due| due <= now) {
            self.core.handle_timeout(now, self.net.clock.wall());
            self.drain(now);
            worked = true;
        }
        let due = self.core.poll_timeout();
        if due != self.armed {
            self.armed = due;
            if let Some(due) = due {
                self.timer.as_mut().reset(self.net.clock.instant(due));
            }
        }
        if due.is_some() && self.timer.as_mut().poll(cx).is_ready() {
            self.armed = None;
            worked = true;
        }
        worked
    }

    fn drain(&mut self, now: Time) {
        while let Some(output) = self.core.poll_output() {
            match output {
                CoreOutput::Link(to, command) => self.outbox.put(to, command),
                CoreOutput::Dial(target) => dialer::dial(&self.net, target),
                CoreOutput::Store(ticket, question) => {
                    if !self.store.ask(ticket, question) {
                        self.core.input(
                            now,
                            self.net.clock.wall(),
                            CoreInput::Store(ticket, StoreAnswer::Busy),
                        );
                    }
                }
                CoreOutput::Client(event) => self.jobs.deliver(event),
            }
        }
    }
}
