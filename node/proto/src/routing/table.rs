//! A table of open requests with their timers: an entry is never without a time at which it is looked at again.

use std::collections::{BTreeMap, BTreeSet};

use crate::{ids::RequestId, time::Time};

/// What a table holds.
pub(super) trait Timed {
    /// When the entry must be looked at next.
    fn wake(&self) -> Time;
}

#[derive(Debug)]
pub(super) struct Table<T> {
    entries: BTreeMap<RequestId, T>,
    timers: BTreeSet<(Time, RequestId)>,
}

impl<T: Timed> Table<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            timers: BTreeSet::new(),
        }
    }

    pub(super) fn put(&mut self, id: RequestId, entry: T) {
        self.timers.insert((entry.wake(), id));
        if let Some(old) = self.entries.insert(id, entry) {
            let wake = old.wake();
            if self.entries.get(&id).is_some_and(|entry| entry.wake() != wake) {
                self.timers.remove(&(wake, id));
            }
        }
    }

    pub(super) fn take(&mut self, id: RequestId) -> Option<T> {
        let entry = self.entries.remove(&id)?;
        self.timers.remove(&(entry.wake(), id));
        Some(entry)
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&T> {
        self.entries.get(&id)
    }

    pub(super) fn contains(&self, id: RequestId) -> bool {
        self.entries.contains_key(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn ids(&self) -> Vec<RequestId> {
        self.entries.keys().copied().collect()
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The first entry that is due.
    pub(super) fn due(&self, now: Time) -> Option<RequestId> {
        self.timers
            .first()
            .filter(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timed for u64 {
        fn wake(&self) -> Time {
            Time(*self)
        }
    }

    #[test]
    fn timers_follow_their_entries() {
        let mut table = Table::new();
        table.put(RequestId(1), 10);
        table.put(RequestId(2), 5);
        table.put(RequestId(2), 20);
        table.put(RequestId(1), 10);
        assert_eq!((table.next_wake(), table.due(Time(9))), (Some(Time(10)), None));
        assert_eq!(table.due(Time(10)), Some(RequestId(1)));
        assert_eq!(table.take(RequestId(1)), Some(10));
        assert_eq!((table.next_wake(), table.len()), (Some(Time(20)), 1));
        table.take(RequestId(2));
        assert_eq!(table.next_wake(), None);
    }
}
