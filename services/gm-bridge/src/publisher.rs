//! The only writer of `gm.*`: one publish at a time, acknowledged, fenced by the running action, never twice.
//!
//! A publish that brings no acknowledgement may be stored all the same. The log is asked before it is sent again, under its
//! id, by which the server recognises it should the first copy still be on its way. Where the log can't be asked the id alone
//! has to do, but only while the server surely remembers it: a copy that comes later than that would be stored twice. Time
//! counts by both clocks, as a machine that sleeps stops one of them. Nothing is sent while there is no connection: the
//! client library would keep it and send it at a time of its own.
//!
//! Several messages go as one atomic batch where that is faster, each with its own id and fence. What becomes of
//! it is decided as for one message: the last of its ids that the log holds says how far it came, since nobody else writes
//! between them, and what is left is sent again. Where a batch is not taken, its messages go one after the other. The ids
//! make both safe against a copy that is still on its way: no message is stored twice, as part of whatever it comes.

use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use bytes::Bytes;
use herald_runtime::{
    jetstream::{self, BatchError, BatchMessage, Expect, PublishError, Stored},
    nats::{Nats, NatsState},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    arena::EVENTS,
    config::{ActionConfig, BatchPolicy},
    metrics,
    planted::{Bug, planted},
};

/// The first pause before something refused for the moment is tried again; doubled each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Short enough to go on quickly after an outage, long enough not to add to one.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A batch is one round of a cluster's members, as a single message is.
const BATCH_ON_CLUSTER: usize = 2;
/// One node makes five syncs of a batch where it makes one of each message, and writes it twice: as measured, it takes as
/// long as twelve messages. Where it does not sync always it takes as long as two hundred.
pub(crate) const BATCH_ON_ONE_NODE: usize = 16;

/// How long the first copy may take to be acknowledged before the log is asked; doubled for each further one, up to the
/// connection's own limit. A leader that has died never answers, and its successor has the message or takes it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Publishes for actions.
#[derive(Debug, Clone)]
pub struct Publisher {
    nats: Nats,
    /// How long after it was first sent a message may be sent again although the log can't be asked.
    resend: Duration,
    batch: BatchPolicy,
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
    /// As much is kept of the session as may be.
    #[error("the session's quota is used up")]
    QuotaUsedUp,
}

impl Publisher {
    /// A publisher over that connection.
    #[must_use]
    pub fn new(nats: &Nats, config: &ActionConfig) -> Self {
        Self { nats: nats.clone(), resend: config.resend.get(), batch: config.batch }
    }

    /// Stores a message, waiting up to `patience` for NATS where it is away. Returns the message's sequence.
    ///
    /// # Errors
    /// [`PublishFailure`]. After `Away`, and if it is cancelled, the message may be stored all the same.
    pub async fn publish(&self, message: &Message<'_>, patience: Duration) -> Result<u64, PublishFailure> {
        self.publish_all(std::slice::from_ref(message), patience).await
    }

