//! Reading a stream without a consumer.

use std::time::Duration;

use async_nats::{HeaderMap, Message, Subject, jetstream::message::StreamMessage};
use bytes::Bytes;
use futures_util::StreamExt;
use herald_protocol::headers;
use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::{
    request::{ASK_AGAIN, ApiError, encode},
    unreadable::{GetOne, Raw, get_raw, next_unreadable},
};
use crate::nats::Nats;

/// A message as the stream holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its subject.
    pub subject: Subject,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When it was stored, in nanoseconds since 1970.
    pub time_ns: u64,
    /// Its headers; a direct get adds the server's own (`Nats-Sequence` ...).
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
}

impl Stored {
    /// When it was stored, in milliseconds since 1970.
    #[must_use]
    pub const fn time_ms(&self) -> u64 {
        self.time_ns / 1_000_000
    }

    /// The id it was published with.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        self.headers.get(headers::MESSAGE_ID).map(async_nats::HeaderValue::as_str)
    }
}

impl From<StreamMessage> for Stored {
    fn from(message: StreamMessage) -> Self {
        Self {
            subject: message.subject,
            sequence: message.sequence,
            time_ns: u64::try_from(message.time.unix_timestamp_nanos()).unwrap_or(0),
            headers: message.headers,
            payload: message.payload,
        }
    }
}

/// The last message that `filter` (a subject, wildcards allowed) matches, read through the leader.
///
/// # Errors
/// [`ApiError`]; `Ok(None)` says that there is none.
pub async fn last_by_subject_leader(nats: &Nats, stream: &str, filter: &str) -> Result<Option<Stored>, ApiError> {
    get_one(nats, stream, &GetOne { last: Some(filter), ..GetOne::default() }).await
}

/// The message with that sequence, read through the leader.
///
/// # Errors
/// [`ApiError`]; `Ok(None)` says that the stream does not hold it.
pub async fn get_leader(nats: &Nats, stream: &str, sequence: u64) -> Result<Option<Stored>, ApiError> {
    get_one(nats, stream, &GetOne { sequence: Some(sequence), ..GetOne::default() }).await
}

/// The first message at or behind `from` that `filter` matches, read through the leader.
///
/// # Errors
/// [`ApiError`]; `Ok(None)` says that there is none.
pub async fn next_by_subject_leader(
    nats: &Nats,
    stream: &str,
    from: u64,
    filter: &str,
) -> Result<Option<Stored>, ApiError> {
    // The server takes 0 for "no sequence" and then refuses.
    get_one(nats, stream, &GetOne { sequence: Some(from.max(1)), next: Some(filter), ..GetOne::default() }).await
}

async fn get_one(nats: &Nats, stream: &str, request: &GetOne<'_>) -> Result<Option<Stored>, ApiError> {
    get_raw(nats, stream, request).await?.map(Raw::stored).transpose()
}

/// When the message at or behind `from` was stored, and its sequence, whatever it holds; read through the leader.
///
/// # Errors
/// [`ApiError`]; `Ok(None)` says that there is none.
pub(super) async fn place_leader(nats: &Nats, stream: &str, from: u64) -> Result<Option<(u64, u64)>, ApiError> {
    let request = GetOne { sequence: Some(from.max(1)), next: Some(">"), ..GetOne::default() };
    let Some(raw) = get_raw(nats, stream, &request).await? else { return Ok(None) };
    Ok(Some((raw.sequence, raw.time_ns()?)))
}

/// What a batched direct get asks for.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BatchGet<'a> {
    /// The subject, wildcards allowed.
    #[serde(rename = "next_by_subj")]
    pub filter: &'a str,
    /// The first sequence of interest (at least 1).
    #[serde(rename = "seq")]
    pub from: u64,
    /// At most so many messages (at least 1).
    pub batch: u32,
    /// The server stops behind the message that passes this many bytes.
    pub max_bytes: u32,
}

/// A piece of a stream, in order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The messages; none was lost between the first and the last.
    pub messages: Vec<Stored>,
    /// How many more the answering replica holds behind them.
    pub pending: u64,
}

