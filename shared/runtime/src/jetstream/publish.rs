//! One publish into a stream, acknowledged, with the server's own reason where it is refused.

use std::time::Duration;

use async_nats::{HeaderMap, Request, RequestError, RequestErrorKind, jetstream::ErrorCode};
use bytes::Bytes;
use herald_protocol::headers;
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use super::request::Refusal;
use crate::nats::Nats;

/// What must hold for a message to be stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expect<'a> {
    /// The sequence that must be the last one of [`Expect::subject`]; 0: there is none yet. `None`: not checked.
    pub last_subject_sequence: Option<u64>,
    /// The subject the sequence speaks of (no wildcards). `None`: the published subject itself.
    pub subject: Option<&'a str>,
    /// A message with the id of one stored within the dedupe window is not stored again, and acknowledged with the first
    /// one's sequence ([`PubAck::duplicate`]). The server looks at the expected sequence first: a repetition that is
    /// refused for it says nothing about whether the first attempt was stored.
    pub message_id: Option<&'a str>,
}

/// The stream holds the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PubAck {
    /// Its sequence.
    pub seq: u64,
    /// It was there already, under the same message id.
    pub duplicate: bool,
}

/// Why a publish was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The expected sequence is not the last one of its subject (10071): somebody else was here. Nothing was stored.
    #[error("another message came first: the subject's last sequence is {}", Shown(*actual))]
    WrongLast {
        /// The last sequence of the subject, where the server says it.
        actual: Option<u64>,
    },
    /// A write to the same subject (10164), or one with the same message id (10158), was under way. Nothing was stored; asking
    /// again decides.
    #[error("a write to the subject or with the same id was under way")]
    Retry,
    /// No stream captures the subject, or its cluster has no leader at the moment. Nothing was stored.
    #[error("no stream takes the subject: no responders")]
    NoResponders,
    /// Neither stored nor refused in time, as far as we know: it may be stored all the same, even later.
    #[error("no acknowledgement in time")]
    Timeout,
    /// Larger than the server takes. Nothing was stored.
    #[error("the message is larger than the server takes")]
    TooLarge,
    /// The server refused for another reason. Nothing was stored.
    #[error("the stream refused: {description} ({code})")]
    Other {
        /// The server's error code (10xxx).
        code: u64,
        /// The server's words.
        description: String,
    },
    /// The message could not be sent, or the answer not be understood.
    #[error("the message could not be published")]
    Failed(#[source] async_nats::Error),
}

struct Shown(Option<u64>);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(sequence) => sequence.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

/// Publishes one message into whichever stream takes its subject and waits for the acknowledgement, for
/// [`Nats::request_timeout`] at most. Cancelling it is safe in the sense of [`PublishError::Timeout`].
///
/// # Errors
/// [`PublishError`]; all but `Timeout` and `Failed` say for sure that this attempt stored nothing.
pub async fn publish(
    nats: &Nats,
    subject: &str,
    mut headers: HeaderMap,
    payload: Bytes,
    expect: Expect<'_>,
) -> Result<PubAck, PublishError> {
    expect.write(&mut headers);
    let request = Request::new().headers(headers).payload(payload).timeout(Some(nats.request_timeout()));
    let answer = nats.client().send_request(subject.to_owned(), request).await?;
    read_ack(&answer.payload)
}

impl Expect<'_> {
    /// As the server reads it.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        if let Some(id) = self.message_id {
            headers.insert(headers::MESSAGE_ID, id);
        }
        if let Some(sequence) = self.last_subject_sequence {
            headers.insert(headers::EXPECTED_SUBJECT_SEQUENCE, sequence.to_string());
            if let Some(subject) = self.subject {
                headers.insert(headers::EXPECTED_SUBJECT, subject);
            }
        }
    }
}

impl From<RequestError> for PublishError {
    fn from(error: RequestError) -> Self {
        match error.kind() {
            RequestErrorKind::TimedOut => Self::Timeout,
            RequestErrorKind::NoResponders => Self::NoResponders,
            RequestErrorKind::MaxPayloadExceeded => Self::TooLarge,
            _ => Self::Failed(error.into()),
        }
    }
}

