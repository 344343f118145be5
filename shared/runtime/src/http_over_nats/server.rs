//! Serving a Router over NATS.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_nats::{Message, SubscribeError};
use axum::{Router, body::Body};
use bytes::Bytes;
use futures_util::FutureExt;
use herald_protocol::{InstanceId, Name, subject};
use http::{Request, Response, StatusCode, header};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt;

use super::{
    Limits,
    fetch::Fetch,
    inbox::Inbox,
    micro::{self, Service},
    respond::Responder,
    wire::{self, RequestHead},
};
use crate::{
    metrics::measured,
    nats::{Nats, Subscription},
    traces::{self, Kind, Span},
};

/// How long a drain waits for the server to have taken the subscription back. A few round trips; more only without a
/// connection.
const UNSUBSCRIBED_WITHIN: Duration = Duration::from_secs(2);
/// Why a request is not executed.
const DROPPED: [&str; 5] = ["overloaded", "no_reply_subject", "malformed", "expired", "gone"];

/// So many times the rest of the messages that end a subscription is sent; each time, other instances get their share.
const ROUNDS: usize = 64;

/// The configured name of the door a request came through: an extension of every request served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door(pub Arc<str>);

/// When the caller of a request gives up: an extension of every request served.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Instant);

/// Why a Router can't be served.
#[derive(Debug, thiserror::Error)]
#[error("can't subscribe")]
pub struct ServeError(#[from] SubscribeError);

/// A Router that is being served. Dropping it cuts off whatever runs; [`ServerHandle::drain`] does not.
#[derive(Debug)]
pub struct ServerHandle {
    drain: oneshot::Sender<Instant>,
    task: AbortOnDropHandle<usize>,
}

impl ServerHandle {
    /// Takes no more requests, finishes those that were taken, for `limit` at most, and says how many were cut off.
    pub async fn drain(self, limit: Duration) -> usize {
        if self.drain.send(Instant::now() + limit).is_err() {
            return 0;
        }
        self.task.await.unwrap_or(0)
    }
}

/// Serves `router` on `http.<service>`, in turn with every other instance. Once this returns, requests may come in as soon as
/// there is a connection.
///
/// Give it a connection of its own ([`Nats`]): on a shared one a large response delays whatever else goes over it. Where
/// NATS has permissions, it needs to publish on `http.<service>` itself, besides answering: see `drain`.
///
/// # Errors
/// Where the connection is closed for good.
pub async fn serve(
    nats: &Nats,
    service: &Name,
    instance: &InstanceId,
    router: Router,
    limits: Limits,
) -> Result<ServerHandle, ServeError> {
    let requests = nats.subscribe(subject::http_service(service), Some(service.to_string())).await?;
    let service = Arc::new(Service::new(service, instance));
    let questions = micro::subscribe(nats, &service).await?;
    let tools = AbortOnDropHandle::new(tokio::spawn(micro::answer(nats.clone(), Arc::clone(&service), questions)));
    let room = limits.concurrent.saturating_add(limits.waiting).min(Semaphore::MAX_PERMITS);
    let shared = Arc::new(Shared {
        responder: Responder { nats: nats.clone(), inbox: Inbox::open(nats).await?, limits },
        taken: Arc::new(Semaphore::new(room)),
        running: Semaphore::new(limits.concurrent.min(room)),
        room,
        service,
        router,
        limits,
    });
    let label = shared.service.name.to_string();
    let gauge = |name: &'static str| metrics::gauge!(name, "service" => label.clone());
    measured(gauge("herald_http_served_taken_count"), &shared.taken, move |taken| room - taken.available_permits());
    let most = limits.concurrent.min(room);
    measured(gauge("herald_http_served_running_count"), &shared, move |shared| {
        most - shared.running.available_permits()
    });
    let _shown = metrics::histogram!("herald_http_served_seconds", "service" => label.clone());
    for reason in DROPPED {
        let service = label.clone();
        metrics::counter!("herald_http_served_dropped_total", "service" => service, "reason" => reason).increment(0);
    }
    let (drain, drained) = oneshot::channel();
    let taking = Taking { shared, requests, tasks: JoinSet::new() };
    let task: JoinHandle<usize> = tokio::spawn(taking.run(drained, tools));
    Ok(ServerHandle { drain, task: AbortOnDropHandle::new(task) })
}

pub(super) struct Shared {
    pub(super) responder: Responder,
    router: Router,
    service: Arc<Service>,
    pub(super) limits: Limits,
    room: usize,
    taken: Arc<Semaphore>,
    running: Semaphore,
}

/// The loop that takes requests.
struct Taking {
    shared: Arc<Shared>,
    requests: Subscription,
    tasks: JoinSet<()>,
}

impl Taking {
    async fn run(mut self, mut drained: oneshot::Receiver<Instant>, tools: AbortOnDropHandle<()>) -> usize {
        let limit = loop {
            tokio::select! {
                // Nothing starves: a drain comes once, tasks end only as requests came.
                biased;
                limit = &mut drained => break limit,
                Some(_) = self.tasks.join_next() => {}
                request = self.requests.next() => match request {
                    Some(request) => self.take(request),
                    // The connection is closed for good.
                    None => break drained.await,
                },
            }
        };
        // A handle that was dropped aborts this task.
        let Ok(limit) = limit else { return 0 };
        drop(tools);
        if timeout(UNSUBSCRIBED_WITHIN, self.unsubscribe()).await.is_err() {
            tracing::warn!("the subscription could not be ended in order");
        }
        let Self { requests, mut tasks, shared, .. } = self;
        drop(requests);
        while let Ok(Some(_)) = timeout_at(limit, tasks.join_next()).await {}
        let cut = tasks.len();
        if cut > 0 {
            tracing::warn!(service = %shared.service.name, requests = cut, "requests cut off by the shutdown");
        }
        // The last responses wait in the connection's queue; whoever drains is about to close it.
        if !matches!(timeout(UNSUBSCRIBED_WITHIN, shared.responder.nats.client().flush()).await, Ok(Ok(()))) {
            tracing::warn!(service = %shared.service.name, "the last responses may not have left");
        }
        cut
    }

    fn take(&mut self, message: Message) {
        let received = Instant::now();
        let permit = Arc::clone(&self.shared.taken).try_acquire_owned().ok();
        // A refusal is short work; but it is sent by a task, too: the loop never waits for the connection. Where refusals
        // can't be sent as fast as they come, the caller's own time limit has to do.
        if permit.is_none() && self.tasks.len() > self.shared.room.saturating_mul(2) {
            return self.shared.dropped("overloaded");
        }
        self.tasks.spawn(Arc::clone(&self.shared).serve(message, received, permit));
    }

    /// Ends the subscription without losing what the server has sent already.
    ///
    /// The library forgets a subscription that is drained before the server has confirmed it, and with it every message on
    /// the way. What it does in step with the server is to end a subscription after a number of messages. So: a number a
    /// little ahead, and as many empty messages to ourselves as are needed to reach it. They go to any instance; each
    /// ignores them.
    async fn unsubscribe(&mut self) {
        let before = self.requests.received();
        if self.round_trip().await {
            return;
        }
        // What may be on the way when the server reads this: as much as came during a round trip, and to spare.
        let received = self.requests.received();
        let last = received + 32 + 4 * received.saturating_sub(before);
        if let Err(error) = self.requests.end_after(last).await {
            tracing::warn!(%error, "the subscription could not be ended");
            return;
        }
        let subject = subject::http_service(&self.shared.service.name);
        for _round in 0..ROUNDS {
            for _ in self.requests.received()..last {
                if let Err(error) = self.shared.responder.nats.client().publish(subject.clone(), Bytes::new()).await {
                    tracing::debug!(%error, "an empty message could not be sent");
                }
            }
            if self.round_trip().await {
                return;
            }
        }
    }

    /// Takes everything the server has sent until now. True if the subscription has ended.
    async fn round_trip(&mut self) -> bool {
        let mut room = self.shared.responder.inbox.room();
        let client = self.shared.responder.nats.client();
        let sent = client.publish(room.subject.clone(), Bytes::new()).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "a message to ourselves could not be sent");
        }
        loop {
            tokio::select! {
                biased;
                request = self.requests.next() => match request {
                    Some(request) => self.take(request),
                    None => return true,
                },
                _ = room.next() => break,
            }
        }
        // The library has brought them all; the last ones may have come after the select looked.
        while let Some(request) = self.requests.next().now_or_never() {
            match request {
                Some(request) => self.take(request),
                None => return true,
            }
        }
        false
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, message: Message, received: Instant, permit: Option<OwnedSemaphorePermit>) {
        let Some(reply) = message.reply.clone().filter(|reply| subject::is_inbox(reply)) else {
            // An empty message helps an instance to end its subscription.
            if message.headers.is_some() || !message.payload.is_empty() {
                self.dropped("no_reply_subject");
            }
            return;
        };
        if permit.is_none() {
            self.dropped("overloaded");
            let text = format!("{} is overloaded", self.service.name);
            return self.responder.respond(reply, error(StatusCode::SERVICE_UNAVAILABLE, &text), false).await;
        }
        let head = match wire::read_request(&message.headers.clone().unwrap_or_default()) {
            Ok(head) => head,
            Err(bad) => {
                self.dropped("malformed");
                return self.responder.respond(reply, error(StatusCode::BAD_REQUEST, &bad.to_string()), false).await;
            }
        };
        let mut span = self.span(&message, &head);
        let deadline = received + head.deadline;
        let Ok(Ok(running)) = timeout_at(deadline, self.running.acquire()).await else {
            span.fail("expired");
            return self.dropped("expired");
        };
        let is_head = head.method == http::Method::HEAD;
        let request = match self.request(head, message, deadline).await {
            Ok(request) => request,
            Err(Unread::Gone) => return self.dropped("gone"),
            Err(Unread::TooLarge) => {
                let refusal = error(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than the limit");
                return self.responder.respond(reply, refusal, is_head).await;
            }
        };
        if Instant::now() >= deadline {
            span.fail("expired");
            return self.dropped("expired");
        }
        let response = traces::within(span.context(), self.execute(request)).await;
        span.number("http.response.status_code", response.status().as_u16().into());
        if response.status().is_server_error() {
            span.fail(response.status());
        }
        // Whoever reads slowly holds up nobody who wants something executed.
        drop(running);
        self.responder.respond(reply, response, is_head).await;
    }

    /// What is traced of a request. Its path says more than its query may: tokens stand there.
    fn span(&self, message: &Message, head: &RequestHead) -> Span {
        if !traces::enabled() {
            return Span::none();
        }
        let name = format!("http.{}", self.service.name);
        let mut span = traces::follow(traces::incoming(message.headers.as_ref()), name, Kind::Server);
        span.text("http.request.method", &head.method);
        span.text("url.path", head.uri.path());
        span.text("herald.door", &head.door);
        span
    }

    /// The request as the Router takes it; where its body is to be fetched, with the first part of it.
    async fn request(
        self: &Arc<Self>,
        head: RequestHead,
        message: Message,
        deadline: Instant,
    ) -> Result<Request<Body>, Unread> {
        let limit = self.limits.max_body;
        let body = match &head.body {
            None if u64::try_from(message.payload.len()).unwrap_or(u64::MAX) > limit => return Err(Unread::TooLarge),
            None => Body::from(message.payload),
            Some(subject) => {
                let fetch = Fetch::new(self, subject.as_str().into());
                match timeout_at(deadline, fetch.begin()).await {
                    Ok(Ok(body)) => body,
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "a request's body can't be fetched: its caller has gone");
                        return Err(Unread::Gone);
                    }
                    Err(_) => return Err(Unread::Gone),
                }
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = head.uri;
        *request.headers_mut() = head.headers;
        request.extensions_mut().insert(Door(head.door.into()));
        request.extensions_mut().insert(Deadline(deadline));
        if let Some(caller) = head.caller {
            request.extensions_mut().insert(caller);
        }
        Ok(request)
    }

    async fn execute(&self, request: Request<Body>) -> Response<Body> {
        let begun = Instant::now();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let handled =
            timeout(self.limits.handler, AssertUnwindSafe(self.router.clone().oneshot(request)).catch_unwind());
        let response = match handled.await {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(_panic)) => {
                tracing::error!(%method, path, "a handler panicked");
                error(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
            }
            Err(_) => {
                tracing::error!(%method, path, limit = ?self.limits.handler, "a handler took too long and was dropped");
                error(StatusCode::INTERNAL_SERVER_ERROR, "the request took too long")
            }
        };
        let status = response.status();
        self.service.count(begun.elapsed(), status.is_server_error().then(|| format!("{method} {path}: {status}")));
        let class = format!("{}xx", status.as_u16() / 100);
        let service = self.service.name.to_string();
        metrics::counter!("herald_http_served_requests_total", "service" => service.clone(), "status" => class)
            .increment(1);
        metrics::histogram!("herald_http_served_seconds", "service" => service).record(begun.elapsed());
        response
    }

    /// As one of [`DROPPED`].
    fn dropped(&self, reason: &'static str) {
        tracing::debug!(service = %self.service.name, reason, "request dropped unexecuted");
        let service = self.service.name.to_string();
        metrics::counter!("herald_http_served_dropped_total", "service" => service, "reason" => reason).increment(1);
    }
}

/// Why a request can't be executed.
enum Unread {
    Gone,
    TooLarge,
}

/// `{"error":"<text>"}` with a status.
pub(super) fn error(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(serde_json::json!({"error": text}).to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
