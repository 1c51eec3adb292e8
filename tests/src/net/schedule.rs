//! What will happen, in the order in which it will.
//!
//! Invariant: events at the same time come out in the order in which they went in, so a run depends on nothing but its seed.

use std::collections::BTreeMap;

use warren_proto::time::Time;

/// A queue of events by time.
pub(crate) struct Schedule<E> {
    events: BTreeMap<(Time, u64), E>,
    last: u64,
}

impl<E> Schedule<E> {
    pub(crate) const fn new() -> Self {
        Self {
            events: BTreeMap::new(),
            last: 0,
        }
    }

    pub(crate) fn at(&mut self, time: Time, event: E) {
        self.last += 1;
        self.events.insert((time, self.last), event);
    }

    /// When the next event is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.events.keys().next().map(|(time, _)| *time)
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, E)> {
        self.events.pop_first().map(|((time, _), event)| (time, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_time_then_arrival() {
        let mut schedule = Schedule::new();
        for (time, name) in [(5, 'a'), (3, 'b'), (5, 'c'), (3, 'd')] {
            schedule.at(Time(time), name);
        }
        assert_eq!(schedule.next(), Some(Time(3)));
        let order: String = std::iter::from_fn(|| schedule.pop().map(|(_, name)| name)).collect();
        assert_eq!(order, "bdac");
    }
}
