//! Many messages as one atomic batch (ADR-50): stored side by side in the stream, or none of them, for the price of one
//! acknowledgement.
//!
//! Tried on nats-server 2.15.1, a single node and R3 alike:
//!
//! - Every message may carry an expected sequence. All are checked when the batch is committed, against the log as it was
//!   before it: nothing of others gets between two of its messages.
//! - One message id that is known already refuses the whole batch (10201), and is looked at *before* the expected
//!   sequences, the other way round than for a single publish: a refused repetition proves that something of it is stored,
//!   and nothing about who came later.
//! - A gap, or a batch that the server does not know (any more), is refused (10176) at its last message. A batch that is
//!   never committed is forgotten after 10 s.
//! - At most 50 batches per stream may be open at a time; a further one is refused (10210, or as a gap). So one connection
//!   sends one batch after the other, and waits for their acknowledgements side by side.
//! - A single node keeps a batch in files of its own until it is committed: three syncs, whatever its size and the server's
//!   `sync_interval`, and about ten milliseconds on the disk we measured on; five where the server syncs always. A cluster
//!   does without: there a batch costs as much as one message. See `./scripts/bench durability`.
//! - All or nothing is what a living server promises. Who has to know what became of a batch after a server was killed, or
//!   of one whose acknowledgement got lost, looks for the last of its ids in the log.

use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt as _;
use herald_protocol::headers;
use serde::Deserialize;
use tokio::time::timeout;

use super::{Expect, PublishError, request::Refusal};
use crate::nats::Nats;

/// Messages in one batch: what the server takes.
pub const BATCH_MAX: usize = 1000;

/// One message of a batch.
#[derive(Clone, Debug)]
pub struct BatchMessage<'a> {
    /// Where it goes. All messages of a batch go to one stream.
    pub subject: &'a str,
    /// Headers beside the server's own.
    pub headers: HeaderMap,
    /// What it says.
    pub payload: Bytes,
    /// What must hold before the batch for any message of it to be stored.
    pub expect: Expect<'a>,
}

/// The stream holds the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchAck {
    /// The sequence of its last message; the others stand right before it.
    pub last: u64,
}

/// Why a batch was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// A message of it, at least, is stored already under its id, or stands twice in the batch (10201). This attempt stored
    /// nothing.
    #[error("a message of the batch was there before")]
    Duplicate,
    /// One message is larger than the server takes. Nothing was sent.
    #[error("a message of the batch is larger than the server takes")]
    TooLarge {
        /// Its place, from 0.
        index: usize,
    },
    /// The server does not take this batch as one: too many are open, a part of it got lost, or the stream allows none.
    /// Nothing was stored; single publishes may be taken.
    #[error("the stream does not take the batch: {description} ({code})")]
    NotTaken {
        /// The server's error code (10xxx).
        code: u64,
        /// The server's words.
        description: String,
    },
    /// As for a single publish, of all messages.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Publishes messages into the one stream that takes their subjects, all of them or none, in this order, and waits for the
/// acknowledgement, for [`Nats::request_timeout`] at most. Cancelling it is safe in the sense of [`PublishError::Timeout`].
///
/// # Errors
/// [`BatchError`]; all but `Timeout` and `Failed` say for sure that this attempt stored nothing. An empty batch, or one of
/// more than [`BATCH_MAX`] messages, is not taken.
pub async fn publish_batch(nats: &Nats, messages: Vec<BatchMessage<'_>>) -> Result<BatchAck, BatchError> {
    if messages.is_empty() || messages.len() > BATCH_MAX {
        let description = format!("{} messages", messages.len());
        return Err(BatchError::NotTaken { code: 0, description });
    }
    let count = messages.len();
    let id = format!("{:032x}", rand::random::<u128>());
    let mut wire = Vec::with_capacity(count);
    for (index, message) in messages.into_iter().enumerate() {
        let BatchMessage { subject, mut headers, payload, expect } = message;
        expect.write(&mut headers);
        headers.insert(headers::BATCH_ID, id.as_str());
        headers.insert(headers::BATCH_SEQUENCE, (index + 1).to_string());
        if index + 1 == count {
            headers.insert(headers::BATCH_COMMIT, "1");
        }
        // Known before anything is sent: a batch that breaks off takes a place for 10 s.
        if wire_len(&headers) + payload.len() > nats.max_payload() {
            return Err(BatchError::TooLarge { index });
        }
        wire.push((subject.to_owned(), headers, payload));
    }
    match timeout(nats.request_timeout(), send(nats, wire)).await {
        Ok(answer) => read_ack(&answer?.payload, count),
        Err(_) => Err(PublishError::Timeout.into()),
    }
}

