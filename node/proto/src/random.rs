//! Small draws from the generator that a machine owns.

use rand_core::Rng;

/// A number below `bound`; 0 when `bound` is 0. The bias, at most `bound` / 2^64, does not matter for anything drawn here.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the product's upper half is below `bound`"
)]
pub(crate) fn below(rng: &mut impl Rng, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// Takes up to `count` items at random, in random order.
pub(crate) fn sample<T>(rng: &mut impl Rng, mut items: Vec<T>, count: usize) -> Vec<T> {
    let count = count.min(items.len());
    for place in 0..count {
        let other = place + below(rng, items.len() - place);
        items.swap(place, other);
    }
    items.truncate(count);
    items
}

/// `base` plus or minus up to a half of it, so that what nodes do at intervals does not fall into step.
pub(crate) fn jittered(rng: &mut impl Rng, base: core::time::Duration) -> core::time::Duration {
    let micros = usize::try_from(base.as_micros()).unwrap_or(usize::MAX);
    let drawn = micros / 2 + below(rng, micros);
    core::time::Duration::from_micros(drawn as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    #[test]
    fn draws_stay_in_range_and_samples_are_distinct() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        assert_eq!(below(&mut rng, 0), 0);
        for _ in 0..1000 {
            assert!(below(&mut rng, 7) < 7);
            let wait = jittered(&mut rng, core::time::Duration::from_secs(2)).as_millis();
            assert!((1000..3000).contains(&wait));
        }
        let mut drawn = sample(&mut rng, (0..50).collect(), 20);
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 20);
        assert_eq!(sample(&mut rng, vec![1, 2], 5).len(), 2);
    }
}
