//! One connection to a door, of whichever kind: what is heard on it, one thing at a time.

use std::time::Duration;

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use herald_protocol::{Cursor, Position, SessionId};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error as WsError, Message, protocol::CloseFrame},
};

use super::{
    doors::Door,
    events::{self, EventStream},
    notes::{Kind, Start, hash},
};
use crate::{
    frame::{Control, Frame},
    websocket::{Speech, connect_on},
};

/// The receive buffer of a client that reads slowly: the less the kernel takes for it, the sooner the door notices.
const SLOW_BUFFER: u32 = 8 << 10;

/// What is heard on a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Heard {
    /// An event.
    Event {
        /// Its sequence; 0, which no event has, where the frame was no frame.
        seq: u64,
        /// The one before, where it says so.
        prev: Option<u64>,
        /// Of its payload.
        hash: u64,
        /// Whether it says to be part of a snapshot.
        snapshot: bool,
        /// When it was stored, ms since 1970.
        ts: u64,
    },
    /// What the door says of the stream or of the connection.
    Control(Control),
    /// How long to wait before coming back (`retry:` of an event stream).
    Retry(Duration),
    /// The end.
    Closed {
        /// Its code; `None` where there was no word, or none is known to the transport.
        code: Option<u16>,
        /// Where to come back.
        after: Option<Cursor>,
    },
    /// A sign of life.
    Nothing,
}

/// Why a connection was not opened.
#[derive(Debug)]
pub enum Refusal {
    /// Nobody is there, or it took too long.
    Away,
    /// Not now.
    Busy {
        /// When to try again, if it says so.
        retry: Option<Duration>,
    },
    /// Never: what was asked for is wrong.
    Never(String),
}

/// How a client treats its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// How it speaks.
    pub kind: Kind,
    /// Where it began: an `EventSource` repeats its URL for ever.
    pub first: Start,
    /// It reads slowly: the kernel shall take little for it.
    pub slow: bool,
    /// It cuts its connections without a word.
    pub abrupt: bool,
}

/// A connection.
#[derive(Debug)]
pub enum Link {
    /// A WebSocket.
    Socket(Box<WebSocketStream<TcpStream>>),
    /// An event stream.
    Events(Box<EventStream>),
}

impl Link {
    /// Opens one. The caller limits how long it may take.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn open(door: &Door, session: &SessionId, start: Start, manners: Manners) -> Result<Self, Refusal> {
        let tcp = dial(door, manners).await.map_err(|_| Refusal::Away)?;
        let speech = match manners.kind {
            Kind::Plain => Speech::Plain,
            Kind::V1 => Speech::V1,
            Kind::Sse => {
                let stream = events::open(tcp, door, session, (manners.first, start)).await?;
                return Ok(Self::Events(stream.into()));
            }
        };
        match connect_on(tcp, &door.socket(session, start), speech).await {
            Ok(socket) => Ok(Self::Socket(socket.into())),
            Err(WsError::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err(refusal(response.status().as_u16(), response.headers().get("retry-after"), body))
            }
            Err(_) => Err(Refusal::Away),
        }
    }

    /// The next thing, with what an event stream calls its id. Cancelling is safe.
    pub async fn next(&mut self) -> (Heard, Option<Position>) {
        match self {
            Self::Socket(socket) => (heard(socket.next().await), None),
            Self::Events(stream) => stream.next().await,
        }
    }

    /// Asks for a sign of life, where the transport can.
    pub async fn ping(&mut self) {
        if let Self::Socket(socket) = self {
            // One that can't be written to is found out by the silence that follows.
            let _unsent = socket.send(Message::Ping(bytes::Bytes::new())).await;
        }
    }

    /// Ends it politely, where the transport can.
    pub async fn close(&mut self) {
        if let Self::Socket(socket) = self {
            let _unsent = socket.as_mut().close(None).await;
        }
    }
}

