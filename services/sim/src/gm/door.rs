//! The game master's own calls to Herald: it makes its session known, opens one socket, hands over news.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use futures_util::StreamExt;
use herald_protocol::SessionId;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::sync::broadcast;
use tokio_tungstenite::{
    connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use tokio_util::sync::CancellationToken;

/// The original's own limit for its calls.
const CALL: Duration = Duration::from_secs(10);
/// Arena events that a slow choose may be behind; the oldest are dropped, and it only misses its `input.waiting` then.
const BEHIND: usize = 1024;
/// Between attempts to reach a door that is not there yet.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));
/// A frame of the door is an arena event; a real article stands in some of them.
const MAX_MESSAGE: usize = 8 << 20;

/// The door, shared.
#[derive(Debug, Clone)]
pub struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: reqwest::Url,
    id: SessionId,
    reopen: bool,
    http: reqwest::Client,
    connected: AtomicBool,
    heard: AtomicU64,
    said: broadcast::Sender<Arc<Heard>>,
}

/// What the door's socket says: `{"subject":T,"data":P}`.
#[derive(Debug, Deserialize)]
pub struct Heard {
    /// The topic, in the original's words.
    pub subject: String,
    /// The engine's payload.
    pub data: Box<RawValue>,
}

impl Heard {
    /// Whether the arena is done with what it was given.
    #[must_use]
    pub fn ends_debate(&self) -> bool {
        matches!(self.subject.as_str(), "input.waiting" | "event.end")
    }
}

/// Why news were not taken.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// No answer.
    #[error("the door can't be reached")]
    Unreachable(#[source] reqwest::Error),
    /// Another answer than 200.
    #[error("the door answered {0}")]
    Refused(u16),
}

impl Door {
    /// A door that nobody has knocked at.
    ///
    /// # Errors
    /// If the URL is no `http` URL.
    pub fn new(base: &str, id: SessionId, reopen: bool) -> Result<Self> {
        let base = reqwest::Url::parse(base.trim_end_matches('/'))?;
        ensure!(base.scheme() == "http" && base.has_host(), "--door: expected http://host:port[/prefix]");
        let http =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(CALL).build()?;
        let said = broadcast::Sender::new(BEHIND);
        Ok(Self(Arc::new(Inner {
            base,
            id,
            reopen,
            http,
            connected: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            said,
        })))
    }

    /// Whether the door was ever open. As in the original, a lost socket changes nothing.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.0.connected.load(Ordering::Relaxed)
    }

    /// How much the arena has said so far.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.0.heard.load(Ordering::Relaxed)
    }

    /// The door's base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        self.0.base.as_str()
    }

    /// Everything the arena says from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<Heard>> {
        self.0.said.subscribe()
    }

    /// The next thing said; `None` once nothing can be said any more. Cancelling is safe.
    pub async fn next(heard: &mut broadcast::Receiver<Arc<Heard>>) -> Option<Arc<Heard>> {
        loop {
            match heard.recv().await {
                Ok(said) => return Some(said),
                Err(broadcast::error::RecvError::Lagged(missed)) => tracing::warn!(missed, "arena events dropped"),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// Skips what was said so far; whether a whole debate was in it.
    pub fn passed(heard: &mut broadcast::Receiver<Arc<Heard>>) -> bool {
        let (mut begun, mut over) = (false, false);
        loop {
            match heard.try_recv() {
                Ok(said) => {
                    begun |= said.subject == "round.start";
                    over |= begun && said.ends_debate();
                }
                Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => return over,
            }
        }
    }

    /// Hands news to the session that is played here.
    ///
    /// # Errors
    /// If the door is away or says no.
    pub async fn submit_news(&self, content: &str) -> Result<(), DoorError> {
        self.post("submit_news", &json!({ "session_id": self.0.id, "content": content })).await
    }

    /// Makes the own session known and listens on its socket until the process ends. Unlike the original, whose start
    /// fails without a relay, it waits for a door that is not there yet.
    pub async fn run(&self, token: &CancellationToken) {
        let life = async {
            loop {
                self.knock().await;
                let mut socket = self.open().await;
                self.0.connected.store(true, Ordering::Relaxed);
                tracing::info!(door = self.url(), "door open");
                let why = self.read(&mut socket).await;
                tracing::warn!(why, reopen = self.0.reopen, "the door closed the socket");
                if !self.0.reopen {
                    // Never again, as the original: each choose now waits in vain until this process is restarted.
                    return;
                }
                tokio::time::sleep(RETRY.0).await;
            }
        };
        token.run_until_cancelled(life).await;
    }

    async fn knock(&self) {
        let mut wait = RETRY.0;
        loop {
            match self.post("init_session", &json!({ "session_id": self.0.id })).await {
                // 400: it is known already, from before a restart with the same id.
                Ok(()) | Err(DoorError::Refused(400)) => return,
                Err(error) => tracing::debug!(error = format!("{:#}", anyhow::Error::new(error)), "door not open yet"),
            }
            wait = later(wait).await;
        }
    }

    async fn open(&self) -> Socket {
        let mut url = self.0.base.clone();
        // `http` to `ws` is a change that the URL type allows.
        let _ = url.set_scheme("ws");
        let url = format!("{}/ws/{}", url.as_str().trim_end_matches('/'), self.0.id);
        let config = WebSocketConfig::default().read_buffer_size(16 << 10).max_message_size(Some(MAX_MESSAGE));
        let mut wait = RETRY.0;
        loop {
            match tokio::time::timeout(CALL, connect_async_with_config(&url, Some(config), true)).await {
                Ok(Ok((socket, _))) => return socket,
                Ok(Err(error)) => tracing::debug!(%error, "socket not open yet"),
                Err(_) => tracing::debug!("socket not open in time"),
            }
            wait = later(wait).await;
        }
    }

    /// Reads until the socket ends; says why it did.
    async fn read(&self, socket: &mut Socket) -> String {
        while let Some(message) = socket.next().await {
            match message {
                Ok(Message::Text(text)) => match serde_json::from_str::<Heard>(&text) {
                    // Without a running choose nobody listens.
                    Ok(heard) => {
                        drop(self.0.said.send(Arc::new(heard)));
                        self.0.heard.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => tracing::debug!(%error, "not understood"),
                },
                Ok(Message::Close(close)) => return close.map_or_else(|| "closed".into(), |close| close.to_string()),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
        "ended".into()
    }

    async fn post(&self, path: &str, body: &serde_json::Value) -> Result<(), DoorError> {
        let url = format!("{}/{path}", self.url().trim_end_matches('/'));
        let request = self.0.http.post(url).header("content-type", "application/json").body(body.to_string());
        let status = request.send().await.map_err(|error| DoorError::Unreachable(error.without_url()))?.status();
        if status == 200 { Ok(()) } else { Err(DoorError::Refused(status.as_u16())) }
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// Waits; the next wait.
async fn later(wait: Duration) -> Duration {
    tokio::time::sleep(wait).await;
    (wait * 2).min(RETRY.1)
}
