//! A Game Master's stream of events: opened once, read until its `result` or `error`.

use std::pin::Pin;

use ::metrics::Gauge;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use herald_protocol::{EventType, TraceContext};
use herald_runtime::config::{ByteSize, HumanDuration};
use http::{StatusCode, header};
use reqwest::Response;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};

use super::GameMaster;
use crate::{
    action::Command,
    metrics,
    sse::{self, SseError},
};

/// The open stream of one propose or choose. Dropping it closes the connection.
pub struct GmStream {
    events: Pin<Box<dyn Stream<Item = Result<Bytes, SseError<reqwest::Error>>> + Send>>,
    /// Without a complete event for so long the stream has failed. Shorter once a heartbeat was seen.
    patience: HumanDuration,
    patience_after_heartbeat: HumanDuration,
    /// Something that is not JSON has come, which was said in the log. Once is enough: it may say that without end.
    spoke_nonsense: bool,
    /// No event has come yet.
    silent: bool,
    meter: Meter,
}

/// Measures a stream for as long as it is open.
struct Meter {
    request: &'static str,
    asked: Instant,
    open: Gauge,
}

impl Meter {
    fn new(request: &'static str, asked: Instant) -> Self {
        let open = metrics::gm_streams();
        open.increment(1.0);
        Self { request, asked, open }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.open.decrement(1.0);
        metrics::gm_stream(self.request, self.asked.elapsed());
    }
}

/// One event as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GmEvent {
    /// Its type; `unknown` where it has none that can stand in a subject.
    pub event_type: EventType,
    /// Its JSON text, as received.
    pub json: Bytes,
    /// The step of its trace in which it is published, where it is traced.
    pub trace: Option<TraceContext>,
}

/// Why a stream failed before its `result` or `error`. The words go to browsers: they hold no address.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// No connection.
    #[error("the game master can't be reached")]
    Unreachable(#[source] reqwest::Error),
    /// Another answer than 200.
    #[error("the game master answered {}", .0.as_u16())]
    Status(StatusCode),
    /// The answer is no event stream.
    #[error("the game master answered with something else than events")]
    NotEvents,
    /// No complete event in time.
    #[error("no event for {0}")]
    Silent(HumanDuration),
    /// The connection broke off.
    #[error("the stream broke off")]
    BrokeOff(#[source] reqwest::Error),
    /// It ended in order, but too early.
    #[error("the stream ended before its result")]
    Ended,
    /// An event, or a line without an end, over the limit.
    #[error("an event is larger than {0}")]
    TooLarge(ByteSize),
}

impl GameMaster {
    /// Opens the stream of a command: the request that moves the game. It is sent once, whatever happens.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn open(&self, command: Command) -> Result<GmStream, StreamError> {
        let request = command.name();
        let asked = Instant::now();
        let opened = self.ask(command).await;
        let outcome = opened.as_ref().err().map_or("ok", StreamError::reason);
        metrics::gm_request(request, outcome, asked.elapsed());
        Ok(GmStream {
            events: Box::pin(sse::events(opened?.bytes_stream(), self.config.max_event.as_usize())),
            patience: self.config.silence,
            patience_after_heartbeat: self.config.heartbeat_silence,
            spoke_nonsense: false,
            silent: true,
            meter: Meter::new(request, asked),
        })
    }

    async fn ask(&self, command: Command) -> Result<Response, StreamError> {
        let url = match command {
            Command::Propose { lang } => self.url(&["api", "stream", "propose"], &[("lang", lang.as_str())]),
            Command::Choose { news, lang } => {
                self.url(&["api", "stream", "choose"], &[("kind", news.as_str()), ("lang", lang.as_str())])
            }
        };
        let request = self.http.get(url).header(header::ACCEPT, "text/event-stream");
        let patience = self.config.silence;
        let response = match timeout(patience.get(), request.send()).await {
            Err(_) => return Err(StreamError::Silent(patience)),
            Ok(Err(error)) => return Err(StreamError::Unreachable(error.without_url())),
            Ok(Ok(response)) => response,
        };
        if response.status() != StatusCode::OK {
            return Err(StreamError::Status(response.status()));
        }
        if !is_event_stream(&response) {
            return Err(StreamError::NotEvents);
        }
        Ok(response)
    }
}

