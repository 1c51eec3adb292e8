//! One link's place in the lines for the node's bandwidth: asks for turns on behalf of the link's task.
//!
//! Invariant: a link stands in a line only while it could move bytes at once, and leaves when it cannot.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Sleep, sleep_until};
use warren_proto::{ids::LinkId, time::Time};

use super::{
    Net,
    bandwidth::{Direction, shaper::Turn},
};

/// One direction of one link.
#[derive(Default)]
pub(crate) struct Pacer {
    /// Whether the link stands in line.
    waiting: bool,
    /// Made when first needed: most nodes have no limit.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pacer {
    /// How many bytes the link may move now, at most `most`; it must be ready to. `None`: none, and the task is woken when that
    /// changes.
    pub(crate) fn turn(
        &mut self,
        cx: &mut Context<'_>,
        net: &Net,
        direction: &Direction,
        link: LinkId,
        most: usize,
    ) -> Option<usize> {
        if !direction.is_limited() {
            return Some(most);
        }
        loop {
            let now = net.clock.now();
            match direction.turn(cx, now, link) {
                Turn::Go(bytes) => return Some(bytes.min(most)),
                Turn::Wait(until) => {
                    self.waiting = true;
                    // A moment that has come meanwhile is asked about again.
                    if until.is_none_or(|until| self.arm(cx, net, until).is_pending()) {
                        return None;
                    }
                }
            }
        }
    }

    /// The link has used its turn for so many bytes, perhaps none.
    pub(crate) fn moved(&mut self, direction: &Direction, link: LinkId, bytes: usize) {
        if direction.is_limited() {
            direction.moved(link, bytes);
        }
        self.waiting = false;
    }

    /// The link has nothing to move, or cannot.
    pub(crate) fn leave(&mut self, direction: &Direction, link: LinkId) {
        if std::mem::take(&mut self.waiting) {
            direction.leave(link);
        }
    }

    fn arm(&mut self, cx: &mut Context<'_>, net: &Net, until: Time) -> Poll<()> {
        let at = net.clock.instant(until);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        timer.as_mut().reset(at);
        timer.as_mut().poll(cx)
    }
}
