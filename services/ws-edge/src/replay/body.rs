//! A page of the past as the body of an answer: JSON, or an object on each line.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use herald_protocol::SessionId;
use http::{
    HeaderMap, HeaderValue, Response,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VARY},
};
use http_body::{Frame, SizeHint};
use serde_json::json;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::page::{Item, Page};
use crate::{
    answer::{Answer, NO_STORE},
    limits::WatchTicket,
};

/// Bytes that are handed on at once: the rest waits here, with the place it is counted by, until the client has taken these.
const CHUNK: usize = 64 << 10;
/// The media type of an object on each line.
const LINES: &str = "application/x-ndjson";

/// The shape of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Lines,
}

impl Format {
    /// As the client has it: lines where it asks for them by name and does not like JSON better.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let weight = |media_type: &str| {
            let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
            let items = lines.flat_map(|line| line.split(','));
            let named = items.filter_map(|item| {
                let mut parts = item.split(';').map(str::trim);
                let is_it = parts.next()?.eq_ignore_ascii_case(media_type);
                let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
                is_it.then_some(weight.unwrap_or(1.0))
            });
            named.fold(0.0, f32::max)
        };
        let lines = weight(LINES);
        if lines > 0.0 && lines >= weight("application/json") { Self::Lines } else { Self::Json }
    }
}

/// What is held until an answer has left.
pub(super) struct Hold {
    /// As what its reader is counted.
    pub(super) place: WatchTicket,
    /// Ends the connection of one who does not take it
    pub(super) abort: CancellationToken,
    /// for so long.
    pub(super) unread: Duration,
    /// Where that is seen to.
    pub(super) tasks: TaskTracker,
}

/// The answer that brings a page.
pub(super) fn answer(session: &SessionId, page: &Page, format: Format, hold: Hold) -> Answer {
    let (text, media_type) = match format {
        Format::Json => (whole(session, page), "application/json"),
        Format::Lines => (lines(page), LINES),
    };
    let Hold { place, abort, unread, tasks } = hold;
    let (taken, gone) = oneshot::channel();
    tasks.spawn(async move {
        if timeout(unread, gone).await.is_err() {
            abort.cancel();
        }
    });
    let mut answer = Response::new(Body::new(Leaving { rest: text.into(), _place: place, _taken: taken }));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(VARY, HeaderValue::from_static("accept"));
    answer
}

/// `{"session","epoch","head","events":[...],"gaps":[...],"next","more"}`: events are spliced in as they are.
fn whole(session: &SessionId, page: &Page) -> Vec<u8> {
    let bytes: usize =
        page.items.iter().map(|item| if let Item::Event(text) = item { text.len() + 1 } else { 0 }).sum();
    let mut out = Vec::with_capacity(bytes + 256);
    out.extend_from_slice(
        format!("{{\"session\":\"{session}\",\"epoch\":\"{}\",\"head\":{},", page.epoch, page.head).as_bytes(),
    );
    out.extend_from_slice(b"\"events\":[");
    let mut first = true;
    for item in &page.items {
        if let Item::Event(text) = item {
            out.extend_from_slice(if first { b"" } else { b"," });
            out.extend_from_slice(text);
            first = false;
        }
    }
    let gaps = page.items.iter().filter_map(|item| if let Item::Gap(gap) = item { Some(gap.data()) } else { None });
    let gaps = gaps.collect::<Vec<_>>().join(",");
    out.extend_from_slice(
        format!("],\"gaps\":[{gaps}],\"next\":\"{}\",\"more\":{}}}", page.next, page.more).as_bytes(),
    );
    out
}

/// An event or a control frame on each line, in order. The last one says where to go on: an answer without it is none.
fn lines(page: &Page) -> Vec<u8> {
    let mut out = Vec::new();
    for item in &page.items {
        match item {
            // Line breaks in JSON are blanks between its tokens: in strings they are written otherwise.
            Item::Event(text) => {
                out.extend(text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }))
            }
            Item::Gap(gap) => out.extend_from_slice(gap.frame().as_bytes()),
        }
        out.push(b'\n');
    }
    let end = json!({
        "epoch": page.epoch.to_string(), "head": page.head, "next": page.next.to_string(), "more": page.more,
    });
    out.extend_from_slice(format!("{{\"event\":\"herald.page\",\"data\":{end}}}\n").as_bytes());
    out
}

/// A body on its way.
struct Leaving {
    rest: Bytes,
    _place: WatchTicket,
    /// Dropped when all of it is taken, or nobody is left to take it.
    _taken: oneshot::Sender<()>,
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let chunk = self.rest.len().min(CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use herald_protocol::{Cursor, Epoch, frame::Control};
    use serde_json::Value;

    use super::*;

    fn page() -> Page {
        let epoch = Epoch::new(0xab);
        let event = |text: &str| Item::Event(text.as_bytes().to_vec());
        let items = vec![
            Item::Gap(Control::Gap { from: 1, to: 4, reason: "trimmed" }),
            event("{\"event\":\"gm.x\",\"data\":{\n\"a\":\r\n\"b\\n\"},\"seq\":5,\"ts\":6}"),
            event("{\"event\":\"gm.y\",\"data\":1,\"seq\":7,\"ts\":8}"),
        ];
        Page { epoch, head: 9, items, next: Cursor { epoch, seq: 9 }, more: false }
    }

    #[test]
    fn a_page_is_json_with_its_events_as_they_are() {
        let text = String::from_utf8(whole(&"S".parse().unwrap(), &page())).unwrap();
        assert!(text.contains("{\n\"a\":\r\n"), "byte for byte");
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["events"][1], json!({"event": "gm.y", "data": 1, "seq": 7, "ts": 8}));
        assert_eq!(json["gaps"], json!([{"from": 1, "to": 4, "reason": "trimmed"}]));
        let rest = (&json["session"], &json["epoch"], &json["head"], &json["next"], &json["more"]);
        assert_eq!(rest, (&json!("S"), &json!("000000ab"), &json!(9), &json!("000000ab-9"), &json!(false)));
        let empty = whole(&"S".parse().unwrap(), &Page { items: vec![], ..page() });
        let empty: Value = serde_json::from_slice(&empty).unwrap();
        assert_eq!((&empty["events"], &empty["gaps"]), (&json!([]), &json!([])));
    }

    #[test]
    fn a_page_of_lines_has_one_object_on_each_and_says_where_to_go_on() {
        let text = String::from_utf8(lines(&page())).unwrap();
        let all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(all.len(), 4, "{text}");
        assert_eq!(
            (&all[0]["event"], &all[1]["data"]["a"], &all[2]["seq"]),
            (&json!("herald.gap"), &json!("b\n"), &json!(7))
        );
        let end = json!({"epoch": "000000ab", "head": 9, "next": "000000ab-9", "more": false});
        assert_eq!(all[3], json!({"event": "herald.page", "data": end}));
    }

    #[test]
    fn lines_come_where_they_are_asked_for() {
        let format = |accept: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in accept {
                headers.append(ACCEPT, HeaderValue::from_static(line));
            }
            Format::of(&headers)
        };
        for accept in [
            &["application/x-ndjson"][..],
            &["text/html, Application/X-NDJSON;q=0.9"],
            &["*/*", "application/x-ndjson"],
        ] {
            assert_eq!(format(accept), Format::Lines, "{accept:?}");
        }
        for accept in [
            &[][..],
            &["*/*"],
            &["application/json"],
            &["application/x-ndjson;q=0"],
            &["application/x-ndjson;q=0.5, application/json"],
        ] {
            assert_eq!(format(accept), Format::Json, "{accept:?}");
        }
    }
}
