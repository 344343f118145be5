//! Planned shutdown: connections are told to come back, spread over time so that the others are not overrun.

use std::time::Duration;

use rand::RngExt as _;
use tokio_util::sync::CancellationToken;

/// The word that connections are to go, and how they spread.
#[derive(Debug, Clone)]
pub struct Drain {
    called: CancellationToken,
    period: Duration,
    retry: Duration,
}

impl Drain {
    /// Draining begins when `called` is cancelled; each connection goes at a random moment of `period`, and its client is
    /// told to come back after a random part of `retry`.
    #[must_use]
    pub const fn new(called: CancellationToken, period: Duration, retry: Duration) -> Self {
        Self { called, period, retry }
    }

    /// Waits until draining begins. Cancelling is safe.
    pub async fn called(&self) {
        self.called.cancelled().await;
    }

    /// Whether draining has begun.
    #[must_use]
    pub fn is_called(&self) -> bool {
        self.called.is_cancelled()
    }

    /// When one connection goes, from the beginning on.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.period.mul_f64(rand::rng().random())
    }

    /// When its client should come back, from its going on.
    #[must_use]
    pub fn retry(&self) -> Duration {
        self.retry.mul_f64(rand::rng().random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_all_over_the_period() {
        let drain = Drain::new(CancellationToken::new(), Duration::from_secs(10), Duration::from_secs(2));
        let delays: Vec<_> = (0..1000).map(|_| drain.delay().as_secs_f64()).collect();
        for second in 0..10 {
            let at = f64::from(second)..f64::from(second + 1);
            let count = delays.iter().filter(|delay| at.contains(*delay)).count();
            assert!((50..150).contains(&count), "{count} go in second {second}");
        }
        assert!((0..1000).all(|_| drain.retry() <= Duration::from_secs(2)));
    }
}
