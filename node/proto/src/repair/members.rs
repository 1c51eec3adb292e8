//! Who keeps blocks around here: the nodes seen on links, remembered while they are away.
//!
//! A member is known by its place on the ring. It is *gone* when it was missed for its grace: 72 hours, or less if it has
//! hardly ever been seen (see `limits`), by a node that was itself there for a third of that time. A gone member's
//! record is kept for its presence, until room is needed.

use std::collections::BTreeMap;

use warren_keys::Location;

use super::{
    Moment,
    allowance::Allowance,
    limits::{GRACE, GRACE_FACTOR, GRACE_UPTIME, MAX_MEMBERS, SETTLED},
};
use crate::{
    ids::LinkId,
    time::{Time, WallTime},
};

/// What is remembered of a member over restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberRecord {
    /// Where it is.
    pub place: Location,
    /// When it became a member: first seen, or first seen again after it was gone.
    pub since: WallTime,
    /// When it was seen last.
    pub seen: WallTime,
    /// The own uptime at that moment, seconds over all runs.
    pub seen_at_uptime: u64,
    /// How long it has been seen altogether, seconds.
    pub presence: u64,
}

#[derive(Debug)]
pub(super) struct Member {
    record: MemberRecord,
    /// Its links, the newest last. Two for a moment when one replaces the other.
    links: Vec<LinkId>,
    /// What may be pushed to it.
    pub(super) allowance: Allowance,
    /// Nothing is pushed to it before.
    pub(super) paused: Time,
}

impl Member {
    pub(super) fn link(&self) -> Option<LinkId> {
        self.links.last().copied()
    }

    fn gone(&self, moment: Moment) -> bool {
        if !self.links.is_empty() {
            return false;
        }
        let grace = GRACE
            .as_secs()
            .min(self.record.presence.saturating_mul(GRACE_FACTOR));
        let missed = moment.wall.0.saturating_sub(self.record.seen.0);
        let missed_here = moment.uptime.saturating_sub(self.record.seen_at_uptime);
        missed >= grace && missed_here >= grace / GRACE_UPTIME
    }

    pub(super) fn settled(&self, moment: Moment) -> bool {
        moment.wall.0.saturating_sub(self.record.since.0) >= SETTLED.as_secs()
    }

    /// The record as it is now.
    fn current(&self, moment: Moment) -> MemberRecord {
        let mut record = self.record;
        if !self.links.is_empty() {
            let more = moment.uptime.saturating_sub(record.seen_at_uptime);
            record.presence = record.presence.saturating_add(more);
            record.seen_at_uptime = moment.uptime;
            record.seen = moment.wall;
        }
        // The clock was ahead when this was written.
        record.seen = record.seen.min(moment.wall);
        record.since = record.since.min(moment.wall);
        record
    }

    /// Brings the record up to date.
    fn see(&mut self, moment: Moment) {
        self.record = self.current(moment);
    }
}

#[derive(Debug)]
pub(super) struct Members {
    me: Location,
    by_place: BTreeMap<Location, Member>,
    by_link: BTreeMap<LinkId, Location>,
}

impl Members {
    pub(super) fn new(me: Location) -> Self {
        Self {
            me,
            by_place: BTreeMap::new(),
            by_link: BTreeMap::new(),
        }
    }

    /// Takes up the records of an earlier run.
    pub(super) fn restore(&mut self, moment: Moment, records: &[MemberRecord]) {
        for record in records.iter().filter(|record| record.place != self.me) {
            self.by_place.insert(
                record.place,
                Member {
                    record: MemberRecord {
                        seen_at_uptime: record.seen_at_uptime.min(moment.uptime),
                        ..*record
                    },
                    links: Vec::new(),
                    allowance: Allowance::new(moment.now, 0),
                    paused: moment.now,
                },
            );
        }
        self.refresh(moment);
        self.prune(moment);
    }

    /// A link to a member. Whether it is new here, or was gone.
    pub(super) fn up(&mut self, moment: Moment, link: LinkId, place: Location) -> bool {
        if place == self.me {
            return false;
        }
        let fresh = Member {
            record: MemberRecord {
                place,
                since: moment.wall,
                seen: moment.wall,
                seen_at_uptime: moment.uptime,
                presence: 0,
            },
            links: Vec::new(),
            allowance: Allowance::new(moment.now, 0),
            paused: moment.now,
        };
        let known = self.by_place.contains_key(&place);
        let member = self.by_place.entry(place).or_insert(fresh);
        let joined = !known || member.gone(moment);
        if joined {
            member.record.since = moment.wall;
        }
        member.see(moment);
        if member.links.is_empty() {
            member.record.seen = moment.wall;
            member.record.seen_at_uptime = moment.uptime;
        }
        member.links.push(link);
        self.by_link.insert(link, place);
        self.prune(moment);
        joined
    }

    pub(super) fn down(&mut self, moment: Moment, link: LinkId) {
        let Some(place) = self.by_link.remove(&link) else {
            return;
        };
        if let Some(member) = self.by_place.get_mut(&place) {
            member.see(moment);
            member.links.retain(|known| *known != link);
        }
    }

