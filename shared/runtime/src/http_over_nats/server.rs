//! Serving a Router over NATS.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_nats::{Message, SubscribeError, Subscriber};
use axum::{Router, body::Body};
use futures_util::{FutureExt, StreamExt};
use herald_protocol::{InstanceId, Name, subject};
use http::{Request, Response, StatusCode, header};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until, timeout, timeout_at},
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
use crate::nats::Nats;

/// How long a drain waits for the server to have taken the subscription back. One round trip; more only without a connection.
const UNSUBSCRIBED_WITHIN: Duration = Duration::from_secs(1);

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
/// Give it a connection of its own ([`Nats`]): on a shared one a large response delays whatever else goes over it, and a
/// drain can lose a request that arrives in the very moment the subscription ends.
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
    let requests = nats.client().queue_subscribe(subject::http_service(service), service.to_string()).await?;
    let service = Arc::new(Service::new(service, instance));
    let questions = micro::subscribe(nats, &service).await?;
    let tools = AbortOnDropHandle::new(tokio::spawn(micro::answer(nats.clone(), Arc::clone(&service), questions)));
    let shared = Arc::new(Shared {
        responder: Responder {
            nats: nats.clone(),
            inbox: Inbox::open(nats).await?,
            limits,
            open: watch::Sender::new(true),
        },
        taken: Arc::new(Semaphore::new(limits.concurrent + limits.waiting)),
        running: Semaphore::new(limits.concurrent),
        service,
        router,
        limits,
    });
    let (drain, drained) = oneshot::channel();
    let task: JoinHandle<usize> = tokio::spawn(run(shared, requests, drained, tools));
    Ok(ServerHandle { drain, task: AbortOnDropHandle::new(task) })
}

pub(super) struct Shared {
    pub(super) responder: Responder,
    router: Router,
    service: Arc<Service>,
    pub(super) limits: Limits,
    taken: Arc<Semaphore>,
    running: Semaphore,
}

async fn run(
    shared: Arc<Shared>,
    mut requests: Subscriber,
    mut drained: oneshot::Receiver<Instant>,
    tools: AbortOnDropHandle<()>,
) -> usize {
    let mut tasks = JoinSet::new();
    let mut tools = Some(tools);
    let mut ending: Option<(Instant, Instant)> = None;
    loop {
        tokio::select! {
            // Nothing starves: requests end as the subscription does, tasks as requests do.
            limit = &mut drained, if ending.is_none() => {
                // A handle that was dropped aborts this task.
                let Ok(limit) = limit else { break };
                tools = None;
                shared.stop_subscription(&mut requests).await;
                ending = Some((Instant::now() + UNSUBSCRIBED_WITHIN, limit));
            }
            () = at(ending) => break,
            Some(_) = tasks.join_next() => {}
            request = requests.next() => match request {
                Some(request) => shared.take(request, &mut tasks),
                None => break,
            },
        }
    }
    drop(tools);
    shared.responder.open.send_replace(true);
    let limit = ending.map_or_else(Instant::now, |(_, limit)| limit);
    while let Ok(Some(_)) = timeout_at(limit, tasks.join_next()).await {}
    let cut = tasks.len();
    if cut > 0 {
        tracing::warn!(service = %shared.service.name, requests = cut, "requests cut off by the shutdown");
    }
    cut
}

async fn at(ending: Option<(Instant, Instant)>) {
    match ending {
        Some((at, _)) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Shared {
    /// Ends the subscription without losing what the server has already sent. The library forgets a drained subscription the
    /// next time its connection has anything to do, which is the server's answer only if nothing else goes over it: so
    /// nothing does.
    async fn stop_subscription(&self, requests: &mut Subscriber) {
        self.responder.open.send_replace(false);
        let stop = async {
            let flushed = self.responder.nats.client().flush().await;
            flushed.map_err(async_nats::Error::from)?;
            requests.drain().await.map_err(async_nats::Error::from)
        };
        match timeout(UNSUBSCRIBED_WITHIN, stop).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the subscription could not be drained"),
            Err(_) => tracing::warn!("the subscription could not be drained in time"),
        }
    }

    fn take(self: &Arc<Self>, message: Message, tasks: &mut JoinSet<()>) {
        let received = Instant::now();
        let permit = Arc::clone(&self.taken).try_acquire_owned().ok();
        // A refusal is short work; but it is sent by a task, too: the loop never waits for the connection.
        tasks.spawn(Arc::clone(self).serve(message, received, permit));
    }

    async fn serve(self: Arc<Self>, message: Message, received: Instant, permit: Option<OwnedSemaphorePermit>) {
        let Some(reply) = message.reply.clone() else { return self.dropped("no reply subject") };
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
        let deadline = received + head.deadline;
        let Ok(Ok(_running)) = timeout_at(deadline, self.running.acquire()).await else {
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
            return self.dropped("expired");
        }
        let response = self.execute(request).await;
        self.responder.respond(reply, response, is_head).await;
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
