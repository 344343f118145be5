//! The SSE stream of one request: events as they are said, a heartbeat after each silent second.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::event::GmEvent;

/// After this long without an event a heartbeat is sent.
const SILENCE: Duration = Duration::from_secs(1);
/// Events waiting for a client that reads slowly; the action waits when it is full.
const WAITING: usize = 64;
/// A client that takes nothing for this long is given up; the action goes on without it.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where an action speaks. It never fails: without a listener, what is said is lost.
#[derive(Debug, Clone, Default)]
pub struct Outlet(Arc<Mutex<Option<mpsc::Sender<GmEvent>>>>);

impl Outlet {
    /// Makes a new stream the listener, in place of the one before.
    #[must_use]
    pub fn connect(&self) -> mpsc::Receiver<GmEvent> {
        let (sender, receiver) = mpsc::channel(WAITING);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Says something to whoever listens; waits while they are behind.
    pub async fn say(&self, event: GmEvent) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sender) = sender else { return };
        if sender.send_timeout(event, PATIENCE).await.is_err() {
            tracing::debug!("nobody listens any more");
            let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if slot.as_ref().is_some_and(|current| current.same_channel(&sender)) {
                *slot = None;
            }
        }
    }
}

/// Something said, as it goes on the wire.
#[derive(Debug)]
pub struct Written {
    /// One or more SSE frames, written together.
    pub frames: Bytes,
    /// Whether the stream ends behind them.
    pub last: bool,
}

/// The body of a response: ends after the last of what is said, when nobody speaks any more, or with the process.
pub fn body<T: Send + 'static>(
    said: mpsc::Receiver<T>,
    write: impl Fn(T) -> Written + Copy + Send + 'static,
    token: CancellationToken,
) -> Body {
    let frames = stream::unfold(Some(said), move |said| {
        let token = token.clone();
        async move {
            let mut said = said?;
            let Written { frames, last } = tokio::select! {
                () = token.cancelled() => return None,
                heard = tokio::time::timeout(SILENCE, said.recv()) => match heard {
                    Ok(Some(something)) => write(something),
                    Ok(None) => return None,
                    Err(_) => Written { frames: GmEvent::Heartbeat.frame().into(), last: false },
                },
            };
            Some((Ok::<_, Infallible>(frames), (!last).then_some(said)))
        }
    });
    Body::from_stream(frames)
}

/// One event. The time is put on a token as late as possible: what follows is the network.
#[must_use]
pub fn write(event: GmEvent, stamp: bool) -> Written {
    let event = match event {
        GmEvent::LlmText { text, .. } if stamp => GmEvent::LlmText { text, sent_ns: Some(now_ns()) },
        other => other,
    };
    Written { frames: event.frame().into(), last: event.is_last() }
}

/// ns since 1970.
#[must_use]
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
