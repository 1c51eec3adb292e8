//! Links as the ring rule wants them, made by somebody who sees the whole ring.
//!
//! The rule is the nodes' own: the nearest nodes on each side, and one link into each of the equal parts of the logarithmic
//! distance ([`warren_proto::topology::long_part`]), where a link counts for both its ends, whoever made it. What an oracle
//! spares is gossip and dialling; scenarios at the core level show that the nodes come to such links by themselves.

use warren_keys::Location;
use warren_proto::topology::{LONG_CHOICE, long_part};

use super::{draw::Draw, scenario::NetworkSpec};

/// Half the ring.
const HALF: u64 = 1 << 63;

/// Nodes at places on the ring, in the order of the places.
#[derive(Clone, Debug)]
pub struct Ring {
    places: Vec<Location>,
}

impl Ring {
    /// `count` nodes at random places.
    #[must_use]
    pub fn random(count: usize, draw: &mut Draw) -> Self {
        let mut places: Vec<Location> = Vec::new();
        while places.len() < count {
            places.extend((places.len()..count).map(|_| Location::new(draw.number())));
            places.sort_unstable();
            places.dedup();
        }
        Self { places }
    }

    /// Nodes at these places, and the place that each had in the list.
    #[must_use]
    pub fn of(list: Vec<Location>) -> (Self, Vec<usize>) {
        let mut order: Vec<(Location, usize)> = list.into_iter().zip(0..).collect();
        order.sort_unstable();
        let (places, names) = order.into_iter().unzip();
        (Self { places }, names)
    }

    /// The nodes' places.
    #[must_use]
    pub fn places(&self) -> &[Location] {
        &self.places
    }

    /// Number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The `count` nodes of those that `fits` nearest to a point, nearest first.
    #[must_use]
    pub fn nearest(&self, point: Location, count: usize, fits: impl Fn(usize) -> bool) -> Vec<usize> {
        let total = self.len();
        let start = self.places.partition_point(|place| *place < point);
        let (mut up, mut down) = (0, 0);
        let mut found = Vec::with_capacity(count);
        while found.len() < count && up + down < total {
            let above = (start + up) % total;
            let below = (start + total - 1 - down) % total;
            let (reach_up, reach_down) = (
                point.clockwise(self.places[above]),
                self.places[below].clockwise(point),
            );
            let node = if reach_up <= reach_down {
                up += 1;
                above
            } else {
                down += 1;
                below
            };
            if fits(node) {
                found.push(node);
            }
        }
        found
    }

    /// All links among the nodes that `lives`, each once.
    #[must_use]
    pub fn links(
        &self,
        spec: &NetworkSpec,
        lives: impl Fn(usize) -> bool,
        draw: &mut Draw,
    ) -> Vec<(usize, usize)> {
        let alive: Vec<usize> = (0..self.len()).filter(|node| lives(*node)).collect();
        let mut plan = Plan {
            places: alive.iter().map(|node| self.places[*node]).collect(),
            parts: spec.long_per_side,
            starts: Vec::new(),
            served: vec![0; alive.len()],
            linked: vec![Vec::new(); alive.len()],
        };
        plan.near(spec.near_per_side);
        let mut order: Vec<usize> = (0..alive.len()).collect();
        draw.shuffle(&mut order);
        for node in order {
            plan.long(node, draw);
        }
        let ups = plan.linked.iter().enumerate();
        ups.flat_map(|(a, others)| others.iter().map(move |b| (a, *b)))
            .filter(|(a, b)| a < b)
            .map(|(a, b)| (alive[a], alive[b]))
            .collect()
    }
}

/// Links in the making.
struct Plan {
    places: Vec<Location>,
    /// Parts of the distance on one side.
    parts: usize,
    /// Where the parts begin, up and down.
    starts: Vec<[u64; 2]>,
    /// One bit for each part that has a link, those of the upper side first.
    served: Vec<u64>,
    linked: Vec<Vec<usize>>,
}

impl Plan {
    fn near(&mut self, per_side: usize) {
        let count = self.places.len();
        let reach = per_side.min(count.saturating_sub(1));
        for node in 0..count {
            let here = self.places[node];
            let (above, below) = ((node + reach) % count, (node + count - reach) % count);
            let start = [
                here.clockwise(self.places[above]),
                self.places[below].clockwise(here),
            ];
            self.starts.push(start.map(|start| start.max(1)));
        }
        for node in 0..count {
            for step in 1..=reach {
                self.link(node, (node + step) % count);
            }
        }
    }