/// Sends the messages, the last one as the request whose answer is the batch's.
async fn send(nats: &Nats, wire: Vec<(String, HeaderMap, Bytes)>) -> Result<Message, PublishError> {
    let client = nats.client();
    let failed = |error: async_nats::Error| PublishError::Failed(error);
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| failed(error.into()))?;
    let turn = nats.batch().acquire().await.map_err(|closed| failed(closed.into()))?;
    let last = wire.len() - 1;
    for (index, (subject, headers, payload)) in wire.into_iter().enumerate() {
        let sent = if index == last {
            client.publish_with_reply_and_headers(subject, inbox.clone(), headers, payload).await
        } else {
            client.publish_with_headers(subject, headers, payload).await
        };
        sent.map_err(|error| failed(error.into()))?;
    }
    drop(turn);
    match answers.next().await {
        Some(answer) if answer.status == Some(StatusCode::NO_RESPONDERS) => Err(PublishError::NoResponders),
        Some(answer) => Ok(answer),
        None => Err(PublishError::Timeout),
    }
}

/// Bytes of headers as they are sent: a line of its own first, a line for each, an empty one.
fn wire_len(headers: &HeaderMap) -> usize {
    let name_and_ends = |name: &str| name.len() + ": \r\n".len();
    let lines = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| name_and_ends(name.as_ref()) + value.as_str().len()));
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}

fn read_ack(payload: &[u8], count: usize) -> Result<BatchAck, BatchError> {
    #[derive(Deserialize)]
    struct Ack {
        error: Option<Refusal>,
        #[serde(default)]
        seq: u64,
        #[serde(default)]
        count: usize,
    }
    let ack: Ack = serde_json::from_slice(payload).map_err(|error| PublishError::Failed(error.into()))?;
    match ack.error {
        None if ack.count == count => Ok(BatchAck { last: ack.seq }),
        // A server that knows no batches has taken each message for itself.
        None => Err(PublishError::Failed(format!("{} of {count} messages acknowledged", ack.count).into()).into()),
        Some(refusal) => Err(match refusal.err_code {
            DUPLICATE => BatchError::Duplicate,
            code if NOT_TAKEN.contains(&code) => BatchError::NotTaken { code, description: refusal.description },
            _ => BatchError::Publish(refusal.into()),
        }),
    }
}

/// "atomic publish batch contains duplicate message id"
const DUPLICATE: u64 = 10201;
/// Disabled, no sequence, incomplete, unsupported header, invalid id, too large, invalid commit, too many open.
const NOT_TAKEN: [u64; 8] = [10174, 10175, 10176, 10177, 10179, 10199, 10200, 10210];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_and_refusals_are_told_apart() {
        let ack = br#"{"stream":"EVENTS","seq":7,"batch":"b","count":3}"#;
        assert_eq!(read_ack(ack, 3).unwrap(), BatchAck { last: 7 });
        assert!(matches!(read_ack(ack, 4), Err(BatchError::Publish(PublishError::Failed(_)))));
        assert!(matches!(
            read_ack(br#"{"stream":"EVENTS","seq":7}"#, 2),
            Err(BatchError::Publish(PublishError::Failed(_)))
        ));
        let read = |code: u64| {
            let json = serde_json::json!({"error": {"code": 400, "err_code": code, "description": "x: 12"}, "seq": 0});
            read_ack(json.to_string().as_bytes(), 2).unwrap_err()
        };
        assert!(matches!(read(10071), BatchError::Publish(PublishError::WrongLast { actual: Some(12) })));
        assert!(matches!(read(10164), BatchError::Publish(PublishError::Retry)));
        assert!(matches!(read(10201), BatchError::Duplicate));
        assert!(matches!(read(10210), BatchError::NotTaken { code: 10210, .. }));
        assert!(matches!(read(10077), BatchError::Publish(PublishError::Other { code: 10077, .. })));
    }

    #[test]
    fn the_size_of_headers_is_what_is_sent() {
        let mut headers = HeaderMap::new();
        headers.insert("A", "bc");
        headers.append("A", "d");
        assert_eq!(wire_len(&headers), "NATS/1.0\r\nA: bc\r\nA: d\r\n\r\n".len());
    }
}
