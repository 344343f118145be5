//! One request to the JetStream API, and how it can fail.

use async_nats::{Request, RequestErrorKind, jetstream::ErrorCode};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

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
        matches!(self, Self::NoResponders | Self::Timeout | Self::Incomplete | Self::Refused { code: 503 | 10008, .. })
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

/// Asks `$JS.API.<subject>`; the answer is JSON.
pub(super) async fn api<T: DeserializeOwned>(nats: &Nats, subject: &str, body: &impl Serialize) -> Result<T, ApiError> {
    let payload = send(nats, subject, body).await?;
    match serde_json::from_slice(&payload) {
        Ok(Answer::Fine(answer)) => Ok(answer),
        Ok(Answer::Refused { error }) => Err(error.into()),
        Err(error) => Err(ApiError::Malformed(error.to_string())),
    }
}

/// As [`api`], the answer's bytes.
async fn send(nats: &Nats, subject: &str, body: &impl Serialize) -> Result<Bytes, ApiError> {
    let request = Request::new().payload(encode(body)?).timeout(Some(nats.request_timeout()));
    let sent = nats.client().send_request(format!("$JS.API.{subject}"), request).await;
    sent.map(|message| message.payload).map_err(|error| match error.kind() {
        RequestErrorKind::TimedOut => ApiError::Timeout,
        RequestErrorKind::NoResponders => ApiError::NoResponders,
        _ => ApiError::Send(error.into()),
    })
}

pub(super) fn encode(body: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|error| ApiError::Malformed(error.to_string()))
}
