//! How many requests this node keeps open at one neighbour: additive increase, multiplicative decrease.
//!
//! The neighbour's `Busy` is the signal. A full window means "route elsewhere", never "wait": the router holds no queue.

use super::limits::{FIRST_WINDOW, MAX_WINDOW, MIN_WINDOW, SHRINK_INTERVAL};
use crate::time::Time;

#[derive(Debug)]
pub(super) struct Window {
    size: u32,
    /// Answers since the size last grew.
    answered: u32,
    open: u32,
    /// Doubling per round of answers until the first refusal, then one per round.
    first_climb: bool,
    /// No shrinking, and after a refusal no sending, before this time.
    held_until: Time,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            size: FIRST_WINDOW,
            answered: 0,
            open: 0,
            first_climb: true,
            held_until: Time::default(),
        }
    }

    pub(super) fn has_room(&self, now: Time) -> bool {
        self.open < self.size && now >= self.held_until
    }

    pub(super) fn opened(&mut self) {
        self.open += 1;
    }

    /// The neighbour answered, whatever the answer.
    pub(super) fn answered(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.answered += 1;
        if self.first_climb || self.answered >= self.size {
            self.size = (self.size + 1).min(MAX_WINDOW);
            self.answered = 0;
        }
    }

    /// The neighbour refused for overload.
    pub(super) fn refused(&mut self, now: Time) {
        self.open = self.open.saturating_sub(1);
        self.first_climb = false;
        if now >= self.held_until {
            self.size = (self.size / 2).max(MIN_WINDOW);
            self.answered = 0;
            self.held_until = now + SHRINK_INTERVAL;
        }
    }

    /// The request ended without an answer; says nothing about the neighbour's load.
    pub(super) fn abandoned(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    pub(super) fn open(&self) -> u32 {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_on_refusal_and_climbs_by_one_a_round() {
        let mut window = Window::new();
        let start = window.size();
        for _ in 0..5 {
            window.opened();
        }
        window.refused(Time(1_000_000));
        window.refused(Time(1_000_001));
        assert_eq!((window.size(), window.open()), (start / 2, 3));
        assert!(!window.has_room(Time(1_000_001)));
        let later = Time(1_000_000) + SHRINK_INTERVAL;
        assert!(window.has_room(later));
        for _ in 0..start / 2 {
            window.opened();
            window.answered();
        }
        assert_eq!(window.size(), start / 2 + 1);
        for step in 1..20 {
            window.refused(later + SHRINK_INTERVAL * step);
        }
        assert_eq!(window.size(), MIN_WINDOW);
    }

    #[test]
    fn is_full_at_its_size_and_bounded() {
        let mut window = Window::new();
        for _ in 0..window.size() {
            assert!(window.has_room(Time(0)));
            window.opened();
        }
        assert!(!window.has_room(Time(0)));
        for _ in 0..10 * MAX_WINDOW {
            window.answered();
        }
        assert_eq!((window.size(), window.open()), (MAX_WINDOW, 0));
    }
}
