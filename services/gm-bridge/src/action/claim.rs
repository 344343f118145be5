//! One claimed action: what it publishes, how it ends the one before it, and how it is finished.

use std::{sync::Arc, time::Duration};

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use herald_protocol::{
    EventType, SessionId, headers,
    record::{ActionEvent, ActionKind, ActionRecord, WaitingCommand},
    subject,
};
use herald_runtime::jetstream::Stored;
use metrics::counter;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use super::{
    ActionError, Command, Shared,
    keeper::{Holding, Keeper, Superseded},
    ledger::{Ledger, LedgerError, ends},
    runner,
    running::Seat,
};
use crate::publisher::{Message, PublishFailure};

/// How long a claim waits for the stream of this process' own superseded action to be closed, which takes no time.
const VACATE: Duration = Duration::from_secs(1);

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
    /// Its last event is out.
    ended: bool,
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
    /// What the action before is about, and its `_action`.
    action: Option<(ActionKind, u64)>,
    number: u64,
    record: Option<ActionRecord>,
}

/// When an action may be claimed.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// Always: whatever runs is superseded.
    Any,
    /// If nothing is open.
    Idle,
    /// If the record still has this revision, and the last `_action` this sequence; the command that waits is carried on.
    Lapsed { revision: u64, fence: u64 },
    /// If the last action is still number `n`, whose waiting command this is.
    After { n: u64, command: WaitingCommand },
}

/// Why an action was not claimed.
#[derive(Debug)]
pub(super) enum NotClaimed {
    /// The condition does not hold.
    Otherwise,
    /// It was, and another one took over before its record was written.
    Superseded,
    /// NATS did not answer.
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
}

/// Why an action is ended by another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// A new one was asked for.
    Superseded,
    /// The player cancelled it.
    Cancelled,
    /// Its bridge is gone.
    Lost,
    /// Its Game Master went to another session.
    TakenOver,
}

