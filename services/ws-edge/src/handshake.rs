//! The WebSocket handshake (RFC 6455, section 4.2), and what a client may ask for in it.
//!
//! hyper reads the request and writes the 101; the connection is then taken from it ([`take_over`]) as the bare socket it
//! is, so that nothing stands between the frames and the kernel.

use std::task::{Context, Waker};

use axum::body::Body;
use bytes::Bytes;
use herald_protocol::{
    Position,
    frame::{PLAIN_PROTOCOL, SUB_PROTOCOL},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    },
    request::Parts,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;
use tungstenite::handshake::derive_accept_key;

use crate::{
    answer::{self, Answer},
    dialect::DialectName,
    feed::Start,
    replay::Pace,
};

/// The one version of the protocol there is.
const VERSION: HeaderValue = HeaderValue::from_static("13");
/// Where a reconnecting `EventSource` says what it has.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A handshake that may succeed.
#[derive(Debug)]
pub struct Handshake {
    accept: HeaderValue,
    /// Whether the client speaks `herald.v1`.
    pub v1: bool,
    /// Whether the client named the protocol of those that speak none.
    plain: bool,
}

impl Handshake {
    /// Looks at a request: is it a handshake we can answer with 101?
    ///
    /// # Errors
    /// The answer where it is not.
    pub fn read(head: &Parts) -> Result<Self, Box<Answer>> {
        let headers = &head.headers;
        if !has_token(headers, &CONNECTION, "upgrade") || !has_token(headers, &UPGRADE, "websocket") {
            let mut answer = answer::error(StatusCode::UPGRADE_REQUIRED, "This path speaks WebSocket");
            answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            return Err(answer.into());
        }
        // What follows a handshake are frames; whoever stands in between must not take them for a body, or a body for them.
        if headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0") {
            return Err(answer::bad_request("A handshake has no body").into());
        }
        if headers.get(SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
            let mut answer = answer::error(StatusCode::UPGRADE_REQUIRED, "Sec-WebSocket-Version must be 13");
            answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, VERSION);
            return Err(answer.into());
        }
        let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
        let key = keys.next().filter(|key| is_key(key.as_bytes()));
        let (Some(key), None, Version::HTTP_11) = (key, keys.next(), head.version) else {
            return Err(answer::bad_request("Sec-WebSocket-Key is missing or no key").into());
        };
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
            .map_err(|_| answer::bad_request("Sec-WebSocket-Key is missing or no key"))?;
        let names = |protocol| has_token(headers, &SEC_WEBSOCKET_PROTOCOL, protocol);
        Ok(Self { accept, v1: names(SUB_PROTOCOL), plain: names(PLAIN_PROTOCOL) })
    }

    /// The answer that opens the socket.
    #[must_use]
    pub fn answer(self) -> Answer {
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        // Of what was offered never more than one of these: another item may be a token.
        if self.v1 || self.plain {
            let chosen = if self.v1 { SUB_PROTOCOL } else { PLAIN_PROTOCOL };
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
        }
        answer
    }
}

/// The socket behind an upgraded request, and what the client sent behind its handshake. `None` where the client was
/// gone before the 101 had left.
pub async fn take_over(upgrade: OnUpgrade) -> Option<(TcpStream, Bytes)> {
    let upgraded = upgrade.await.ok()?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    let tcp = parts.io.into_inner();
    forget(&tcp);
    Some((tcp, parts.read_buf))
}

/// Has a socket forget the task that last waited for it by polling. hyper's is over, but its memory, more than all a
/// connection needs, would stay with the socket to be woken once more. A socket that is ready has woken it already.
fn forget(tcp: &TcpStream) {
    let mut nobody = Context::from_waker(Waker::noop());
    let _ready = (tcp.poll_read_ready(&mut nobody), tcp.poll_write_ready(&mut nobody));
}

/// 16 bytes in base64.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Whether a header that is a list, possibly over several lines, has that item, whatever its case.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// What a client asks for in the query of a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Where to start, if it says so.
    pub start: Option<Start>,
    /// In which dialect.
    pub dialect: Option<DialectName>,
    /// How fast, if it is to be played in its own time.
    pub(crate) pace: Option<Pace>,
}

/// A query that can't be followed; the text says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// `after` is no cursor.
    #[error("after: expected a cursor or a sequence")]
    After,
    /// `snapshot` is neither 0 nor 1.
    #[error("snapshot: expected 0 or 1")]
    Snapshot,
    /// `dialect` is no dialect.
    #[error("dialect: expected event, app or gm")]
    Dialect,
    /// Something is there twice.
    #[error("{0}: given twice")]
    Twice(&'static str),
    /// Both ways of starting at once.
    #[error("after and snapshot exclude each other")]
    Both,
    /// `speed` is none.
    #[error("speed: expected a number from 0.1 to 64")]
    Speed,
    /// `max_gap` is no time, or stands alone.
    #[error("max_gap: expected seconds from 0.01 to 3600, beside speed")]
    MaxGap,
    /// What is to be played has to begin in the past.
    #[error("speed and snapshot exclude each other")]
    Played,
    /// The header of a reconnecting `EventSource` is no cursor.
    #[error("Last-Event-ID: expected a cursor or a sequence")]
    LastEventId,
}

