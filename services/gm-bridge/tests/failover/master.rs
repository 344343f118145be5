//! A Game Master whose events say of which call they are, and which of how many. It plays one session, and counts.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Ends when dropped.
pub(crate) struct Master {
    pub(crate) url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    id: String,
    starts: AtomicU64,
    calls: AtomicU64,
    /// The last call's streams wait with their result until it is open.
    open: watch::Sender<bool>,
    pace: Duration,
    of: u64,
    pad: String,
}

/// Events of a call, its result included, unless a test wants more.
pub(crate) const OF: u64 = 6;

impl Master {
    /// One that waits `pace` before each event.
    pub(crate) async fn start(pace: Duration) -> Self {
        Self::start_with(pace, OF, 0).await
    }

    /// One that says so many events in a call, with so many bytes beside in each.
    pub(crate) async fn start_with(pace: Duration, of: u64, pad: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            id: uuid::Uuid::new_v4().to_string(),
            starts: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            open: watch::Sender::new(true),
            pace,
            of,
            pad: "x".repeat(pad),
        });
        let state = |State(shared): State<Arc<Shared>>| async move { shared.state() };
        let router = Router::new()
            .route("/api/start", get(begin))
            .route("/api/state", get(state))
            .route("/api/stream/propose", get(tell))
            .route("/api/stream/choose", get(tell))
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, task }
    }

    /// How many proposes and chooses it was asked for.
    pub(crate) fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// How many games it was asked to start.
    pub(crate) fn starts(&self) -> u64 {
        self.shared.starts.load(Ordering::SeqCst)
    }

    /// Whether calls come to their result.
    pub(crate) fn open(&self, open: bool) {
        self.shared.open.send_replace(open);
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn state(&self) -> Response {
        let body = json!({"session_id": self.id, "turn": 1}).to_string();
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

async fn begin(State(shared): State<Arc<Shared>>) -> Response {
    shared.starts.fetch_add(1, Ordering::SeqCst);
    shared.state()
}

async fn tell(State(shared): State<Arc<Shared>>) -> Response {
    let call = shared.calls.fetch_add(1, Ordering::SeqCst);
    let events = stream::unfold((0, shared), move |(k, shared)| async move {
        if k == shared.of {
            return None;
        }
        if !shared.pace.is_zero() {
            sleep(shared.pace).await;
        }
        let last = k + 1 == shared.of;
        if last && timeout(Duration::from_secs(1), shared.open.subscribe().wait_for(|open| *open)).await.is_err() {
            // As the real one: a sign of life each second.
            return Some((Ok("data: {\"type\":\"heartbeat\"}\n\n".to_owned()), (k, shared)));
        }
        let kind = if last { "result" } else { "llm_text" };
        let event =
            json!({"type": kind, "call": format!("{}-{call}", shared.id), "k": k, "of": shared.of, "pad": shared.pad});
        Some((Ok::<_, Infallible>(format!("data: {event}\n\n")), (k + 1, shared)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}
