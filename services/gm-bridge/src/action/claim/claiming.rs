//! How an action is claimed.

use std::{sync::Arc, time::Duration};

use async_nats::HeaderMap;
use futures_util::future::BoxFuture;
use herald_protocol::{
    SessionId,
    record::{ActionEvent, ActionKind, ActionRecord, WaitingCommand},
    subject,
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};

use super::{Before, Claim};
use crate::{
    action::{
        Shared,
        keeper::{Holding, Keeper},
        ledger::{Ledger, LedgerError},
    },
    metrics,
    publisher::{Message, PublishFailure},
};

/// How long a claim may find nobody to ask who leads: another leader is found within.
const LEADERLESS: Duration = Duration::from_secs(3);
/// How long a claim waits for the stream of this process' own superseded action to be closed, which takes no time.
const VACATE: Duration = Duration::from_secs(1);

/// When an action may be claimed.
#[derive(Debug, Clone)]
pub(in crate::action) enum Condition {
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
pub(in crate::action) enum NotClaimed {
    /// The condition does not hold.
    Otherwise,
    /// The session is over: only a start makes it alive again.
    Over,
    /// It was, and another one took over before its record was written.
    Superseded,
    /// NATS did not answer.
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
}

impl Claim {
    /// Claims the session's running action. Cancelled, it may be claimed all the same. Its message ids begin with `by`.
    pub(in crate::action) async fn claim(
        shared: &Arc<Shared>,
        session: &SessionId,
        kind: ActionKind,
        condition: Condition,
        permit: OwnedSemaphorePermit,
        by: &str,
    ) -> Result<Self, NotClaimed> {
        let begun = Instant::now();
        let deadline = begun + shared.config.claim_wait.get();
        let nonce = format!("{by}{}", uuid::Uuid::new_v4().simple());
        let fence = subject::gm_action(session);
        for attempt in 0_u32.. {
            let ledger = match Ledger::read(shared, session).await {
                Ok(ledger) => ledger,
                // A leader that has just died has no successor yet.
                Err(_) if shared.nats.connected() && begun.elapsed() < LEADERLESS => {
                    sleep(LEADERLESS / 10).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if !condition.holds(&ledger) {
                break;
            }
            if matches!(kind, ActionKind::Propose | ActionKind::Choose) && ledger.is_over() {
                return Err(NotClaimed::Over);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Whoever asked has been told that it came to nothing.
                return Err(NotClaimed::unavailable(PublishFailure::Away));
            }
            let action = ActionEvent { n: ledger.next_number(), kind, before: ledger.before() };
            let id = format!("{nonce}.claim{attempt}");
            let payload = serde_json::to_vec(&action).map_err(NotClaimed::unavailable)?;
            let doubtful = |ledger, id, permit, error| {
                let (shared, session, nonce) = (Arc::clone(shared), session.clone(), nonce.clone());
                let tasks = shared.tasks.clone();
                let action = action.clone();
                tasks.spawn(Doubtful { shared, session, ledger, action, id, nonce, permit }.settle());
                NotClaimed::Unavailable(error)
            };
            let mut headers = HeaderMap::new();
            ledger.kept().with(&fence, payload.len()).say(&mut headers);
            let message = Message {
                subject: &fence,
                payload: payload.into(),
                headers,
                fence: &fence,
                sequence: ledger.fence(),
                id: &id,
                among: &fence,
            };
            let sequence = match shared.publisher.publish(&message, left).await {
                Ok(sequence) => sequence,
                // Somebody was faster, or it was our own copy whose acknowledgement got lost. Others may have superseded
                // that one meanwhile: claimed once more, the command would have two actions.
                Err(PublishFailure::Superseded) => match shared.publisher.behind_fence(&message).await {
                    Ok(Some(sequence)) => sequence,
                    Ok(None) => continue,
                    Err(error) => return Err(doubtful(ledger, id, permit, error.into())),
                },
                Err(failure) => return Err(doubtful(ledger, id, permit, failure.into())),
            };
            return Self::take(shared, session, ledger, (action, sequence), nonce, &condition, permit).await;
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
        let ActionEvent { n, kind, .. } = action;
        let mut seat = shared.running.enter(session, n, kind);
        let kept = ledger.kept().with(&subject::gm_action(session), 0);
        let before = Before {
            last: ledger.last().cloned(),
            action: ledger.action().cloned(),
            kind: ledger.kind().unwrap_or(kind),
            record: ledger.record().cloned(),
        };
        let record = ActionRecord {
            n,
            seq: sequence,
            // What it is about: that of a lost action is told when it is ended, however often its enders die.
            kind: if kind == ActionKind::Lost { before.kind } else { kind },
            bridge: shared.bridge.clone(),
            next: None,
            beat: 0,
            released: false,
            left: None,
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
        metrics::action(kind.as_str());
        tracing::info!(%session, n, kind = kind.as_str(), "action claimed");
        let (session, shared) = (session.clone(), Arc::clone(shared));
        Ok(Self {
            shared,
            session,
            kind,
            n,
            sequence,
            nonce,
            published: 0,
            kept,
            ended: false,
            over: false,
            before,
            seat,
            keeper,
            permit,
        })
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
    pub(in crate::action) fn carry(&self, next: Option<WaitingCommand>) -> Option<WaitingCommand> {
        match self {
            Self::Any | Self::Idle => None,
            Self::Lapsed { .. } => next,
            // A newer one that took its place meanwhile waits on.
            Self::After { command, .. } => next.filter(|next| next != command),
        }
    }
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
