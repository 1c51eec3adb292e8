//! What a node's links may move: a rate for each direction, and a volume for the calendar month.
//!
//! The links' tasks ask before they seal and before they read ([`Direction::turn`]); without a limit that costs one relaxed load.
//! Everything that they move is counted for the month, whether it is limited or not.
//!
//! - [`shaper`]: the token bucket and whose turn it is
//! - [`volume`]: the month, its count, and what that still allows
//!
//! Deliberately absent: what follows when a month's volume is used up (see [`crate::upkeep`]), and priorities: what a link sends first
//! its own queue decides (protocol §6.7).

pub(crate) mod shaper;
pub(crate) mod volume;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Waker},
};

use tokio::sync::Notify;
use warren_proto::{ids::LinkId, time::Time};

use self::{
    shaper::{Shaper, Turn},
    volume::{Allowance, Month, Volume, allowance},
};

/// Limits for what the links move. `None` is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BandwidthLimits {
    /// Bytes a second to others.
    pub up: Option<u64>,
    /// Bytes a second from others.
    pub down: Option<u64>,
    /// Bytes in a calendar month (UTC), both directions together.
    pub monthly: Option<u64>,
}

/// What a node has moved this month, and what it may still.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MonthStatus {
    /// The month, `2026-11`.
    pub month: String,
    /// Bytes sent.
    pub up: u64,
    /// Bytes received.
    pub down: u64,
    /// What may still be moved.
    pub allowance: Allowance,
}

/// One direction of all links.
pub(crate) struct Direction {
    /// Read without the lock, so that a node without a limit pays nothing for it.
    limited: AtomicBool,
    state: Mutex<Lane>,
}

struct Lane {
    shaper: Shaper,
    waiting: BTreeMap<LinkId, Waker>,
}