    /// A node that is linked and does not store, whatever it did before.
    pub(super) fn forget(&mut self, place: Location) {
        if let Some(member) = self.by_place.remove(&place) {
            for link in member.links {
                self.by_link.remove(&link);
            }
        }
    }

    pub(super) fn place_of(&self, link: LinkId) -> Option<Location> {
        self.by_link.get(&link).copied()
    }

    pub(super) fn find_mut(&mut self, place: Location) -> Option<&mut Member> {
        self.by_place.get_mut(&place)
    }

    pub(super) fn find(&self, place: Location) -> Option<&Member> {
        self.by_place.get(&place)
    }

    /// Those who are not gone.
    pub(super) fn present(&self, moment: Moment) -> impl Iterator<Item = (Location, &Member)> {
        self.by_place
            .iter()
            .filter(move |(_, member)| !member.gone(moment))
            .map(|(place, member)| (*place, member))
    }

    /// Brings all records up to date.
    pub(super) fn refresh(&mut self, moment: Moment) {
        for member in self.by_place.values_mut() {
            member.see(moment);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_place.len()
    }

    /// What is to be remembered.
    pub(super) fn records(&self, moment: Moment) -> impl Iterator<Item = MemberRecord> {
        self.by_place.values().map(move |member| member.current(moment))
    }

    /// Makes room: first the gone, then the farthest of those who are away.
    fn prune(&mut self, moment: Moment) {
        while self.by_place.len() > MAX_MEMBERS {
            let away = self.by_place.iter().filter(|(_, member)| member.links.is_empty());
            let worst = away
                .max_by_key(|(place, member)| (member.gone(moment), place.distance(self.me)))
                .map(|(place, _)| *place);
            let Some(worst) = worst else { return };
            self.by_place.remove(&worst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    /// After `up` hours of own uptime at hour `wall` of the calendar.
    fn at(wall: u64, up: u64) -> Moment {
        Moment {
            now: Time(up * HOUR * 1_000_000),
            wall: WallTime(1_800_000_000 + wall * HOUR),
            uptime: up * HOUR,
        }
    }

    fn present(members: &Members, moment: Moment) -> usize {
        members.present(moment).count()
    }

    #[test]
    fn missed_for_71_hours_is_a_member_for_73_is_gone() {
        let mut members = Members::new(Location::new(0));
        assert!(members.up(at(0, 0), LinkId(1), Location::new(5)));
        members.down(at(8, 8), LinkId(1));
        assert_eq!(present(&members, at(8 + 71, 8 + 71)), 1);
        assert_eq!(present(&members, at(8 + 73, 8 + 73)), 0);
        // Back after 71 hours: no newcomer. After 73: one.
        assert!(!members.up(at(79, 79), LinkId(2), Location::new(5)));
        members.down(at(80, 80), LinkId(2));
        assert!(members.up(at(80 + 73, 80 + 73), LinkId(3), Location::new(5)));
    }

    #[test]
    fn who_looks_in_briefly_counts_briefly() {
        let mut members = Members::new(Location::new(0));
        members.up(at(0, 0), LinkId(1), Location::new(5));
        members.down(at(1, 1), LinkId(1));
        assert_eq!(present(&members, at(36, 36)), 1);
        assert_eq!(present(&members, at(38, 38)), 0);
    }

    #[test]
    fn nobody_is_missed_by_a_node_that_was_away_itself() {
        let mut members = Members::new(Location::new(0));
        members.up(at(0, 0), LinkId(1), Location::new(5));
        members.refresh(at(10, 10));
        let records: Vec<_> = members.records(at(10, 10)).collect();
        // A month later.
        let mut back = Members::new(Location::new(0));
        back.restore(at(700, 10), &records);
        assert_eq!(present(&back, at(723, 33)), 1);
        assert_eq!(present(&back, at(725, 35)), 0);
    }

    #[test]
    fn a_clock_that_was_ahead_makes_nobody_immortal() {
        let mut members = Members::new(Location::new(0));
        members.up(at(9000, 0), LinkId(1), Location::new(5));
        members.down(at(9010, 10), LinkId(1));
        members.refresh(at(10, 10));
        assert_eq!(present(&members, at(83, 83)), 0);
    }

    #[test]
    fn links_replace_each_other_and_the_far_and_gone_make_room() {
        let mut members = Members::new(Location::new(0));
        let place = Location::new(5);
        members.up(at(0, 0), LinkId(1), place);
        assert!(!members.up(at(1, 1), LinkId(2), place));
        members.down(at(2, 2), LinkId(1));
        assert_eq!(members.find(place).unwrap().link(), Some(LinkId(2)));
        for n in 10..1000 {
            members.up(at(2, 2), LinkId(n), Location::new(n << 32));
            members.down(at(3, 3), LinkId(n));
        }
        assert_eq!(members.len(), MAX_MEMBERS);
        assert!(members.find(place).is_some() && members.find(Location::new(10 << 32)).is_some());
        assert!(members.find(Location::new(900 << 32)).is_none());
        members.forget(place);
        assert_eq!(members.place_of(LinkId(2)), None);
    }
}
