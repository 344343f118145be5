//! Fuzzing targets: what comes over `http.<service>`, from doors and from engines, in messages of any kind.

use async_nats::{HeaderMap, HeaderName, HeaderValue, Message};
use bytes::Bytes;
use herald_fuzz::Target;
use herald_protocol::headers::REQUEST_HEADERS;
use http::header;

use super::{
    WINDOW,
    respond::Window,
    response::{self, BrokenBody},
    wire,
};

/// What the messages of a format are written with: a line each.
const NAMES: [&str; 22] = [
    "Herald-Method: ",
    "Herald-Path: ",
    "Herald-Query: ",
    "Herald-Deadline: ",
    "Herald-Door: ",
    "Herald-User: ",
    "Herald-Role: ",
    "Herald-Sessions: ",
    "Herald-Body: ",
    "Herald-Status: ",
    "Herald-Part: ",
    "Herald-End: 1\n",
    "Herald-Abort: ",
    "Herald-Ack: ",
    "Herald-H-content-length: ",
    "Herald-H-Connection: ",
    "Herald-H-content-type: ",
    "Herald-H-authorization: ",
    "Herald-H-herald-user: ",
    "Herald-H-transfer-encoding: chunked\n",
    "Herald-H-",
    "Herald-",
];
const WORDS: [&str; 22] = [
    "\n", "\n\n", "=\n", "/", "//", "?", "#", "%2f", "http://", "@", "GET", "HEAD", "POST", "200", "204", "304", "101",
    ",", "*", ":", "\t", "é",
];

/// Headers, a line each, and behind an empty line the payload. What NATS' client library would not take is left out.
fn message(text: &[u8]) -> (HeaderMap, &[u8]) {
    let (mut headers, mut rest) = (HeaderMap::new(), text);
    while let Some((line, behind)) = herald_fuzz::line(rest) {
        rest = behind;
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.trim().parse::<HeaderValue>()) {
            headers.append(name, value);
        }
    }
    (headers, rest)
}

/// Nothing that would begin another line on the wire.
fn is_plain(headers: &HeaderMap) -> bool {
    headers.iter().flat_map(|(_, values)| values).all(|value| !value.as_str().contains(['\r', '\n']))
}

#[test]
fn requests() {
    Target::new("requests")
        .seeds([
            "Herald-Method: GET\nHerald-Path: /api/start\nHerald-Query: lang=fr&session_id=s\nHerald-Deadline: 30000\nHerald-Door: app\n",
            "Herald-Method: POST\nHerald-Path: /init_session\nHerald-H-content-type: application/json\nHerald-User: ann\nHerald-Role: player\nHerald-Sessions: a,b\n\n{}",
            "Herald-Method: PATCH\nHerald-Path: /%2e%2e/x;y=1\nHerald-Body: _INBOX.x.7\nHerald-Sessions: *\nHerald-User: Zo\u{eb}\nHerald-H-accept: */*\nHerald-H-accept: b\n",
        ])
        .tokens(NAMES.into_iter().chain(WORDS))
        .longest(1500)
        .run(|input| {
            let (headers, _) = message(input);
            let read = wire::read_request(&headers).ok()?;
            let path = read.uri.path();
            assert!(path.starts_with('/') && read.uri.authority().is_none() && read.uri.scheme().is_none());
            assert!(read.deadline.as_secs() <= 600 && !read.door.is_empty());
            assert!(read.headers.keys().all(|name| REQUEST_HEADERS.contains(&name.as_str())), "only what is listed travels");
            if let Some(caller) = &read.caller {
                assert!(!caller.user().is_empty() && !caller.user().chars().any(char::is_control));
            }
            // What was read can be sent on, and is then the same.
            let mut request = http::Request::new(());
            *request.method_mut() = read.method.clone();
            *request.uri_mut() = read.uri.clone();
            *request.headers_mut() = read.headers.clone();
            if let Some(caller) = &read.caller {
                request.extensions_mut().insert(caller.clone());
            }
            let (parts, ()) = request.into_parts();
            let written = wire::write_request(&parts, &read.door).expect("short enough");
            assert!(is_plain(&written));
            let again = wire::read_request(&written).expect("a request");
            assert_eq!((&again.method, &again.uri, &again.headers), (&read.method, &read.uri, &read.headers));
            assert_eq!((&again.door, &again.caller), (&read.door, &read.caller));
            Some((read.headers.len().min(6), read.caller.map(|caller| caller.role().is_some()), read.body.is_some(), read.uri.query().is_some()))
        });
}

