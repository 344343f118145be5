//! Messages that the NATS library can't read, and how a stream gets rid of them.
//!
//! nats-server takes headers that are none (a line without a colon, bytes that are no UTF-8, a bare CR), and subjects that are
//! no UTF-8. The library (async-nats 0.51) gives up its connection when such a message is delivered, and would do so again at
//! each attempt to read on. Read through the stream's leader one message is JSON, its headers in base64: that is safe. So:
//!
//! - Who can't get beyond a place looks there with [`next_unreadable`], and tells the stream's owner ([`ask_removal`], on
//!   `epoch.<stream>`: `{"unreadable":<sequence>}`, answered by `{"removed":true}`, or false where the message is not there or
//!   can be read).
//! - The owner looks for itself, says so in its log, and removes the message. Everybody's way is free again; what is missing
//!   then is a sequence, as after a message that was trimmed.

use std::{str::FromStr, time::Duration};

use async_nats::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, jetstream::ErrorCode};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use herald_protocol::subject;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    read::Stored,
    request::{ApiError, api, question},
};
use crate::nats::Nats;

/// How long the owner may take to look and to remove.
const REMOVED_WITHIN: Duration = Duration::from_secs(2);

/// Which message is asked for.
#[derive(Serialize, Default)]
pub(super) struct GetOne<'a> {
    #[serde(rename = "seq", skip_serializing_if = "Option::is_none")]
    pub(super) sequence: Option<u64>,
    #[serde(rename = "last_by_subj", skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<&'a str>,
    #[serde(rename = "next_by_subj", skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<&'a str>,
}

/// A message as its stream's leader tells it, whatever it holds.
#[derive(Debug, Deserialize)]
pub(super) struct Raw {
    subject: String,
    #[serde(rename = "seq")]
    pub(super) sequence: u64,
    #[serde(default)]
    data: String,
    #[serde(default, rename = "hdrs")]
    headers: Option<String>,
    time: String,
}

/// Reads one message through the leader.
pub(super) async fn get_raw(nats: &Nats, stream: &str, request: &GetOne<'_>) -> Result<Option<Raw>, ApiError> {
    #[derive(Deserialize)]
    struct Found {
        message: Raw,
    }
    match question::<Found>(nats, &format!("STREAM.MSG.GET.{stream}"), request).await {
        Ok(found) => Ok(Some(found.message)),
        Err(ApiError::Refused { code, .. }) if code == ErrorCode::NO_MESSAGE_FOUND.0 => Ok(None),
        Err(error) => Err(error),
    }
}

impl Raw {
    /// When it was stored, in nanoseconds since 1970.
    pub(super) fn time_ns(&self) -> Result<u64, ApiError> {
        let time =
            OffsetDateTime::parse(&self.time, &Rfc3339).map_err(|error| ApiError::Malformed(error.to_string()))?;
        Ok(u64::try_from(time.unix_timestamp_nanos()).unwrap_or(0))
    }

    pub(super) fn stored(self) -> Result<Stored, ApiError> {
        let unreadable = ApiError::Unreadable { sequence: self.sequence };
        let Some(headers) = self.headers().filter(|_| self.has_a_subject()) else { return Err(unreadable) };
        let payload = STANDARD.decode(&self.data).map_err(|error| ApiError::Malformed(error.to_string()))?;
        Ok(Stored {
            time_ns: self.time_ns()?,
            subject: self.subject.into(),
            sequence: self.sequence,
            headers,
            payload: payload.into(),
        })
    }

    fn is_readable(&self) -> bool {
        self.has_a_subject() && self.headers().is_some()
    }

    /// The server writes what is no UTF-8 as U+FFFD.
    fn has_a_subject(&self) -> bool {
        !self.subject.contains(char::REPLACEMENT_CHARACTER)
    }

    fn headers(&self) -> Option<HeaderMap> {
        let Some(headers) = &self.headers else { return Some(HeaderMap::new()) };
        STANDARD.decode(headers).ok().and_then(|bytes| read_headers(&bytes))
    }
}

/// Headers as they stand in a message, if the library takes them: by the rules of its own reader.
fn read_headers(bytes: &[u8]) -> Option<HeaderMap> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines().peekable();
    let status = lines.next()?.strip_prefix("NATS/1.0")?.trim();
    let status = status.split_once(' ').map_or(status, |(status, _)| status.trim());
    if !status.is_empty() {
        status.parse::<StatusCode>().ok()?;
    }
    let mut headers = HeaderMap::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':')?;
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        headers.append(HeaderName::from_str(name).ok()?, HeaderValue::from_str(value.trim_end()).ok()?);
    }
    Some(headers)
}

