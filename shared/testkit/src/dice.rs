//! Chance that repeats itself: the same seed throws the same.

use std::{ops::Range, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

/// A generator, its algorithm fixed by name, so that a library's update moves nothing.
#[derive(Clone, Debug)]
pub struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// Dice of that seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// Any number; good as another seed.
    pub fn any(&mut self) -> u64 {
        self.0.random()
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.0.random::<f64>() < probability
    }

    /// A place in something of `len` parts; 0 where it has none.
    pub fn index(&mut self, len: usize) -> usize {
        if len == 0 { 0 } else { self.0.random_range(0..len) }
    }

    /// A time of the range.
    pub fn time(&mut self, range: Range<Duration>) -> Duration {
        range.start + range.end.saturating_sub(range.start).mul_f64(self.0.random::<f64>())
    }

    /// A time of the range, in ms.
    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        self.time(Duration::from_millis(range.start)..Duration::from_millis(range.end))
    }

    /// One of the items, drawn by their weights; `None` where nothing weighs anything.
    pub fn weighted<'a, T>(&mut self, items: &'a [(T, u32)]) -> Option<&'a T> {
        let all: u32 = items.iter().map(|(_, weight)| weight).sum();
        let mut left = self.index(all as usize) as u32;
        items.iter().find_map(|(item, weight)| {
            let drawn = left < *weight;
            left = left.saturating_sub(*weight);
            drawn.then_some(item)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept_and_seeds_repeat() {
        let items = [("never", 0), ("seldom", 1), ("often", 9)];
        let draw = |seed| {
            let mut dice = Dice::new(seed);
            (0..1000).filter_map(|_| dice.weighted(&items).copied()).collect::<Vec<_>>()
        };
        let drawn = draw(7);
        assert_eq!(drawn, draw(7));
        assert_ne!(drawn, draw(8));
        let often = drawn.iter().filter(|item| **item == "often").count();
        assert!((850..950).contains(&often), "{often}");
        assert!(!drawn.contains(&"never"));
        assert_eq!(Dice::new(1).weighted::<u8>(&[]), None);
    }
}