    /// Stores messages of one action in this order, waiting up to `patience` for NATS where it is away. Returns the
    /// sequence of the last one; 0 if there is none.
    ///
    /// # Errors
    /// [`PublishFailure`]. Those before one that is too large are stored. After `Superseded` some of them may be, after `Away`,
    /// and if it is cancelled, any number, but always the first ones without a gap.
    pub async fn publish_all(&self, messages: &[Message<'_>], patience: Duration) -> Result<u64, PublishFailure> {
        let deadline = Instant::now() + patience;
        timeout_at(deadline, self.publish_at_last(messages)).await.unwrap_or(Err(PublishFailure::Away))
    }

    async fn publish_at_last(&self, messages: &[Message<'_>]) -> Result<u64, PublishFailure> {
        let mut state = self.nats.state();
        // What is not known to be stored.
        let mut rest = messages;
        let mut sequence = 0;
        // Whether it may go as a batch.
        let mut together = self.batch_from().is_some_and(|from| messages.len() >= from);
        // When the first copy left of which it is not known what became of it.
        let mut unknown_since: Option<Moment> = None;
        let mut look = false;
        let (mut pause, mut wait) = (FIRST_PAUSE, FIRST_WAIT);
        while let [first, others @ ..] = rest {
            connected(&mut state).await?;
            if look || unknown_since.is_some() {
                match timeout(wait, self.last_stored(rest)).await.unwrap_or(Err(jetstream::ApiError::Timeout)) {
                    Ok(found) => {
                        // Where the stream knows an id that the log does not show, each message by itself says what is true
                        // of it.
                        together = together && !(look && found.is_none());
                        (unknown_since, look) = (None, false);
                        if let Some((count, last)) = found {
                            (rest, sequence) = (&rest[count..], last);
                            continue;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "log not readable yet");
                        if look || unknown_since.is_some_and(|since| since.elapsed() >= self.resend) {
                            pause_after(&mut pause).await;
                            continue;
                        }
                    }
                }
            }
            let sent = Moment::now();
            let attempt = if together && !others.is_empty() {
                self.attempt_together(rest, wait, &mut state).await
            } else {
                self.attempt(first, wait, &mut state).await.map_err(BatchError::from)
            };
            match attempt {
                Ok(stored) => {
                    let count = if together && !others.is_empty() { rest.len() } else { 1 };
                    (rest, sequence) = (&rest[count..], stored);
                    (pause, wait) = (FIRST_PAUSE, FIRST_WAIT);
                    continue;
                }
                Err(BatchError::Publish(PublishError::WrongLast { .. })) => return Err(PublishFailure::Superseded),
                Err(BatchError::Publish(PublishError::TooLarge)) => return Err(PublishFailure::TooLarge),
                Err(BatchError::Publish(_)) if planted(Bug::AcknowledgementIgnored) => rest = others,
                Err(error) => {
                    metrics::publish_again(reason(&error));
                    tracing::debug!(
                        subject = first.subject,
                        messages = rest.len(),
                        error = &error as &dyn std::error::Error,
                        "not stored yet"
                    );
                    match error {
                        BatchError::Duplicate => look = true,
                        BatchError::NotTaken { .. } | BatchError::TooLarge { .. } => together = false,
                        BatchError::Publish(PublishError::Timeout | PublishError::Failed(_)) => {
                            unknown_since.get_or_insert(sent);
                            wait = (wait * 2).min(self.nats.request_timeout());
                            pause_after(&mut pause).await;
                        }
                        BatchError::Publish(_) => pause_after(&mut pause).await,
                    }
                }
            }
        }
        Ok(sequence)
    }

    /// From how many messages on they go as a batch; `None`: they never do.
    pub(crate) fn batch_from(&self) -> Option<usize> {
        match (self.batch, self.nats.clustered()) {
            (BatchPolicy::Never, _) | (BatchPolicy::Auto, false) => None,
            (BatchPolicy::Auto | BatchPolicy::Always, true) => Some(BATCH_ON_CLUSTER),
            (BatchPolicy::Always, false) => Some(BATCH_ON_ONE_NODE),
        }
    }

    /// Sends one copy, and waits so long for what becomes of it. A connection that changes meanwhile ends the wait: whatever
    /// was to come over the old one is lost.
    async fn attempt(
        &self,
        message: &Message<'_>,
        wait: Duration,
        state: &mut watch::Receiver<NatsState>,
    ) -> Result<u64, PublishError> {
        let publish = jetstream::publish(
            &self.nats,
            message.subject,
            message.headers.clone(),
            message.payload.clone(),
            message.expect(),
        );
        tokio::select! {
            biased;
            stored = publish => stored.map(|stored| stored.seq),
            _ = state.changed() => Err(PublishError::Timeout),
            () = sleep(wait) => Err(PublishError::Timeout),
        }
    }

    /// As [`Publisher::attempt`], of all messages as one batch. One node is given more time: there is no leader to die, and
    /// where it is slow a copy of so much would make it slower.
    async fn attempt_together(
        &self,
        messages: &[Message<'_>],
        wait: Duration,
        state: &mut watch::Receiver<NatsState>,
    ) -> Result<u64, BatchError> {
        let batch = messages.iter().map(|message| BatchMessage {
            subject: message.subject,
            headers: message.headers.clone(),
            payload: message.payload.clone(),
            expect: message.expect(),
        });
        tokio::select! {
            biased;
            stored = jetstream::publish_batch(&self.nats, batch.collect()) => {
                let stored = stored?;
                metrics::batch(messages.len());
                Ok(stored.last)
            }
            _ = state.changed() => Err(PublishError::Timeout.into()),
            () = sleep(if self.nats.clustered() { wait } else { wait * 3 }) => Err(PublishError::Timeout.into()),
        }
    }

    /// The sequence of a message on the fence itself, if it is stored, whatever came after it: the server took it only right
    /// behind the one that it names.
    pub(crate) async fn behind_fence(&self, message: &Message<'_>) -> Result<Option<u64>, jetstream::ApiError> {
        let next = self.next(message.sequence + 1, message.fence).await?;
        Ok(next.filter(|next| next.message_id() == Some(message.id)).map(|next| next.sequence))
    }

    /// How many of these messages are stored, and the sequence of the last one that is; `None` where none is. They are stored
    /// one behind the other and nobody writes between them, so the last message of all says it.
    async fn last_stored(&self, messages: &[Message<'_>]) -> Result<Option<(usize, u64)>, jetstream::ApiError> {
        let Some(among) = messages.first().map(|message| message.among) else { return Ok(None) };
        let last = self.last(among).await?;
        Ok(last.and_then(|last| {
            let index = messages.iter().position(|message| last.message_id() == Some(message.id))?;
            Some((index + 1, last.sequence))
        }))
    }

    /// The last event that `filter` matches, through the leader.
    pub(crate) async fn last(&self, filter: &str) -> Result<Option<Stored>, jetstream::ApiError> {
        jetstream::last_by_subject_leader(&self.nats, EVENTS, filter).await
    }

    /// The event with that sequence, through the leader.
    pub(crate) async fn at(&self, sequence: u64) -> Result<Option<Stored>, jetstream::ApiError> {
        jetstream::get_leader(&self.nats, EVENTS, sequence).await
    }

    /// The first event at or behind `from` that `filter` matches, through the leader.
    pub(crate) async fn next(&self, from: u64, filter: &str) -> Result<Option<Stored>, jetstream::ApiError> {
        jetstream::next_by_subject_leader(&self.nats, EVENTS, from, filter).await
    }
}

impl Message<'_> {
    fn expect(&self) -> Expect<'_> {
        Expect {
            last_subject_sequence: (!planted(Bug::FenceLeftOut)).then_some(self.sequence),
            subject: Some(self.fence),
            message_id: Some(self.id),
        }
    }
}

/// A moment by the clock that nobody sets, and by the one that goes on while the machine sleeps.
#[derive(Debug, Clone, Copy)]
struct Moment(Instant, SystemTime);

impl Moment {
    fn now() -> Self {
        Self(Instant::now(), SystemTime::now())
    }

    /// How long ago that was, by whichever says more.
    fn elapsed(self) -> Duration {
        self.0.elapsed().max(self.1.elapsed().unwrap_or_default())
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

fn reason(error: &BatchError) -> &'static str {
    match error {
        BatchError::Duplicate => "batch_duplicate",
        BatchError::NotTaken { .. } | BatchError::TooLarge { .. } => "batch_not_taken",
        BatchError::Publish(error) => match error {
            PublishError::Retry => "write_under_way",
            PublishError::NoResponders => "no_responders",
            PublishError::Timeout => "timeout",
            PublishError::Failed(_) => "failed",
            PublishError::Other { .. } | PublishError::WrongLast { .. } | PublishError::TooLarge => "refused",
        },
    }
}
