//! Forks: a session whose log begins with another one's, by reference.
//!
//! Nothing is copied: the first message of a fork, `<root>.<fork>._fork`, says whose log it begins with, and up to where. It
//! comes behind all that it refers to, in the same stream; so sequences go on rising from the one log into the other, and what it
//! refers to is trimmed before it is. Its id says that it is one ([`SessionId::is_fork`]): nobody has to ask of others. A record that
//! is not a session's first message is none: nobody changes later what a session began with.

use async_nats::HeaderMap;
use herald_protocol::{EventSubject, Position, SessionId, record::Forked, subject};
use uuid::Uuid;

use super::{
    ensure::stream_info,
    publish::{PublishError, publish_surely},
    purge::subjects,
    read::{Stored, next_by_subject_leader},
    request::ApiError,
};
use crate::nats::Nats;

/// A session that was made of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Its id, a new one.
    pub session: SessionId,
    /// The last sequence of the other one's log that is part of its own.
    pub at: u64,
    /// Where that is written.
    pub sequence: u64,
}

/// Why there is no fork.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// Nothing is kept of the session, but perhaps that it was removed.
    #[error("nothing is kept of the session")]
    NoSession,
    /// Nothing of it is kept up to there.
    #[error("nothing of the session is kept up to that place")]
    TooOld,
    /// There is no such place yet.
    #[error("that place is beyond the end of the log")]
    Beyond,
    /// The place belongs to another life of the stream.
    #[error("that place is of another life of the log")]
    OtherLife,
    /// It is a fork of a fork of a fork ...
    #[error("a fork of so many forks can't be forked")]
    TooDeep,
    /// The stream does not say.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It could not be written down.
    #[error("the fork could not be written down")]
    Publish(#[from] PublishError),
}

/// Makes a session of `stream` under `root` whose log begins with that of `parent`, all its roots, up to `at`. To be called by the
/// owner of the root. Without `at` it begins with all that was said so far. Cancelling it may leave a fork that nobody knows of, and that nobody misses.
///
/// # Errors
/// [`ForkError`]
pub async fn fork(
    nats: &Nats,
    stream: &str,
    root: &str,
    parent: &SessionId,
    at: Option<Position>,
) -> Result<Fork, ForkError> {
    let info = stream_info(nats, stream).await?;
    if let Some(Position::Cursor(cursor)) = at
        && info.epoch != Some(cursor.epoch)
    {
        return Err(ForkError::OtherLife);
    }
    let at = at.map_or(info.last_seq, Position::seq);
    let all = subject::session_any_root(parent);
    let Some(first) = next_by_subject_leader(nats, stream, 1, &all).await? else { return Err(ForkError::NoSession) };
    if at > info.last_seq {
        return Err(ForkError::Beyond);
    }
    let before = made_of(parent, &first);
    if before.is_none() && !says_something(nats, stream, &all).await? {
        return Err(ForkError::NoSession);
    }
    // What a fork begins with lies before its own first message.
    let kept_from = before.as_ref().map_or(first.sequence, |_| info.first_seq);
    if at < kept_from.max(1) {
        return Err(ForkError::TooOld);
    }
    let depth = before.map_or(0, |before| before.depth) + 1;
    if depth > Forked::MAX_DEPTH {
        return Err(ForkError::TooDeep);
    }
    let id = Uuid::new_v4().simple().to_string();
    let session = SessionId::fork(&id);
    let record =
        serde_json::to_vec(&Forked { session: parent.clone(), first: first.sequence, at, depth }).unwrap_or_default();
    let subject = subject::fork(root, &session);
    let stored = publish_surely(nats, &subject, HeaderMap::new(), record.into(), session.as_str()).await?;
    Ok(Fork { session, at, sequence: stored.seq })
}

/// What a session was made of, if it is a fork.
///
/// # Errors
/// [`ApiError`]
pub async fn origin(nats: &Nats, stream: &str, session: &SessionId) -> Result<Option<Forked>, ApiError> {
    if !session.is_fork() {
        return Ok(None);
    }
    let first = next_by_subject_leader(nats, stream, 1, &subject::session_any_root(session)).await?;
    Ok(first.and_then(|first| made_of(session, &first)))
}

/// The same, by its first message.
fn made_of(session: &SessionId, first: &Stored) -> Option<Forked> {
    if session.is_fork() { Forked::read(&first.subject, &first.payload, first.sequence) } else { None }
}

/// Whether anything is kept of a session but control events: of one that was removed some are left.
async fn says_something(nats: &Nats, stream: &str, all: &str) -> Result<bool, ApiError> {
    let kept = subjects(nats, stream, all).await?;
    Ok(kept.keys().any(|subject| EventSubject::parse(subject).is_some_and(|subject| !subject.is_control())))
}
