//! Which first messages of handshakes were answered: a recorded one is not answered again (protocol §4.5).
//!
//! A first message carries the hour in which it was made and an ephemeral key. Keys are remembered by hour for as long as the hour
//! is acceptable, so a replay is either remembered or too old.
//!
//! Invariants: only messages that authenticated get in, so a prober without the node's reference cannot fill it; memory is bounded; when
//! there is no room for an hour's keys, no message of that hour is answered at all, so that a replay is never taken for new.
//! Most of the room is for the hour that it is: whoever has the reference and wants to keep others out must go on
//! doing it, and cannot do it ahead of time.

use std::collections::BTreeMap;

use crate::{
    time::WallTime,
    wire::{Reader, WireError},
};

/// Hours by which the clocks of two nodes may differ: a day, and two hours for time that passes on the way and for rounding.
pub const MAX_CLOCK_HOURS: u32 = 26;
/// Keys remembered for an hour that is now, was just now or is about to be: over two handshakes a second, all the time. A node
/// has some hundred links.
const NEAR_QUOTA: usize = 8192;
/// Keys remembered for an hour that only a wrong clock makes now.
const FAR_QUOTA: usize = 1024;
/// Hours that are remembered, all that are acceptable and some more: if this node's clock jumps ahead and back again, what was
/// remembered before is still there. Bounds the cache to 8 MiB.
const MAX_HOURS: usize = 64;
const _: () = assert!(MAX_HOURS > 2 * MAX_CLOCK_HOURS as usize + 1);
/// Bytes of a key that are remembered; keys are random, so 16 do.
const PREFIX: usize = 16;
/// Version of the saved form.
const VERSION: u8 = 1;

/// Why a first message is not answered although it authenticates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReplayError {
    /// The clocks differ too much.
    #[error("the clocks differ by more than {MAX_CLOCK_HOURS} hours")]
    Clock {
        /// The hour that it is by the peer's clock, since the Unix epoch.
        hour: u32,
    },
    /// It was answered before.
    #[error("a replayed message")]
    Replayed,
    /// No room for its hour.
    #[error("too many handshakes in one hour")]
    Crowded,
}

/// The first messages that were answered lately.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ReplayCache {
    /// Sorted key prefixes by the hour that their messages name.
    hours: BTreeMap<u32, Vec<[u8; PREFIX]>>,
}

/// The hour of a point in time, as first messages carry it: hours since the Unix epoch.
#[must_use]
pub(crate) fn hour_of(now: WallTime) -> u32 {
    u32::try_from(now.0 / 3600).unwrap_or(u32::MAX)
}

impl ReplayCache {
    /// Nothing answered yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers a first message that is about to be answered.
    pub(crate) fn admit(&mut self, now: WallTime, hour: u32, key: &[u8; 32]) -> Result<(), ReplayError> {
        let now = hour_of(now);
        let quota = match now.abs_diff(hour) {
            0..=1 => NEAR_QUOTA,
            2..=MAX_CLOCK_HOURS => FAR_QUOTA,
            _ => return Err(ReplayError::Clock { hour }),
        };
        let (prefix, _) = key.split_first_chunk::<PREFIX>().ok_or(ReplayError::Crowded)?;
        let keys = self.hours.entry(hour).or_default();
        let Err(place) = keys.binary_search(prefix) else {
            return Err(ReplayError::Replayed);
        };
        if keys.len() >= quota {
            return Err(ReplayError::Crowded);
        }
        keys.insert(place, *prefix);
        self.forget(now);
        Ok(())
    }

    /// Drops the hours furthest from now until few enough are left; those are not acceptable.
    fn forget(&mut self, now: u32) {
        while self.hours.len() > MAX_HOURS {
            let ends = [self.hours.first_key_value(), self.hours.last_key_value()]
                .into_iter()
                .flatten();
            let Some(furthest) = ends.map(|(hour, _)| *hour).max_by_key(|hour| hour.abs_diff(now)) else {
                return;
            };
            self.hours.remove(&furthest);
        }
    }

