//! A small `EventSource`: one HTTP response, read event by event, with a limit on what it may hold.

use std::{collections::VecDeque, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use herald_protocol::{Position, SessionId};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle};

use super::{
    doors::{Door, query},
    link::{Heard, Refusal, control, read, refusal},
    notes::Start,
};

/// Longest event taken: 1 MiB is the limit of a payload.
const MAX_EVENT: usize = 4 << 20;
/// What is read ahead of what is taken, so that a client that does not read is one.
const READ_AHEAD: usize = 8 << 10;

/// An open event stream. Dropping it closes its connection.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    parser: Parser,
    connection: JoinHandle<()>,
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Opens one on a connection: at `start`, by a client that once began at `first`.
pub(super) async fn open(
    tcp: TcpStream,
    door: &Door,
    session: &SessionId,
    (first, start): (Start, Start),
) -> Result<EventStream, Refusal> {
    let away = |_: hyper::Error| Refusal::Away;
    let mut builder = http1::Builder::new();
    let handshake = builder.max_buf_size(READ_AHEAD).handshake(TokioIo::new(tcp));
    let (mut sender, connection) = handshake.await.map_err(away)?;
    // Its errors end the body, too.
    let connection = tokio::spawn(async move { drop(connection.await) });
    let stream = |body| EventStream { body, parser: Parser::default(), connection };
    // The id counts more than what stands in the URL.
    let last_id = match start {
        Start::After(Position::Cursor(cursor)) => Some(cursor),
        _ => None,
    };
    let url = door.http(&format!("/sse/{session}{}", query(first)));
    let mut request =
        Request::get(path_of(&url)).header("host", door.authority()).header("accept", "text/event-stream");
    if let Some(id) = last_id {
        request = request.header("last-event-id", id.to_string());
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| Refusal::Never(error.to_string()))?;
    let response: Response<Incoming> = sender.send_request(request).await.map_err(away)?;
    let (head, body) = response.into_parts();
    let stream = stream(body);
    let kind = head.headers.get("content-type").map(|value| value.as_bytes());
    match head.status.as_u16() {
        200 if kind.is_some_and(|kind| kind.starts_with(b"text/event-stream")) => Ok(stream),
        200 => Err(Refusal::Never("200, but no event stream".into())),
        status => Err(refusal(status, head.headers.get("retry-after"), b"")),
    }
}

/// The path of a URL, with its query.
fn path_of(url: &str) -> &str {
    let behind_scheme = url.find("://").map_or(0, |at| at + 3);
    url[behind_scheme..].find('/').map_or("/", |at| &url[behind_scheme + at..])
}

impl EventStream {
    /// The next thing, and the id beside it. Cancelling is safe.
    pub(super) async fn next(&mut self) -> (Heard, Option<Position>) {
        loop {
            if let Some(heard) = self.parser.next() {
                return heard;
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !self.parser.feed(&data)
                    {
                        return (Heard::Closed { code: None, after: None }, None);
                    }
                }
                Some(Err(_)) | None => return (Heard::Closed { code: None, after: None }, None),
            }
        }
    }
}

/// Takes lines apart, as the standard says.
#[derive(Debug, Default)]
struct Parser {
    /// What is not a whole line yet.
    rest: BytesMut,
    event: String,
    data: String,
    id: Option<Position>,
    ready: VecDeque<(Heard, Option<Position>)>,
}

impl Parser {
    fn next(&mut self) -> Option<(Heard, Option<Position>)> {
        self.ready.pop_front()
    }

    /// Takes some bytes; false where they make an event that is too long.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        // Where the unfinished line was looked through already, nothing is to be found.
        let mut from = self.rest.len();
        self.rest.extend_from_slice(bytes);
        while let Some(at) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            let line = self.rest.split_to(from + at);
            self.rest.advance(1);
            from = 0;
            let line = String::from_utf8_lossy(&line);
            self.line(line.strip_suffix('\r').unwrap_or(&line));
        }
        self.rest.len() + self.data.len() <= MAX_EVENT
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.ready.push_back((Heard::Nothing, None)),
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "id" => self.id = value.parse().ok(),
            "retry" => {
                if let Ok(ms) = value.parse() {
                    self.ready.push_back((Heard::Retry(Duration::from_millis(ms)), None));
                }
            }
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        let id = self.id.take();
        if !self.data.is_empty() {
            let named = !self.event.is_empty() && self.event != "message";
            let heard = if named { control(&self.event, &self.data) } else { read(&self.data) };
            self.ready.push_back((heard, id));
        }
        self.event.clear();
        self.data.clear();
    }
}

#[cfg(test)]
mod tests {
    use herald_protocol::{Cursor, Epoch};

    use super::*;
    use crate::frame::Control;

    const TEXT: &str = ":\n\nevent: herald.hello\nid: 000000ab-5\ndata: {\"epoch\":\"000000ab\",\"head\":5,\"heartbeat_ms\":0}\n\n\
        id: 000000ab-6\r\ndata: {\"event\":\"arena.x\",\"data\":{\ndata: },\"seq\":6,\"ts\":1}\n\nretry: 70\n\n";

    fn heard(pieces: usize) -> Vec<(Heard, Option<Position>)> {
        let mut parser = Parser::default();
        assert!(TEXT.as_bytes().chunks(pieces).all(|piece| parser.feed(piece)));
        std::iter::from_fn(|| parser.next()).collect()
    }

    #[test]
    fn events_are_read_at_any_cut() {
        let epoch = Epoch::new(0xab);
        let at = |seq| Some(Position::Cursor(Cursor { epoch, seq }));
        let hash = super::super::notes::hash(b"{\n}");
        let all = vec![
            (Heard::Nothing, None),
            (Heard::Control(Control::Hello { epoch, head: 5, heartbeat_ms: 0 }), at(5)),
            (Heard::Event { seq: 6, prev: None, hash, snapshot: false, ts: 1 }, at(6)),
            (Heard::Retry(Duration::from_millis(70)), None),
        ];
        for pieces in 1..=TEXT.len() {
            assert_eq!(heard(pieces), all, "in pieces of {pieces}");
        }
    }

    #[test]
    fn an_endless_line_ends_the_stream() {
        let mut parser = Parser::default();
        assert!(parser.feed(&vec![b'x'; MAX_EVENT]));
        assert!(!parser.feed(b"x"));
    }

    #[test]
    fn a_path_is_what_stands_behind_the_host() {
        assert_eq!(path_of("http://h:1/app/sse/s?after=3"), "/app/sse/s?after=3");
        assert_eq!(path_of("http://h"), "/");
    }
}
