//! A collector of traces that keeps what it is sent: OTLP over HTTP, in JSON.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// One span, as it was sent.
#[derive(Clone, Debug)]
pub struct Span {
    /// The service that made it: `ws-edge`.
    pub service: String,
    /// The process.
    pub instance: String,
    /// Its trace: 32 digits.
    pub trace: String,
    /// Its id: 16 digits.
    pub id: String,
    /// Its parent's id; empty for the first of a trace.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// When it began, ns since 1970.
    pub begun: u128,
    /// When it ended.
    pub ended: u128,
    /// What else it says, numbers as texts.
    pub attributes: BTreeMap<String, String>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

impl Span {
    /// What it says under that key; empty if it does not.
    #[must_use]
    pub fn said(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// The collector. Ends when dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    news: watch::Receiver<usize>,
    server: JoinHandle<()>,
}

impl Collector {
    /// Starts one that takes everything.
    ///
    /// # Panics
    /// If it can't listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (spans, (count, news)) = (Arc::<Mutex<Vec<Span>>>::default(), watch::channel(0));
        let (kept, count) = (Arc::clone(&spans), Arc::new(count));
        let server = tokio::spawn(async move {
            // Dropped with the server, and every connection with it.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                while connections.try_join_next().is_some() {}
                let (kept, count) = (Arc::clone(&kept), Arc::clone(&count));
                let take = service_fn(move |request| take(request, Arc::clone(&kept), Arc::clone(&count)));
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), take));
            }
        });
        Self { address, spans, news, server }
    }

    /// What a service's `traces.endpoint` has to be.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a span that is so.
    ///
    /// # Panics
    /// If none comes within `bound`.
    pub async fn wait_for(&self, what: &str, bound: Duration, is: impl Fn(&Span) -> bool) -> Span {
        let mut news = self.news.clone();
        let looking = async {
            loop {
                news.mark_unchanged();
                if let Some(span) = self.spans().into_iter().find(&is) {
                    return span;
                }
                // The sender lives in the server.
                let _always_ok = news.changed().await;
            }
        };
        match tokio::time::timeout(bound, looking).await {
            Ok(span) => span,
            Err(_) => panic!("{what}: not within {bound:?}; all spans: {:#?}", self.spans()),
        }
    }

    /// The span and all above it, the first of the trace last. They may come later than it.
    ///
    /// # Panics
    /// If one of them does not come within `bound`.
    pub async fn way_to(&self, span: &Span, bound: Duration) -> Vec<Span> {
        let mut way = vec![span.clone()];
        while let Some(last) = way.last().filter(|last| !last.parent.is_empty()).cloned() {
            let what = format!("the parent of {last:?}");
            way.push(self.wait_for(&what, bound, |it| it.trace == last.trace && it.id == last.parent).await);
        }
        way
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(
    request: Request<Incoming>,
    kept: Arc<Mutex<Vec<Span>>>,
    count: Arc<watch::Sender<usize>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let known = request.method() == Method::POST && request.uri().path() == "/v1/traces";
    let body = request.into_body().collect().await?.to_bytes();
    let document = serde_json::from_slice::<Value>(&body).ok().filter(|_| known);
    let mut answer = Response::new(Full::new(Bytes::from_static(b"{}")));
    match document {
        Some(document) => {
            kept.lock().unwrap_or_else(PoisonError::into_inner).extend(read(&document));
            count.send_modify(|count| *count += 1);
        }
        None => *answer.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(answer)
}

fn read(document: &Value) -> Vec<Span> {
    let each = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let time = |value: &Value| text(value).parse().expect("nanoseconds, as a text");
    let mut spans = Vec::new();
    for part in each(&document["resourceSpans"]) {
        let (resource, scopes) = (attributes(&part["resource"]["attributes"]), each(&part["scopeSpans"]));
        let of_resource = |key: &str| resource.get(key).cloned().unwrap_or_default();
        let all = scopes.into_iter().flat_map(|scope| each(&scope["spans"]));
        spans.extend(all.map(|span| Span {
            service: of_resource("service.name"),
            instance: of_resource("service.instance.id"),
            trace: text(&span["traceId"]),
            id: text(&span["spanId"]),
            parent: text(&span["parentSpanId"]),
            name: text(&span["name"]),
            begun: time(&span["startTimeUnixNano"]),
            ended: time(&span["endTimeUnixNano"]),
            attributes: attributes(&span["attributes"]),
            failure: span["status"]["message"].as_str().map(str::to_owned),
        }));
    }
    spans
}

fn attributes(list: &Value) -> BTreeMap<String, String> {
    let pairs = list.as_array().into_iter().flatten().map(|pair| {
        let value = &pair["value"];
        let value = value["stringValue"].as_str().or(value["intValue"].as_str());
        (pair["key"].as_str().unwrap_or_default().to_owned(), value.unwrap_or_default().to_owned())
    });
    pairs.collect()
}
