//! Requests to a service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{HeaderMap, StatusCode as NatsStatus, Subject};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use herald_protocol::{
    Name,
    headers::{ABORT, ACK, BODY, DEADLINE, END, PART},
    subject,
};
use http::{Method, Request, Response, StatusCode};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Limits,
    inbox::{Inbox, Room},
    parts::{Part, PartError, Parts},
    response::{self, BrokenBody, Progress},
    wire,
};
use crate::nats::Nats;

/// Sends HTTP requests to services over NATS. Give it a connection of its own: a large body on a shared one delays whatever
/// else goes over it. Clones share the connection and one subscription.
#[derive(Clone)]
pub struct Client {
    nats: Nats,
    inbox: Arc<Inbox>,
    limits: Limits,
}

/// Nobody waits longer, whatever the configuration says.
const LONGEST: Duration = Duration::from_secs(3600);

/// What a forward says about its requests.
#[derive(Clone, Debug)]
pub struct RequestMeta {
    /// The configured name of the door.
    pub door: Name,
    /// When the caller gives up: until then the head of the response must be here.
    pub timeout: Duration,
    /// The largest request body, in bytes; [`Limits::max_body`] holds besides.
    pub max_body: u64,
    /// The request must not be executed after the caller has given up, whatever happened to it on the way: the receiver
    /// comes back for its body, also an empty one, before it executes it. One more round trip.
    pub confirm: bool,
}

