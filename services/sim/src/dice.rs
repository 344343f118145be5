//! Chance that repeats itself: the same seed and the same place in a game draw the same lot, on every machine.

use std::ops::RangeInclusive;

use rand::{Rng, RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

/// A generator for one place in a game. Its algorithm is fixed by name, so that a library's update moves no game.
#[derive(Debug, Clone)]
pub struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// Dice for a place, named by a text such as `game 2 turn 3 propose`.
    #[must_use]
    pub fn new(seed: u64, place: &str) -> Self {
        // FNV-1a, 64 bit: offset basis and prime of the published algorithm.
        let hash = place
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(Xoshiro256PlusPlus::seed_from_u64(seed ^ hash))
    }

    /// A whole number of the range.
    pub fn roll(&mut self, range: RangeInclusive<u32>) -> u32 {
        self.0.random_range(range)
    }

    /// A number from 0 up to, not including, 1.
    pub fn fraction(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// A number of the range, rounded to a half.
    pub fn halves(&mut self, range: RangeInclusive<f64>) -> f64 {
        let (low, high) = range.into_inner();
        ((low + self.fraction() * (high - low)) * 2.0).round() / 2.0
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }

    /// A place in something of `len` parts; 0 where it has none.
    pub fn index(&mut self, len: usize) -> usize {
        if len == 0 { 0 } else { self.0.random_range(0..len) }
    }

    /// One of the texts, or an empty one where there is none.
    pub fn pick<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        let at = self.index(texts.len());
        texts.get(at).copied().unwrap_or("")
    }

    /// Puts items into another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// A random (version 4) UUID.
    pub fn uuid(&mut self) -> uuid::Uuid {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_place_draws_the_same_lot() {
        let draw = |seed, place| {
            let mut dice = Dice::new(seed, place);
            (dice.roll(0..=1_000_000), dice.uuid(), dice.halves(-3.0..=3.0).to_bits())
        };
        assert_eq!(draw(1, "game 1 turn 2"), draw(1, "game 1 turn 2"));
        assert_ne!(draw(1, "game 1 turn 2"), draw(1, "game 1 turn 3"));
        assert_ne!(draw(1, "game 1 turn 2"), draw(2, "game 1 turn 2"));
        assert_eq!(Dice::new(1, "x").roll(0..=u32::MAX), 369_323_691, "fixed for ever: reports name their seed");
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..20).collect();
        Dice::new(7, "shuffle").shuffle(&mut items);
        assert_ne!(items, (0..20).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..20).collect::<Vec<_>>());
    }
}
