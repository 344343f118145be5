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

/// The body of a response: ends after `result` or `error`, when nobody speaks any more, or with the process.
pub fn body(events: mpsc::Receiver<GmEvent>, stamp: bool, token: CancellationToken) -> Body {
    let frames = stream::unfold(Some(events), move |events| {
        let token = token.clone();
        async move {
            let mut events = events?;
            let event = tokio::select! {
                () = token.cancelled() => return None,
                heard = tokio::time::timeout(SILENCE, events.recv()) => match heard {
                    Ok(Some(event)) => event,
                    Ok(None) => return None,
                    Err(_) => GmEvent::Heartbeat,
                },
            };
            let next = (!event.is_last()).then_some(events);
            Some((Ok::<_, Infallible>(Bytes::from(stamped(event, stamp).frame())), next))
        }
    });
    Body::from_stream(frames)
}

/// Puts the time on a token as late as possible: what follows is the network.
fn stamped(event: GmEvent, stamp: bool) -> GmEvent {
    match event {
        GmEvent::LlmText { text, .. } if stamp => GmEvent::LlmText { text, sent_ns: Some(now_ns()) },
        other => other,
    }
}

/// ns since 1970.
#[must_use]
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
