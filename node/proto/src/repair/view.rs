//! Who keeps what: the members in order of their distance to a key.

use warren_keys::Location;

use super::{
    Moment,
    limits::{COPIES, NEAR_RANK},
    members::Members,
};
use crate::{ids::LinkId, topology::WANTED_LINKS};

/// The members as they are at a moment.
#[derive(Debug)]
pub(super) struct View {
    me: Location,
    seats: Vec<Seat>,
    horizon: Option<Horizon>,
}

/// How far this node knows everybody: a node is linked to its nearest on each side, and need not know anybody beyond.
#[derive(Clone, Copy, Debug)]
struct Horizon {
    /// Steps up and down to the last linked near neighbour.
    up: u128,
    down: u128,
    /// Members within.
    members: u128,
}

const RING: u128 = 1 << 64;

impl Horizon {
    /// None when there are so few neighbours that they may be all there are.
    fn new(me: Location, seats: &[Seat], near: usize) -> Option<Self> {
        let mut up: Vec<u64> = seats
            .iter()
            .filter(|seat| seat.link.is_some())
            .map(|seat| me.clockwise(seat.place))
            .collect();
        up.sort_unstable();
        if up.len() <= WANTED_LINKS.max(2 * near) {
            return None;
        }
        let down = RING - u128::from(*up.get(up.len() - near)?);
        let up = u128::from(*up.get(near.checked_sub(1)?)?);
        let within = |seat: &&Seat| {
            let steps = u128::from(me.clockwise(seat.place));
            steps <= up || RING - steps <= down
        };
        let members = seats.iter().filter(within).count() as u128;
        Some(Self { up, down, members })
    }

    /// Of the nodes nearer than this one to a key `distance` steps away, how many there must be that are not known, by the density
    /// of those that are. `beyond`: how many of those not within are known all the same.
    fn unknown(&self, up: bool, distance: u64, beyond: usize) -> usize {
        let (edge, other) = if up {
            (self.up, self.down)
        } else {
            (self.down, self.up)
        };
        let stretch = (2 * u128::from(distance)).min(RING - other).saturating_sub(edge);
        let expected = stretch * self.members / (self.up + self.down).max(1);
        usize::try_from(expected)
            .unwrap_or(usize::MAX)
            .saturating_sub(beyond)
    }

    fn contains(&self, up: bool, steps: u64) -> bool {
        let (edge, other) = if up {
            (self.up, self.down)
        } else {
            (self.down, self.up)
        };
        let steps = u128::from(steps);
        steps <= edge || RING - steps <= other
    }
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    place: Location,
    link: Option<LinkId>,
    settled: bool,
}

/// What a node is to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// One of the nearest members.
    Holder,
    /// Not one of them, though others may see it so.
    Near,
    Far,
}

/// Another holder of a block that is online.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Online {
    pub(super) place: Location,
    pub(super) link: LinkId,
    /// Whether it is nearer to the key than this node.
    pub(super) nearer: bool,
    /// Members nearer than it, this node included.
    pub(super) rank: usize,
}

/// Who is to keep a block.
#[derive(Debug)]
pub(super) struct Holders {
    /// Whether this node is one of them.
    pub(super) me: bool,
    /// Whether so many settled members are nearer that this node's copy is one too many.
    pub(super) relieved: bool,
    /// The others who are online, nearest first.
    pub(super) online: Vec<Online>,
}

impl View {
    /// `near`: the nearest online nodes on each side that this node is linked to.
    pub(super) fn new(moment: Moment, me: Location, members: &Members, near: usize) -> Self {
        let seats = members.present(moment).map(|(place, member)| Seat {
            place,
            link: member.link(),
            settled: member.settled(moment),
        });
        let seats: Vec<Seat> = seats.collect();
        let horizon = Horizon::new(me, &seats, near);
        Self { me, seats, horizon }
    }

    /// The holders of `key`, this node being one that stores.
    pub(super) fn holders(&self, key: Location) -> Holders {
        let own = self.me.distance(key);
        let me = self.rank(key, |_| true) < COPIES;
        let mut others: Vec<(u64, &Seat)> = self
            .seats
            .iter()
            .map(|seat| (seat.place.distance(key), seat))
            .collect();
        let count = COPIES - usize::from(me);
        if others.len() > count {
            others.select_nth_unstable_by_key(count, |(distance, seat)| (*distance, seat.place));
            others.truncate(count);
        }
        others.sort_unstable_by_key(|(distance, seat)| (*distance, seat.place));
        let online = others
            .iter()
            .enumerate()
            .filter_map(|(before, (distance, seat))| {
                let nearer = *distance < own;
                Some(Online {
                    place: seat.place,
                    link: seat.link?,
                    nearer,
                    rank: before + usize::from(!nearer),
                })
            });
        Holders {
            me,
            relieved: self.rank(key, |seat| seat.settled) >= COPIES,
            online: online.collect(),
        }
    }

    /// What this node is to `key`.
    pub(super) fn standing(&self, key: Location) -> Standing {
        match self.rank(key, |_| true) {
            0..COPIES => Standing::Holder,
            COPIES..NEAR_RANK => Standing::Near,
            _ => Standing::Far,
        }
    }