async fn dial(door: &Door, manners: Manners) -> Result<TcpStream> {
    let address = door.address().await?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if manners.slow {
        socket.set_recv_buffer_size(SLOW_BUFFER)?;
    }
    if manners.abrupt {
        // Dropped, it is reset.
        socket.set_zero_linger()?;
    }
    let tcp = socket.connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// What an answer other than the wanted one means.
pub(super) fn refusal(status: u16, retry_after: Option<&reqwest::header::HeaderValue>, body: &[u8]) -> Refusal {
    let retry = retry_after.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    match status {
        400..=499 if status != 429 => {
            let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
            Refusal::Never(format!("{status} {text}"))
        }
        _ => Refusal::Busy { retry },
    }
}

fn heard(message: Option<Result<Message, WsError>>) -> Heard {
    match message {
        Some(Ok(Message::Text(text))) => read(&text),
        Some(Ok(Message::Close(close))) => closed(close.as_ref()),
        Some(Ok(_)) => Heard::Nothing,
        Some(Err(_)) | None => Heard::Closed { code: None, after: None },
    }
}

fn closed(close: Option<&CloseFrame>) -> Heard {
    // 1005: a close without a code.
    let Some(close) = close else { return Heard::Closed { code: Some(1005), after: None } };
    let after = close.reason.rsplit_once("after=").and_then(|(_, cursor)| cursor.parse().ok());
    Heard::Closed { code: Some(close.code.into()), after }
}

/// Reads a frame.
pub(super) fn read(text: &str) -> Heard {
    let frame: Frame<'_> = match serde_json::from_str(text) {
        Ok(frame) => frame,
        Err(error) => return odd(text, &error),
    };
    match frame.seq {
        None => control(&frame.event, frame.data.get()),
        Some(seq) => Heard::Event {
            seq,
            prev: frame.prev,
            hash: hash(frame.data.get().as_bytes()),
            snapshot: frame.snapshot,
            ts: frame.ts.unwrap_or(0),
        },
    }
}

/// Reads a control frame.
pub(super) fn control(name: &str, data: &str) -> Heard {
    match Control::read(name, data) {
        Ok(Some(control)) => Heard::Control(control),
        Ok(None) if data == "{}" && name == "herald.beat" => Heard::Nothing,
        Ok(None) => odd(name, &"an unknown event"),
        Err(error) => odd(data, &error),
    }
}

/// Something that no door may say: it is no event of any session, and judged as such.
fn odd(text: &str, error: &dyn std::fmt::Display) -> Heard {
    let text: String = text.chars().take(200).collect();
    tracing::error!(%error, text, "a frame that is no frame");
    Heard::Event { seq: 0, prev: None, hash: hash(text.as_bytes()), snapshot: false, ts: 0 }
}

#[cfg(test)]
mod tests {
    use herald_protocol::{Epoch, frame};

    use super::*;

    #[test]
    fn frames_are_read_without_their_payload() {
        let data = r#"{"n": 3, "pad":"}"}"#;
        let frame = format!(r#"{{"event":"arena.x","data":{data},"seq":7,"ts":5,"prev":0,"snapshot":true}}"#);
        let event = Heard::Event { seq: 7, prev: Some(0), hash: hash(data.as_bytes()), snapshot: true, ts: 5 };
        assert_eq!(read(&frame), event);
        assert_eq!(read(r#"{"event":"herald.live","data":{"after":3}}"#), Heard::Control(Control::Live { after: 3 }));
        assert_eq!(read(frame::BEAT), Heard::Nothing);
        for odd in ["", "{}", "[1]", r#"{"event":"herald.odd","data":{}}"#, r#"{"event":"herald.gap","data":{}}"#] {
            assert!(matches!(read(odd), Heard::Event { seq: 0, .. }), "{odd}");
        }
    }

    #[test]
    fn a_close_says_where_to_come_back() {
        let close = |code: u16, reason: &str| {
            let close = CloseFrame { code: code.into(), reason: reason.to_owned().into() };
            closed(Some(&close))
        };
        let after = Some(Cursor { epoch: Epoch::new(0xab), seq: 7 });
        for (code, reason) in [(4408, "resume after=000000ab-7"), (4410, "after=000000ab-7")] {
            assert_eq!(close(code, reason), Heard::Closed { code: Some(code), after });
        }
        assert_eq!(close(1012, "restart"), Heard::Closed { code: Some(1012), after: None });
        assert_eq!(closed(None), Heard::Closed { code: Some(1005), after: None });
    }

    #[test]
    fn a_refusal_says_whether_to_come_back() {
        let after = reqwest::header::HeaderValue::from_static("3");
        assert!(matches!(refusal(400, None, b"bad cursor"), Refusal::Never(why) if why == "400 bad cursor"));
        assert!(
            matches!(refusal(503, Some(&after), b""), Refusal::Busy { retry: Some(retry) } if retry.as_secs() == 3)
        );
        assert!(matches!(refusal(429, None, b""), Refusal::Busy { retry: None }));
    }
}
