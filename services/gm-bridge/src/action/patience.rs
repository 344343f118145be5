//! Asking again while NATS does not answer, for as long as an event may wait for it.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::publisher::PublishFailure;

/// Pause before the next try.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the last words of a shutdown may wait for NATS.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What is left of the time that something may wait for NATS.
pub(super) struct Patience {
    deadline: Instant,
    cut: CancellationToken,
}

impl Shared {
    /// As much as an event has.
    pub(super) fn patience(&self) -> Patience {
        Patience { deadline: Instant::now() + self.config.publish_wait.get(), cut: self.cut.clone() }
    }

    /// Waits until even the last words of running actions have had their time.
    pub(super) async fn last_words_spoken(&self) {
        last_words_spoken(&self.cut).await;
    }
}

impl Patience {
    /// Waits before the next try.
    ///
    /// # Errors
    /// [`PublishFailure::Away`] if there must be none.
    pub(super) async fn after(
        &mut self,
        error: &(dyn std::error::Error + Send + Sync + 'static),
    ) -> Result<(), PublishFailure> {
        tracing::debug!(error = error as &dyn std::error::Error, "NATS does not answer yet");
        if Instant::now() >= self.deadline {
            return Err(PublishFailure::Away);
        }
        tokio::select! {
            () = sleep(PAUSE) => Ok(()),
            () = last_words_spoken(&self.cut) => Err(PublishFailure::Away),
        }
    }
}

async fn last_words_spoken(cut: &CancellationToken) {
    cut.cancelled().await;
    sleep(LAST_WORDS).await;
}
