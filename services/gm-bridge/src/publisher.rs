//! The only writer of `gm.*`: one message at a time, acknowledged, fenced by the running action, never twice.
//!
//! A publish that brings no acknowledgement may be stored all the same. It is sent again under its id, by which the server
//! recognises it, but only while the server surely remembers the id; later the log itself is asked first. Nothing is sent
//! while there is no connection: the client library would keep it and send it at a time of its own.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use herald_runtime::{
    jetstream::{self, Expect, PublishError, Stored},
    nats::{Nats, NatsState},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    arena::EVENTS,
    config::ActionConfig,
    metrics,
    planted::{Bug, planted},
};

/// The first pause before something refused for the moment is tried again; doubled each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Short enough to go on quickly after an outage, long enough not to add to one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Publishes for actions.
#[derive(Debug, Clone)]
pub struct Publisher {
    nats: Nats,
    /// How long after it was first sent a message may be sent again without a look at the log.
    resend: Duration,
}

/// A message and what must hold for it to be stored.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// Where it goes.
    pub subject: &'a str,
    /// What it says.
    pub payload: Bytes,
    /// Headers beside the server's own.
    pub headers: HeaderMap,
    /// The control subject of its session, `gm.<sid>._action`.
    pub fence: &'a str,
    /// The sequence that must be the last one on `fence`; 0: there is none yet.
    pub sequence: u64,
    /// What it is recognised by. Never used for anything else, also not by another bridge.
    pub id: &'a str,
    /// The subjects among which only its own copy can be the last message, if it was stored and nobody superseded it.
    pub among: &'a str,
}

/// Why a message was not stored, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum PublishFailure {
    /// Another action was claimed: its sender has nothing more to say.
    #[error("superseded by another action")]
    Superseded,
    /// NATS was away for too long, or the sender gave up waiting.
    #[error("NATS was away for too long")]
    Away,
    /// Larger than the server takes.
    #[error("the event is larger than NATS takes")]
    TooLarge,
}

impl Publisher {
    /// A publisher over that connection.
    #[must_use]
    pub fn new(nats: &Nats, config: &ActionConfig) -> Self {
        Self { nats: nats.clone(), resend: config.resend.get() }
    }

    /// Stores a message, waiting up to `patience` for NATS where it is away. Returns the message's sequence.
    ///
    /// # Errors
    /// [`PublishFailure`]. After `Away`, and if it is cancelled, the message may be stored all the same.
    pub async fn publish(&self, message: &Message<'_>, patience: Duration) -> Result<u64, PublishFailure> {
        let deadline = Instant::now() + patience;
        timeout_at(deadline, self.publish_at_last(message)).await.unwrap_or(Err(PublishFailure::Away))
    }

    async fn publish_at_last(&self, message: &Message<'_>) -> Result<u64, PublishFailure> {
        let mut state = self.nats.state();
        // When the first copy left of which it is not known what became of it.
        let mut unknown_since: Option<Instant> = None;
        let mut pause = FIRST_PAUSE;
        loop {
            connected(&mut state).await?;
            if unknown_since.is_some_and(|since| since.elapsed() >= self.resend) {
                match self.stored(message).await {
                    Ok(Some(sequence)) => return Ok(sequence),
                    Ok(None) => unknown_since = None,
                    Err(error) => {
                        tracing::debug!(%error, "log not readable yet");
                        pause_after(&mut pause).await;
                        continue;
                    }
                }
            }
            let sent = Instant::now();
            match self.attempt(message, &mut state).await {
                Ok(sequence) => return Ok(sequence),
                Err(PublishError::WrongLast { .. }) => return Err(PublishFailure::Superseded),
                Err(PublishError::TooLarge) => return Err(PublishFailure::TooLarge),
                Err(_) if planted(Bug::AcknowledgementIgnored) => return Ok(0),
                Err(error) => {
                    if matches!(error, PublishError::Timeout | PublishError::Failed(_)) {
                        unknown_since.get_or_insert(sent);
                    }
                    metrics::publish_again(reason(&error));
                    tracing::debug!(
                        subject = message.subject,
                        error = &error as &dyn std::error::Error,
                        "not stored yet"
                    );
                }
            }
            pause_after(&mut pause).await;
        }
    }

    /// Sends one copy. A connection that changes meanwhile ends the wait: whatever was to come over the old one is lost.
    async fn attempt(
        &self,
        message: &Message<'_>,
        state: &mut watch::Receiver<NatsState>,
    ) -> Result<u64, PublishError> {
        let expect = Expect {
            last_subject_sequence: (!planted(Bug::FenceLeftOut)).then_some(message.sequence),
            subject: Some(message.fence),
            message_id: Some(message.id),
        };
        let publish =
            jetstream::publish(&self.nats, message.subject, message.headers.clone(), message.payload.clone(), expect);
        tokio::select! {
            biased;
            stored = publish => stored.map(|stored| stored.seq),
            _ = state.changed() => Err(PublishError::Timeout),
        }
    }

    /// The sequence of the stored message, if it is stored: one at a time is under way, so it would be the last one.
    pub(crate) async fn stored(&self, message: &Message<'_>) -> Result<Option<u64>, jetstream::ApiError> {
        let last = self.last(message.among).await?;
        Ok(last.filter(|last| last.message_id() == Some(message.id)).map(|last| last.sequence))
    }

    /// The last event that `filter` matches, through the leader.
    pub(crate) async fn last(&self, filter: &str) -> Result<Option<Stored>, jetstream::ApiError> {
        jetstream::last_by_subject_leader(&self.nats, EVENTS, filter).await
    }

    /// The first event at or behind `from` that `filter` matches, through the leader.
    pub(crate) async fn next(&self, from: u64, filter: &str) -> Result<Option<Stored>, jetstream::ApiError> {
        jetstream::next_by_subject_leader(&self.nats, EVENTS, from, filter).await
    }
}

/// Waits until there is a connection, and has seen every change up to it.
async fn connected(state: &mut watch::Receiver<NatsState>) -> Result<(), PublishFailure> {
    let connected = |state: &NatsState| matches!(state, NatsState::Connected { .. });
    state.wait_for(connected).await.map(drop).map_err(|_closed| PublishFailure::Away)
}

async fn pause_after(pause: &mut Duration) {
    sleep(*pause).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}

fn reason(error: &PublishError) -> &'static str {
    match error {
        PublishError::Retry => "write_under_way",
        PublishError::NoResponders => "no_responders",
        PublishError::Timeout => "timeout",
        PublishError::Failed(_) => "failed",
        PublishError::Other { .. } | PublishError::WrongLast { .. } | PublishError::TooLarge => "refused",
    }
}
