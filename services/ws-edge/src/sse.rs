//! The same log over plain HTTP: server-sent events.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{connection::ConnectionLimits, drain::Drain, feed::Setup};

/// The body of an event stream. Dropping it ends the connection's task.
#[derive(Debug)]
pub struct SseBody {
    chunks: mpsc::Receiver<Bytes>,
}

impl http_body::Body for SseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.chunks.poll_recv(context).map(|chunk| chunk.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

/// The response to `GET /sse/{sid}` and the task that feeds it, to be spawned by the caller. The caller sets
/// `Last-Event-ID` as start. `abort` must end the HTTP connection: a client that does not read keeps it blocked, where
/// no response can be ended.
pub fn respond(
    setup: Setup,
    limits: Arc<ConnectionLimits>,
    comment: Duration,
    drain: Drain,
    abort: CancellationToken,
) -> (http::Response<SseBody>, impl Future<Output = ()> + Send + 'static) {
    let (sender, chunks) = mpsc::channel(1);
    let response = http::Response::new(SseBody { chunks });
    (response, async move {
        let _ = (sender, setup, limits, comment, drain, abort);
    })
}