    fn long(&mut self, node: usize, draw: &mut Draw) {
        let here = self.places[node];
        for side in 0..2 {
            for part in 0..self.parts {
                if self.served[node] & self.bit(side, part) != 0 {
                    continue;
                }
                let (above, most) = long_part(self.starts[node][side], part, self.parts);
                if most <= above {
                    continue;
                }
                let reach = above + 1 + draw.up_to(most - above - 1);
                let point = if side == 0 {
                    here.as_u64().wrapping_add(reach)
                } else {
                    here.as_u64().wrapping_sub(reach)
                };
                let point = Location::new(point);
                if let Some(other) = self.candidate(node, side, (above, most), point, draw) {
                    self.link(node, other);
                }
            }
        }
    }

    /// One of the nodes nearest to a point among those of the part (`protocol §7.7`).
    fn candidate(
        &self,
        node: usize,
        side: usize,
        part: (u64, u64),
        point: Location,
        draw: &mut Draw,
    ) -> Option<usize> {
        let count = self.places.len();
        let at = self.places.partition_point(|place| *place < point);
        let fits = |other: usize| {
            let reach = self.reach(node, other, side);
            other != node && reach > part.0 && reach <= part.1
        };
        let mut near: Vec<usize> = (0..LONG_CHOICE.min(count))
            .flat_map(|step| [(at + step) % count, (at + count - 1 - step) % count])
            .filter(|other| fits(*other))
            .collect();
        near.sort_by_key(|other| self.places[*other].distance(point));
        near.dedup();
        near.truncate(LONG_CHOICE);
        (!near.is_empty()).then(|| near[draw.below(near.len())])
    }

    fn reach(&self, from: usize, to: usize, side: usize) -> u64 {
        let (from, to) = (self.places[from], self.places[to]);
        if side == 0 {
            from.clockwise(to)
        } else {
            to.clockwise(from)
        }
    }

    fn bit(&self, side: usize, part: usize) -> u64 {
        1 << (side * self.parts + part)
    }

    fn link(&mut self, a: usize, b: usize) {
        if a == b || self.linked[a].contains(&b) {
            return;
        }
        for (a, b) in [(a, b), (b, a)] {
            self.linked[a].push(b);
            for side in 0..2 {
                let reach = self.reach(a, b, side);
                if reach > HALF {
                    continue;
                }
                let start = self.starts[a][side];
                let part = (0..self.parts).find(|part| {
                    let (above, most) = long_part(start, *part, self.parts);
                    reach > above && reach <= most
                });
                if let Some(part) = part {
                    self.served[a] |= self.bit(side, part);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_goes_both_ways_round() {
        let ring = Ring {
            places: [10, 20, 30, u64::MAX - 5].map(Location::new).to_vec(),
        };
        assert_eq!(ring.nearest(Location::new(0), 3, |_| true), [3, 0, 1]);
        assert_eq!(ring.nearest(Location::new(21), 9, |node| node != 1), [2, 0, 3]);
    }

    #[test]
    fn links_follow_the_rule() {
        let (mut draw, spec) = (Draw::new(1), NetworkSpec::default());
        let ring = Ring::random(500, &mut draw);
        let dead = 7;
        let links = ring.links(&spec, |node| node != dead, &mut draw);
        let mut linked = vec![Vec::new(); 500];
        for (a, b) in &links {
            linked[*a].push(*b);
            linked[*b].push(*a);
        }
        assert!(linked[dead].is_empty());
        for (node, others) in linked.iter().enumerate().filter(|(node, _)| *node != dead) {
            let mut near: Vec<usize> = Vec::new();
            for step in 1..500 {
                let up = (node + step) % 500;
                if up != dead && near.len() < 4 {
                    near.push(up);
                }
            }
            assert!(near.iter().all(|other| others.contains(other)), "{node}");
            let mut distinct = others.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), others.len());
            assert!(others.len() >= 20, "{node}: {}", others.len());
        }
        let mean = links.len() as f64 * 2.0 / 499.0;
        assert!((24.0..44.0).contains(&mean), "{mean} links a node");
    }

    #[test]
    fn small_rings_are_complete_or_nearly() {
        let (mut draw, spec) = (Draw::new(1), NetworkSpec::default());
        assert!(
            Ring::random(1, &mut draw)
                .links(&spec, |_| true, &mut draw)
                .is_empty()
        );
        assert_eq!(
            Ring::random(5, &mut draw).links(&spec, |_| true, &mut draw).len(),
            10
        );
    }
}
