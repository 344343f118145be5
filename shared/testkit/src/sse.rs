//! An SSE client that keeps what it is sent, with the time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{HeaderMap, Method, body::Incoming};
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};

use crate::http;

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it was complete.
    pub at: Instant,
    /// Its `event:`, `message` if it has none.
    pub event: String,
    /// Its `data:` lines, joined.
    pub data: String,
    /// The last `id:` up to it.
    pub id: Option<String>,
}

impl Event {
    /// Its data as JSON; `null` if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_default()
    }
}

/// A client. A task of its own reads; it ends when the client is dropped.
#[derive(Debug)]
pub struct Client {
    record: Arc<Mutex<Record>>,
    news: watch::Receiver<u64>,
    reader: JoinHandle<()>,
    headers: HeaderMap,
}

#[derive(Debug, Default)]
struct Record {
    events: Vec<Event>,
    comments: Vec<Instant>,
    retry: Option<u64>,
    ended: bool,
}

impl Client {
    /// Opens a stream; `last_event_id` resumes one.
    ///
    /// # Panics
    /// If the answer is no event stream.
    pub async fn connect(url: &str, last_event_id: Option<&str>) -> Self {
        Self::open(url, last_event_id).await.unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    /// As [`Client::connect`].
    ///
    /// # Errors
    /// Where the answer is no event stream, or there is none.
    pub async fn open(url: &str, last_event_id: Option<&str>) -> Result<Self, String> {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last_event_id.map(|id| ("last-event-id", id)));
        let opening = http::open(Method::GET, url, &headers, Bytes::new());
        let opened = tokio::time::timeout(Duration::from_secs(10), opening).await;
        let response = opened.map_err(|_| "no answer within 10 s".to_owned())?.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        let kind = head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if head.status != 200 || !kind.starts_with("text/event-stream") {
            return Err(format!("{} {kind:?}", head.status));
        }
        let record = Arc::new(Mutex::new(Record::default()));
        let (sender, news) = watch::channel(0);
        let reader = tokio::spawn(read(body, Arc::clone(&record), sender));
        Ok(Self { record, news, reader, headers: head.headers })
    }

    /// The answer's headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// All events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.with(|record| record.events.clone())
    }

    /// When comments came.
    #[must_use]
    pub fn comments(&self) -> Vec<Instant> {
        self.with(|record| record.comments.clone())
    }

    /// Whether the stream has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.with(|record| record.ended)
    }

    /// The last `retry:`, in ms.
    #[must_use]
    pub fn retry(&self) -> Option<u64> {
        self.with(|record| record.retry)
    }

    /// The last id, to resume from.
    #[must_use]
    pub fn last_id(&self) -> Option<String> {
        self.with(|record| record.events.last().and_then(|event| event.id.clone()))
    }

    /// Waits for the first event, of all so far and to come, that `is` true of.
    ///
    /// # Panics
    /// If there is none within `bound`, or the stream ends before.
    pub async fn wait_for(&self, what: &str, bound: Duration, is: impl Fn(&Event) -> bool) -> Event {
        self.wait(what, bound, |record| record.events.iter().find(|event| is(event)).cloned()).await
    }

    /// Waits until there are at least `count` events that are no `herald.*` control, and returns these.
    ///
    /// # Panics
    /// If there are fewer after `bound`, or when the stream ends.
    pub async fn wait_events(&self, count: usize, bound: Duration) -> Vec<Event> {
        let events = |record: &Record| {
            let shown = record.events.iter().filter(|event| !event.event.starts_with("herald."));
            let shown: Vec<_> = shown.cloned().collect();
            (shown.len() >= count).then_some(shown)
        };
        self.wait(&format!("{count} events"), bound, events).await
    }

    /// Waits until the server has ended the stream.
    ///
    /// # Panics
    /// If it does not within `bound`.
    pub async fn wait_end(&self, bound: Duration) {
        self.wait("the end", bound, |record| record.ended.then_some(())).await;
    }

    async fn wait<T>(&self, what: &str, bound: Duration, look: impl Fn(&Record) -> Option<T>) -> T {
        let mut news = self.news.clone();
        let looking = async {
            loop {
                news.mark_unchanged();
                match self.with(|record| (look(record), record.ended)) {
                    (Some(found), _) => return Some(found),
                    (None, true) => return None,
                    (None, false) => {}
                }
                if news.changed().await.is_err() && !self.with(|record| record.ended) {
                    return None;
                }
            }
        };
        let status = || self.with(|record| (record.events.len(), record.events.last().cloned()));
        match tokio::time::timeout(bound, looking).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("{what}: the stream ended before; {:?}", status()),
            Err(_) => panic!("{what}: not within {bound:?}; {:?}", status()),
        }
    }

    fn with<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(mut body: Incoming, record: Arc<Mutex<Record>>, news: watch::Sender<u64>) {
    let note = |change: &mut dyn FnMut(&mut Record)| {
        change(&mut record.lock().unwrap_or_else(PoisonError::into_inner));
        news.send_modify(|count| *count += 1);
    };
    let mut parser = Parser::default();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(bytes) = frame.into_data() else { continue };
        for item in parser.feed(&bytes) {
            note(&mut |record| match &item {
                Item::Event(event) => record.events.push(event.clone()),
                Item::Comment => record.comments.push(Instant::now()),
                Item::Retry(ms) => record.retry = Some(*ms),
            });
        }
    }
    note(&mut |record| record.ended = true);
}

enum Item {
    Event(Event),
    Comment,
    Retry(u64),
}

/// The standard's line protocol, for any split of the bytes.
#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    event: String,
    data: Vec<String>,
    id: Option<String>,
    after_cr: bool,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        for byte in bytes {
            let after_cr = std::mem::take(&mut self.after_cr);
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => {
                    self.after_cr = *byte == b'\r';
                    let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                    items.extend(self.take(&line));
                }
                byte => self.line.push(*byte),
            }
        }
        items
    }

    fn take(&mut self, line: &str) -> Option<Item> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let data = std::mem::take(&mut self.data);
            if data.is_empty() {
                return None;
            }
            let event = if event.is_empty() { "message".to_owned() } else { event };
            return Some(Item::Event(Event { at: Instant::now(), event, data: data.join("\n"), id: self.id.clone() }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => return Some(Item::Comment),
            "event" => value.clone_into(&mut self.event),
            "data" => self.data.push(value.to_owned()),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" => return value.parse().ok().map(Item::Retry),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_at_any_split() {
        let body =
            ": hi\r\nretry: 2000\r\nid: a-1\ndata: {\"x\":\ndata:1}\n\nevent: herald.gap\rdata: y\r\r\ndata: z\n\n\n";
        let whole = describe(Parser::default().feed(body.as_bytes()));
        assert_eq!(whole, ["comment", "retry 2000", "message a-1 {\"x\":\n1}", "herald.gap a-1 y", "message a-1 z"]);
        for cut in 0..body.len() {
            let mut parser = Parser::default();
            let (one, two) = body.as_bytes().split_at(cut);
            let mut items = parser.feed(one);
            items.extend(parser.feed(two));
            assert_eq!(describe(items), whole, "cut at {cut}");
        }
    }

    fn describe(items: Vec<Item>) -> Vec<String> {
        let text = |item| match item {
            Item::Comment => "comment".to_owned(),
            Item::Retry(ms) => format!("retry {ms}"),
            Item::Event(event) => format!("{} {} {}", event.event, event.id.unwrap_or_default(), event.data),
        };
        items.into_iter().map(text).collect()
    }
}
