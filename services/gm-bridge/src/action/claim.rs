//! One claimed action: what it publishes, how it ends the one before it, and how it is finished.

mod claiming;
mod leaving;
mod predecessors;

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use herald_protocol::{
    SessionId,
    headers::TRACEPARENT,
    record::{ActionEvent, ActionKind, ActionRecord, Purged},
    subject,
};
use herald_runtime::jetstream::{ApiError, Stored};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};

pub(super) use self::claiming::{Condition, NotClaimed};
use super::{
    ActionError, Command, Shared,
    ending::{Ending, error_payload},
    keeper::{Keeper, Superseded},
    quota::{Kept, Quota},
    runner,
    running::{Notes, Seat},
};
use crate::{
    game_master::GmEvent,
    metrics,
    publisher::{Message, PublishFailure},
};

/// A claimed action. Dropped unfinished, its record lapses, and whoever sees that ends it.
pub struct Claim {
    shared: Arc<Shared>,
    session: SessionId,
    kind: ActionKind,
    n: u64,
    /// Sequence of its `_action`: the fence of all that it publishes.
    sequence: u64,
    /// What makes its message ids its own.
    nonce: String,
    published: u64,
    /// What is kept of the session with what it has published.
    kept: Kept,
    /// Its last event is out.
    ended: bool,
    /// The session is over with it: nothing is to follow.
    over: bool,
    before: Before,
    seat: Seat,
    keeper: Keeper,
    permit: OwnedSemaphorePermit,
}

/// What was there when the action was claimed.
#[derive(Debug)]
struct Before {
    /// The last event read before the claim; later ones may stand between it and the claim.
    last: Option<Stored>,
    /// The `_action` before, with its sequence.
    action: Option<(ActionEvent, u64)>,
    /// What that one is about.
    kind: ActionKind,
    record: Option<ActionRecord>,
}

