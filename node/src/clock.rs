//! The node's clock: the one place where the protocol machines' time comes from.
//!
//! Machines count microseconds since the node started; the wall clock is used only for what is signed and dated.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use warren_proto::time::{Time, WallTime};

/// Microseconds on the clock when a node starts. Not zero, so that a machine may look back from its first moment.
const START: u64 = 3_600_000_000;

/// A monotonic clock with an origin of its own, and the wall clock beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Now, for the machines. Never goes backwards.
    #[must_use]
    pub(crate) fn now(&self) -> Time {
        let passed = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        Time(START.saturating_add(passed))
    }

    /// Seconds since the Unix epoch; zero when the system clock is set before it.
    #[must_use]
    pub(crate) fn wall(&self) -> WallTime {
        WallTime(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |passed| passed.as_secs()),
        )
    }

    /// The moment `time` as the runtime's timers understand it.
    #[must_use]
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.origin + Duration::from_micros(time.0.saturating_sub(START))
    }

    /// How long this clock has been running.
    #[must_use]
    pub(crate) fn uptime(&self) -> Duration {
        self.origin.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn machine_time_and_timers_agree() {
        let clock = Clock::start();
        let then = clock.now() + Duration::from_millis(250);
        tokio::time::sleep_until(clock.instant(then)).await;
        assert!(clock.now() >= then);
        assert!(clock.now().since(then) < Duration::from_millis(5));
    }
}