impl Claim {
    /// Claims the session's running action. Cancelled, it may be claimed all the same.
    pub(super) async fn claim(
        shared: &Arc<Shared>,
        session: &SessionId,
        kind: ActionKind,
        condition: Condition,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, NotClaimed> {
        let deadline = Instant::now() + shared.config.claim_wait.get();
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let fence = subject::gm_action(session);
        for attempt in 0_u32.. {
            let ledger = Ledger::read(shared, session).await?;
            if !condition.holds(&ledger) {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Whoever asked has been told that it came to nothing.
                return Err(NotClaimed::unavailable(PublishFailure::Away));
            }
            let n = ledger.next_number();
            let id = format!("{nonce}.claim{attempt}");
            let payload = serde_json::to_vec(&ActionEvent { n, kind }).map_err(NotClaimed::unavailable)?;
            let message = Message {
                subject: &fence,
                payload: payload.into(),
                headers: HeaderMap::new(),
                fence: &fence,
                sequence: ledger.fence(),
                id: &id,
                among: &fence,
            };
            let sequence = match shared.publisher.publish(&message, left).await {
                Ok(sequence) => sequence,
                // Somebody was faster, or it was our own copy whose acknowledgement got lost.
                Err(PublishFailure::Superseded) => match shared.publisher.stored(&message).await? {
                    Some(sequence) => sequence,
                    None => continue,
                },
                Err(failure) => {
                    let (shared, session, action) = (Arc::clone(shared), session.clone(), ActionEvent { n, kind });
                    let tasks = shared.tasks.clone();
                    tasks.spawn(Doubtful { shared, session, ledger, action, id, nonce, permit }.settle());
                    return Err(NotClaimed::unavailable(failure));
                }
            };
            return Self::take(shared, session, ledger, (ActionEvent { n, kind }, sequence), nonce, &condition, permit)
                .await;
        }
        Err(NotClaimed::Otherwise)
    }

    /// What follows once `_action` is stored: turn out who runs here, take over the record.
    async fn take(
        shared: &Arc<Shared>,
        session: &SessionId,
        ledger: Ledger,
        (action, sequence): (ActionEvent, u64),
        nonce: String,
        condition: &Condition,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, NotClaimed> {
        let ActionEvent { n, kind } = action;
        let mut seat = shared.running.enter(session, n);
        let before = Before {
            last: ledger.last().cloned(),
            action: ledger.kind().map(|kind| (kind, ledger.fence())),
            number: ledger.number().unwrap_or(0),
            record: ledger.record().cloned(),
        };
        let record = ActionRecord {
            n,
            seq: sequence,
            // What it is about: that of a lost action is told when it is ended, however often its enders die.
            kind: before.action.map_or(kind, |(of, _)| if kind == ActionKind::Lost { of } else { kind }),
            bridge: shared.bridge.clone(),
            gm: None,
            next: None,
            beat: 0,
            released: false,
        };
        // The action is ours now: its record is written as soon as NATS takes it.
        let (mut patience, mut slot) = (shared.patience(), Some(ledger.into_slot()));
        let taken = loop {
            match Holding::take(shared, session, &record, slot.take(), condition).await {
                Ok(taken) => break taken,
                Err(error) => patience.after(&error).await?,
            }
        };
        let Ok(holding) = taken else { return Err(NotClaimed::Superseded) };
        let keeper = Keeper::start(holding, seat.superseded().clone());
        if timeout(VACATE, seat.vacated()).await.is_err() {
            tracing::warn!(%session, "a superseded action is slow to close its stream");
        }
        counter!("herald_actions_total", "kind" => name(kind)).increment(1);
        tracing::info!(%session, n, kind = name(kind), "action claimed");
        let (session, shared) = (session.clone(), Arc::clone(shared));
        Ok(Self { shared, session, kind, n, sequence, nonce, published: 0, ended: false, before, seat, keeper, permit })
    }

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

    /// Whether a command waited for the action that this one took over from, and was dropped.
    pub(super) fn dropped_command(&self) -> bool {
        self.before.record.as_ref().is_some_and(|record| record.next.is_some())
    }

    /// Whether the action that this one took over from was another bridge's.
    pub(super) fn predecessor_runs_elsewhere(&self) -> bool {
        self.before.record.as_ref().is_some_and(|record| record.bridge != self.shared.bridge)
    }

    /// Ends the action before this one, unless it has ended by itself, as this action's first word. Whether it had to.
    pub(super) async fn end_predecessor(&mut self, ending: Ending) -> Result<bool, PublishFailure> {
        let Some((kind, action)) = self.before.action else { return Ok(false) };
        let mut patience = self.shared.patience();
        let last = loop {
            match self.last_before().await {
                Ok(last) => break last,
                Err(error) => patience.after(&error).await?,
            }
        };
        self.before.last = None;
        if last.is_none_or(|last| ends(&last, self.before.number)) {
            return Ok(false);
        }
        tracing::info!(session = %self.session, n = self.before.number, ?ending, "action ended by another one");
        // Whoever has nothing else to do ends itself with the same word.
        let last_word = matches!(self.kind, ActionKind::Cancel | ActionKind::Lost);
        self.publish_end(ending.payload(kind), if last_word { self.n } else { self.before.number }).await?;
        self.shared.lease.finish(&self.session, action, false).await;
        Ok(true)
    }

    /// The last event before this action's `_action`. It can't change any more: what belongs to an earlier action is refused
    /// from there on.
    async fn last_before(&self) -> Result<Option<Stored>, LedgerError> {
        let all = subject::session_all(subject::GM, &self.session);
        let mut last = self.before.last.clone();
        loop {
            let from = last.as_ref().map_or(1, |last| last.sequence + 1);
            match self.shared.publisher.next(from, &all).await? {
                Some(next) if next.sequence < self.sequence => last = Some(next),
                _ => return Ok(last),
            }
        }
    }

    /// Publishes one event of the Game Master.
    pub(super) async fn publish(&mut self, event_type: &EventType, json: Bytes) -> Result<u64, PublishFailure> {
        let subject = subject::gm_event(&self.session, event_type);
        let sequence = self.publish_on(&subject, json, HeaderMap::new()).await?;
        counter!("herald_events_published_total").increment(1);
        self.ended = matches!(event_type.as_str(), "result" | "error");
        Ok(sequence)
    }

    /// Publishes that the action failed: its last event.
    pub(super) async fn fail(&mut self, error: &str, detail: &str) -> Result<(), PublishFailure> {
        self.publish_end(error_payload(error, Some(detail)), self.n).await
    }

    /// Publishes that ending as the action's own last event.
    pub(super) async fn end_with(&mut self, ending: Ending) -> Result<(), PublishFailure> {
        self.publish_end(ending.payload(self.kind), self.n).await
    }

    /// Publishes an error of our own making, the end of the action number `ends`.
    async fn publish_end(&mut self, payload: Bytes, ends: u64) -> Result<(), PublishFailure> {
        let mut headers = HeaderMap::new();
        headers.insert(headers::ENDS, ends.to_string());
        let subject = subject::gm_event(&self.session, &EventType::from_wire("error"));
        self.publish_on(&subject, payload, headers).await?;
        self.ended = ends == self.n;
        Ok(())
    }

    async fn publish_on(&mut self, subject: &str, payload: Bytes, headers: HeaderMap) -> Result<u64, PublishFailure> {
        self.published += 1;
        let (id, fence) = (format!("{}.{}", self.nonce, self.published), subject::gm_action(&self.session));
        let all = subject::session_all(subject::GM, &self.session);
        let (sequence, id) = (self.sequence, id.as_str());
        let message = Message { subject, payload, headers, fence: &fence, sequence, id, among: &all };
        tokio::select! {
            biased;
            () = self.seat.superseded().cancelled() => Err(PublishFailure::Superseded),
            published = self.shared.publisher.publish(&message, self.shared.config.publish_wait.get()) => {
                if matches!(published, Err(PublishFailure::Superseded)) {
                    self.seat.superseded().cancel();
                }
                published
            }
            () = self.shared.last_words_spoken() => Err(PublishFailure::Away),
        }
    }

    /// Ends the action. Where a command waits for that, its action is claimed.
    pub(super) async fn finish_and_claim_next(mut self) -> Result<Option<(Self, Command)>, ActionError> {
        if !self.is_held() {
            return Ok(None);
        }
        if !self.ended {
            let done = subject::gm_done(&self.session);
            match self.publish_on(&done, Bytes::from_static(b"{}"), HeaderMap::new()).await {
                Err(PublishFailure::Superseded) => return Ok(None),
                published => published?,
            };
        }
        let Self { shared, session, n, seat, keeper, permit, .. } = self;
        tracing::info!(%session, n, "action ended");
        drop(seat);
        let Some(mut holding) = keeper.stop().await else { return Ok(None) };
        let mut patience = shared.patience();
        let next = loop {
            match holding.delete().await {
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
        match Self::claim(&shared, &session, kind, Condition::After { n, command: next }, permit).await {
            Ok(claim) => Ok(Some((claim, command))),
            // Whoever was faster took over the record and with it what waits, or dropped it.
            Err(NotClaimed::Otherwise | NotClaimed::Superseded) => Ok(None),
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

/// A claim whose `_action` brought no acknowledgement in time.
struct Doubtful {
    shared: Arc<Shared>,
    session: SessionId,
    ledger: Ledger,
    action: ActionEvent,
    id: String,
    nonce: String,
    permit: OwnedSemaphorePermit,
}

impl Doubtful {
    /// If it was stored all the same it has to be ended, as it has superseded what ran before.
    fn settle(self) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { shared, session, ledger, action, id, nonce, permit } = self;
            let (fence, mut patience) = (subject::gm_action(&session), shared.patience());
            let last = loop {
                match shared.publisher.last(&fence).await {
                    Ok(last) => break last,
                    Err(error) if patience.after(&error).await.is_err() => return,
                    Err(_) => {}
                }
            };
            let Some(last) = last.filter(|last| last.message_id() == Some(id.as_str())) else { return };
            let opened = (action, last.sequence);
            match Claim::take(&shared, &session, ledger, opened, nonce, &Condition::Any, permit).await {
                Ok(claim) => claim.abandon().await,
                Err(_) => tracing::warn!(%session, "action claimed too late, already superseded"),
            }
        })
    }
}

impl Condition {
    fn holds(&self, ledger: &Ledger) -> bool {
        match self {
            Self::Any => true,
            Self::Idle => ledger.record().is_none() && ledger.ended(),
            Self::Lapsed { revision, fence } => ledger.revision() == *revision && ledger.fence() == *fence,
            Self::After { n, .. } => ledger.number() == Some(*n),
        }
    }

    /// What stays waiting when the record is taken over.
    pub(super) fn carry(&self, next: Option<WaitingCommand>) -> Option<WaitingCommand> {
        match self {
            Self::Any | Self::Idle => None,
            Self::Lapsed { .. } => next,
            // A newer one that took its place meanwhile waits on.
            Self::After { command, .. } => next.filter(|next| next != command),
        }
    }
}

impl Ending {
    /// What the session is told about an action of that kind.
    fn payload(self, kind: ActionKind) -> Bytes {
        match self {
            Self::Superseded => error_payload("Cancelled", Some("superseded")),
            Self::Cancelled => error_payload("Cancelled", None),
            Self::TakenOver => error_payload("Game taken over", None),
            Self::Lost if kind == ActionKind::Cancel => error_payload("Cancelled", None),
            Self::Lost => error_payload(failed(kind), Some("bridge lost")),
        }
    }
}

/// The words for a failed action of that kind.
pub(super) const fn failed(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::Propose => "Propose stream failed",
        ActionKind::Choose => "Choose stream failed",
        ActionKind::Start => "Start failed",
        ActionKind::Cancel | ActionKind::Lost => "Stream failed",
    }
}

const fn name(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::Propose => "propose",
        ActionKind::Choose => "choose",
        ActionKind::Start => "start",
        ActionKind::Cancel => "cancel",
        ActionKind::Lost => "lost",
    }
}

fn error_payload(error: &str, detail: Option<&str>) -> Bytes {
    let payload = match detail {
        Some(detail) => serde_json::json!({"error": error, "detail": detail}),
        None => serde_json::json!({"error": error}),
    };
    payload.to_string().into()
}

impl NotClaimed {
    fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<LedgerError> for NotClaimed {
    fn from(error: LedgerError) -> Self {
        Self::unavailable(error)
    }
}

impl From<herald_runtime::jetstream::ApiError> for NotClaimed {
    fn from(error: herald_runtime::jetstream::ApiError) -> Self {
        Self::unavailable(error)
    }
}

impl From<PublishFailure> for NotClaimed {
    fn from(error: PublishFailure) -> Self {
        Self::unavailable(error)
    }
}