impl Claim {
    /// The stream sequence of its `_action`.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether the action is still this one. Once it is not, nothing more may be done in its name.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.seat.superseded().is_cancelled()
    }

    /// Waits until another action takes over. It is noticed when a renewal of the record fails, at the latest.
    pub async fn superseded(&self) {
        self.seat.superseded().cancelled().await;
    }

    /// Waits until nobody can have taken this action for lost: asked right before what can't be taken back. A process that
    /// was halted finds out here, not by what it believed before.
    ///
    /// # Errors
    /// `Superseded` if another action has taken over; `Away` if NATS was, for longer than an event may wait for it.
    pub async fn surely_held(&self) -> Result<(), PublishFailure> {
        // Well below the time after which others may conclude anything; above that of a renewal.
        let fresh = self.shared.config.lapse.get() * 3 / 4;
        tokio::select! {
            biased;
            () = self.superseded() => Err(PublishFailure::Superseded),
            () = self.keeper.renewed_within(fresh) => Ok(()),
            () = sleep(self.shared.config.publish_wait.get()) => Err(PublishFailure::Away),
            () = self.shared.last_words_spoken() => Err(PublishFailure::Away),
        }
    }

    /// Ends the action and lets a command that waits for its end run.
    ///
    /// # Errors
    /// [`ActionError`]; then the record lapses and whoever sees that ends it.
    pub async fn finish(self) -> Result<(), ActionError> {
        let shared = Arc::clone(&self.shared);
        if let Some((claim, command)) = self.finish_and_claim_next().await? {
            shared.tasks.spawn(runner::drive(claim, command));
        }
        Ok(())
    }

    pub(super) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) const fn session(&self) -> &SessionId {
        &self.session
    }

    pub(super) const fn number(&self) -> u64 {
        self.n
    }

    /// What is noted down of it.
    pub(super) fn notes(&self) -> &Notes {
        self.seat.notes()
    }

    /// Whether a command waited for the action that this one took over from, and was dropped.
    pub(super) fn dropped_command(&self) -> bool {
        self.before.record.as_ref().is_some_and(|record| record.next.is_some())
    }

    /// Looks how much is kept of the session. Whether more may be.
    pub(super) async fn has_room(&mut self) -> Result<bool, ApiError> {
        let quota = Quota::of(&self.shared.config);
        if quota.is_set() {
            self.kept = Kept::read(&self.shared.nats, &self.session, quota).await?;
        }
        Ok(!quota.is_used_up(self.kept))
    }

    /// Publishes events of the Game Master in this order. Those before one for which there is no room are published.
    pub(super) async fn publish(&mut self, events: &[GmEvent]) -> Result<(), PublishFailure> {
        let fitting = self.fitting(events);
        self.publish_fitting(&events[..fitting]).await?;
        if fitting < events.len() { Err(PublishFailure::QuotaUsedUp) } else { Ok(()) }
    }

    /// How many of these events there is room for. With the last one of the action it ends all the same.
    fn fitting(&self, events: &[GmEvent]) -> usize {
        let (quota, mut kept) = (Quota::of(&self.shared.config), self.kept);
        let fits = |event: &GmEvent| {
            let full = quota.is_used_up(kept) && !event.is_last();
            kept = kept.with(&subject::gm_event(&self.session, &event.event_type), event.json.len());
            !full
        };
        let full = events.iter().map(fits).position(|fits| !fits);
        full.unwrap_or(events.len())
    }

    async fn publish_fitting(&mut self, events: &[GmEvent]) -> Result<(), PublishFailure> {
        let events_of = |event: &GmEvent| {
            let subject = subject::gm_event(&self.session, &event.event_type);
            let mut headers = HeaderMap::new();
            if let Some(context) = event.trace {
                headers.insert(TRACEPARENT, context.to_string());
            }
            (subject, event.json.clone(), headers)
        };
        self.publish_all(events.iter().map(events_of).collect()).await?;
        metrics::published(events.len());
        self.notes().published(events.len());
        self.ended = events.last().is_some_and(GmEvent::is_last);
        Ok(())
    }

    /// Publishes that the action failed: its last event.
    pub(super) async fn fail(&mut self, error: &str, detail: &str) -> Result<(), PublishFailure> {
        self.publish_end(error_payload(error, Some(detail)), self.n).await
    }

    /// Publishes that ending as the action's own last event.
    pub(super) async fn end_with(&mut self, ending: Ending) -> Result<(), PublishFailure> {
        self.publish_end(ending.payload(self.kind), self.n).await
    }

    /// Publishes that the session is over: its last event. What waits for its end is dropped.
    pub(crate) async fn say_over(&mut self) -> Result<(), PublishFailure> {
        let over = subject::gm_over(&self.session);
        self.publish_on(&over, Bytes::from_static(b"{}"), HeaderMap::new()).await?;
        (self.ended, self.over) = (true, true);
        Ok(())
    }

    /// Says in the log that what is kept of the session before this action is about to be removed: so many messages at most.
    pub(crate) async fn announce_purge(&mut self, events: u64) -> Result<(), PublishFailure> {
        let purged = Purged { session: self.session.clone(), upto: self.sequence - 1, events };
        let payload = serde_json::to_vec(&purged).unwrap_or_default();
        self.publish_on(subject::GM_PURGED, payload.into(), HeaderMap::new()).await.map(drop)
    }

    async fn publish_on(&mut self, subject: &str, payload: Bytes, headers: HeaderMap) -> Result<u64, PublishFailure> {
        self.publish_all(vec![(subject.to_owned(), payload, headers)]).await
    }

    async fn publish_all(&mut self, events: Vec<(String, Bytes, HeaderMap)>) -> Result<u64, PublishFailure> {
        let (fence, among) = (subject::gm_action(&self.session), subject::session_all(subject::GM, &self.session));
        let ids: Vec<_> = (self.published + 1..).zip(&events).map(|(n, _)| format!("{}.{n}", self.nonce)).collect();
        self.published += ids.len() as u64;
        let (sequence, mut kept) = (self.sequence, self.kept);
        let messages = events.iter().zip(&ids).map(|((subject, payload, headers), id)| {
            kept = kept.with(subject, payload.len());
            let mut headers = headers.clone();
            kept.say(&mut headers);
            Message { subject, payload: payload.clone(), headers, fence: &fence, sequence, id, among: &among }
        });
        let messages: Vec<_> = messages.collect();
        self.kept = kept;
        let begun = Instant::now();
        tokio::select! {
            biased;
            () = self.seat.superseded().cancelled() => Err(PublishFailure::Superseded),
            published = self.shared.publisher.publish_all(&messages, self.shared.config.publish_wait.get()) => {
                match published {
                    Ok(_) => metrics::stored(begun.elapsed()),
                    Err(PublishFailure::Superseded) => self.seat.superseded().cancel(),
                    Err(_) => {}
                }
                published
            }
            () = self.shared.last_words_spoken() => Err(PublishFailure::Away),
        }
    }

    /// Ends the action. Where a command waits for that, its action is claimed.
    pub(super) async fn finish_and_claim_next(mut self) -> Result<Option<(Self, Command)>, ActionError> {
        if !self.is_held() {
            self.leave().await;
            return Ok(None);
        }
        if !self.ended {
            let done = subject::gm_done(&self.session);
            match self.publish_on(&done, Bytes::from_static(b"{}"), HeaderMap::new()).await {
                Err(PublishFailure::Superseded) => return Ok(None),
                published => published?,
            };
        }
        let Self { shared, session, n, over, seat, keeper, permit, .. } = self;
        tracing::info!(%session, n, "action ended");
        drop(seat);
        let Some(mut holding) = keeper.stop().await else { return Ok(None) };
        let mut patience = shared.patience();
        let next = loop {
            match holding.delete().await {
                Ok(Ok(Some(_))) if over => holding.record.next = None,
                Ok(Ok(Some(next))) => break next,
                Ok(Ok(None) | Err(Superseded)) => return Ok(None),
                Err(error) => patience.after(&error).await?,
            }
        };
        if shared.shutdown.is_cancelled() {
            while let Err(error) = holding.release().await {
                patience.after(&error).await?;
            }
            return Ok(None);
        }
        let kind = next.kind;
        let Some(command) = Command::from_waiting(&next) else {
            tracing::error!(%session, "waiting command that makes no sense dropped");
            holding.record.next = None;
            return Ok(holding.delete().await?.map_or(None, |_| None));
        };
        match Self::claim(&shared, &session, kind, Condition::After { n, command: next }, permit, "").await {
            Ok(claim) => Ok(Some((claim, command))),
            // Whoever was faster took over the record and with it what waits, or dropped it.
            Err(NotClaimed::Otherwise | NotClaimed::Over | NotClaimed::Superseded) => Ok(None),
            // The record lapses; what waits in it is carried on.
            Err(NotClaimed::Unavailable(error)) => {
                tracing::warn!(%session, error = &*error, "waiting command not started");
                Err(ActionError::NotConnected)
            }
        }
    }

    /// Ends an action that nobody wants any more, as its command was already answered with a failure.
    pub(super) async fn abandon(mut self) {
        tracing::warn!(session = %self.session, n = self.n, "action claimed too late, ended");
        let ended = match self.end_predecessor(Ending::Superseded).await {
            Ok(_) => self.finish().await,
            Err(failure) => Err(failure.into()),
        };
        if let Err(error) = ended {
            tracing::warn!(error = &error as &dyn std::error::Error, "action left to lapse");
        }
    }
}