/// The first message at or behind `from`, of the first `most` that one of `filters` (subjects, wildcards allowed) matches,
/// that the library can't read. Read through the leader, one after the other.
///
/// # Errors
/// [`ApiError`].
pub async fn next_unreadable(
    nats: &Nats,
    stream: &str,
    filters: &[&str],
    from: u64,
    most: usize,
) -> Result<Option<u64>, ApiError> {
    let mut found: Option<u64> = None;
    for filter in filters {
        let mut from = from.max(1);
        for _ in 0..most {
            let request = GetOne { sequence: Some(from), next: Some(filter), ..GetOne::default() };
            let Some(raw) = get_raw(nats, stream, &request).await? else { break };
            if found.is_some_and(|found| found <= raw.sequence) {
                break;
            }
            if !raw.is_readable() {
                found = Some(raw.sequence);
                break;
            }
            from = raw.sequence + 1;
        }
    }
    Ok(found)
}

/// What is asked of a stream's owner about a message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Removal {
    pub(super) unreadable: u64,
}

/// Asks the stream's owner to remove a message that can't be read. Returns whether it has.
pub async fn ask_removal(nats: &Nats, stream: &str, sequence: u64) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        removed: bool,
    }
    let question = json!(Removal { unreadable: sequence }).to_string();
    let request = Request::new().payload(question.into()).timeout(Some(REMOVED_WITHIN));
    match nats.client().send_request(subject::epoch(stream), request).await {
        Ok(answer) => serde_json::from_slice(&answer.payload).is_ok_and(|Answer { removed }| removed),
        Err(error) => {
            tracing::warn!(stream, sequence, %error, "nobody removes the message that can't be read");
            false
        }
    }
}

/// Removes a message if it is there and can't be read. For the owner of the stream.
pub(super) async fn remove(nats: &Nats, stream: &str, sequence: u64) -> Result<bool, ApiError> {
    #[derive(Serialize)]
    struct Delete {
        seq: u64,
        no_erase: bool,
    }
    #[derive(Deserialize)]
    struct Done {
        success: bool,
    }
    let request = GetOne { sequence: Some(sequence), ..GetOne::default() };
    let Some(raw) = get_raw(nats, stream, &request).await?.filter(|raw| !raw.is_readable()) else {
        return Ok(false);
    };
    let delete = Delete { seq: sequence, no_erase: true };
    let Done { success } = api(nats, &format!("STREAM.MSG.DELETE.{stream}"), &delete).await?;
    if success {
        tracing::error!(
            stream,
            sequence,
            subject = raw.subject.escape_debug().to_string(),
            "a message whose headers or subject are none was removed: nobody could have read on; see to its publisher"
        );
        metrics::counter!("herald_unreadable_messages_removed_total", "stream" => stream.to_owned()).increment(1);
    }
    Ok(success)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(subject: &str, headers: Option<&[u8]>) -> Raw {
        Raw {
            subject: subject.to_owned(),
            sequence: 7,
            data: "aGk=".to_owned(),
            headers: headers.map(|headers| STANDARD.encode(headers)),
            time: "2026-01-02T03:04:05.000000006Z".to_owned(),
        }
    }

    #[test]
    fn what_the_library_reads_is_read() {
        let stored = raw("a.b", Some(b"NATS/1.0\r\nA: b \r\nA:c\r\nLong: d\r\n  e\r\n\r\n")).stored().unwrap();
        assert_eq!((&*stored.subject, &*stored.payload, stored.time_ns % 1_000_000_000), ("a.b", &b"hi"[..], 6));
        let values: Vec<_> = stored.headers.get_all("A").map(HeaderValue::as_str).collect();
        assert_eq!(values, ["b", "c"]);
        assert_eq!(stored.headers.get("Long").unwrap().as_str(), "d  e");
        for fine in [&b"NATS/1.0\r\n\r\n"[..], b"NATS/1.0 503\r\n\r\n", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"] {
            assert!(raw("a", Some(fine)).is_readable(), "{}", fine.escape_ascii());
        }
        assert!(raw("a", None).is_readable());
    }

    #[test]
    fn what_ends_the_library_s_connection_is_seen() {
        for bad in [
            &b""[..],
            b"NATS/2.0\r\n\r\n",
            b"NATS/1.0 what\r\n\r\n",
            b"NATS/1.0\r\nno colon\r\n\r\n",
            b"NATS/1.0\r\nA: b\rc\r\n\r\n",
            b"NATS/1.0\r\nA: \xff\r\n\r\n",
        ] {
            assert!(!raw("a", Some(bad)).is_readable(), "{}", bad.escape_ascii());
            assert!(matches!(raw("a", Some(bad)).stored(), Err(ApiError::Unreadable { sequence: 7 })));
        }
        assert!(!raw("a.\u{fffd}", None).is_readable());
    }
}
