//! Draws from one seeded generator: the only source of chance in a simulation.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::{BlockId, RoutingKey};

/// A seeded source of draws.
pub struct Draw(ChaCha20Rng);

impl Draw {
    /// The draws that follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }

    /// A generator for a machine, and so many draws fewer for us: machines do not share one.
    pub fn fork(&mut self) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(self.bytes())
    }

    /// 32 random bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, or 0.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the product's upper half is below `bound`"
    )]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.number()) * bound as u128) >> 64) as usize
    }

    /// A number from 0 to `most`.
    pub fn up_to(&mut self, most: u64) -> u64 {
        let product = u128::from(self.number()) * (u128::from(most) + 1);
        u64::try_from(product >> 64).unwrap_or(most)
    }

    /// A number from 0 up to but not 1.
    pub fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A time whose mean is `mean`, memoryless.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// All items in random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for place in 1..items.len() {
            let other = self.below(place + 1);
            items.swap(place, other);
        }
    }

    /// `count` different numbers below `bound`, in increasing order.
    pub fn distinct(&mut self, count: usize, bound: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..bound).collect();
        self.shuffle(&mut all);
        all.truncate(count);
        all.sort_unstable();
        all
    }

    /// The name of a content block that nobody has yet.
    pub fn block_id(&mut self) -> BlockId {
        BlockId::content(RoutingKey::from_bytes(self.bytes()))
    }
}

/// The share `part` of `whole`, rounded.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count is a count"
)]
pub fn share_of(part: f64, whole: usize) -> usize {
    (part.clamp(0.0, 1.0) * whole as f64).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_in_range_and_follow_the_seed() {
        let mut draw = Draw::new(1);
        assert_eq!(draw.below(0), 0);
        for _ in 0..1000 {
            assert!(draw.below(3) < 3 && draw.up_to(3) <= 3 && draw.unit() < 1.0);
        }
        let mean = (0..20_000).map(|_| draw.exponential(8.0)).sum::<f64>() / 20_000.0;
        assert!((7.8..8.2).contains(&mean), "{mean}");
        assert_eq!(draw.distinct(5, 5), [0, 1, 2, 3, 4]);
        assert_eq!(Draw::new(7).number(), Draw::new(7).number());
        assert_eq!((share_of(0.3, 10), share_of(2.0, 10)), (3, 10));
    }
}