/// Reads a piece of a stream by a batched direct get. On a cluster a lagging replica may answer: `pending == 0` does not
/// prove that there is no more.
///
/// # Errors
/// [`ApiError`]; [`ApiError::Incomplete`] where a message of the answer went missing (the closing one: `Timeout`). A
/// stream that holds nothing of it is an empty batch.
pub async fn batch_get(nats: &Nats, stream: &str, request: &BatchGet<'_>) -> Result<Batch, ApiError> {
    let request = BatchGet { from: request.from.max(1), batch: request.batch.max(1), ..*request };
    let read = Read { stream, filters: &[request.filter], from: request.from, behind: 1 };
    let answer = direct(nats, &read, encode(&request)?).await?;
    Ok(Batch { messages: answer.messages, pending: answer.pending })
}

/// The last message of each subject, as one consistent cut.
#[derive(Clone, Debug, Default)]
pub struct MultiLast {
    /// The last message of each subject at the cut, by sequence.
    pub messages: Vec<Stored>,
    /// The sequence up to which the answering replica had the stream. `None` where nothing was found: then nothing is
    /// known about the cut either.
    pub cut: Option<u64>,
}

/// Reads the last message of every subject that one of `filters` (wildcards allowed) matches, at `up_to` or, without it, at
/// the replica's present. At most 1,024 messages, and no more than `most_bytes` of payload (with what one page of the
/// server's answer has beyond).
///
/// # Errors
/// [`ApiError`]; [`ApiError::TooManySubjects`] where more than 1,024 subjects match or their messages have more bytes,
/// [`ApiError::Incomplete`] where a message went missing, or the stream trimmed one meanwhile.
pub async fn multi_last(
    nats: &Nats,
    stream: &str,
    filters: &[String],
    up_to: Option<u64>,
    most_bytes: usize,
) -> Result<MultiLast, ApiError> {
    #[derive(Serialize)]
    struct Ask<'a> {
        multi_last: &'a [String],
        #[serde(rename = "up_to_seq", skip_serializing_if = "Option::is_none")]
        up_to: Option<u64>,
        #[serde(rename = "seq", skip_serializing_if = "Option::is_none")]
        from: Option<u64>,
        max_bytes: u32,
    }
    // A page that passes the limit by one byte is seen as too much; more of it need not come.
    let max_bytes = u32::try_from(most_bytes.saturating_add(1)).unwrap_or(u32::MAX).min(PAGE_BYTES);
    let ask = |up_to, from| encode(&Ask { multi_last: filters, up_to, from, max_bytes });
    let subjects: Vec<_> = filters.iter().map(String::as_str).collect();
    let read = |from| Read { stream, filters: &subjects, from, behind: WALK };
    let mut answer = direct(nats, &read(1), ask(up_to, None)?).await?;
    let mut found = MultiLast { messages: answer.messages, cut: answer.cut };
    // A large answer comes in pages, all at the first one's cut. Each page says how many messages are left behind it.
    loop {
        if found.messages.iter().map(|message| message.payload.len()).sum::<usize>() > most_bytes {
            return Err(ApiError::TooManySubjects);
        }
        if answer.pending == 0 {
            break;
        }
        let from = found.messages.last().map(|message| message.sequence + 1);
        let left = answer.pending;
        answer = direct(nats, &read(from.unwrap_or(1)), ask(found.cut, from)?).await?;
        let read = u64::try_from(answer.messages.len()).unwrap_or(u64::MAX);
        if read == 0 || read + answer.pending != left {
            return Err(ApiError::Incomplete);
        }
        found.messages.append(&mut answer.messages);
    }
    Ok(found)
}

/// What the server may send at once, without flow control.
const PAGE_BYTES: u32 = 8 << 20;

#[derive(Default)]
struct Answer {
    messages: Vec<Stored>,
    pending: u64,
    cut: Option<u64>,
}

/// What a direct get reads, to look for the message that it broke off at.
struct Read<'a> {
    stream: &'a str,
    filters: &'a [&'a str],
    from: u64,
    /// How many messages of each filter may stand between the last one that came and the next one of the answer.
    behind: usize,
}

