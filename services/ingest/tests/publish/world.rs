//! A nats-server, two instances of ingest, and a door in front of them.

use async_nats::jetstream::{message::StreamMessage, stream::Stream};
use herald_testkit::{
    Edge, Ingest, Nats, Service,
    http::{self, Reply},
};
use hyper::Method;

/// The door of the README; `{}` is for what else its listener is told.
const DOOR: &str = r#"
[[ws-edge.listeners]]
name = "app"
{}

[[ws-edge.listeners.routes]]
path = "/ws/{sid}"
stream = "APP"
roots = ["app"]

[[ws-edge.listeners.routes]]
path = "/sse/{sid}"
transport = "sse"
stream = "APP"
roots = ["app"]

[[ws-edge.listeners.forwards]]
name = "ingest"
service = "ingest"
paths = ["/sessions/*"]
"#;

/// A door whose listener is told `more`.
pub(crate) fn door(nats: &Nats, more: &str) -> Edge {
    door_at(&nats.url(), more)
}

/// As [`door`], with the addresses of its NATS, separated by commas.
pub(crate) fn door_at(nats: &str, more: &str) -> Edge {
    Edge::at(nats).config(DOOR.replace("{}", more))
}

/// A door that waits no longer than 5 s for an answer.
pub(crate) fn impatient_door_at(nats: &str) -> Edge {
    Edge::at(nats).config(DOOR.replace("{}", "") + "timeout = \"5s\"\n")
}

/// All of it.
pub(crate) struct World {
    pub(crate) nats: Nats,
    pub(crate) ingests: Vec<Service>,
    pub(crate) edge: Service,
}

impl World {
    /// Two instances, each told so.
    pub(crate) async fn start(told: impl Fn(Ingest) -> Ingest) -> Self {
        let nats = Nats::start().await;
        let mut ingests = Vec::new();
        for _ in 0..2 {
            ingests.push(told(Ingest::new(&nats)).start().await);
        }
        let edge = door(&nats, "").start().await;
        Self { nats, ingests, edge }
    }

    /// Publishes in a session.
    pub(crate) async fn post(&self, session: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        publish(&self.edge, session, headers, body).await
    }

    /// The stream, as it is now.
    pub(crate) async fn stream(&self) -> Stream {
        self.nats.jetstream().await.get_stream("APP").await.expect("the stream")
    }

    /// The last sequence of the stream.
    pub(crate) async fn head(&self) -> u64 {
        self.stream().await.cached_info().state.last_sequence
    }
}

/// Publishes in a session through that door.
pub(crate) async fn publish(edge: &Service, session: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    http::send(Method::POST, &edge.http(&format!("/sessions/{session}/events")), headers, body.to_owned()).await
}

/// A header and its value.
pub(crate) type Header = (&'static str, &'static str);

/// One event.
pub(crate) const ONE: Header = ("content-type", "application/json");
/// One on each line.
pub(crate) const LINES: Header = ("content-type", "application/x-ndjson");

/// One event, as a request brings it.
pub(crate) fn event(topic: &str, data: &str) -> String {
    format!("{{\"topic\":\"{topic}\",\"data\":{data}}}\n")
}

/// Messages `from` to `to` of the stream that are events, as topic and data.
pub(crate) async fn events(stream: &Stream, from: u64, to: u64) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for sequence in from..=to {
        let StreamMessage { subject, payload, .. } = stream.get_raw_message(sequence).await.expect("a message");
        if let Some(topic) = subject.splitn(3, '.').nth(2).filter(|topic| !topic.starts_with('_')) {
            all.push((topic.to_owned(), String::from_utf8(payload.to_vec()).expect("text")));
        }
    }
    all
}
