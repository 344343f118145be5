//! Messages to one connection: `conn.<edge>.<conn>`, from engines.
//!
//! The payload becomes a frame as an event's in the connection's dialect, without its numbers: `<root>.<topic>` with the topic of
//! the header `Herald-Topic`, `message` without one. With `Herald-Close: <code>` (and `Herald-Reason`) the connection is closed
//! behind it; without a payload it is only closed. Who asks (a reply subject below `_INBOX`) is answered in one word:
//!
//! | answer | |
//! |---|---|
//! | `ok` | the connection's task has it: it is said next |
//! | `gone` | there is no such connection; of an edge that is gone NATS says so itself (503) |
//! | `busy` | its client does not read: as much waits for it as may |
//! | `closed` | it is closed as asked for; what was to be said before found no room |
//! | `bad: <why>` | the message is none that can be said: nothing is done, nor is anything closed |
//!
//! The same subject is the reply subject of what a client sent up: where no engine hears that, the server says so here, and the
//! client is told.

use std::{sync::Arc, time::Duration};

use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt as _;
use herald_protocol::{Close, Topic, UplinkKind, close, headers, subject};
use herald_runtime::nats::Nats;
use metrics::counter;
use tokio_util::sync::CancellationToken;

use crate::{
    guests::{Guest, Guests, Unsaid, Word},
    uplink::Refused,
};

/// How long to wait before a lost subscription is made again.
const RETRY: Duration = Duration::from_millis(500);
/// What a message is about that does not say it.
const TOPIC: &str = "message";
/// Where the server says which message nobody heard.
const UNHEARD: &str = "Nats-Subject";

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum NotSaid {
    #[error("gone")]
    Gone,
    #[error("busy")]
    Busy,
    #[error("closed")]
    Closed,
    #[error("bad: {0}")]
    Bad(&'static str),
}

impl NotSaid {
    const fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Busy => "busy",
            Self::Closed => "closed",
            Self::Bad(_) => "bad",
        }
    }
}

impl From<Unsaid> for NotSaid {
    fn from(unsaid: Unsaid) -> Self {
        match unsaid {
            Unsaid::Full => Self::Busy,
            Unsaid::Gone => Self::Gone,
            Unsaid::TooLarge => Self::Bad("larger than words.queue_bytes"),
        }
    }
}

