//! What the router remembers of requests that have ended: bounded by number and age, oldest forgotten first.

use std::collections::{BTreeMap, VecDeque};

use core::time::Duration;

use crate::time::Time;

/// A map with a bound on size and age.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    entries: BTreeMap<K, (Time, V)>,
    order: VecDeque<(Time, K)>,
    most: usize,
    keep: Duration,
}

impl<K: Ord + Copy, V> Recent<K, V> {
    pub(crate) fn new(most: usize, keep: Duration) -> Self {
        Self {
            entries: BTreeMap::new(),
            order: VecDeque::new(),
            most,
            keep,
        }
    }

    pub(crate) fn insert(&mut self, now: Time, key: K, value: V) {
        self.entries.insert(key, (now, value));
        self.order.push_back((now, key));
        while let Some((at, key)) = self.order.front().copied() {
            if self.order.len() <= self.most && now.since(at) < self.keep {
                break;
            }
            self.order.pop_front();
            // A key that was inserted again since then has a later place in the order.
            if self.entries.get(&key).is_some_and(|entry| entry.0 == at) {
                self.entries.remove(&key);
            }
        }
    }

    pub(crate) fn find(&self, now: Time, key: &K) -> Option<&V> {
        self.entries
            .get(key)
            .filter(|(at, _)| now.since(*at) < self.keep)
            .map(|(_, value)| value)
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(most: usize) -> Recent<char, u8> {
        Recent::new(most, Duration::from_secs(10))
    }

    #[test]
    fn the_oldest_and_the_expired_are_forgotten() {
        let mut recent = recent(3);
        for (at, key) in "abcde".chars().enumerate() {
            recent.insert(Time(at as u64), key, 0);
        }
        let held: String = "abcde"
            .chars()
            .filter(|key| recent.find(Time(5), key).is_some())
            .collect();
        assert_eq!(held, "cde");
        assert!(recent.find(Time(11_000_000), &'e').is_none());
        recent.insert(Time(11_000_000), 'f', 0);
        assert_eq!(recent.len(), 1);
    }

    #[test]
    fn inserting_again_renews_and_replaces() {
        let mut recent = recent(2);
        recent.insert(Time(0), 'a', 1);
        recent.insert(Time(1), 'b', 2);
        recent.insert(Time(2), 'a', 3);
        assert_eq!(
            (recent.find(Time(3), &'a'), recent.find(Time(3), &'b')),
            (Some(&3), Some(&2))
        );
        recent.insert(Time(4), 'c', 4);
        assert_eq!(
            (recent.find(Time(5), &'a'), recent.find(Time(5), &'b')),
            (Some(&3), None)
        );
        recent.remove(&'a');
        assert_eq!(recent.find(Time(5), &'a'), None);
    }
}
