//! What adversaries learn: counted, and by closed form.
//!
//! The closed forms treat the nodes of a path as drawn independently, each hostile with probability *f*. Without replacement
//! the second is hostile a little less often; at a thousand nodes the difference does not show.
//!
//! | after *k* circuits | both ends | entry and any |
//! | --- | --- | --- |
//! | fresh entries | 1 − (1 − *f*²)^*k* | 1 − (1 − *f*·*s*)^*k* |
//! | pinned entry | *f*·(1 − (1 − *f*)^*k*) | *f*·(1 − (1 − *s*)^*k*) |
//! | 1 hop | 1 − (1 − *f*)^*k* | |
//! | 0 hops | 1 − (1 − *f*)^*d* | |
//!
//! *s* = 1 − (1 − *f*)^(1 + *h*): the exit or one of the *h* nodes that the search comes to is hostile, averaged over the measured
//! *h*; *d*: different neighbours that the client asked. A pinned entry is right or wrong once, so *f* bounds its row.

use std::collections::BTreeSet;

use super::{Entry, History, World};

/// Probabilities that client and key are linked.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Linked {
    pub(super) both_ends: f64,
    pub(super) entry_and_any: f64,
}

/// The closed forms.
pub(super) struct Form {
    fraction: f64,
    hops: usize,
    entry: Entry,
    /// *s*.
    seen: f64,
    /// For clients without hops: the neighbours asked after so many circuits, for each client.
    neighbours: Vec<Vec<usize>>,
}

impl Form {
    pub(super) fn new(histories: &[History], fraction: f64, hops: usize, entry: Entry) -> Self {
        let circuits = || histories.iter().flatten();
        let unseen = |nodes: usize| (1.0 - fraction).powf(1.0 + nodes as f64);
        let honest: f64 = circuits().map(|circuit| unseen(circuit.routed.len())).sum();
        let count = circuits().count().max(1);
        let neighbours = histories.iter().map(|history| {
            let mut asked: BTreeSet<usize> = BTreeSet::new();
            let grow = history.iter().map(|circuit| {
                asked.extend(&circuit.asked);
                asked.len()
            });
            grow.collect()
        });
        Self {
            fraction,
            hops,
            entry,
            seen: 1.0 - honest / count as f64,
            neighbours: neighbours.collect(),
        }
    }

    pub(super) fn after(&self, circuits: usize) -> Linked {
        let (f, s, k) = (self.fraction, self.seen, circuits as f64);
        let alone = |both_ends| Linked {
            both_ends,
            entry_and_any: both_ends,
        };
        match (self.hops, self.entry) {
            (0, _) => {
                let honest = self.neighbours.iter().filter_map(|grown| {
                    let asked = grown.get(circuits - 1)?;
                    Some((1.0 - f).powf(*asked as f64))
                });
                alone(1.0 - honest.sum::<f64>() / self.neighbours.len().max(1) as f64)
            }
            (1, _) => alone(1.0 - (1.0 - f).powf(k)),
            (_, Entry::Fresh) => Linked {
                both_ends: 1.0 - (1.0 - f * f).powf(k),
                entry_and_any: 1.0 - (1.0 - f * s).powf(k),
            },
            (_, Entry::Pinned) => Linked {
                both_ends: f * (1.0 - (1.0 - f).powf(k)),
                entry_and_any: f * (1.0 - (1.0 - s).powf(k)),
            },
        }
    }
}

/// What was counted.
pub(super) struct Measure {
    /// For each number of circuits, less one.
    after: Vec<Linked>,
}

impl Measure {
    /// Draws adversaries and follows each client until it is linked.
    pub(super) fn new(
        histories: &[History],
        fraction: f64,
        hops: usize,
        draws: usize,
        world: &mut World,
    ) -> Self {
        let circuits = histories.first().map_or(0, Vec::len);
        let mut counts = vec![[0_u64; 2]; circuits];
        for history in histories {
            for _ in 0..draws {
                let hostile = world.hostile(fraction);
                let mut linked = [false; 2];
                for (circuit, counts) in history.iter().zip(&mut counts) {
                    let entry = circuit.entry.is_some_and(|entry| hostile[entry]);
                    let exit = hostile[circuit.exit];
                    let any = |nodes: &[usize]| nodes.iter().any(|node| hostile[*node]);
                    linked[0] |= match hops {
                        0 => any(&circuit.asked),
                        1 => exit,
                        _ => entry && exit,
                    };
                    linked[1] |= entry && (exit || any(&circuit.routed));
                    for (count, linked) in counts.iter_mut().zip(linked) {
                        *count += u64::from(linked);
                    }
                }
            }
        }
        let total = (histories.len() * draws).max(1) as f64;
        let after = counts.into_iter().map(|[ends, any]| Linked {
            both_ends: ends as f64 / total,
            entry_and_any: any as f64 / total,
        });
        Self {
            after: after.collect(),
        }
    }

    pub(super) fn after(&self, circuits: usize) -> Linked {
        self.after.get(circuits - 1).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::anonymity::Circuit;

    fn form(hops: usize, entry: Entry) -> Form {
        let history = vec![
            Circuit {
                entry: Some(0),
                exit: 1,
                routed: vec![2, 3],
                asked: vec![2],
            },
            Circuit {
                entry: Some(0),
                exit: 1,
                routed: vec![2, 3],
                asked: vec![2],
            },
        ];
        Form::new(&[history], 0.1, hops, entry)
    }

    #[test]
    fn a_pinned_entry_bounds_what_fresh_ones_do_not() {
        let (pinned, fresh) = (form(3, Entry::Pinned), form(3, Entry::Fresh));
        assert!((pinned.after(1).both_ends - 0.01).abs() < 1e-12);
        assert!((fresh.after(1).both_ends - 0.01).abs() < 1e-12);
        assert!((fresh.after(1).entry_and_any - 0.1 * (1.0 - 0.9_f64.powi(3))).abs() < 1e-12);
        assert!(pinned.after(1000).entry_and_any < 0.1 + 1e-12 && fresh.after(1000).both_ends > 0.99);
        assert!((form(1, Entry::Fresh).after(2).both_ends - 0.19).abs() < 1e-12);
        // The same neighbour twice is one neighbour.
        assert!((form(0, Entry::Fresh).after(2).both_ends - 0.1).abs() < 1e-12);
    }
}
