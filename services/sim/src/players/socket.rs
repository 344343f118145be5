//! One connection of sub-protocol `herald.v1`: it comes back by cursor whenever it is told to, and proves what it saw.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use herald_protocol::SessionId;
use serde::Deserialize;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use tokio_tungstenite::tungstenite::{Error as WsError, Message, protocol::CloseFrame};
use tokio_util::sync::CancellationToken;

use super::{http::Api, latency::Latency, progress::Progress, proof::Proof};
use crate::{
    frame::{Control, Frame},
    gm::stream::now_ns,
    websocket::{Speech, connect},
};

/// A handshake may take this long: thousands are made at once.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// A socket that can't be opened again for this long is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts to open it again.
const RETRY: Duration = Duration::from_millis(250);

/// What all sockets share.
#[derive(Debug)]
pub struct Shared {
    /// The door.
    pub api: Api,
    /// From the game master's byte to the frame here.
    pub latency: Latency,
    /// Handshakes at once.
    pub handshakes: Semaphore,
}

/// One socket: its state, written by its task, read by whoever reports.
#[derive(Debug, Default)]
pub struct Socket {
    proof: Mutex<Proof>,
    resumes: AtomicU32,
    failure: Mutex<Option<String>>,
}

/// Why a connection ended.
enum End {
    /// We were told to end.
    Ours,
    /// Come back after that long.
    Back(Duration),
    /// Never come back.
    Never(String),
}

impl Socket {
    /// What it has proven so far.
    pub fn proof(&self) -> MutexGuard<'_, Proof> {
        self.proof.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it came back.
    pub fn resumes(&self) -> u32 {
        self.resumes.load(Ordering::Relaxed)
    }

    /// Why it gave up, if it did.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads until the token is cancelled, across any number of connections. `eyes`: where the session's progress goes.
    pub async fn run(
        self: Arc<Self>,
        shared: Arc<Shared>,
        session: SessionId,
        eyes: Option<watch::Sender<Progress>>,
        token: CancellationToken,
    ) {
        let url = shared.api.socket(&session);
        let mut last_alive = Instant::now();
        loop {
            let before = self.proof().cursor();
            let end = self.connection(&shared, &url, eyes.as_ref(), &token).await;
            if self.proof().cursor() != before {
                last_alive = Instant::now();
            }
            let wait = match end {
                End::Ours => return,
                End::Back(_) if last_alive.elapsed() > PATIENCE => {
                    return self.give_up(format!("not open again within {PATIENCE:?}"));
                }
                End::Back(wait) => wait,
                End::Never(why) => return self.give_up(why),
            };
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn give_up(&self, why: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    async fn connection(
        &self,
        shared: &Shared,
        url: &str,
        eyes: Option<&watch::Sender<Progress>>,
        token: &CancellationToken,
    ) -> End {
        let after = self.proof().cursor();
        let url = after.map_or_else(|| url.to_owned(), |after| format!("{url}?after={after}"));
        let mut stream = match token.run_until_cancelled(open(&url, &shared.handshakes)).await {
            None => return End::Ours,
            Some(Ok(stream)) => stream,
            Some(Err(Refusal::Retry)) => return End::Back(RETRY),
            Some(Err(Refusal::Final(why))) => return End::Never(why),
        };
        if after.is_some() {
            self.resumes.fetch_add(1, Ordering::Relaxed);
        }
        let mut retry = RETRY;
        loop {
            let message = tokio::select! {
                message = stream.next() => message,
                () = token.cancelled() => {
                    // A clean goodbye; whether it is answered does not matter any more.
                    let _ = timeout(Duration::from_secs(1), stream.close(None)).await;
                    return End::Ours;
                }
            };
            match message {
                Some(Ok(Message::Text(text))) => {
                    if let Err(why) = self.take(&text, &shared.latency, eyes, &mut retry) {
                        return End::Never(why);
                    }
                }
                Some(Ok(Message::Close(close))) => return after_close(close, retry),
                Some(Ok(_)) => {}
                // Cut off without a word: come back.
                Some(Err(_)) | None => return End::Back(retry),
            }
        }
    }

    fn take(
        &self,
        text: &str,
        latency: &Latency,
        eyes: Option<&watch::Sender<Progress>>,
        retry: &mut Duration,
    ) -> Result<(), String> {
        let frame: Frame<'_> =
            serde_json::from_str(text).map_err(|error| format!("a frame that is no frame: {error}"))?;
        let Some(seq) = frame.seq else { return self.control(&frame, retry) };
        if frame.event == "gm.llm_text" {
            note_latency(latency, frame.data.get());
        }
        // Event and data alone: `prev` may differ between sockets that saw the same.
        self.proof().event(seq, frame.prev, frame.data.get().as_bytes());
        if let Some(eyes) = eyes {
            eyes.send_modify(|progress| progress.note(&frame.event, frame.data));
        }
        Ok(())
    }

    fn control(&self, frame: &Frame<'_>, retry: &mut Duration) -> Result<(), String> {
        match Control::read(&frame.event, frame.data.get()).map_err(|error| format!("{}: {error}", frame.event))? {
            Some(Control::Hello { epoch, head, .. }) => self.proof().hello(epoch, head),
            Some(Control::Gap { to, .. }) => self.proof().gap(to),
            // Bounded: a wrong number must not let us wait for ever.
            Some(Control::Bye { retry_ms, .. }) => *retry = Duration::from_millis(retry_ms.min(30_000)),
            Some(Control::Live { .. }) | None => {}
        }
        Ok(())
    }
}

type Stream = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

enum Refusal {
    Retry,
    Final(String),
}

/// Opens a socket with sub-protocol `herald.v1`.
async fn open(url: &str, handshakes: &Semaphore) -> Result<Stream, Refusal> {
    let Ok(_permit) = handshakes.acquire().await else { return Err(Refusal::Retry) };
    match timeout(HANDSHAKE, connect(url, Speech::V1)).await {
        Err(_) => Err(Refusal::Retry),
        Ok(Ok(stream)) => Ok(stream),
        // 4xx will not change by asking again, 5xx may; so may a door that is not there.
        Ok(Err(WsError::Http(response))) if response.status().is_client_error() => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            Err(Refusal::Final(format!("handshake refused: {} {body}", response.status())))
        }
        Ok(Err(WsError::Io(_) | WsError::Http(_))) => Err(Refusal::Retry),
        Ok(Err(error)) => Err(Refusal::Final(format!("handshake: {error}"))),
    }
}

/// What a close means for a client, as the table of close codes says.
fn after_close(close: Option<CloseFrame>, retry: Duration) -> End {
    let Some(close) = close else { return End::Back(retry) };
    match u16::from(close.code) {
        1000 | 1001 | 1005 | 1006 | 1011 | 1012 | 4408 => End::Back(retry),
        1013 => End::Back(Duration::from_secs(1)),
        code => End::Never(format!("closed with {code} {}", close.reason)),
    }
}

fn note_latency(latency: &Latency, data: &str) {
    #[derive(Deserialize)]
    struct Stamped {
        sent_ns: u64,
    }
    // Without --stamp the search is all it costs.
    if data.contains("\"sent_ns\"")
        && let Ok(Stamped { sent_ns }) = serde_json::from_str(data)
    {
        latency.note(Duration::from_nanos(now_ns().saturating_sub(sent_ns)));
    }
}