impl Direction {
    fn new(now: Time, rate: Option<u64>) -> Self {
        Self {
            limited: AtomicBool::new(rate.is_some()),
            state: Mutex::new(Lane {
                shaper: Shaper::new(now, rate),
                waiting: BTreeMap::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lane> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a limit.
    pub(crate) fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Relaxed)
    }

    /// Whether `link`, which could move bytes at once, may. When not, its task is woken when that changes, or arms a timer for the
    /// moment in [`Turn::Wait`].
    pub(crate) fn turn(&self, cx: &Context<'_>, now: Time, link: LinkId) -> Turn {
        let mut lane = self.lock();
        let turn = lane.shaper.ask(now, link);
        match turn {
            Turn::Go(_) => drop(lane.waiting.remove(&link)),
            Turn::Wait(_) => drop(lane.waiting.insert(link, cx.waker().clone())),
        }
        lane.wake_front(Some(link));
        turn
    }

    /// `link` has used its turn for so many bytes.
    pub(crate) fn moved(&self, link: LinkId, bytes: usize) {
        let mut lane = self.lock();
        lane.shaper.moved(link, bytes);
        lane.wake_front(None);
    }

    /// `link` has nothing to move any more.
    pub(crate) fn leave(&self, link: LinkId) {
        let mut lane = self.lock();
        lane.waiting.remove(&link);
        lane.shaper.leave(link);
        lane.wake_front(None);
    }

    /// `link` has ended.
    pub(crate) fn forget(&self, link: LinkId) {
        let mut lane = self.lock();
        lane.waiting.remove(&link);
        lane.shaper.forget(link);
        lane.wake_front(None);
    }

    fn set_rate(&self, now: Time, rate: Option<u64>) {
        let mut lane = self.lock();
        lane.shaper.set_rate(now, rate);
        self.limited.store(lane.shaper.is_limited(), Ordering::Relaxed);
        // Their timers were set for another rate.
        for (_, waker) in std::mem::take(&mut lane.waiting) {
            waker.wake();
        }
    }
}

impl Lane {
    /// Wakes the link whose turn it is, unless it is the one that asks: it knows.
    fn wake_front(&mut self, asking: Option<LinkId>) {
        let front = self.shaper.front().filter(|front| Some(*front) != asking);
        if let Some(waker) = front.and_then(|front| self.waiting.remove(&front)) {
            waker.wake();
        }
    }
}

/// Both directions of all links, and the month's count.
pub(crate) struct Bandwidth {
    pub(crate) up: Direction,
    pub(crate) down: Direction,
    sent: AtomicU64,
    received: AtomicU64,
    /// Bytes this month at which the allowance changes.
    threshold: AtomicU64,
    month: Mutex<Counting>,
    /// Told when the threshold is reached, and when the limits change.
    pub(crate) changed: Notify,
}

/// What is rarely touched.
struct Counting {
    limits: BandwidthLimits,
    month: Month,
}

impl Bandwidth {
    /// Limits, and what was counted before.
    pub(crate) fn new(now: Time, limits: BandwidthLimits, volume: Volume) -> Self {
        let (_, threshold) = allowance(limits.monthly, volume.total());
        Self {
            up: Direction::new(now, limits.up),
            down: Direction::new(now, limits.down),
            sent: AtomicU64::new(volume.up),
            received: AtomicU64::new(volume.down),
            threshold: AtomicU64::new(threshold),
            month: Mutex::new(Counting {
                limits,
                month: volume.month,
            }),
            changed: Notify::new(),
        }
    }

    fn counting(&self) -> MutexGuard<'_, Counting> {
        self.month.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts bytes sent.
    pub(crate) fn count_up(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.check();
    }

    /// Counts bytes received.
    pub(crate) fn count_down(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.check();
    }

    fn check(&self) {
        let total = self
            .sent
            .load(Ordering::Relaxed)
            .saturating_add(self.received.load(Ordering::Relaxed));
        if total >= self.threshold.load(Ordering::Relaxed) {
            self.changed.notify_one();
        }
    }

    /// The limits.
    pub(crate) fn limits(&self) -> BandwidthLimits {
        self.counting().limits
    }

    /// Other limits from now on.
    pub(crate) fn set_limits(&self, now: Time, limits: BandwidthLimits) {
        self.up.set_rate(now, limits.up);
        self.down.set_rate(now, limits.down);
        self.counting().limits = limits;
        self.changed.notify_one();
    }

    /// The month's count as it is saved.
    pub(crate) fn volume(&self) -> Volume {
        let month = self.counting().month;
        Volume {
            month,
            up: self.sent.load(Ordering::Relaxed),
            down: self.received.load(Ordering::Relaxed),
        }
    }

    /// The clock shows `month`: begins a new count with a new one, and says what is allowed now.
    pub(crate) fn review(&self, month: Month) -> Allowance {
        let mut volume = self.volume();
        if volume.turn(month) {
            self.sent.store(0, Ordering::Relaxed);
            self.received.store(0, Ordering::Relaxed);
        }
        let mut counting = self.counting();
        counting.month = month;
        let (allowance, threshold) = allowance(counting.limits.monthly, volume.total());
        self.threshold.store(threshold, Ordering::Relaxed);
        allowance
    }

    /// For the status.
    pub(crate) fn status(&self) -> MonthStatus {
        let volume = self.volume();
        let (allowance, _) = allowance(self.limits().monthly, volume.total());
        MonthStatus {
            month: volume.month.name(),
            up: volume.up,
            down: volume.down,
            allowance,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicUsize},
        task::Wake,
    };

    use warren_proto::time::WallTime;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waker() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        (Arc::clone(&woken), Waker::from(woken))
    }

    #[test]
    fn whoever_is_next_is_woken() {
        let direction = Direction::new(Time(0), Some(1 << 20));
        let (first, second) = (waker(), waker());
        let (a, b) = (Context::from_waker(&first.1), Context::from_waker(&second.1));
        let woken = |who: &(Arc<Woken>, Waker)| who.0.0.load(Ordering::Relaxed);
        assert!(matches!(direction.turn(&a, Time(0), LinkId(1)), Turn::Go(_)));
        assert_eq!(direction.turn(&b, Time(0), LinkId(2)), Turn::Wait(None));
        direction.moved(LinkId(1), 1 << 20);
        assert_eq!(woken(&second), 1);
        let Turn::Wait(Some(until)) = direction.turn(&b, Time(0), LinkId(2)) else {
            panic!("the bucket is empty");
        };
        assert_eq!(direction.turn(&a, until, LinkId(1)), Turn::Wait(None));
        // The second one ends without having had its turn.
        direction.forget(LinkId(2));
        assert_eq!(woken(&first), 1);
        assert!(matches!(direction.turn(&a, until, LinkId(1)), Turn::Go(_)));
        direction.moved(LinkId(1), 1 << 20);
        assert!(matches!(
            direction.turn(&a, until, LinkId(1)),
            Turn::Wait(Some(_))
        ));
        direction.set_rate(until, None);
        assert_eq!(woken(&first), 2);
        assert!(!direction.is_limited());
    }

    #[tokio::test]
    async fn the_month_is_counted_limited_and_over() {
        let november = Month::of(WallTime(1_795_000_000));
        let december = Month::of(WallTime(1_797_000_000));
        let limits = BandwidthLimits {
            monthly: Some(1000),
            ..BandwidthLimits::default()
        };
        let bandwidth = Bandwidth::new(Time(0), limits, Volume::new(november));
        assert_eq!(bandwidth.review(november), Allowance::Full);
        bandwidth.count_up(900);
        bandwidth.count_down(49);
        bandwidth.count_down(1);
        // Told once the threshold is reached, and not before.
        bandwidth.changed.notified().await;
        assert_eq!(bandwidth.review(november), Allowance::Own);
        bandwidth.count_up(50);
        bandwidth.changed.notified().await;
        assert_eq!(bandwidth.review(november), Allowance::Nothing);
        assert_eq!(bandwidth.status().allowance, Allowance::Nothing);
        // What is saved and read again is no fresh start.
        let again = Bandwidth::new(Time(0), limits, bandwidth.volume());
        assert_eq!(again.review(november), Allowance::Nothing);
        // More is granted while it runs.
        let more = BandwidthLimits {
            monthly: Some(5000),
            ..limits
        };
        again.set_limits(Time(0), more);
        again.changed.notified().await;
        assert_eq!(again.review(november), Allowance::Full);
        assert_eq!(bandwidth.review(december), Allowance::Full);
        assert_eq!(bandwidth.volume(), Volume::new(december));
    }
}