/// The messages of an engine that answers, with lines of `=` in between: at most what is allowed goes on, and never more than
/// was said.
#[test]
fn responses() {
    const LIMIT: u64 = 600;
    Target::new("responses")
        .seeds([
            "Herald-Status: 200\nHerald-H-content-type: application/json\nHerald-Part: 0\nHerald-End: 1\n\n{\"status\":\"ok\"}",
            "Herald-Status: 200\nHerald-H-content-length: 6\nHerald-Part: 0\n\nabc\n=\nHerald-Part: 1\nHerald-End: 1\n\ndef",
            "Herald-Status: 304\nHerald-H-etag: \"x\"\nHerald-Part: 0\nHerald-End: 1\n",
            "Herald-Status: 200\nHerald-Part: 0\n\nabc\n=\nHerald-Abort: idle\n",
            "Herald-Status: 200\nHerald-H-Connection: x-private\nHerald-H-x-private: 1\nHerald-Part: 0\n\n\n=\nHerald-Part: 1\n\nx\n=\nHerald-Part: 2\nHerald-End: 1\n",
        ])
        .tokens(NAMES.into_iter().chain(WORDS))
        .longest(2500)
        .run(|input| {
            let is_head = input.len().is_multiple_of(5);
            let mut texts = split(input);
            let (head, mut payload) = message(texts.next()?);
            let Ok((opening, mut progress)) = response::open(&head, is_head, LIMIT) else { return Some((0, 0, 0)) };
            assert!((200..600).contains(&opening.status.as_u16()));
            for name in ["connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"] {
                assert!(!opening.headers.contains_key(name), "{name} ends with its connection");
            }
            let mut lengths = opening.headers.get_all(header::CONTENT_LENGTH).iter();
            let said: Option<u64> = lengths.next().map(|length| length.to_str().expect("text").parse().expect("a number"));
            assert!(lengths.next().is_none() && (said.is_none() || !super::respond::without_body(opening.status)));
            assert!(opening.bodiless == (is_head || super::respond::without_body(opening.status)));
            let (mut received, mut parts, mut headers) = (0, 0, head);
            let end = loop {
                match progress.take(&headers, payload.len()) {
                    Ok(number) => assert_eq!(number, parts),
                    Err(broken) => break Some(broken),
                }
                (received, parts) = (received + payload.len() as u64, parts + 1);
                assert!(received <= LIMIT);
                if progress.ended() {
                    break None;
                }
                let Some(text) = texts.next() else { break Some(BrokenBody::Idle) };
                (headers, payload) = message(text);
            };
            let told = said.filter(|_| !opening.bodiless);
            assert!(told.is_none_or(|told| if end.is_none() { received == told } else { received <= told }));
            let end = match end {
                None => 1,
                Some(BrokenBody::Aborted(_)) => 2,
                Some(BrokenBody::Lost) => 3,
                Some(BrokenBody::Idle) => 4,
                Some(BrokenBody::TooLarge) => 5,
                Some(BrokenBody::TooShort) => 6,
            };
            Some((end, parts.min(5), u64::from(opening.bodiless) + 2 * u64::from(said.is_some())))
        });
}

/// What a receiver says to have taken, a message each: no more than the window is ever on its way.
#[test]
fn acknowledgements() {
    Target::new("acknowledgements")
        .seeds([
            "Herald-Ack: 0\n=\nHerald-Ack: 3\n=\nHerald-Ack: 9\n",
            "Herald-Ack: 18446744073709551615\n=\nHerald-Ack: 1\n",
            "Herald-Abort: gone\n",
        ])
        .tokens(["Herald-Ack: ", "\n=\n", "Herald-Abort: gone", "0", "8"])
        .longest(400)
        .run(|input| {
            let (mut window, mut sent, mut taken) = (Window::default(), 1_u64, 0_u64);
            let mut heard = 0;
            for text in split(input) {
                while window.is_open() {
                    assert_eq!(window.send(), sent);
                    sent += 1;
                }
                assert!(sent <= taken + WINDOW, "{sent} sent, {taken} taken");
                let (headers, payload) = message(text);
                let number = headers.get("Herald-Ack").and_then(|number| number.as_str().parse::<u64>().ok());
                let message = Message {
                    subject: "r".into(),
                    reply: None,
                    payload: Bytes::copy_from_slice(payload),
                    headers: Some(headers),
                    status: None,
                    description: None,
                    length: 0,
                };
                assert_eq!(window.hear(Some(message)).is_ok(), number.is_some());
                let Some(number) = number else { break };
                taken = taken.max(number.saturating_add(1).min(sent));
                heard += 1;
            }
            (heard, sent)
        });
}

/// The texts between lines that are `=`.
fn split(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(input);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = text.windows(3).position(|line| line == b"\n=\n");
        rest = at.map(|at| &text[at + 3..]);
        Some(at.map_or(text, |at| &text[..at]))
    })
}
