//! Fetching the body of a request from its caller.

use std::{sync::Arc, time::Duration};

use async_nats::{HeaderMap, StatusCode as NatsStatus, Subject};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use herald_protocol::headers::{ABORT, END, PART};
use http_body_util::Limited;
use tokio::time::timeout;

use super::{inbox::Room, server::Shared};

/// Why a body can't be fetched to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the caller broke off: {0}")]
    Aborted(String),
    #[error("the caller has gone")]
    Gone,
    #[error("the caller sent no part in time")]
    Idle,
    #[error("the caller sent another part than was asked for")]
    Confused,
}

/// A body on its way.
pub(super) struct Fetch {
    shared: Arc<Shared>,
    from: Subject,
    room: Room,
    number: u64,
    ended: bool,
}

impl Fetch {
    pub(super) fn new(shared: &Arc<Shared>, from: Subject) -> Self {
        let room = shared.responder.inbox.room();
        Self { shared: Arc::clone(shared), from, room, number: 0, ended: false }
    }

    /// Fetches the first part; the rest as the body is read.
    ///
    /// # Errors
    /// [`FetchError`], where the caller is not there any more or has nothing to give.
    pub(super) async fn begin(mut self) -> Result<Body, FetchError> {
        let first = self.next().await?;
        let limit = usize::try_from(self.shared.limits.max_body).unwrap_or(usize::MAX);
        // The kind of limit that extractors answer with 413.
        let limited = |body| Ok(Body::new(Limited::new(body, limit)));
        if self.ended {
            return limited(Body::from(first));
        }
        limited(Body::from_stream(stream::unfold((Some(first), Some(self)), async |(first, fetch)| {
            if let Some(first) = first {
                return Some((Ok(first), (None, fetch)));
            }
            let mut fetch = fetch.filter(|fetch| !fetch.ended)?;
            match fetch.next().await {
                Ok(bytes) => Some((Ok(bytes), (None, Some(fetch)))),
                Err(error) => Some((Err(error), (None, None))),
            }
        })))
    }

    async fn next(&mut self) -> Result<Bytes, FetchError> {
        let mut headers = HeaderMap::new();
        headers.insert(PART, self.number.to_string());
        self.shared.responder.send(&self.from, Some(&self.room.subject), headers, Bytes::new()).await;
        let patience: Duration = self.shared.limits.idle;
        let message = timeout(patience, self.room.next()).await.map_err(|_| FetchError::Idle)?;
        let message = message.ok_or(FetchError::Gone)?;
        if message.status == Some(NatsStatus::NO_RESPONDERS) {
            return Err(FetchError::Gone);
        }
        let headers = message.headers.unwrap_or_default();
        if let Some(reason) = headers.get(ABORT) {
            return Err(FetchError::Aborted(reason.to_string()));
        }
        if headers.get(PART).and_then(|number| number.as_str().parse().ok()) != Some(self.number) {
            return Err(FetchError::Confused);
        }
        self.number += 1;
        self.ended = headers.get(END).is_some();
        Ok(message.payload)
    }
}
