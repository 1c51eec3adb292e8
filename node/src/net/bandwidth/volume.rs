//! How much a node has moved in the present calendar month, and what that still allows.
//!
//! Months are those of UTC: they begin for everybody at the same moment, and need no time zone's rules. A clock that is set
//! back does not give a used month back, and one that was set ahead by mistake does not use up the future: the count goes with
//! the clock, and starts anew only when the month grows.

use bytes::{Buf, BufMut, BytesMut};
use warren_proto::time::WallTime;

/// First byte of the saved form.
const VERSION: u8 = 1;
const LEN: usize = 1 + 4 + 8 + 8;

/// Of the month's volume this part is kept for the node's own user: one part in so many.
const RESERVE: u64 = 20;

/// Least limit for a month, bytes. 32 idle links alone come to some 4 GiB a month (a padded record for each ping, answer and word of
/// gossip), so this lasts a node that does nothing for half a day.
pub const MIN_MONTHLY: u64 = 64 << 20;

/// A calendar month of UTC: months since January of the year 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Month(u32);

impl Month {
    /// The month of a moment.
    pub(crate) fn of(wall: WallTime) -> Self {
        // Civil date from days, Howard Hinnant, "chrono-compatible low-level date algorithms", with the year beginning in March.
        let days = wall.0 / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let months = (era * 400 + year_of_era) * 12 + from_march + 2;
        Self(u32::try_from(months).unwrap_or(u32::MAX))
    }

    /// `2026-11`, for people.
    pub(crate) fn name(self) -> String {
        format!("{:04}-{:02}", self.0 / 12, self.0 % 12 + 1)
    }
}

/// What may still be moved this month.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowance {
    /// Everything that the rates let through.
    Full,
    /// Only what is left for the node's own user.
    Own,
    /// Nothing.
    Nothing,
}

/// Bytes of one month. Headers of TCP and IP are not counted, nor are connections that never became a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Volume {
    pub(crate) month: Month,
    pub(crate) up: u64,
    pub(crate) down: u64,
}

impl Volume {
    /// Nothing yet.
    pub(crate) const fn new(month: Month) -> Self {
        Self {
            month,
            up: 0,
            down: 0,
        }
    }

    /// Both directions.
    pub(crate) const fn total(&self) -> u64 {
        self.up.saturating_add(self.down)
    }

    /// The clock shows `month`. Whether that begins a new count.
    pub(crate) fn turn(&mut self, month: Month) -> bool {
        let fresh = month > self.month;
        if fresh {
            (self.up, self.down) = (0, 0);
        }
        self.month = month;
        fresh
    }

    /// Version, month (u32), bytes up and down (u64 each).
    pub(crate) fn encode(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(LEN);
        out.put_u8(VERSION);
        out.put_u32(self.month.0);
        out.put_u64(self.up);
        out.put_u64(self.down);
        out
    }

    /// `None` when the bytes are something else.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() != LEN || bytes.get_u8() != VERSION {
            return None;
        }
        Some(Self {
            month: Month(bytes.get_u32()),
            up: bytes.get_u64(),
            down: bytes.get_u64(),
        })
    }
}

/// What a month's limit of `monthly` bytes, both directions together, allows after `used`; and at how many that changes.
pub(crate) const fn allowance(monthly: Option<u64>, used: u64) -> (Allowance, u64) {
    let Some(monthly) = monthly else {
        return (Allowance::Full, u64::MAX);
    };
    let shared = monthly - monthly / RESERVE;
    if used < shared {
        (Allowance::Full, shared)
    } else if used < monthly {
        (Allowance::Own, monthly)
    } else {
        (Allowance::Nothing, u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        for (seconds, name) in [
            (0, "1970-01"),
            (31 * 86_400 - 1, "1970-01"),
            (31 * 86_400, "1970-02"),
            (951_782_399, "2000-02"),
            (951_868_800 - 1, "2000-02"),
            (951_868_800, "2000-03"),
            (1_704_067_199, "2023-12"),
            (1_704_067_200, "2024-01"),
            (1_709_164_800, "2024-02"),
            (1_709_251_200, "2024-03"),
            (1_795_000_000, "2026-11"),
            (4_107_542_400, "2100-03"),
            (4_107_542_399, "2100-02"),
        ] {
            assert_eq!(Month::of(WallTime(seconds)).name(), name, "{seconds}");
        }
        let _ = Month::of(WallTime(u64::MAX - 719_468 * 86_400)).name();
    }

    #[test]
    fn a_month_ends_only_forward() {
        let mut volume = Volume {
            month: Month(10),
            up: 5,
            down: 6,
        };
        assert!(!volume.turn(Month(10)) && volume.total() == 11);
        // The clock is set back: the count stays, and the next month still begins when it does.
        assert!(!volume.turn(Month(9)) && volume.total() == 11);
        assert!(volume.turn(Month(10)) && volume.total() == 0);
    }

    #[test]
    fn what_is_saved_comes_back() {
        let volume = Volume {
            month: Month(24_322),
            up: 1,
            down: u64::MAX,
        };
        assert_eq!(Volume::decode(&volume.encode()), Some(volume));
        let bytes = volume.encode();
        for len in 0..bytes.len() {
            assert_eq!(Volume::decode(&bytes[..len]), None);
        }
        let mut other = bytes.clone();
        other[0] = 9;
        assert_eq!(Volume::decode(&other), None);
    }

    #[test]
    fn the_last_part_is_the_users_own() {
        let limit = Some(200);
        assert_eq!(allowance(limit, 0), (Allowance::Full, 190));
        assert_eq!(allowance(limit, 189), (Allowance::Full, 190));
        assert_eq!(allowance(limit, 190), (Allowance::Own, 200));
        assert_eq!(allowance(limit, 200), (Allowance::Nothing, u64::MAX));
        assert_eq!(allowance(None, u64::MAX), (Allowance::Full, u64::MAX));
    }
}
