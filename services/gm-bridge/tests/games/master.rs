//! A Game Master that does what a test tells it, and remembers what it was asked.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::{StreamExt, stream};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// A Game Master of its own port; ends when dropped.
pub(crate) struct Master {
    pub(crate) url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    id: String,
    calls: Mutex<Vec<String>>,
    start: Mutex<Option<(StatusCode, String)>>,
    pictures: Mutex<HashMap<String, Bytes>>,
    /// What is asked waits while its gate is shut.
    starts_open: watch::Sender<bool>,
    chooses_open: watch::Sender<bool>,
    /// A choose brings the game to its end.
    ending: AtomicBool,
}

impl Drop for Master {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Master {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            id: uuid::Uuid::new_v4().to_string(),
            calls: Mutex::default(),
            start: Mutex::default(),
            pictures: Mutex::default(),
            starts_open: watch::Sender::new(true),
            chooses_open: watch::Sender::new(true),
            ending: AtomicBool::new(false),
        });
        let router = Router::new()
            .route("/api/start", get(begin))
            .route("/api/state", get(async |State(shared): State<Arc<Shared>>| shared.json("state", "")))
            .route("/api/stream/propose", get(propose))
            .route("/api/stream/choose", get(choose))
            .route("/api/images/{game}/{file}", get(picture))
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, task }
    }

    /// Its own id, the same for every game.
    pub(crate) fn id(&self) -> &str {
        &self.shared.id
    }

    /// What it was asked, in order: `start fr`, `propose en`, `choose fake fr`, `image real.png`. Its state is asked for, too,
    /// whenever somebody wants to know whether it answers.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.shared.calls.lock().unwrap().iter().filter(|call| *call != "state").cloned().collect()
    }

    /// How often it was asked that.
    pub(crate) fn asked(&self, what: &str) -> usize {
        self.shared.calls.lock().unwrap().iter().filter(|call| call.starts_with(what)).count()
    }

    /// Answers starts with that from now on.
    pub(crate) fn answer_starts(&self, answer: Option<(u16, &str)>) {
        let answer = answer.map(|(status, body)| (StatusCode::from_u16(status).unwrap(), body.to_owned()));
        *self.shared.start.lock().unwrap() = answer;
    }

    pub(crate) fn hold_starts(&self, hold: bool) {
        self.shared.starts_open.send_replace(!hold);
    }

    /// Keeps chooses from coming to their result.
    pub(crate) fn hold_chooses(&self, hold: bool) {
        self.shared.chooses_open.send_replace(!hold);
    }

    /// Ends games with their next choose.
    pub(crate) fn end_games(&self, end: bool) {
        self.shared.ending.store(end, Ordering::SeqCst);
    }

    /// Draws a picture.
    pub(crate) fn draw(&self, file: &str, bytes: impl Into<Bytes>) {
        self.shared.pictures.lock().unwrap().insert(file.to_owned(), bytes.into());
    }
}

impl Shared {
    fn note(&self, call: &str) {
        self.calls.lock().unwrap().push(call.trim().to_owned());
    }

    fn json(&self, call: &str, query: &str) -> Response {
        self.note(&format!("{call} {query}"));
        let body = format!("{{\"session_id\":\"{}\",\"turn\":1.0,\"lang\":\"é\"}}", self.id);
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// The values of a query, in their order: enough to tell requests apart.
fn values(query: Option<String>) -> String {
    let query = query.unwrap_or_default();
    query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value).collect::<Vec<_>>().join(" ")
}

async fn opened(gate: &watch::Sender<bool>) {
    gate.subscribe().wait_for(|open| *open).await.unwrap();
}

async fn begin(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    let answer = shared.json("start", &values(query));
    opened(&shared.starts_open).await;
    let told = shared.start.lock().unwrap().clone();
    told.map_or(answer, IntoResponse::into_response)
}

async fn propose(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    shared.note(&format!("propose {}", values(query)));
    let events = [
        r#"{"type":"phase","phase":"propose"}"#,
        r#"{"type":"proposal","data":{"real":"r"}}"#,
        r#"{"type":"result","data":{}}"#,
    ];
    events_of(stream::iter(events.map(str::to_owned)).boxed())
}

async fn choose(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    shared.note(&format!("choose {}", values(query)));
    let mut first = vec![r#"{"type":"phase","phase":"choose"}"#.to_owned()];
    if shared.ending.load(Ordering::SeqCst) {
        first.push(r#"{"type":"end","data":{"outcome":"win"}}"#.to_owned());
    }
    let first = stream::iter(first);
    let last = stream::once(async move {
        opened(&shared.chooses_open).await;
        r#"{"type":"result","data":{}}"#.to_owned()
    });
    events_of(first.chain(last).boxed())
}

fn events_of(events: stream::BoxStream<'static, String>) -> Response {
    let body = Body::from_stream(events.map(|json| Ok::<_, std::io::Error>(format!("data: {json}\n\n"))));
    ([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], body).into_response()
}

async fn picture(State(shared): State<Arc<Shared>>, Path((game, file)): Path<(String, String)>) -> Response {
    shared.note(&format!("image {file}"));
    let picture = shared.pictures.lock().unwrap().get(&file).cloned().filter(|_| game == shared.id);
    match picture {
        Some(bytes) => ([(header::CONTENT_TYPE, "image/png")], bytes).into_response(),
        None => (StatusCode::NOT_FOUND, r#"{"detail":"Not Found"}"#).into_response(),
    }
}
