//! Ordered shutdown: one token, one deadline.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

/// When and how long this process shuts down. Clones share one state.
///
/// Nothing here stops anything by itself: whoever owns a listener, a task or a connection watches [`Shutdown::token`] and
/// finishes before [`Shutdown::deadline`].
#[derive(Clone, Debug)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    token: CancellationToken,
    limit: Duration,
    begun: OnceLock<Instant>,
}

impl Shutdown {
    /// A shutdown that has not begun and may take `limit` once it has.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { inner: Arc::new(Inner { token: CancellationToken::new(), limit, begun: OnceLock::new() }) }
    }

    /// Cancelled when the shutdown begins (SIGTERM, SIGINT or [`Shutdown::begin`]).
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.inner.token.clone()
    }

    /// Waits until the shutdown begins. Safe to cancel.
    pub async fn begun(&self) {
        self.inner.token.cancelled().await;
    }

    /// Whether the shutdown has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.inner.token.is_cancelled()
    }

    /// Begins the shutdown; later calls change nothing. True for the call that began it.
    pub fn begin(&self) -> bool {
        let first = self.inner.begun.set(Instant::now()).is_ok();
        self.inner.token.cancel();
        first
    }

    /// When the process is ended by force; `None` before the shutdown has begun.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.inner.begun.get().map(|begun| *begun + self.inner.limit)
    }

    /// The time left until [`Shutdown::deadline`]; all of it before the shutdown has begun.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline().map_or(self.inner.limit, |deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_begin_sets_the_deadline_and_cancels_the_token() {
        let shutdown = Shutdown::new(Duration::from_secs(25));
        let clone = shutdown.clone();
        assert!(shutdown.deadline().is_none() && !shutdown.has_begun());
        assert_eq!(shutdown.remaining(), Duration::from_secs(25));

        assert!(clone.begin());
        let deadline = shutdown.deadline().expect("begun");
        assert!(!shutdown.begin(), "only one call begins it");
        assert_eq!(shutdown.deadline(), Some(deadline), "a second begin does not move the deadline");
        assert!(shutdown.has_begun() && shutdown.token().is_cancelled());
        assert!(shutdown.remaining() <= Duration::from_secs(25));
        shutdown.begun().await;
    }

    #[tokio::test]
    async fn a_token_taken_after_the_begin_is_cancelled() {
        let shutdown = Shutdown::new(Duration::ZERO);
        shutdown.begin();
        shutdown.token().cancelled().await;
        assert_eq!(shutdown.remaining(), Duration::ZERO);
    }
}
