//! One session as the checker played it: what was published into it, what was asked for it, what its clients saw.

use herald_protocol::{SessionId, record::ActionKind};

use super::notes::Notes;

/// One session, from its first event to its last.
#[derive(Debug, Clone)]
pub struct Played {
    /// The session.
    pub session: SessionId,
    /// When each of its arena events was handed to NATS, ms since 1970; the event's number `n` is its place. Nothing
    /// acknowledges them: some may never have been stored.
    pub published: Vec<u64>,
    /// Stream sequence of its last event: the last number in `published`, which unlike the others was published with an
    /// acknowledgement (and an id, so that it is stored once) after everything else had ended. The clients were listened
    /// to until each had it, or `--settle` was over; what the log holds behind it is not theirs to have. `None` where
    /// NATS did not take it in time: then the session ends with whatever the log holds.
    pub end: Option<u64>,
    /// Its commands, in the order in which they were sent.
    pub asked: Vec<Asked>,
    /// What each of its clients saw.
    pub clients: Vec<Notes>,
}

/// One command through the public door, never repeated by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Which one: start, propose, choose or cancel.
    pub kind: ActionKind,
    /// When it was sent, ms since 1970.
    pub at_ms: u64,
    /// When its answer was there, or it was clear that none would come, ms since 1970.
    pub answered_ms: u64,
    /// The status it was answered with; `None` where there was no answer. An accepted propose or choose (202) has an
    /// `_action` in the log, and so has a start that was answered 200. Others may have one.
    pub status: Option<u16>,
}