/// So many messages of each subject are looked at for one that broke off a multi-last get.
const WALK: usize = 2_000;

/// A direct get, asked again where its answer stays away or has a hole: any replica may have been asked, also one that stands
/// still, and the next one may answer. Where the connection was lost meanwhile, a message of the answer may be the cause.
async fn direct(nats: &Nats, read: &Read<'_>, payload: Bytes) -> Result<Answer, ApiError> {
    let deadline = Instant::now() + nats.request_timeout();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (mut state, mut last) = (nats.state(), read.from.saturating_sub(1));
        let connection = *state.borrow_and_update();
        let once = direct_once(nats, read.stream, payload.clone(), left.min(ASK_AGAIN), &mut last);
        let answer = tokio::select! {
            biased;
            answer = once => answer,
            // What was sent over the former connection is lost.
            Ok(_) = state.wait_for(|state| *state != connection) => Err(ApiError::Timeout),
        };
        match answer {
            Err(error @ (ApiError::Timeout | ApiError::Incomplete | ApiError::Send(_))) => {
                let lost = *state.borrow() != connection || matches!(error, ApiError::Send(_));
                if lost && nats.another(connection, left).await {
                    let looked = next_unreadable(nats, read.stream, read.filters, last + 1, read.behind).await;
                    if let Ok(Some(sequence)) = looked {
                        return Err(ApiError::Unreadable { sequence });
                    }
                }
                if left <= ASK_AGAIN {
                    return Err(error);
                }
            }
            answer => return answer,
        }
    }
}

/// One direct get with many messages as its answer. They come without flow control and nothing repeats a lost one, but each
/// names its predecessor, and the closing one names the last: a hole can't go unnoticed. `patience` is for each of them;
/// `reached` is moved to the last one that came.
async fn direct_once(
    nats: &Nats,
    stream: &str,
    payload: Bytes,
    patience: Duration,
    reached: &mut u64,
) -> Result<Answer, ApiError> {
    let client = nats.client();
    let send = |error: async_nats::Error| ApiError::Send(error);
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.map_err(|error| send(error.into()))?;
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    client.publish_with_reply(subject, inbox, payload).await.map_err(|error| send(error.into()))?;

    let mut answer = Answer::default();
    let mut last = 0;
    loop {
        let Ok(reply) = timeout(patience, replies.next()).await else { return Err(ApiError::Timeout) };
        let Some(reply) = reply else {
            return Err(ApiError::Send("the client ended while its answer came".into()));
        };
        // A message of the stream has a sequence, and perhaps a status that its publisher gave it.
        if let Some(status) = reply.status.filter(|_| number(&reply, SEQUENCE).is_none()) {
            return match status.as_u16() {
                204 if number(&reply, LAST_SEQUENCE).unwrap_or(last) != last => Err(ApiError::Incomplete),
                204 => {
                    answer.pending = number(&reply, headers::NUM_PENDING).unwrap_or(0);
                    answer.cut = number(&reply, headers::UP_TO_SEQUENCE);
                    Ok(answer)
                }
                404 => Ok(answer),
                413 => Err(ApiError::TooManySubjects),
                503 => Err(ApiError::NoResponders),
                code => Err(ApiError::Refused {
                    code: code.into(),
                    description: reply.description.unwrap_or_else(|| "bad direct get".to_owned()),
                }),
            };
        }
        if number(&reply, LAST_SEQUENCE).unwrap_or(last) != last {
            return Err(ApiError::Incomplete);
        }
        let message = StreamMessage::try_from(reply).map_err(|error| ApiError::Malformed(error.to_string()))?;
        last = message.sequence;
        *reached = last;
        answer.messages.push(message.into());
    }
}

/// Its sequence in the stream, in each message of an answer.
const SEQUENCE: &str = "Nats-Sequence";
/// Each message of an answer names the one before it in the answer, 0 the first.
const LAST_SEQUENCE: &str = "Nats-Last-Sequence";

fn number(message: &Message, header: &str) -> Option<u64> {
    // The last one is the server's: a publisher may have set the same name.
    message.headers.as_ref()?.get_last(header)?.as_str().parse().ok()
}