/// Hears what goes to the connections of this process until `stop`.
pub async fn hear(nats: Nats, guests: Arc<Guests>, stop: CancellationToken) {
    let endless = async {
        loop {
            if let Err(error) = hear_once(&nats, &guests).await {
                tracing::warn!(%error, "engines can't say anything to one connection, trying again");
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    stop.run_until_cancelled(endless).await;
}

async fn hear_once(nats: &Nats, guests: &Guests) -> Result<(), async_nats::Error> {
    let client = nats.client();
    let mut messages = client.subscribe(subject::connections_of(guests.edge())).await?;
    while let Some(message) = messages.next().await {
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            unheard(guests, &message);
            continue;
        }
        let outcome = say(guests, &message);
        counter!("herald_words_total", "outcome" => outcome.map_or_else(NotSaid::name, |()| "ok")).increment(1);
        if let Some(reply) = message.reply.filter(|reply| subject::is_inbox(reply)) {
            let answer = outcome.map_or_else(|not| not.to_string(), |()| "ok".to_owned());
            client.publish(reply, answer.into()).await?;
        }
    }
    Err("the subscription has ended".into())
}

fn addressee(guests: &Guests, message: &Message) -> Result<Arc<Guest>, NotSaid> {
    let conn = subject::parse_connection(&message.subject).and_then(|conn| conn.parse().ok());
    conn.and_then(|conn| guests.find(&conn)).ok_or(NotSaid::Gone)
}

/// Says what an engine sent.
fn say(guests: &Guests, message: &Message) -> Result<(), NotSaid> {
    let guest = addressee(guests, message)?;
    let none = HeaderMap::new();
    let headers = message.headers.as_ref().unwrap_or(&none);
    let close = close_of(headers)?;
    let said = if close.is_none() || !message.payload.is_empty() {
        guest.say(Word::Ready(frame(&guest, headers, &message.payload)?))
    } else {
        Ok(())
    };
    match (close, said) {
        (Some(close), Ok(())) => Ok(guest.say(Word::Close(close))?),
        // Who does not read has no more time than others.
        (Some(close), Err(Unsaid::Full)) => {
            guest.say(Word::Close(close))?;
            Err(NotSaid::Closed)
        }
        (_, said) => Ok(said?),
    }
}

fn frame(guest: &Guest, all: &HeaderMap, payload: &[u8]) -> Result<Bytes, NotSaid> {
    let topic = all.get(headers::TOPIC).map_or(TOPIC, |value| value.as_str());
    let topic = Topic::new(topic).map_err(|_| NotSaid::Bad("Herald-Topic is no topic"))?;
    // As who answers knows its session: by the root of what clients send up.
    let root = guest.entrance.uplink.as_ref().map_or(&guest.entrance.root, |uplink| &uplink.root);
    let frame = guest.view.message(root, topic.as_str(), payload);
    frame.ok_or(NotSaid::Bad("the connection's dialect shows no such topic, or the payload is not UTF-8"))
}

/// The close that a message asks for, if it does.
fn close_of(all: &HeaderMap) -> Result<Option<Close>, NotSaid> {
    let Some(code) = all.get(headers::CLOSE) else { return Ok(None) };
    let code = code.as_str().parse().ok().filter(|code| close::is_sendable(*code));
    let code = code.ok_or(NotSaid::Bad("Herald-Close is no code that may be sent"))?;
    let reason = all.get(headers::REASON).map_or("", |value| value.as_str());
    if !close::is_reason(reason) {
        return Err(NotSaid::Bad("Herald-Reason is no reason of at most 123 bytes"));
    }
    Ok(Some(Close::Told { code, reason: reason.into() }))
}

/// The server says that nobody hears what a client sent, or that it came.
fn unheard(guests: &Guests, message: &Message) {
    let sent = message.headers.as_ref().and_then(|all| all.get(UNHEARD)).map(|value| value.as_str().to_owned());
    let of = |kind: UplinkKind| sent.as_deref().is_some_and(|sent| sent.ends_with(&format!(".{}", kind.as_str())));
    if of(UplinkKind::Join) {
        return Refused::Nobody.count(UplinkKind::Join);
    }
    Refused::Nobody.count(if of(UplinkKind::Binary) { UplinkKind::Binary } else { UplinkKind::Text });
    if let Ok(guest) = addressee(guests, message) {
        guest.refuse(Refused::Nobody);
    }
}

#[cfg(test)]
mod tests {
    use async_nats::Subject;
    use herald_protocol::InstanceId;

    use super::*;
    use crate::guests::{
        Conn, Entrance, MailLimits,
        tests::{entrance, guest},
    };

    fn message(conn: &str, all: &[(&str, &str)], payload: &'static [u8]) -> Message {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.insert(*name, *value);
        }
        Message {
            subject: Subject::from(format!("conn.edge-1.{conn}")),
            reply: None,
            payload: Bytes::from_static(payload),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn what_an_engine_sends_is_said_or_it_is_told_why_not() {
        let guests = Guests::new(&InstanceId::new("edge-1").unwrap(), vec![]);
        let mail = MailLimits::new(2, 1000, 10_000);
        let stay = guests.admit(guest(&Arc::new(Entrance { mail, ..entrance("dice") }), Some("ann"), None));
        let conn = stay.guest().conn.to_string();
        let text = |expected: &str| {
            let Some(Word::Ready(frame)) = stay.guest().next_word() else { panic!("no frame: {expected}") };
            assert_eq!(std::str::from_utf8(&frame[2..]).unwrap(), expected);
        };
        assert_eq!(say(&guests, &message(&conn, &[], b"{}")), Ok(()));
        text(r#"{"event":"dice.message","data":{}}"#);
        assert_eq!(say(&guests, &message(&conn, &[("Herald-Topic", "hand.dealt")], b"no JSON")), Ok(()));
        text(r#"{"event":"dice.hand.dealt","data":"no JSON"}"#);
        assert_eq!(say(&guests, &message(&conn, &[], b"")), Ok(()));
        text(r#"{"event":"dice.message","data":""}"#);
        for (all, why) in [
            (&[("Herald-Topic", "_action")][..], "Herald-Topic"),
            (&[("Herald-Topic", "a..b")], "Herald-Topic"),
            (&[("Herald-Close", "1006")], "Herald-Close"),
            (&[("Herald-Close", "4410")], "Herald-Close"),
            (&[("Herald-Close", "x")], "Herald-Close"),
            (&[("Herald-Close", "4000"), ("Herald-Reason", &"x".repeat(124))], "Herald-Reason"),
        ] {
            let Err(NotSaid::Bad(said)) = say(&guests, &message(&conn, all, b"{}")) else { panic!("{all:?}") };
            assert!(said.starts_with(why), "{all:?}: {said}");
        }
        assert!(matches!(say(&guests, &message(&conn, &[], b"\xff")), Err(NotSaid::Bad(_))));
        assert_eq!(stay.guest().next_word(), None, "what is bad changes nothing");
        for gone in [Conn::random().as_str(), "x", "*"] {
            assert_eq!(say(&guests, &message(gone, &[], b"{}")), Err(NotSaid::Gone), "{gone}");
        }
        assert_eq!(say(&guests, &message(&conn, &[], b"1")), Ok(()));
        assert_eq!(say(&guests, &message(&conn, &[], b"2")), Ok(()));
        assert_eq!(say(&guests, &message(&conn, &[], b"3")), Err(NotSaid::Busy));
        let large = message(&conn, &[], &[b'1'; 2000]);
        assert_eq!(say(&guests, &large), Err(NotSaid::Bad("larger than words.queue_bytes")), "however long it waits");
        let closing = [("Herald-Close", "1012"), ("Herald-Reason", "go home")];
        assert!(matches!(say(&guests, &message(&conn, &closing, b"\xff")), Err(NotSaid::Bad(_))));
        assert_eq!(stay.guest().told_to_go(), None, "what is bad closes nothing");
        assert_eq!(say(&guests, &message(&conn, &closing, b"3")), Err(NotSaid::Closed), "also one that reads nothing");
        assert_eq!(say(&guests, &message(&conn, &closing, b"")), Err(NotSaid::Gone));
        let last = std::iter::from_fn(|| stay.guest().next_word()).last();
        assert_eq!(last, Some(Word::Close(Close::Told { code: 1012, reason: "go home".into() })));
    }
}