impl Asked {
    /// Reads a query. Parameters that are not ours are left to others.
    ///
    /// # Errors
    /// [`BadQuery`]
    pub fn read(query: &str) -> Result<Self, BadQuery> {
        let (mut after, mut snapshot, mut dialect) = (None, None, None);
        let (mut speed, mut max_gap) = (None, None);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8().unwrap_or_default();
            match &*percent_decode_str(name).decode_utf8_lossy() {
                "after" => {
                    let position: Position = value.parse().map_err(|_| BadQuery::After)?;
                    once("after", &mut after, position)?;
                }
                "snapshot" => {
                    let wanted = match &*value {
                        "1" => true,
                        "0" => false,
                        _ => return Err(BadQuery::Snapshot),
                    };
                    once("snapshot", &mut snapshot, wanted)?;
                }
                "dialect" => once("dialect", &mut dialect, value.parse().map_err(|_| BadQuery::Dialect)?)?,
                "speed" => once("speed", &mut speed, Pace::parse(&value).ok_or(BadQuery::Speed)?)?,
                "max_gap" => once("max_gap", &mut max_gap, value.into_owned())?,
                _ => {}
            }
        }
        let pace = match (speed, max_gap) {
            (Some(speed), Some(most)) => Some(speed.capped(&most).ok_or(BadQuery::MaxGap)?),
            (None, Some(_)) => return Err(BadQuery::MaxGap),
            (speed, None) => speed,
        };
        if pace.is_some() && snapshot.is_some() {
            return Err(BadQuery::Played);
        }
        let start = match (after, snapshot) {
            (Some(_), Some(true)) => return Err(BadQuery::Both),
            (Some(position), _) => Some(Start::After(position)),
            (None, Some(true)) => Some(Start::Snapshot),
            (None, Some(false)) => Some(Start::Live),
            // From the first kept event, unless it says otherwise.
            (None, None) => pace.map(|_| Start::After(Position::Seq(0))),
        };
        Ok(Self { start, dialect, pace })
    }

    /// The same, for an `EventSource`: it repeats its first query for ever, so what it says to have counts more.
    ///
    /// # Errors
    /// [`BadQuery`]
    pub fn with_last_event_id(self, headers: &HeaderMap) -> Result<Self, BadQuery> {
        let mut ids = headers.get_all(LAST_EVENT_ID).iter();
        let id = ids.next();
        if ids.next().is_some() {
            return Err(BadQuery::Twice("Last-Event-ID"));
        }
        match id {
            Some(id) if !id.is_empty() => {
                let position = id.to_str().ok().and_then(|id| id.parse().ok()).ok_or(BadQuery::LastEventId)?;
                Ok(Self { start: Some(Start::After(position)), ..self })
            }
            _ => Ok(self),
        }
    }
}

