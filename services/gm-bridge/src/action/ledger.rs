//! What is known of a session's actions before one is claimed, all of it read through the leader.

use herald_protocol::{
    EventSubject, SessionId, headers,
    record::{ActionEvent, ActionKind, ActionRecord},
    subject,
};
use herald_runtime::jetstream::{ApiError, Stored};

use super::{ActionError, Shared};
use crate::bucket::{BucketError, Slot};

/// The log's end and the record of a session.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The last `gm.<sid>.>`.
    last: Option<Stored>,
    /// The last `_action` and its sequence. It may be newer than `last`: they are read one after the other.
    action: Option<(ActionEvent, u64)>,
    slot: Slot<ActionRecord>,
}

/// The log or the records could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LedgerError {
    #[error("the log could not be read")]
    Log(#[from] ApiError),
    #[error(transparent)]
    Records(#[from] BucketError),
}

impl Ledger {
    pub(super) async fn read(shared: &Shared, session: &SessionId) -> Result<Self, LedgerError> {
        let (all, fence) = (subject::session_all(subject::GM, session), subject::gm_action(session));
        let log = |filter| async move { shared.publisher.last(filter).await.map_err(LedgerError::from) };
        let record = async { shared.records.get(session.as_str()).await.map_err(LedgerError::from) };
        let (last, action, slot) = futures_util::try_join!(log(&all), log(&fence), record)?;
        let action = action.map(|stored| (opened(&stored), stored.sequence));
        Ok(Self { last, action, slot })
    }

    /// The record of an open action, if there is one.
    pub(super) const fn record(&self) -> Option<&ActionRecord> {
        self.slot.record()
    }

    /// The record and the revision a write must name.
    pub(super) fn into_slot(self) -> Slot<ActionRecord> {
        self.slot
    }

    /// The number of the next action. The record counts too: the log may have been lost, and numbers never fall.
    pub(super) fn next_number(&self) -> u64 {
        let action = self.action.as_ref().map_or(0, |(action, _)| action.n);
        let record = self.record().map_or(0, |record| record.n);
        action.max(record) + 1
    }

    /// The number of the last action in the log.
    pub(super) fn number(&self) -> Option<u64> {
        self.action.as_ref().map(|(action, _)| action.n)
    }

    /// The sequence of the last `_action`, 0 if there is none: what a claim expects.
    pub(super) fn fence(&self) -> u64 {
        self.action.as_ref().map_or(0, |(_, sequence)| *sequence)
    }

    /// The revision of the record.
    pub(super) const fn revision(&self) -> u64 {
        self.slot.revision
    }

    /// Where the log was read up to.
    pub(super) const fn last(&self) -> Option<&Stored> {
        self.last.as_ref()
    }

    /// What the last action was about. One that only ends another is about what that one was: its record says it.
    pub(super) fn kind(&self) -> Option<ActionKind> {
        let (action, _) = self.action.as_ref()?;
        let ending = matches!(action.kind, ActionKind::Lost | ActionKind::Cancel);
        Some(self.record().filter(|_| ending).map_or(action.kind, |record| record.kind))
    }

    /// Whether the last action has come to its end, as far as it was read.
    pub(super) fn ended(&self) -> bool {
        match (&self.last, &self.action) {
            (Some(last), Some((_, opened))) => last.sequence > *opened && ends(last),
            (None, None) => true,
            (Some(_), None) => true,
            (None, Some(_)) => false,
        }
    }
}

/// Whether this event is the last one of its action.
pub(super) fn ends(event: &Stored) -> bool {
    let topic = EventSubject::parse(&event.subject).map_or("", |subject| subject.topic);
    match topic {
        subject::DONE_TOPIC | "result" => true,
        // One that ends the action before is the first word of its own.
        "error" => event.headers.get(headers::ENDS).is_none(),
        _ => false,
    }
}

/// The payload of an `_action`. One that can't be read was not written by a bridge; it opened something all the same.
fn opened(stored: &Stored) -> ActionEvent {
    serde_json::from_slice(&stored.payload).unwrap_or(ActionEvent { n: 0, kind: ActionKind::Lost })
}

impl From<LedgerError> for ActionError {
    fn from(error: LedgerError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "state of actions not readable");
        Self::NotConnected
    }
}
