//! Reading back from the stream what is no longer, or not yet, in a ring.
//!
//! Three questions: what happened between two positions ([`History::page`]), what is the state of things
//! ([`History::snapshot`]), and which event came before this one ([`History::before`]). None of them needs a consumer.

use std::sync::Arc;

use herald_protocol::SessionId;

use crate::event::Event;

/// A piece of a session's past.
#[derive(Debug, Default)]
pub struct Page {
    /// Its events, ordered by sequence.
    pub events: Vec<Event>,
    /// Every event of the session behind the asked position and up to here is in `events`. Equal to the asked end where
    /// nothing is left to read, else the position to ask from next.
    pub through: u64,
}

/// The last event of each asked subject, as of one moment.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    /// Ordered by sequence.
    pub events: Vec<Event>,
    /// That moment: what is behind this sequence is to be read from history or ring.
    pub cut: u64,
}

/// First and last sequence of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Sequence of the first kept event (one above `last` where none is).
    pub first: u64,
    /// Sequence of the last event ever stored.
    pub last: u64,
}

/// Why a read failed. The connection that asked is closed with its cursor and comes back.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// NATS or the stream does not answer.
    #[error("history is not available: {0}")]
    Unavailable(Arc<str>),
    /// Too many others are reading, or the read took too long.
    #[error("history read timed out")]
    Timeout,
}

/// Reads one stream's past. Clones share their limits and their reads.
#[derive(Clone)]
pub struct History {}

impl History {
    /// The session's events of `roots` behind `after` and up to `upto`, as many as fit one page.
    ///
    /// `upto` must be a sequence the stream has already reached (a ring's floor): the answer is complete up to
    /// [`Page::through`], whichever replica gave it. Equal questions asked at the same time share one read.
    ///
    /// # Errors
    /// [`HistoryError`]; nothing is returned by halves. Cancelling is safe.
    pub async fn page(
        &self,
        session: &SessionId,
        roots: &[Arc<str>],
        after: u64,
        upto: u64,
    ) -> Result<Arc<Page>, HistoryError> {
        let _ = (session, roots, after, upto);
        Err(HistoryError::Timeout)
    }

    /// Sequence of the session's last event of `roots` below `seq` that `shows` accepts, 0 where none is kept. `seq`
    /// must be one the stream has reached, or one above.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub async fn before(
        &self,
        session: &SessionId,
        roots: &[Arc<str>],
        seq: u64,
        shows: impl Fn(&Event) -> bool,
    ) -> Result<u64, HistoryError> {
        let _ = (session, roots, seq, shows);
        Err(HistoryError::Timeout)
    }

    /// The last event of each of the session's subjects that match `filters` (whole subjects, wildcards allowed), as
    /// one consistent cut.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub async fn snapshot(&self, session: &SessionId, filters: &[String]) -> Result<Snapshot, HistoryError> {
        let _ = (session, filters);
        Err(HistoryError::Timeout)
    }

    /// Sequence of the session's first kept event of `roots`, as the stream's leader has it.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub async fn first(&self, session: &SessionId, roots: &[Arc<str>]) -> Result<Option<u64>, HistoryError> {
        let _ = (session, roots);
        Err(HistoryError::Timeout)
    }

    /// What the stream holds, as its leader has it.
    ///
    /// # Errors
    /// [`HistoryError`]. Cancelling is safe.
    pub async fn extent(&self) -> Result<Extent, HistoryError> {
        Err(HistoryError::Timeout)
    }
}
