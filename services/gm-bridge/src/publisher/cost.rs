//! Whether several messages are stored sooner as one batch or one by one, judged by how long both took lately.
//!
//! There is no rule for it that a client could know. On a cluster a batch is one round of its members instead of many, and
//! pays from a few messages on. A single node that syncs always makes about five syncs of a batch, of whatever size, so it
//! pays from some ten on; one that does not makes three syncs of a batch and none of a single message, and there it hardly
//! ever pays. (Measured on nats-server 2.15.1; `./scripts/bench durability`.)

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Seconds that a batch is thought to take before one was seen: a few syncs.
const BATCH_AT_FIRST: f64 = 0.004;
/// The weight of what was seen last: of single messages there are many, of batches few.
const NEW_SINGLE: f64 = 0.125;
const NEW_BATCH: f64 = 0.25;
/// What is not done is not seen either: a batch is thought to take a little less each time it did not pay, so that it is
/// tried again some hundred times later.
const FORGET: f64 = 1.0 - 1.0 / 128.0;

/// How long publishes took lately.
#[derive(Debug)]
pub(super) struct Cost(Mutex<Lately>);

/// In seconds.
#[derive(Debug, Clone, Copy)]
struct Lately {
    single: f64,
    batch: f64,
}

impl Cost {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Lately { single: 0.0, batch: BATCH_AT_FIRST }))
    }

    /// Whether so many messages had better go as a batch.
    pub(super) fn batch_pays(&self, messages: usize) -> bool {
        self.with(|lately| {
            let pays = messages as f64 * lately.single > lately.batch;
            if !pays {
                lately.batch *= FORGET;
            }
            pays
        })
    }

    /// A single message took that long.
    pub(super) fn single_took(&self, time: Duration) {
        self.with(|lately| lately.single += (time.as_secs_f64() - lately.single) * NEW_SINGLE);
    }

    /// A batch took that long.
    pub(super) fn batch_took(&self, time: Duration) {
        self.with(|lately| lately.batch += (time.as_secs_f64() - lately.batch) * NEW_BATCH);
    }

    fn with<T>(&self, work: impl FnOnce(&mut Lately) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of bursts where both take constant times: how many of them, of 1,000, went as batches.
    fn batches(single: Duration, batch: Duration, messages: usize) -> usize {
        let cost = Cost::new();
        let mut batches = 0;
        for _ in 0..1000 {
            cost.single_took(single);
            if cost.batch_pays(messages) {
                cost.batch_took(batch);
                batches += 1;
            }
        }
        batches
    }

    #[test]
    fn batches_go_where_they_are_faster_and_are_tried_now_and_then_where_they_are_not() {
        let us = Duration::from_micros;
        // As measured: one node with syncs now and then, one with syncs always, three nodes.
        assert!((1..=20).contains(&batches(us(50), us(11_000), 10)), "{}", batches(us(50), us(11_000), 10));
        assert!(batches(us(3_000), us(12_000), 2) < 40);
        assert!(batches(us(3_000), us(12_000), 100) > 990);
        assert!(batches(us(340), us(660), 10) > 900);
        assert!(batches(us(1_000), us(1_600), 100) > 990);
    }
}