    /// Whether this node and a member at `place` may have to keep the same block: fewer than [`COPIES`] members between.
    pub(super) fn shares_blocks(&self, place: Location) -> bool {
        let between = |from: Location, to: Location| {
            let span = from.clockwise(to);
            let inside = |seat: &&Seat| (1..span).contains(&from.clockwise(seat.place));
            self.seats.iter().filter(inside).count()
        };
        between(self.me, place).min(between(place, self.me)) < COPIES
    }

    /// Nodes nearer to `key` than this one: the members that count, and those who must be beyond the horizon.
    fn rank(&self, key: Location, counts: impl Fn(&Seat) -> bool) -> usize {
        let own = self.me.distance(key);
        let up = self.me.clockwise(key) == own;
        let steps = |seat: &Seat| {
            if up {
                self.me.clockwise(seat.place)
            } else {
                seat.place.clockwise(self.me)
            }
        };
        let nearer = self.seats.iter().filter(|seat| seat.place.distance(key) < own);
        let Some(horizon) = &self.horizon else {
            return nearer.filter(|seat| counts(seat)).count();
        };
        let (mut known, mut beyond) = (0, 0);
        for seat in nearer {
            known += usize::from(counts(seat));
            beyond += usize::from(!horizon.contains(up, steps(seat)));
        }
        known + horizon.unknown(up, own, beyond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Time, WallTime};

    const HERE: Location = Location::new(1000);

    /// Members each 100 from 100 on up to `last`, without the one here, on links with the same numbers; those in `away` are offline.
    fn view(last: u64, away: &[u64], settled: bool) -> View {
        let moment = |hours: u64| Moment {
            now: Time(hours * 3_600_000_000),
            wall: WallTime(1_800_000_000 + hours * 3600),
            uptime: hours * 3600,
        };
        let mut members = Members::new(HERE);
        for place in (100..=last).step_by(100).filter(|place| *place != 1000) {
            members.up(moment(0), LinkId(place), Location::new(place));
        }
        for place in away {
            members.down(moment(1), LinkId(*place));
        }
        let later = moment(if settled { 30 } else { 2 });
        View::new(later, HERE, &members, 4)
    }

    fn links(holders: &Holders) -> Vec<u64> {
        holders.online.iter().map(|online| online.link.0).collect()
    }

    #[test]
    fn holders_are_the_nearest_five_online_or_not() {
        let view = view(2000, &[1100, 900], true);
        let holders = view.holders(Location::new(1010));
        assert!(holders.me && !holders.relieved);
        // Besides this node 1100, 900, 1200 and 800, of which two are away.
        assert_eq!(links(&holders), [1200, 800]);
        assert!(holders.online.iter().all(|online| !online.nearer));

        let holders = view.holders(Location::new(1190));
        assert_eq!(links(&holders), [1200, 1300, 1400]);
        assert!(holders.me && !holders.relieved);
        let nearer = holders.online.iter().map(|online| (online.nearer, online.rank));
        assert_eq!(nearer.collect::<Vec<_>>(), [(true, 0), (true, 2), (false, 4)]);

        let holders = view.holders(Location::new(1600));
        assert_eq!(links(&holders), [1600, 1500, 1700, 1400, 1800]);
        assert!(!holders.me && holders.relieved);
        assert!(!self::view(2000, &[], false).holders(Location::new(1600)).relieved);
    }

    #[test]
    fn near_is_wider_than_holding() {
        let view = view(5000, &[], true);
        assert_eq!(view.standing(Location::new(1190)), Standing::Holder);
        assert_eq!(view.standing(Location::new(1310)), Standing::Near);
        assert_eq!(view.standing(Location::new(1510)), Standing::Far);
    }

    #[test]
    fn blocks_are_shared_with_the_next_five_on_each_side() {
        let view = view(5000, &[], true);
        assert!(view.shares_blocks(Location::new(1500)) && view.shares_blocks(Location::new(500)));
        assert!(!view.shares_blocks(Location::new(1700)) && !view.shares_blocks(Location::new(300)));
    }

    /// Linked to four a side and knowing nobody else: a key near the edge has as many nodes beyond it as before it.
    #[test]
    fn beyond_the_horizon_there_are_as_many_as_within() {
        let moment = Moment {
            now: Time(0),
            wall: WallTime(1_800_000_000),
            uptime: 0,
        };
        let here = Location::new(1 << 63);
        let mut members = Members::new(here);
        let step = 1 << 40;
        let place = |rank: i64| Location::new((1_u64 << 63).wrapping_add_signed(rank * step));
        for rank in (-4..=4_i64).filter(|rank| *rank != 0) {
            members.up(moment, LinkId(rank.unsigned_abs()), place(rank));
        }
        let key = |half_steps: i64| Location::new((1_u64 << 63).wrapping_add_signed(half_steps * step / 2));
        let sees = |members: &Members, at: i64| View::new(moment, here, members, 4).standing(key(at));
        // So few that there might be no others.
        assert_eq!(sees(&members, 7), Standing::Holder);
        for far in 0..30 {
            members.up(moment, LinkId(100 + far), Location::new(far << 32));
        }
        // Between the third and the fourth: those, and three behind.
        assert_eq!(
            (sees(&members, 7), sees(&members, -7)),
            (Standing::Near, Standing::Near)
        );
        assert_eq!(
            (sees(&members, 3), sees(&members, -3)),
            (Standing::Holder, Standing::Holder)
        );
        assert_eq!(sees(&members, 100), Standing::Far);
    }
}