fn once<T>(name: &'static str, slot: &mut Option<T>, value: T) -> Result<(), BadQuery> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(BadQuery::Twice(name)),
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Wake};

    use http::Request;

    use super::*;

    #[tokio::test]
    async fn a_socket_taken_over_forgets_the_task_that_waited_for_it() {
        struct Task;
        impl Wake for Task {
            fn wake(self: Arc<Self>) {}
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let task = Arc::new(Task);
        let waker = Waker::from(task.clone());
        assert!(tcp.poll_read_ready(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        assert_eq!(Arc::strong_count(&task), 2, "kept by the socket");
        forget(&tcp);
        assert_eq!(Arc::strong_count(&task), 1);
    }

    fn head(change: impl FnOnce(&mut HeaderMap)) -> Parts {
        let (mut head, ()) = Request::get("/ws/s")
            .header("Connection", "keep-alive, Upgrade")
            .header("Upgrade", "WebSocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap()
            .into_parts();
        change(&mut head.headers);
        head
    }

    #[test]
    fn a_handshake_is_answered_as_the_standard_says() {
        let handshake = Handshake::read(&head(|_| {})).unwrap();
        assert!(!handshake.v1);
        let answer = handshake.answer();
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!answer.headers().contains_key("sec-websocket-protocol"));
        assert!(!answer.headers().contains_key("sec-websocket-extensions"));
    }

    #[test]
    fn herald_v1_is_chosen_wherever_it_stands() {
        for offer in ["herald.v1", "other, herald.v1", "herald.v1,other"] {
            let head = head(|headers| {
                headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offer));
            });
            let answer = Handshake::read(&head).unwrap().answer();
            assert_eq!(answer.headers()["sec-websocket-protocol"], "herald.v1", "{offer}");
        }
        let others = head(|headers| {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("graphql-ws"));
        });
        assert!(!Handshake::read(&others).unwrap().v1);
        for (offer, chosen) in [
            ("herald.token.a.b.c, herald.v1", Some("herald.v1")),
            ("herald.plain, herald.v1", Some("herald.v1")),
            ("herald.token.a.b.c, herald.plain", Some("herald.plain")),
            ("herald.token.a.b.c", None),
        ] {
            let head = head(|headers| {
                headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offer));
            });
            let answer = Handshake::read(&head).unwrap().answer();
            let protocol = answer.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
            assert_eq!(protocol, chosen, "{offer}: a token is never said back");
        }
    }

    #[test]
    fn what_is_no_handshake_gets_an_answer_that_says_so() {
        type Change = fn(&mut HeaderMap);
        let table: [(&str, Change, u16); 8] = [
            ("a body", |headers| drop(headers.insert(CONTENT_LENGTH, "5".parse().unwrap())), 400),
            ("a body in chunks", |headers| drop(headers.insert(TRANSFER_ENCODING, "chunked".parse().unwrap())), 400),
            ("no upgrade", |headers| drop(headers.remove(UPGRADE)), 426),
            ("no connection", |headers| drop(headers.remove(CONNECTION)), 426),
            ("old version", |headers| drop(headers.insert(SEC_WEBSOCKET_VERSION, "8".parse().unwrap())), 426),
            ("no key", |headers| drop(headers.remove(SEC_WEBSOCKET_KEY)), 400),
            ("short key", |headers| drop(headers.insert(SEC_WEBSOCKET_KEY, "abc=".parse().unwrap())), 400),
            (
                "two keys",
                |headers| assert!(headers.append(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap())),
                400,
            ),
        ];
        for (what, change, status) in table {
            assert_eq!(Handshake::read(&head(change)).unwrap_err().status(), status, "{what}");
        }
    }

    #[test]
    fn queries_are_followed_or_refused() {
        let after = |text: &str| Some(Start::After(text.parse().unwrap()));
        let table = [
            ("", None, None),
            ("x=1&y", None, None),
            ("after=0", after("0"), None),
            ("after=deadbeef-7&dialect=app", after("deadbeef-7"), Some(DialectName::App)),
            ("after=deadbeef%2D7", after("deadbeef-7"), None),
            ("snapshot=1", Some(Start::Snapshot), None),
            ("snapshot=0", Some(Start::Live), None),
            ("after=5&snapshot=0", after("5"), None),
        ];
        for (query, start, dialect) in table {
            assert_eq!(Asked::read(query), Ok(Asked { start, dialect, pace: None }), "{query}");
        }
        for (query, start, pace) in [
            ("speed=4", after("0"), Pace::parse("4")),
            ("after=7&speed=0.5&max_gap=2", after("7"), Pace::parse("0.5").and_then(|pace| pace.capped("2"))),
        ] {
            assert_eq!(Asked::read(query), Ok(Asked { start, dialect: None, pace }), "{query}");
        }
        let refused = [
            ("after=-1", BadQuery::After),
            ("after=x", BadQuery::After),
            ("after=", BadQuery::After),
            ("after", BadQuery::After),
            ("after=%ff", BadQuery::After),
            ("after=18446744073709551616", BadQuery::After),
            ("after=1&after=2", BadQuery::Twice("after")),
            ("snapshot=yes", BadQuery::Snapshot),
            ("after=1&snapshot=1", BadQuery::Both),
            ("dialect=klingon", BadQuery::Dialect),
            ("dialect=", BadQuery::Dialect),
            ("speed=0", BadQuery::Speed),
            ("speed=65", BadQuery::Speed),
            ("speed=", BadQuery::Speed),
            ("speed=1&speed=1", BadQuery::Twice("speed")),
            ("max_gap=2", BadQuery::MaxGap),
            ("speed=1&max_gap=0", BadQuery::MaxGap),
            ("speed=1&snapshot=1", BadQuery::Played),
            ("speed=1&snapshot=0", BadQuery::Played),
        ];
        for (query, why) in refused {
            assert_eq!(Asked::read(query), Err(why), "{query}");
        }
    }

    #[test]
    fn what_an_event_source_has_counts_more_than_its_first_query() {
        let asked = Asked::read("snapshot=1").unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(asked.with_last_event_id(&headers).unwrap().start, Some(Start::Snapshot));
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("deadbeef-7"));
        let resumed = asked.with_last_event_id(&headers).unwrap();
        assert_eq!(resumed.start, Some(Start::After("deadbeef-7".parse().unwrap())));
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("x"));
        assert_eq!(asked.with_last_event_id(&headers), Err(BadQuery::LastEventId));
    }
}