fn is_event_stream(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type
        .is_some_and(|text| text.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream"))
}

impl GmStream {
    /// The next event. Heartbeats are swallowed, data that is not JSON is counted and left out; both prove life. Time
    /// counts only while this is awaited: a caller that is busy elsewhere does not make the Game Master late.
    ///
    /// # Errors
    /// [`StreamError`]; the stream is over then. It may be cancelled: nothing is lost, but the silence counts anew.
    pub async fn next(&mut self) -> Result<GmEvent, StreamError> {
        loop {
            let data = match timeout(self.patience.get(), self.events.next()).await {
                Err(_) => return Err(StreamError::Silent(self.patience)),
                Ok(None) => return Err(StreamError::Ended),
                Ok(Some(Err(SseError::Transport(error)))) => return Err(StreamError::BrokeOff(error.without_url())),
                Ok(Some(Err(SseError::TooLarge { limit }))) => {
                    return Err(StreamError::TooLarge(ByteSize::from_bytes(limit as u64)));
                }
                Ok(Some(Ok(data))) => data,
            };
            match GmEvent::read(data) {
                Some(event) if event.event_type.as_str() == "heartbeat" => {
                    self.patience = self.patience_after_heartbeat;
                    metrics::gm_heartbeat();
                }
                Some(event) => {
                    if std::mem::replace(&mut self.silent, false) {
                        metrics::gm_first_event(self.meter.request, self.meter.asked.elapsed());
                    }
                    metrics::gm_event(event.json.len());
                    return Ok(event);
                }
                None => {
                    if !std::mem::replace(&mut self.spoke_nonsense, true) {
                        tracing::warn!(
                            "an event of the game master is not JSON, skipped; further ones are only counted"
                        );
                    }
                    metrics::skipped("not_json");
                }
            }
        }
    }
}

impl StreamError {
    /// A word for the metrics.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Status(_) => "status",
            Self::NotEvents => "not_events",
            Self::Silent(_) => "silent",
            Self::BrokeOff(_) => "broke_off",
            Self::Ended => "ended",
            Self::TooLarge(_) => "too_large",
        }
    }
}

impl GmEvent {
    /// Reads the data of an event. `None` if it is not JSON.
    pub(crate) fn read(json: Bytes) -> Option<Self> {
        serde_json::from_slice::<&RawValue>(&json).ok()?;
        let event_type = serde_json::from_slice::<Head<'_>>(&json).ok().and_then(|head| head.kind);
        let event_type = event_type.and_then(|kind| serde_json::from_str::<String>(kind.get()).ok());
        let event_type = EventType::from_wire(event_type.as_deref().unwrap_or_default());
        Some(Self { event_type, json, trace: None })
    }

    /// Whether it ends its stream.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self.event_type.as_str(), "result" | "error")
    }
}

/// The member `type` of an object, the last one where there are several, as a browser takes it.
struct Head<'a> {
    kind: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Head<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Head<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Head<'de>, A::Error> {
                let mut head = Head { kind: None };
                while let Some(IsType(is_type)) = members.next_key()? {
                    if is_type {
                        head.kind = Some(members.next_value()?);
                    } else {
                        members.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(head)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Whether a key is `type`. Read as bytes: half of a surrogate pair in another key must not hide the type, by which it is
/// known what to cut out of the event.
struct IsType(bool);

impl<'de> Deserialize<'de> for IsType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key;
        impl Visitor<'_> for Key {
            type Value = IsType;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a key")
            }
            fn visit_bytes<E: serde::de::Error>(self, key: &[u8]) -> Result<IsType, E> {
                Ok(IsType(key == b"type"))
            }
        }
        deserializer.deserialize_bytes(Key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_an_event_is_a_token_or_unknown() {
        for (json, expected) in [
            (r#"{"type": "phase", "phase": "x"}"#, "phase"),
            (r#"{"data": {"type": "x"}, "type": "result"}"#, "result"),
            (r#"{"type":"a","type":"b"}"#, "b"),
            (r#"{"type":"llm\u005ftext"}"#, "llm_text"),
            (r#"{"type":"_action"}"#, "unknown"),
            (r#"{"type":"a.b"}"#, "unknown"),
            (r#"{"type":""}"#, "unknown"),
            (r#"{"type":5}"#, "unknown"),
            (r#"{"type":"\ud800"}"#, "unknown"),
            (r#"{"\ud800":1,"type":"x"}"#, "x"),
            ("{}", "unknown"),
            ("[{\"type\":\"x\"}]", "unknown"),
            ("1e999", "unknown"),
        ] {
            let event = GmEvent::read(Bytes::from_static(json.as_bytes())).unwrap();
            assert_eq!((event.event_type.as_str(), &event.json[..]), (expected, json.as_bytes()));
        }
    }

    #[test]
    fn what_is_not_json_is_no_event() {
        for data in ["", "hello", "{\"type\":\"x\"", "{\"type\":NaN}", "{} {}", "<html>"] {
            assert_eq!(GmEvent::read(Bytes::from_static(data.as_bytes())), None, "{data}");
        }
    }

    #[test]
    fn only_result_and_error_end_a_stream() {
        let read = |json: &'static str| GmEvent::read(Bytes::from_static(json.as_bytes())).unwrap();
        assert!(read(r#"{"type":"result","data":"ok"}"#).is_last() && read(r#"{"type":"error"}"#).is_last());
        assert!(!read(r#"{"type":"end"}"#).is_last() && !read(r#"{"type":"tool_error"}"#).is_last());
    }
}