/// How long to wait for an acknowledgement before the message is sent again under its id: one that went to a leader which died
/// or stands still with it is never acknowledged, while the next leader may be there.
pub const ACK_WAIT: Duration = Duration::from_secs(1);
/// How long to wait before a message that nobody could store is sent again.
const PAUSE: Duration = Duration::from_millis(50);

/// As [`publish`], sent again under its message id until it is acknowledged, refused, or the time of a request is over: for
/// a message without an expected sequence, which is stored once however often it is sent. Where a copy has left without an
/// acknowledgement, a cluster without a leader is waited for, too: the next one says what became of it.
///
/// # Errors
/// [`PublishError`]; after `Timeout` it may be stored all the same.
pub async fn publish_surely(
    nats: &Nats,
    subject: &str,
    headers: HeaderMap,
    payload: Bytes,
    id: &str,
) -> Result<PubAck, PublishError> {
    let deadline = Instant::now() + nats.request_timeout();
    let mut unknown = false;
    loop {
        let expect = Expect { message_id: Some(id), ..Expect::default() };
        let sent = timeout(ACK_WAIT, publish(nats, subject, headers.clone(), payload.clone(), expect)).await;
        let result = sent.unwrap_or(Err(PublishError::Timeout));
        unknown |= matches!(result, Err(PublishError::Timeout));
        let undecided = match result {
            Err(PublishError::Timeout | PublishError::Retry) => true,
            Err(PublishError::NoResponders) => unknown,
            _ => false,
        };
        if !undecided {
            return result;
        }
        if Instant::now() + ACK_WAIT >= deadline {
            return if unknown { Err(PublishError::Timeout) } else { result };
        }
        sleep(PAUSE).await;
    }
}

fn read_ack(payload: &[u8]) -> Result<PubAck, PublishError> {
    #[derive(Deserialize)]
    struct Ack {
        error: Option<Refusal>,
        #[serde(default)]
        seq: u64,
        #[serde(default)]
        duplicate: bool,
    }
    let ack: Ack = serde_json::from_slice(payload).map_err(|error| PublishError::Failed(error.into()))?;
    let Some(refusal) = ack.error else { return Ok(PubAck { seq: ack.seq, duplicate: ack.duplicate }) };
    Err(refusal.into())
}

impl From<Refusal> for PublishError {
    fn from(refusal: Refusal) -> Self {
        match ErrorCode(refusal.err_code) {
            // "wrong last sequence: 7"
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE => Self::WrongLast {
                actual: refusal.description.rsplit_once(": ").and_then(|(_, sequence)| sequence.trim().parse().ok()),
            },
            // The second: a cluster still replicates the first copy.
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT | ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT => {
                Self::Retry
            }
            ErrorCode(code) => Self::Other { code, description: refusal.description },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_the_servers_reason() {
        let ack = read_ack(br#"{"stream":"EVENTS","seq":7,"duplicate":true}"#).unwrap();
        assert_eq!(ack, PubAck { seq: 7, duplicate: true });
        let read = |code: u64, text: &str| {
            let json = serde_json::json!({"error": {"code": 400, "err_code": code, "description": text}, "seq": 0});
            read_ack(json.to_string().as_bytes()).unwrap_err()
        };
        assert!(matches!(read(10071, "wrong last sequence: 12"), PublishError::WrongLast { actual: Some(12) }));
        assert!(matches!(read(10071, "wrong last sequence"), PublishError::WrongLast { actual: None }));
        assert!(matches!(read(10164, "wrong last sequence"), PublishError::Retry));
        assert!(matches!(read(10158, "duplicate message id is in process"), PublishError::Retry));
        assert!(matches!(read(10077, "store failed"), PublishError::Other { code: 10077, .. }));
        assert!(matches!(read_ack(b"-NAK"), Err(PublishError::Failed(_))));
    }
}
