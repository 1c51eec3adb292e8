//! The neighbours as the router sees them: where they stand on the ring, and how much is open with each.

use std::collections::BTreeMap;

use warren_keys::Location;

use super::window::Window;
use crate::{ids::LinkId, time::Time};

#[derive(Debug)]
pub(super) struct Neighbour {
    pub(super) location: Location,
    /// Whether it keeps blocks.
    pub(super) stores: bool,
    /// Own requests open at it.
    pub(super) window: Window,
    /// Its requests open here.
    pub(super) inbound: usize,
    /// Copies that it pushed and that are being written.
    pub(super) writes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Neighbours {
    by_link: BTreeMap<LinkId, Neighbour>,
}

/// Whom to send a request to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Choice {
    /// The nearest neighbour that is not skipped and whose window has room.
    pub(super) link: Option<LinkId>,
    /// Whether a nearer one was passed over because its window is full.
    pub(super) crowded: bool,
}

impl Neighbours {
    pub(super) fn insert(&mut self, link: LinkId, location: Location, stores: bool) {
        self.by_link.insert(
            link,
            Neighbour {
                location,
                stores,
                window: Window::new(),
                inbound: 0,
                writes: 0,
            },
        );
    }

    pub(super) fn remove(&mut self, link: LinkId) -> bool {
        self.by_link.remove(&link).is_some()
    }

    pub(super) fn find(&self, link: LinkId) -> Option<&Neighbour> {
        self.by_link.get(&link)
    }

    pub(super) fn find_mut(&mut self, link: LinkId) -> Option<&mut Neighbour> {
        self.by_link.get_mut(&link)
    }

    /// Picks the neighbour nearest to `key` among those that are nearer than `within` and that `skip` does not name.
    pub(super) fn choose(
        &self,
        now: Time,
        key: Location,
        within: Option<u64>,
        skip: impl Fn(LinkId) -> bool,
    ) -> Choice {
        let mut best: Option<(u64, LinkId)> = None;
        let mut full: Option<u64> = None;
        for (link, neighbour) in &self.by_link {
            let distance = neighbour.location.distance(key);
            if within.is_some_and(|within| distance >= within) || skip(*link) {
                continue;
            }
            if !neighbour.window.has_room(now) {
                full = Some(full.map_or(distance, |known| known.min(distance)));
            } else if best.is_none_or(|(known, _)| distance < known) {
                best = Some((distance, *link));
            }
        }
        let crowded = full.is_some_and(|full| best.is_none_or(|(distance, _)| full < distance));
        Choice {
            link: best.map(|(_, link)| link),
            crowded,
        }
    }

    /// The `count` neighbours that keep blocks and are nearest to `key`, nearest first.
    pub(super) fn nearest_stores(&self, key: Location, count: usize) -> Vec<LinkId> {
        let mut stores: Vec<(u64, LinkId)> = self
            .by_link
            .iter()
            .filter(|(_, neighbour)| neighbour.stores)
            .map(|(link, neighbour)| (neighbour.location.distance(key), *link))
            .collect();
        stores.sort_unstable();
        stores.truncate(count);
        stores.into_iter().map(|(_, link)| link).collect()
    }

    /// Distance of the `rank`-th nearest neighbour that keeps blocks; nothing with fewer than `least` of them.
    pub(super) fn reach(&self, here: Location, rank: usize, least: usize) -> Option<u64> {
        let mut stores: Vec<u64> = self
            .by_link
            .values()
            .filter(|neighbour| neighbour.stores)
            .map(|neighbour| neighbour.location.distance(here))
            .collect();
        if stores.len() < least.max(rank) {
            return None;
        }
        let (_, reach, _) = stores.select_nth_unstable(rank.checked_sub(1)?);
        Some(*reach)
    }

    /// How many neighbours that keep blocks are nearer to `key` than `distance`.
    pub(super) fn stores_within(&self, key: Location, distance: u64) -> usize {
        self.by_link
            .values()
            .filter(|n| n.stores && n.location.distance(key) < distance)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(points: &[u64]) -> Neighbours {
        let mut neighbours = Neighbours::default();
        for (link, point) in (0..).zip(points) {
            neighbours.insert(LinkId(link), Location::new(*point), link != 1);
        }
        neighbours
    }

    #[test]
    fn chooses_the_nearest_that_has_room() {
        let mut neighbours = ring(&[100, 200, 300]);
        let key = Location::new(210);
        let choose = |n: &Neighbours, within| n.choose(Time(0), key, within, |_| false);
        assert_eq!(
            choose(&neighbours, None),
            Choice {
                link: Some(LinkId(1)),
                crowded: false
            }
        );
        assert_eq!(
            choose(&neighbours, Some(10)),
            Choice {
                link: None,
                crowded: false
            }
        );
        while neighbours.find(LinkId(1)).unwrap().window.has_room(Time(0)) {
            neighbours.find_mut(LinkId(1)).unwrap().window.opened();
        }
        assert_eq!(
            choose(&neighbours, None),
            Choice {
                link: Some(LinkId(2)),
                crowded: true
            }
        );
        assert_eq!(
            choose(&neighbours, Some(50)),
            Choice {
                link: None,
                crowded: true
            }
        );
        let skipping = neighbours.choose(Time(0), key, None, |link| link != LinkId(0));
        assert_eq!(
            skipping,
            Choice {
                link: Some(LinkId(0)),
                crowded: false
            }
        );
    }

    #[test]
    fn ranks_only_those_that_store() {
        let neighbours = ring(&[100, 200, 300, u64::MAX]);
        assert_eq!(
            neighbours.nearest_stores(Location::new(190), 2),
            [LinkId(0), LinkId(2)]
        );
        assert_eq!(neighbours.stores_within(Location::new(0), 101), 2);
        let reach = |rank, least| neighbours.reach(Location::new(90), rank, least);
        assert_eq!(
            (reach(1, 3), reach(2, 3), reach(3, 3)),
            (Some(10), Some(91), Some(210))
        );
        assert_eq!((reach(1, 4), reach(4, 0), reach(0, 0)), (None, None, None));
    }
}
