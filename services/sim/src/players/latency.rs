//! A histogram of latencies that any number of connections write to.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Each power of two is cut into so many buckets: an error of at most one sixteenth.
const PARTS: u64 = 16;
/// Enough for any number of microseconds in a u64.
const BUCKETS: usize = 61 * PARTS as usize;

/// Counts latencies by microsecond, ever more roughly.
#[derive(Debug)]
pub struct Latency(Vec<AtomicU64>);

impl Default for Latency {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Latency {
    /// Counts one.
    pub fn note(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.0.get(bucket(micros)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The latency that this share (0 to 1) of all did not exceed, rounded up to its bucket's end.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, bucket) in self.0.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if seen >= wanted {
                return Duration::from_micros(end(at));
            }
        }
        Duration::ZERO
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |share| self.quantile(share).as_secs_f64() * 1000.0;
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms ({} frames)", ms(0.5), ms(0.99), ms(1.0), self.count())
    }
}

/// The bucket of a number of microseconds.
const fn bucket(micros: u64) -> usize {
    if micros < PARTS {
        return micros as usize;
    }
    let power = 63 - micros.leading_zeros() as u64;
    // Behind the highest bit, the next four choose the part.
    ((power - 3) * PARTS + ((micros >> (power - 4)) & (PARTS - 1))) as usize
}

/// The first number of microseconds behind a bucket, less one.
const fn end(bucket: usize) -> u64 {
    let (power, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    if power == 0 {
        return part;
    }
    let width = 1_u128 << (power - 1);
    let end = (PARTS + part + 1) as u128 * width - 1;
    if end > u64::MAX as u128 { u64::MAX } else { end as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_lies_in_its_bucket() {
        for micros in (0..5000).chain([1 << 20, (1 << 40) + 12345, u64::MAX - 1, u64::MAX]) {
            let at = bucket(micros);
            assert!(at < BUCKETS && micros <= end(at), "{micros}");
            assert!(at == 0 || micros > end(at - 1), "{micros}");
        }
    }

    #[test]
    fn quantiles_are_close() {
        let latency = Latency::default();
        assert_eq!(latency.quantile(0.5), Duration::ZERO);
        for micros in 1..=1000 {
            latency.note(Duration::from_micros(micros));
        }
        let p50 = latency.quantile(0.5).as_micros();
        let p99 = latency.quantile(0.99).as_micros();
        assert!((500..=535).contains(&p50) && (990..=1055).contains(&p99), "{p50} {p99}");
    }
}
