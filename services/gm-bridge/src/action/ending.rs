//! What a session is told about an action that did not end by itself.

use bytes::Bytes;
use herald_protocol::record::ActionKind;

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

impl Ending {
    /// What the session is told about an action of that kind.
    pub(super) fn payload(self, kind: ActionKind) -> Bytes {
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

/// The payload of an error of ours.
pub(super) fn error_payload(error: &str, detail: Option<&str>) -> Bytes {
    let payload = match detail {
        Some(detail) => serde_json::json!({"error": error, "detail": detail}),
        None => serde_json::json!({"error": error}),
    };
    payload.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_is_told_in_the_contracts_words() {
        for (ending, kind, expected) in [
            (Ending::Superseded, ActionKind::Propose, r#"{"detail":"superseded","error":"Cancelled"}"#),
            (Ending::Cancelled, ActionKind::Choose, r#"{"error":"Cancelled"}"#),
            (Ending::TakenOver, ActionKind::Choose, r#"{"error":"Game taken over"}"#),
            (Ending::Lost, ActionKind::Propose, r#"{"detail":"bridge lost","error":"Propose stream failed"}"#),
            (Ending::Lost, ActionKind::Choose, r#"{"detail":"bridge lost","error":"Choose stream failed"}"#),
            (Ending::Lost, ActionKind::Cancel, r#"{"error":"Cancelled"}"#),
        ] {
            let payload: serde_json::Value = serde_json::from_slice(&ending.payload(kind)).unwrap();
            assert_eq!(payload, serde_json::from_str::<serde_json::Value>(expected).unwrap());
        }
    }
}
