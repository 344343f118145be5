//! How often something may happen, for each of many keys, in memory that is bounded.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{
        StateStore,
        keyed::{HashMapStateStore, ShrinkableKeyedStateStore},
    },
};

/// Keys beyond the most that are remembered share so many places, each with the rate of one key.
const SHARED: u64 = 1024;

/// One rate, for each of many keys.
pub(super) struct Rates<C: Clock = MonotonicClock> {
    limiter: RateLimiter<u64, Store, C, NoOpMiddleware<C::Instant>>,
}

impl Rates {
    /// As many as `quota` allows for each key, of which `max_keys` are told apart.
    pub(super) fn new(quota: Quota, max_keys: usize) -> Self {
        Self::with_clock(quota, max_keys, MonotonicClock)
    }
}

impl<C: Clock> Rates<C> {
    fn with_clock(quota: Quota, max_keys: usize, clock: C) -> Self {
        Self { limiter: RateLimiter::new(quota, Store::new(max_keys), clock) }
    }

    /// Counts one more of this key.
    ///
    /// # Errors
    /// How long to wait, where it is one too many; it is not counted then.
    pub(super) fn check(&self, key: u64) -> Result<(), Duration> {
        self.limiter.check_key(&key).map_err(|until| until.wait_time_from(self.limiter.clock().now()))
    }

    /// Forgets the keys that have all of their rate again.
    pub(super) fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    /// How many keys are remembered.
    pub(super) fn keys(&self) -> usize {
        self.limiter.len()
    }
}

/// So many a second, and as many at once.
pub(super) fn per_second(count: u32) -> Option<Quota> {
    NonZeroU32::new(count).map(Quota::per_second)
}

/// So many a minute, and as many at once.
pub(super) fn per_minute(count: u32) -> Option<Quota> {
    NonZeroU32::new(count).map(Quota::per_minute)
}

/// The library's store with a bound: who comes when it is full shares a place with others until it is swept.
struct Store {
    own: HashMapStateStore<u64>,
    shared: HashMapStateStore<u64>,
    max_keys: usize,
}

impl Store {
    fn new(max_keys: usize) -> Self {
        Self { own: HashMapStateStore::default(), shared: HashMapStateStore::default(), max_keys }
    }

    fn has_room_for(&self, key: u64) -> bool {
        let own = self.own.lock();
        own.len() < self.max_keys || own.contains_key(&key)
    }
}

impl StateStore for Store {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if self.has_room_for(*key) {
            self.own.measure_and_replace(key, measure)
        } else {
            self.shared.measure_and_replace(&(key % SHARED), measure)
        }
    }
}

impl ShrinkableKeyedStateStore<u64> for Store {
    fn retain_recent(&self, drop_below: Nanos) {
        self.own.retain_recent(drop_below);
        self.shared.retain_recent(drop_below);
    }

    fn shrink_to_fit(&self) {
        ShrinkableKeyedStateStore::shrink_to_fit(&self.own);
        ShrinkableKeyedStateStore::shrink_to_fit(&self.shared);
    }

    fn len(&self) -> usize {
        ShrinkableKeyedStateStore::len(&self.own) + ShrinkableKeyedStateStore::len(&self.shared)
    }

    fn is_empty(&self) -> bool {
        ShrinkableKeyedStateStore::is_empty(&self.own) && ShrinkableKeyedStateStore::is_empty(&self.shared)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    use super::*;

    fn rates(quota: Option<Quota>, max_keys: usize) -> (Rates<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Rates::with_clock(quota.unwrap(), max_keys, clock.clone()), clock)
    }

    #[test]
    fn each_key_has_its_own_rate_and_is_told_when_to_come_back() {
        let (rates, clock) = rates(per_minute(3), 10);
        for _ in 0..3 {
            assert_eq!(rates.check(1), Ok(()));
        }
        assert_eq!(rates.check(1), Err(Duration::from_secs(20)));
        assert_eq!(rates.check(2), Ok(()), "another one has nothing to do with it");
        clock.advance(Duration::from_secs(15));
        assert_eq!(rates.check(1), Err(Duration::from_secs(5)), "what was refused does not count");
        clock.advance(Duration::from_secs(5));
        assert_eq!(rates.check(1), Ok(()));
        assert!(per_second(0).is_none() && per_minute(0).is_none());
    }

    #[test]
    fn who_is_idle_is_forgotten_and_who_is_not_is_remembered() {
        let (rates, clock) = rates(per_second(2), 10);
        (0..5).for_each(|key| assert!(rates.check(key).is_ok()));
        clock.advance(Duration::from_millis(900));
        assert!(rates.check(4).is_ok() && rates.check(4).is_ok());
        rates.sweep();
        assert_eq!(rates.keys(), 5);
        clock.advance(Duration::from_millis(200));
        rates.sweep();
        assert_eq!(rates.keys(), 1);
        clock.advance(Duration::from_secs(2));
        rates.sweep();
        assert_eq!(rates.keys(), 0);
    }

    #[test]
    fn who_is_known_keeps_its_own_rate_where_others_have_to_share() {
        let (rates, _) = rates(per_second(2), 1);
        assert!(rates.check(7).is_ok());
        // Both share one place: two of them together.
        assert!(rates.check(8).is_ok() && rates.check(8 + SHARED).is_ok() && rates.check(8).is_err());
        assert!(rates.check(7).is_ok() && rates.check(7).is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_the_memory_is_bounded_and_no_key_exceeds_its_rate(
            steps in proptest::collection::vec((0_u64..50_000, 0_u64..40), 1..600),
        ) {
            let (rates, clock) = rates(per_second(5), 16);
            let mut granted = std::collections::HashMap::<u64, u32>::new();
            let mut elapsed = 0;
            for (key, wait) in steps {
                clock.advance(Duration::from_millis(wait));
                elapsed += wait;
                if rates.check(key).is_ok() {
                    *granted.entry(key).or_default() += 1;
                }
                prop_assert!(rates.keys() <= 16 + SHARED as usize);
            }
            // Five at once, then five a second; a key that had to share may have had both places.
            let most = 2 * (5 + elapsed * 5 / 1000 + 1) as u32;
            prop_assert!(granted.values().all(|count| *count <= most), "{granted:?} in {elapsed} ms");
        }
    }
}