/// Why a request brought no response.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// There is no connection to NATS, and the request is not executed.
    #[error("NATS is not connected")]
    NotConnected,
    /// NATS was lost while the answer was waited for. It may have been executed.
    #[error("NATS was lost before the service answered")]
    Lost,
    /// Nobody serves it.
    #[error("the service is not available")]
    NoResponders,
    /// No response in time. It may have been executed.
    #[error("the service did not answer in time")]
    Timeout,
    /// The request's body is larger than the limit.
    #[error("the request's body is larger than the limit")]
    BodyTooLarge,
    /// The request's headers are larger than the limit.
    #[error("the request's headers are larger than the limit")]
    HeadersTooLarge,
    /// The request's body broke off.
    #[error("the request's body broke off")]
    BodyBroken(#[source] axum::Error),
    /// The service sent something that is no response.
    #[error("the service sent no valid response: {0}")]
    BadResponse(String),
    /// The request could not be sent.
    #[error("the request could not be sent")]
    Send(#[source] async_nats::PublishError),
}

impl ForwardError {
    /// The HTTP status that says it to a client.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NotConnected | Self::NoResponders => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout | Self::Lost => StatusCode::GATEWAY_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyBroken(_) => StatusCode::BAD_REQUEST,
            Self::BadResponse(_) | Self::Send(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

impl Client {
    /// Makes a client on that connection.
    ///
    /// # Errors
    /// Where the connection is closed for good.
    pub async fn new(nats: &Nats, limits: Limits) -> Result<Self, async_nats::SubscribeError> {
        Ok(Self { nats: nats.clone(), inbox: Inbox::open(nats).await?, limits })
    }

    /// Sends a request to `service` and waits for the head of its response; the body streams. Dropping either ends the
    /// exchange. The path is sent as it is: a door strips its prefix before.
    ///
    /// # Errors
    /// [`ForwardError`]; except for `Timeout` and `Lost` nothing was executed, or a `BadResponse` came of it.
    pub async fn request(
        &self,
        service: &Name,
        request: Request<Body>,
        meta: &RequestMeta,
    ) -> Result<Response<Body>, ForwardError> {
        let deadline = Instant::now() + meta.timeout.min(LONGEST);
        if !self.nats.connected() {
            return Err(ForwardError::NotConnected);
        }
        let out = Out::default();
        let outcome = timeout_at(deadline, self.exchange(service, request, meta, deadline, &out)).await;
        match outcome {
            Ok(result) => result,
            Err(_) if self.nats.connected() => Err(ForwardError::Timeout),
            // Wherever NATS is by now.
            Err(_) if out.is_set() => Err(ForwardError::Lost),
            Err(_) => Err(ForwardError::NotConnected),
        }
    }

    async fn exchange(
        &self,
        service: &Name,
        request: Request<Body>,
        meta: &RequestMeta,
        deadline: Instant,
        out: &Out,
    ) -> Result<Response<Body>, ForwardError> {
        let (head, body) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let mut headers = wire::write_request(&head, meta.door.as_str()).map_err(|_| ForwardError::HeadersTooLarge)?;
        let limit = meta.max_body.min(self.limits.max_body);
        if Parts::declares_more_than(&body, limit) {
            return Err(ForwardError::BodyTooLarge);
        }
        let mut parts = Parts::new(body, self.limits.part_on(self.nats.max_payload()), limit);
        let first = parts.next_full().await.map_err(body_error)?;

        let mut room = self.inbox.room();
        let (payload, mut provider) = if first.last && !meta.confirm {
            (first.bytes, None)
        } else {
            let provider = Provider::start(self, first, parts, out.clone());
            headers.insert(BODY, provider.subject.as_str());
            (Bytes::new(), Some(provider))
        };
        let left = deadline.saturating_duration_since(Instant::now());
        headers.insert(DEADLINE, left.as_millis().to_string());
        let client = self.nats.client();
        let sending = client.publish_with_reply_and_headers(
            subject::http_service(service),
            room.subject.clone(),
            headers,
            payload,
        );
        sending.await.map_err(ForwardError::Send)?;
        if provider.is_none() {
            out.set();
        }

        let first = match &mut provider {
            None => room.next().await,
            Some(provider) => tokio::select! {
                // Why the service could not answer, before what it makes of it.
                biased;
                fault = provider.fault() => return Err(body_error(fault)),
                message = room.next() => message,
            },
        };
        // The inbox never closes a conversation that nobody has written to, but with the connection.
        let first = first.ok_or(ForwardError::Lost)?;
        if first.status == Some(NatsStatus::NO_RESPONDERS) {
            return Err(ForwardError::NoResponders);
        }
        self.response(first, room, provider, is_head)
    }

    fn response(
        &self,
        first: async_nats::Message,
        room: Room,
        provider: Option<Provider>,
        is_head: bool,
    ) -> Result<Response<Body>, ForwardError> {
        let bad = |error: String| ForwardError::BadResponse(error);
        let head = first.headers.as_ref().ok_or_else(|| bad("no headers".to_owned()))?;
        let (opening, progress) =
            response::open(head, is_head, self.limits.max_body).map_err(|error| bad(error.to_string()))?;
        let mut incoming = Incoming {
            nats: self.nats.clone(),
            room,
            _provider: provider,
            taken: None,
            idle: self.limits.idle,
            progress,
        };
        let bytes = incoming.take(first).map_err(|error| bad(error.to_string()))?;
        let body = if opening.bodiless {
            Body::empty()
        } else if incoming.progress.ended() {
            Body::from(bytes)
        } else {
            stream_body(bytes, incoming)
        };
        let mut response = Response::new(body);
        *response.status_mut() = opening.status;
        *response.headers_mut() = opening.headers;
        Ok(response)
    }
}

fn body_error(error: PartError) -> ForwardError {
    match error {
        PartError::TooLarge => ForwardError::BodyTooLarge,
        PartError::Broken(error) => ForwardError::BodyBroken(error),
    }
}

/// Whether a request may be executed: it has left; one with a body of its own has it fetched first.
#[derive(Clone, Default)]
struct Out(Arc<AtomicBool>);

impl Out {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Hands out a request's body, part by part, for as long as it lives.
struct Provider {
    subject: Subject,
    fault: oneshot::Receiver<PartError>,
    _task: AbortOnDropHandle<()>,
}

impl Provider {
    fn start(client: &Client, first: Part, parts: Parts, out: Out) -> Self {
        let room = client.inbox.room();
        let subject = room.subject.clone();
        let (sender, fault) = oneshot::channel();
        let nats = client.nats.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = provide(&nats, room, first, parts, &out).await {
                let _nobody_waits = sender.send(error);
            }
        });
        Self { subject, fault, _task: AbortOnDropHandle::new(task) }
    }

    /// Resolves if the body broke off.
    async fn fault(&mut self) -> PartError {
        match (&mut self.fault).await {
            Ok(error) => error,
            Err(_) => std::future::pending().await,
        }
    }
}

async fn provide(nats: &Nats, mut room: Room, first: Part, mut parts: Parts, out: &Out) -> Result<(), PartError> {
    let mut current = (0, first);
    while let Some(ask) = room.next().await {
        out.set();
        let number: Option<u64> = ask.headers.as_ref().and_then(|headers| headers.get(PART)?.as_str().parse().ok());
        let Some(reply) = ask.reply.filter(|reply| subject::is_inbox(reply)) else { continue };
        let mut headers = HeaderMap::new();
        let mut fault = None;
        if number == Some(current.0 + 1) && !current.1.last {
            match parts.next_full().await {
                Ok(part) => current = (current.0 + 1, part),
                Err(error) => fault = Some(error),
            }
        }
        let mut payload = Bytes::new();
        if fault.is_none() && number == Some(current.0) {
            headers.insert(PART, current.0.to_string());
            if current.1.last {
                headers.insert(END, "1");
            }
            payload = current.1.bytes.clone();
        } else {
            headers.insert(ABORT, fault.as_ref().map_or_else(|| "no such part".to_owned(), ToString::to_string));
        }
        if let Err(error) = nats.client().publish_with_headers(reply, headers, payload).await {
            tracing::debug!(%error, "a part of a request could not be sent");
        }
        if let Some(error) = fault {
            return Err(error);
        }
    }
    Ok(())
}

/// A response's parts, as they come.
struct Incoming {
    nats: Nats,
    room: Room,
    _provider: Option<Provider>,
    /// The part that was handed on and is to be acknowledged once more is wanted.
    taken: Option<(Subject, u64)>,
    idle: Duration,
    progress: Progress,
}

impl Incoming {
    /// Takes a message for the part it must be.
    fn take(&mut self, message: async_nats::Message) -> Result<Bytes, BrokenBody> {
        if message.status == Some(NatsStatus::NO_RESPONDERS) {
            return Err(BrokenBody::Lost);
        }
        let headers = message.headers.unwrap_or_default();
        let taken = self.progress.take(&headers, message.payload.len());
        // Who has broken off, or has said everything, waits for no word of ours.
        let waits = !self.progress.ended() && !matches!(taken, Err(BrokenBody::Aborted(_)));
        let peer = message.reply.filter(|reply| subject::is_inbox(reply));
        self.room.set_peer(peer.clone().filter(|_| waits));
        self.taken = peer.zip(Some(taken?));
        Ok(message.payload)
    }

    async fn next(&mut self) -> Result<Bytes, BrokenBody> {
        if let Some((reply, number)) = self.taken.take() {
            let mut headers = HeaderMap::new();
            headers.insert(ACK, number.to_string());
            let client = self.nats.client();
            let sent = client.publish_with_headers(reply, headers, Bytes::new());
            let sent = timeout(self.idle, sent).await;
            if !matches!(sent, Ok(Ok(()))) {
                return Err(BrokenBody::Idle);
            }
        }
        let message = timeout(self.idle, self.room.next()).await.map_err(|_| BrokenBody::Idle)?;
        self.take(message.ok_or(BrokenBody::Lost)?)
    }
}

fn stream_body(first: Bytes, incoming: Incoming) -> Body {
    Body::from_stream(stream::unfold((Some(first), Some(incoming)), async |(first, incoming)| {
        if let Some(first) = first.filter(|bytes| !bytes.is_empty()) {
            return Some((Ok(first), (None, incoming)));
        }
        let mut incoming = incoming.filter(|incoming| !incoming.progress.ended())?;
        match incoming.next().await {
            Ok(bytes) => Some((Ok(bytes), (None, Some(incoming)))),
            Err(error) => {
                tracing::debug!(%error, "a response broke off");
                Some((Err(error), (None, None)))
            }
        }
    }))
}