    /// Messages remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hours.values().map(Vec::len).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hours.is_empty()
    }

    /// The saved form. It is no secret, but tells when others connected to this node: to be kept sealed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for (hour, keys) in &self.hours {
            out.extend_from_slice(&hour.to_be_bytes());
            #[expect(clippy::cast_possible_truncation, reason = "at most NEAR_QUOTA")]
            out.extend_from_slice(&(keys.len() as u16).to_be_bytes());
            out.extend_from_slice(keys.as_flattened());
        }
        out
    }

    /// Takes the saved form up again.
    ///
    /// # Errors
    /// Not what [`ReplayCache::to_bytes`] makes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let mut hours = BTreeMap::new();
        while !reader.rest().is_empty() {
            let (hour, count) = (reader.u32()?, usize::from(reader.u16()?));
            let in_order = hours.last_key_value().is_none_or(|(last, _)| *last < hour);
            if !in_order || hours.len() == MAX_HOURS {
                return Err(WireError::Value {
                    field: "hour",
                    value: hour.into(),
                });
            }
            let keys: Vec<[u8; PREFIX]> = (0..count).map(|_| reader.array()).collect::<Result<_, _>>()?;
            if keys.is_empty() || count > NEAR_QUOTA || !keys.is_sorted_by(|a, b| a < b) {
                return Err(WireError::Value {
                    field: "number or order of keys",
                    value: count as u64,
                });
            }
            hours.insert(hour, keys);
        }
        Ok(Self { hours })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u32 = 500_000;

    fn at(hour: u32) -> WallTime {
        WallTime(u64::from(hour) * 3600 + 1800)
    }

    fn key(number: u32) -> [u8; 32] {
        let mut key = [0; 32];
        // Spread, so that insertion happens in the middle too.
        key[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
        key
    }

    #[test]
    fn a_message_is_admitted_once_within_the_window() {
        let mut cache = ReplayCache::new();
        for hour in NOW - MAX_CLOCK_HOURS..=NOW + MAX_CLOCK_HOURS {
            assert_eq!(cache.admit(at(NOW), hour, &key(1)), Ok(()));
            assert_eq!(cache.admit(at(NOW), hour, &key(1)), Err(ReplayError::Replayed));
        }
        for hour in [0, NOW - MAX_CLOCK_HOURS - 1, NOW + MAX_CLOCK_HOURS + 1, u32::MAX] {
            assert_eq!(
                cache.admit(at(NOW), hour, &key(2)),
                Err(ReplayError::Clock { hour })
            );
        }
    }

    #[test]
    fn a_replay_is_remembered_for_as_long_as_it_is_acceptable() {
        for made in [NOW - MAX_CLOCK_HOURS, NOW, NOW + MAX_CLOCK_HOURS] {
            let mut cache = ReplayCache::new();
            cache.admit(at(NOW), made, &key(0)).unwrap();
            for hour in NOW..NOW + 200 {
                // Others come meanwhile, with all kinds of clocks.
                for (number, wrong) in (0..).zip([0, 5, MAX_CLOCK_HOURS]) {
                    let _ = cache.admit(at(hour), hour - wrong, &key(1000 + hour * 8 + number));
                    let _ = cache.admit(at(hour), hour + wrong, &key(2000 + hour * 8 + number));
                }
                let fate = cache.admit(at(hour), made, &key(0));
                assert!(
                    matches!(fate, Err(ReplayError::Replayed | ReplayError::Clock { .. })),
                    "{hour}: {fate:?}"
                );
                assert!(cache.hours.len() <= MAX_HOURS);
            }
        }
    }

    #[test]
    fn a_clock_that_jumps_and_returns_forgets_nothing() {
        let mut cache = ReplayCache::new();
        cache.admit(at(NOW), NOW, &key(0)).unwrap();
        cache.admit(at(9_000_000), 9_000_000, &key(1)).unwrap();
        assert_eq!(cache.admit(at(NOW), NOW, &key(0)), Err(ReplayError::Replayed));
    }

    #[test]
    fn full_means_silence_and_only_for_that_hour() {
        let mut cache = ReplayCache::new();
        // Somebody with the reference prepares the hours to come...
        for ahead in 2..=MAX_CLOCK_HOURS {
            for number in (0..).take(FAR_QUOTA) {
                assert_eq!(cache.admit(at(NOW), NOW + ahead, &key(number)), Ok(()));
            }
            assert_eq!(
                cache.admit(at(NOW), NOW + ahead, &key(9999)),
                Err(ReplayError::Crowded)
            );
        }
        // ...and when they come there is still room.
        assert_eq!(cache.admit(at(NOW + 5), NOW + 5, &key(9999)), Ok(()));
        for number in (0..).take(NEAR_QUOTA) {
            let _ = cache.admit(at(NOW), NOW, &key(number));
        }
        assert_eq!(cache.admit(at(NOW), NOW, &key(9999)), Err(ReplayError::Crowded));
        assert_eq!(cache.admit(at(NOW), NOW, &key(17)), Err(ReplayError::Replayed));
        assert_eq!(cache.admit(at(NOW), NOW + 1, &key(9999)), Ok(()));
        assert!(cache.to_bytes().len() < MAX_HOURS * (NEAR_QUOTA * PREFIX + 6));
    }

    #[test]
    fn saved_and_taken_up_again() {
        let mut cache = ReplayCache::new();
        assert!(cache.is_empty() && ReplayCache::from_bytes(&cache.to_bytes()).unwrap() == cache);
        for number in 0..100 {
            cache.admit(at(NOW), NOW + number % 3, &key(number)).unwrap();
        }
        let bytes = cache.to_bytes();
        let mut again = ReplayCache::from_bytes(&bytes).unwrap();
        assert!(again == cache && again.len() == 100);
        assert_eq!(again.admit(at(NOW), NOW, &key(0)), Err(ReplayError::Replayed));
        for len in [0, 2, bytes.len() - 1] {
            assert!(ReplayCache::from_bytes(&bytes[..len]).is_err());
        }
        for place in [0, 1, 5, 6, 7] {
            let mut changed = bytes.clone();
            changed[place] ^= 0xff;
            assert!(ReplayCache::from_bytes(&changed).is_err(), "byte {place}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_cache_or_an_error(mut bytes: Vec<u8>) {
            bytes.insert(0, VERSION);
            if let Ok(cache) = ReplayCache::from_bytes(&bytes) {
                prop_assert_eq!(cache.to_bytes(), bytes);
            }
        }
    }
}
