//! One request to the JetStream API, and how it can fail.

use std::time::Duration;

use async_nats::{Request, RequestErrorKind, jetstream::ErrorCode};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::nats::Nats;

/// Why a JetStream request brought no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The stream does not exist (yet, or any more).
    #[error("stream not found")]
    StreamNotFound,
    /// A multi-last get matches more than one answer may hold (1,024 subjects, or the bytes allowed): ask for fewer.
    #[error("the filters match more than one answer may hold")]
    TooManySubjects,
    /// Nobody answers: JetStream is off, its cluster has no leader at the moment, or the stream allows no direct gets.
    #[error("jetstream does not answer: no responders")]
    NoResponders,
    /// The stream's cluster elects a leader, or can't for want of a quorum.
    #[error("the stream has no leader")]
    NoLeader,
    /// No answer in time, or no connection.
    #[error("no answer from jetstream in time")]
    Timeout,
    /// Messages of a batch were lost on the way: ask again.
    #[error("a message of the batch was lost on the way")]
    Incomplete,
    /// The server refused.
    #[error("jetstream refused: {description} ({code})")]
    Refused {
        /// The server's error code (10xxx), or the status of a direct get.
        code: u64,
        /// The server's words.
        description: String,
    },
    /// The message with that sequence has headers or a subject that the library can't read (see
    /// [`super::ask_removal`]).
    #[error("message {sequence} of the stream can't be read")]
    Unreadable {
        /// Where it stands.
        sequence: u64,
    },
    /// The answer can't be understood.
    #[error("unexpected answer from jetstream: {0}")]
    Malformed(String),
    /// The request could not be sent.
    #[error("the request could not be sent")]
    Send(#[source] async_nats::Error),
}

impl ApiError {
    /// Whether asking again may help without anything else having changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        // 10008: the cluster elects a leader.
        matches!(
            self,
            Self::NoResponders
                | Self::NoLeader
                | Self::Timeout
                | Self::Incomplete
                | Self::Refused { code: 503 | 10008, .. }
        )
    }
}

/// What the server says when it refuses.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) code: u64,
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    pub(super) description: String,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        if refusal.err_code == ErrorCode::STREAM_NOT_FOUND.0 {
            return Self::StreamNotFound;
        }
        let code = if refusal.err_code == 0 { refusal.code } else { refusal.err_code };
        Self::Refused { code, description: refusal.description }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Refused { error: Refusal },
    Fine(T),
}

/// Asks `$JS.API.<subject>` once; the answer is JSON.
pub(super) async fn api<T: DeserializeOwned>(nats: &Nats, subject: &str, body: &impl Serialize) -> Result<T, ApiError> {
    read(&send(nats, subject, body, nats.request_timeout()).await?)
}

/// How long to wait for the answer to a question before it is asked again: one that came to a cluster without a leader, or to
/// a server that died with it, is never answered, and the next leader may be there long before the time is over.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);

/// As [`api`], for what changes nothing: asked again and again until the time is over.
pub(super) async fn question<T: DeserializeOwned>(
    nats: &Nats,
    subject: &str,
    body: &impl Serialize,
) -> Result<T, ApiError> {
    let deadline = Instant::now() + nats.request_timeout();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let connection = *nats.state().borrow();
        match send(nats, subject, body, left.min(ASK_AGAIN)).await {
            Err(ApiError::Timeout) if left > ASK_AGAIN => {}
            // The client has ended; another one takes its place.
            Err(ApiError::Send(_)) if left > ASK_AGAIN && nats.another(connection, left).await => {}
            answer => return read(&answer?),
        }
    }
}

/// One request; the answer's bytes.
async fn send(nats: &Nats, subject: &str, body: &impl Serialize, limit: Duration) -> Result<Bytes, ApiError> {
    let request = Request::new().payload(encode(body)?).timeout(Some(limit));
    let sent = nats.client().send_request(format!("$JS.API.{subject}"), request).await;
    sent.map(|message| message.payload).map_err(|error| match error.kind() {
        RequestErrorKind::TimedOut => ApiError::Timeout,
        RequestErrorKind::NoResponders => ApiError::NoResponders,
        _ => ApiError::Send(error.into()),
    })
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, ApiError> {
    match serde_json::from_slice(payload) {
        Ok(Answer::Fine(answer)) => Ok(answer),
        Ok(Answer::Refused { error }) => Err(error.into()),
        Err(error) => Err(ApiError::Malformed(error.to_string())),
    }
}

pub(super) fn encode(body: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|error| ApiError::Malformed(error.to_string()))
}
