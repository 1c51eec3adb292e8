//! One task for each link: moves bytes between its socket and its machine, and messages between the machine and the rest.
//!
//! The task is one hand-written poll, not a loop of awaits: whatever woke it, it takes all queued commands, reads what
//! has arrived, hands out what came of it in one batch for each receiver, and writes what the socket takes. So work per
//! wake-up grows with the load, and wake-ups shrink.
//!
//! # Invariants
//!
//! - Nothing is sealed before the socket can take it: what waits, waits in the machine's fair queue.
//! - While the core is behind, the link is not read (TCP holds the peer back), but its commands are still taken, so
//!   that two busy tasks never wait for each other.
//! - With a bandwidth limit the link waits for its turn before it seals and before it reads, never after.
//! - Every link that the core has seen `Up` ends in exactly one `LinkDown`; every dial in `Up` or `DialFailed`.

use std::{
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BufMut, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::AsyncWrite,
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::io::poll_read_buf;
use warren_keys::NodeId;
use warren_proto::{
    core::api::CoreInput,
    ids::CircuitAddr,
    link::{
        CloseReason, Established, Link, LinkConfig,
        api::{LinkCommand, LinkEvent, LinkOutput},
    },
    time::Time,
};

use super::{
    Net,
    limits::Offence,
    pacing::Pacer,
    registry::{LinkHandle, Outbox},
};
use crate::aead::RingAead;

/// Rounds of reading and writing before other tasks get their turn. One round reads up to 128 KiB and writes what the socket
/// takes. Few, since everybody's small packets wait for those turns.
const ROUNDS: usize = 2;

/// Bytes that are sealed at a time for the socket: enough that a system call costs little beside the cipher, little enough
/// that a frame that comes later and is more urgent does not wait long.
const WRITE_BATCH: usize = 64 * 1024;

/// Bytes that are read at a time; the machine's buffer has room for about as many.
const READ_BATCH: usize = 64 * 1024;

/// Bytes that the socket takes beyond what the network takes at once. What waits in it can no longer be overtaken; a batch
/// or two keep the network busy until this task runs again.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 128 * 1024;

/// TCP's keepalive: a line that is cut is noticed after this silence and so many probes so far apart. Probes are headers and cost next
/// to nothing, where a ping of the protocol is a padded record; and they keep the connection alive in address translators, the
/// strictest of which forget it after 30 s.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(20);
/// See [`KEEPALIVE_AFTER`].
const KEEPALIVE_APART: Duration = Duration::from_secs(5);
/// See [`KEEPALIVE_AFTER`].
const KEEPALIVE_PROBES: u32 = 3;

/// Starts the task of a link whose handshake is complete. `dialled` is the node that was meant to be reached.
pub(crate) fn spawn(
    net: &Arc<Net>,
    stream: TcpStream,
    established: Established<RingAead>,
    address: SocketAddr,
    dialled: Option<NodeId>,
) {
    tune(&stream);
    let now = net.clock.now();
    let handle = net.registry.register(now, address, dialled.is_some());
    let config = LinkConfig {
        id: handle.id,
        secrets: Arc::clone(&net.secrets),
        descriptor: net.descriptor(),
        network: net.network,
        dialled,
        remote: Some(address),
        seed: net.random_seed(),
    };
    let mut link = Link::new(now, established, config);
    // The handshake may have left bytes.
    link.received(now);
    let task = LinkTask {
        link,
        net: Arc::clone(net),
        stream,
        commands: Vec::new(),
        events: Vec::new(),
        outbox: Outbox::default(),
        unsent: BytesMut::new(),
        unflushed: false,
        up_pace: Pacer::default(),
        down_pace: Pacer::default(),
        timer: Box::pin(sleep_until(Instant::now())),
        armed: None,
        up: false,
        dialled,
        handle,
    };
    net.tasks.spawn(task.run(address.ip()));
}

/// Sets what makes small packets fast. Failure costs speed, not function.
fn tune(stream: &TcpStream) {
    // Packets are whole when they are written; waiting to merge them only adds delay.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_APART)
        .with_retries(KEEPALIVE_PROBES);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
}

struct LinkTask {
    net: Arc<Net>,
    handle: Arc<LinkHandle>,
    stream: TcpStream,
    link: Link<RingAead>,
    commands: Vec<LinkCommand>,
    /// Events that the core has not taken yet.
    events: Vec<CoreInput>,
    outbox: Outbox,
    /// Sealed records on their way into the socket.
    unsent: BytesMut,
    /// Whether the machine may hold the beginning of a record, which is no longer queued and not yet sealed.
    unflushed: bool,
    up_pace: Pacer,
    down_pace: Pacer,
    timer: Pin<Box<Sleep>>,
    armed: Option<Time>,
    up: bool,
    dialled: Option<NodeId>,
}

impl LinkTask {
    async fn run(mut self, from: IpAddr) {
        poll_fn(|cx| self.poll(cx)).await;
        self.net.registry.remove(&self.handle);
        self.net.bandwidth.up.forget(self.handle.id);
        self.net.bandwidth.down.forget(self.handle.id);
        self.net.clocks.gone(self.handle.id);
        let reason = self.link.close_reason();
        if let Some(reason) = &reason {
            tracing::debug!(link = self.handle.id.0, %reason, "link ended");
        }
        let misbehaved = reason.as_ref().is_some_and(CloseReason::misbehaved);
        if let Some(CloseReason::Misbehaved(_)) = reason {
            let offence = if misbehaved {
                Offence::Link
            } else {
                Offence::Record
            };
            self.net.gate.offend(self.net.clock.now(), from, offence);
        }
        // What the core did not take of this link's events still comes before the link's end.
        for event in self.events.drain(..) {
            self.net.tell_core(event);
        }
        if self.up {
            self.net.tell_core(CoreInput::LinkDown {
                link: self.handle.id,
                misbehaved,
            });
        } else if let Some(node) = self.dialled {
            self.net.tell_core(CoreInput::DialFailed(node));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS {
            let now = self.net.clock.now();
            let worked = self.round(cx, now);
            self.net
                .registry
                .account(&self.handle, self.link.queued_bytes(), self.link.oldest_queued());
            if self.link.close_reason().is_some() {
                self.hand_out(now);
                return Poll::Ready(());
            }
            if !worked {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One round; false when there was nothing to do, and then the task's waker is registered everywhere.
    fn round(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        let mut worked = self.take_commands(cx, now);
        worked |= self.read(cx, now);
        worked |= self.timeouts(cx, now);
        self.hand_out(now);
        worked | self.write(cx, now)
    }

    fn take_commands(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        match self.handle.inbox().poll_take(cx, &mut self.commands) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => {
                self.link.disconnected();
                self.drain();
                return true;
            }
            Poll::Pending => return false,
        }
        let mut commands = std::mem::take(&mut self.commands);
        for command in commands.drain(..) {
            self.link.command(now, command);
            self.drain();
        }
        self.commands = commands;
        if self.handle.take_shed() {
            self.link.shed(now);
            self.drain();
        }
        true
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        if !self.events.is_empty() {
            if self.net.core.poll_space(cx).is_pending() {
                return false;
            }
            if !self.net.core.push_all(&mut self.events) {
                if self.net.core.is_closed() {
                    self.link.disconnected();
                    self.drain();
                }
                // Somebody else took the room; the next round registers for it again.
                return true;
            }
        }
        let Some(most) = self.may_read(cx) else {
            return false;
        };
        let mut room = self.link.buffer().limit(most);
        let read = poll_read_buf(Pin::new(&mut self.stream), cx, &mut room);
        let count = match &read {
            Poll::Ready(Ok(count)) => *count,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        let (down, id) = (&self.net.bandwidth.down, self.handle.id);
        self.down_pace.moved(down, id, count);
        match read {
            Poll::Pending => return false,
            Poll::Ready(Ok(0) | Err(_)) => self.link.disconnected(),
            Poll::Ready(Ok(count)) => {
                self.handle.count_read(count);
                self.net.bandwidth.count_down(count);
                self.link.received(now);
            }
        }
        self.drain();
        true
    }

    /// How much may be read now; `None`: nothing, and the task is woken when that changes.
    fn may_read(&mut self, cx: &mut Context<'_>) -> Option<usize> {
        let (down, id) = (&self.net.bandwidth.down, self.handle.id);
        if down.is_limited() && self.stream.poll_read_ready(cx).is_pending() {
            self.down_pace.leave(down, id);
            return None;
        }
        self.down_pace.turn(cx, &self.net, down, id, READ_BATCH)
    }

    /// How much may be sealed now; `None`: nothing, and the task is woken when that changes.
    fn may_seal(&mut self, cx: &mut Context<'_>) -> Option<usize> {
        let (up, id) = (&self.net.bandwidth.up, self.handle.id);
        if up.is_limited() {
            let nothing = self.link.queued_bytes() == 0 && !self.unflushed;
            if nothing || self.stream.poll_write_ready(cx).is_pending() {
                self.up_pace.leave(up, id);
                return None;
            }
        }
        self.up_pace.turn(cx, &self.net, up, id, WRITE_BATCH)
    }

    fn timeouts(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        let mut worked = false;
        if self.link.poll_timeout().is_some_and(|due| due <= now) {
            self.link.handle_timeout(now);
            self.drain();
            worked = true;
        }
        let Some(due) = self.link.poll_timeout() else {
            return worked;
        };
        // Every byte received puts the silence timeout off. A timer that is early fires once in vain, which is cheaper than
        // moving it with each packet.
        if self.armed.is_none_or(|armed| due < armed) {
            self.armed = Some(due);
            self.timer.as_mut().reset(self.net.clock.instant(due));
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            self.armed = None;
            worked = true;
        }
        worked
    }

    /// Empties the machine after an input, as the driving contract asks.
    fn drain(&mut self) {
        while let Some(output) = self.link.poll_output() {
            match output {
                LinkOutput::Core(event) => {
                    if let LinkEvent::Up { peer, .. } = &event {
                        self.up = true;
                        self.net.registry.introduced(&self.handle, peer.identity);
                        let now = self.net.clock.now();
                        self.net.clocks.introduced(now, self.handle.id, peer.published);
                    }
                    self.events.push(CoreInput::Link(self.handle.id, event));
                }
                LinkOutput::Link(to, command) => self.outbox.put(to, command),
            }
        }
    }

    /// Hands the batch over to the core and to other links. What another link cannot take costs its circuit, on both sides.
    fn hand_out(&mut self, now: Time) {
        self.net.core.push_all(&mut self.events);
        let mut refused = Vec::new();
        self.outbox.flush(&self.net.registry, |to, command, gone| {
            refused.push((to, command, gone))
        });
        if refused.is_empty() {
            return;
        }
        for (to, command, gone) in refused {
            if gone {
                self.link.undeliverable(now, to);
            } else if let LinkCommand::Forward { circuit, .. } | LinkCommand::Backward { circuit, .. } =
                command
            {
                self.link.refused(now, CircuitAddr { link: to, circuit });
            }
            self.drain();
        }
        // Only ends of circuits are left now, which have reserved room; if even that is used up, they end by their timeouts.
        self.outbox.flush(&self.net.registry, |_, _, _| {});
        self.net.core.push_all(&mut self.events);
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        let mut worked = false;
        loop {
            if self.unsent.is_empty() {
                let Some(most) = self.may_seal(cx) else {
                    return worked;
                };
                // Lets go of the memory, which the machine can then use again.
                self.unsent = BytesMut::new();
                let records = self.link.poll_transmit(now, most);
                self.unflushed = records.is_some();
                let sealed = records.as_ref().map_or(0, BytesMut::len);
                self.up_pace.moved(&self.net.bandwidth.up, self.handle.id, sealed);
                match records {
                    Some(records) => self.unsent = records,
                    None => return worked,
                }
            }
            match Pin::new(&mut self.stream).poll_write(cx, &self.unsent) {
                Poll::Pending => return worked,
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.link.disconnected();
                    self.drain();
                    return true;
                }
                Poll::Ready(Ok(count)) => {
                    self.unsent.advance(count);
                    self.handle.count_written(count);
                    self.net.bandwidth.count_up(count);
                    worked = true;
                }
            }
        }
    }
}
