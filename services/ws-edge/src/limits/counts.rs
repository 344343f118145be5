//! How many there are of each of many keys. What is zero is not remembered, so that this is no larger than what it counts.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A number for each key.
#[derive(Debug, Default)]
pub(super) struct Counts {
    numbers: Mutex<HashMap<u64, usize>>,
}

impl Counts {
    /// One more of this key, to be given back by [`Counts::leave`]. False where there are `most` already.
    pub(super) fn enter(&self, key: u64, most: usize) -> bool {
        let mut numbers = self.numbers();
        let number = numbers.entry(key).or_default();
        let enters = *number < most;
        *number += usize::from(enters);
        if *number == 0 {
            numbers.remove(&key);
        }
        enters
    }

    /// One less.
    pub(super) fn leave(&self, key: u64) {
        let mut numbers = self.numbers();
        if let Entry::Occupied(mut number) = numbers.entry(key) {
            *number.get_mut() -= 1;
            if *number.get() == 0 {
                number.remove();
            }
        }
        // After a flood the table would stay as large as that was.
        if numbers.capacity() > 1024 && numbers.len() < numbers.capacity() / 8 {
            numbers.shrink_to_fit();
        }
    }

    fn numbers(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_never_has_more_than_it_may_and_nothing_stays_of_what_has_left(
            steps in proptest::collection::vec((0_u64..5, any::<bool>()), 0..200),
            most in 0_usize..4,
        ) {
            let counts = Counts::default();
            let mut model = [0_usize; 5];
            for (key, enters) in steps {
                let number = &mut model[key as usize];
                if enters {
                    prop_assert_eq!(counts.enter(key, most), *number < most);
                    *number = (*number + 1).min(most.max(*number));
                } else if *number > 0 {
                    counts.leave(key);
                    *number -= 1;
                }
                let remembered = model.iter().filter(|number| **number > 0).count();
                prop_assert_eq!(counts.numbers().len(), remembered);
            }
        }
    }
}
