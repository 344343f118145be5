//! Judging what a client saw against the log.

use super::{findings::Findings, notes::Notes, truth::SessionLog};

/// What became of one client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Events that came.
    pub deliveries: u64,
    /// Connections that the door took.
    pub connections: u64,
    /// Of them those that came back with a cursor.
    pub resumes: u64,
    /// Of them those that came back without one, although there was one: what they missed is not lost.
    pub chosen_live: u64,
    /// Gaps that it was told of.
    pub announced: u64,
    /// Events in them.
    pub excused: u64,
    /// Gaps that it was told of although the log holds something in them.
    pub needless: u64,
    /// What is wrong.
    pub found: Findings,
}

/// Judges one client.
#[must_use]
pub fn client(_log: &SessionLog, _notes: &Notes) -> Judgement {
    Judgement::default()
}
