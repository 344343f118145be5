//! What is known of a session's actions before one is claimed, all of it read through the leader.

use herald_protocol::{
    EventSubject, SessionId, headers,
    record::{ActionEvent, ActionKind, ActionRecord, Before},
    subject,
};
use herald_runtime::jetstream::{ApiError, Stored};

use super::{ActionError, Shared, quota::Kept};
use herald_runtime::bucket::{BucketError, Slot};

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

    /// The last `_action` in the log and its sequence.
    pub(super) const fn action(&self) -> Option<&(ActionEvent, u64)> {
        self.action.as_ref()
    }

    /// What the next `_action` says of the one before it.
    pub(super) fn before(&self) -> Option<Before> {
        let (_, action) = self.action.as_ref()?;
        let last = self.last.as_ref().map_or(0, |last| last.sequence);
        Some(Before { action: *action, last: last.max(*action) })
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

    /// What is kept of the session's `gm.*`, as its last event says.
    pub(super) fn kept(&self) -> Kept {
        Kept::said(self.last.as_ref())
    }

    /// Whether the last thing said is that the session is over.
    pub(super) fn is_over(&self) -> bool {
        self.last.as_ref().is_some_and(|last| topic(last) == subject::OVER_TOPIC && last.sequence > self.fence())
    }

    /// Whether the last action has come to its end, as far as it was read.
    pub(super) fn ended(&self) -> bool {
        match (&self.last, &self.action) {
            (Some(last), Some((action, opened))) => last.sequence > *opened && ends(last, action.n),
            (None, None) => true,
            (Some(_), None) => true,
            (None, Some(_)) => false,
        }
    }
}

/// Whether this event of the action number `n` is its last one.
pub(super) fn ends(event: &Stored, n: u64) -> bool {
    match topic(event) {
        subject::DONE_TOPIC | subject::OVER_TOPIC | "result" => true,
        // It may be the first word of an action, by which it ended the one before.
        "error" => event.headers.get(headers::ENDS).is_none_or(|ends| ends.as_str() == n.to_string()),
        _ => false,
    }
}

fn topic(event: &Stored) -> &str {
    EventSubject::parse(&event.subject).map_or("", |subject| subject.topic)
}

/// The payload of an `_action`. One that can't be read was not written by a bridge; it opened something all the same.
pub(super) fn opened(stored: &Stored) -> ActionEvent {
    serde_json::from_slice(&stored.payload).unwrap_or(ActionEvent { n: 0, kind: ActionKind::Lost, before: None })
}

impl From<LedgerError> for ActionError {
    fn from(error: LedgerError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "state of actions not readable");
        Self::NotConnected
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use bytes::Bytes;
    use herald_protocol::{InstanceId, record::ActionKind};

    use super::*;

    fn stored(topic: &str, sequence: u64, payload: &str, ends: Option<u64>) -> Stored {
        let mut headers = HeaderMap::new();
        if let Some(ends) = ends {
            headers.insert(headers::ENDS, ends.to_string());
        }
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        Stored { subject: format!("gm.s.{topic}").into(), sequence, time_ns: 0, headers, payload }
    }

    fn ledger(last: Option<Stored>, action: Option<(ActionKind, u64)>, record: Option<(u64, ActionKind)>) -> Ledger {
        let bridge = InstanceId::new("b").unwrap();
        let record = record.map(|(n, kind)| ActionRecord {
            n,
            seq: 1,
            kind,
            bridge,
            next: None,
            beat: 0,
            released: false,
            left: None,
        });
        let action = action.map(|(kind, sequence)| (ActionEvent { n: 5, kind, before: None }, sequence));
        Ledger { last, action, slot: Slot { record, revision: 1, written_ms: 0 } }
    }

    #[test]
    fn an_action_ends_with_its_own_last_word() {
        for (topic, ends_header, expected) in [
            ("result", None, true),
            ("_done", None, true),
            ("_over", None, true),
            ("error", None, true),
            ("error", Some(5), true),
            ("error", Some(4), false),
            ("end", None, false),
            ("tool_error", None, false),
            ("_action", None, false),
        ] {
            assert_eq!(ends(&stored(topic, 9, "{}", ends_header), 5), expected, "{topic} {ends_header:?}");
        }
    }

    #[test]
    fn an_end_read_before_a_newer_claim_is_not_that_ones_end() {
        let result = || Some(stored("result", 9, "{}", None));
        assert!(ledger(None, None, None).ended());
        assert!(ledger(result(), Some((ActionKind::Propose, 3)), None).ended());
        assert!(!ledger(result(), Some((ActionKind::Propose, 10)), None).ended());
        assert!(!ledger(None, Some((ActionKind::Propose, 10)), None).ended());
    }

    #[test]
    fn a_session_is_over_until_something_is_begun() {
        let over = || Some(stored("_over", 9, "{}", None));
        assert!(ledger(over(), Some((ActionKind::Cancel, 8)), None).is_over());
        assert!(!ledger(over(), Some((ActionKind::Start, 10)), None).is_over());
        assert!(!ledger(Some(stored("_done", 9, "{}", None)), Some((ActionKind::Start, 8)), None).is_over());
    }

    #[test]
    fn numbers_never_fall_and_enders_speak_of_what_they_end() {
        let propose = Some((ActionKind::Propose, 3));
        assert_eq!(ledger(None, None, None).next_number(), 1);
        assert_eq!(ledger(None, propose, Some((4, ActionKind::Start))).next_number(), 6);
        assert_eq!(ledger(None, propose, Some((40, ActionKind::Start))).next_number(), 41, "the log was lost");
        assert_eq!(ledger(None, propose, Some((4, ActionKind::Choose))).kind(), Some(ActionKind::Propose));
        let lost = Some((ActionKind::Lost, 3));
        assert_eq!(ledger(None, lost, Some((5, ActionKind::Choose))).kind(), Some(ActionKind::Choose));
        assert_eq!(ledger(None, lost, None).kind(), Some(ActionKind::Lost));
    }

    #[test]
    fn an_unreadable_claim_is_a_claim() {
        assert_eq!(opened(&stored("_action", 3, "{\"n\":7,\"kind\":\"choose\"}", None)).n, 7);
        assert_eq!(
            opened(&stored("_action", 3, "nonsense", None)),
            ActionEvent { n: 0, kind: ActionKind::Lost, before: None }
        );
    }
}
