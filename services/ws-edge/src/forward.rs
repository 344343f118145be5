//! HTTP that a service answers over NATS.

mod commands;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use herald_protocol::{Name, SessionId, headers::TRACEPARENT};
use herald_runtime::{
    http_over_nats::{Client, ForwardError, RequestMeta},
    metrics::measured,
    traces::{self, Kind, Span},
};
use http::{
    HeaderMap, HeaderName, Request, StatusCode, Uri,
    header::{CACHE_CONTROL, EXPECT},
    request::Parts,
};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::{
    answer::{self, Answer, NO_STORE},
    config::{ForwardConfig, HttpConfig},
    health::Health,
    identity::Identity,
    limits::{ANSWERS, AddressTicket, Limits, Refusal, Trust},
    path::Pattern,
};

/// How many times the limit of a body that is too large is read and thrown away before the answer: a client that is still
/// sending when its connection is closed never sees why.
const THROWN_AWAY: u64 = 8;

/// What all forwards of a process share.
pub struct Forwards {
    /// Requests at services.
    slots: Semaphore,
    /// Bytes of bodies that are in memory: as many as all of those may have. Who sends a body slowly holds what has come of it,
    /// and no request's place.
    bodies: Arc<Semaphore>,
    /// Answers that come in parts, as fast as their clients take them.
    answers: Arc<Semaphore>,
    max_body: u64,
    body_timeout: Duration,
    limits: Arc<Limits>,
}

/// One forward: some paths, one service.
pub struct Forward {
    name: Arc<str>,
    service: Name,
    strip: String,
    commands: bool,
    /// What is said where its service does not say how the whole system is; `None`: that is not asked here.
    health: Option<Arc<Health>>,
    /// What names the session of a command that is counted; `None`: its requests are not.
    session: Option<String>,
    /// Its paths that name the session themselves.
    in_path: Vec<Pattern>,
    /// Paths whose requests are not counted all the same.
    free: Vec<Pattern>,
    trust: Trust,
    /// Whether its requests may say which trace they belong to.
    believes_traces: bool,
    meta: RequestMeta,
    shared: Arc<Forwards>,
}

impl Forwards {
    /// The limits of `http`.
    #[must_use]
    pub fn new(http: &HttpConfig, limits: Arc<Limits>) -> Arc<Self> {
        let slots = http.max_forwards;
        let bodies = http.max_body.as_usize().saturating_mul(slots).min(Semaphore::MAX_PERMITS);
        let answers = slots.saturating_mul(ANSWERS).min(Semaphore::MAX_PERMITS);
        let shared = Arc::new(Self {
            slots: Semaphore::new(slots),
            bodies: Arc::new(Semaphore::new(bodies)),
            answers: Arc::new(Semaphore::new(answers)),
            max_body: http.max_body.as_u64(),
            body_timeout: http.body_timeout.get(),
            limits,
        });
        let used = |most: usize, of: &Semaphore| most.saturating_sub(of.available_permits());
        measured(metrics::gauge!("herald_forwards_running_count"), &shared, move |it| used(slots, &it.slots));
        measured(metrics::gauge!("herald_forward_answers_count"), &shared, move |it| used(answers, &it.answers));
        measured(metrics::gauge!("herald_forward_bodies_bytes"), &shared, move |it| used(bodies, &it.bodies));
        shared
    }
}

impl Forward {
    /// The forward that `config` describes, on a listener that has that trust in its clients and says that of its health; `None`
    /// where it names no service, which the configuration's check refuses.
    #[must_use]
    pub fn new(config: &ForwardConfig, trust: Trust, health: &Arc<Health>, shared: &Arc<Forwards>) -> Option<Self> {
        for reason in REASONS {
            metrics::counter!("herald_forward_failures_total", "forward" => config.name.clone(), "reason" => reason)
                .increment(0);
        }
        let _shown = metrics::histogram!("herald_forward_seconds", "forward" => config.name.clone());
        Some(Self {
            name: config.name.as_str().into(),
            service: config.service.clone()?,
            strip: config.strip.clone(),
            commands: config.commands,
            health: config.health.then(|| health.clone()),
            session: config.commands.then(|| config.session.clone()),
            in_path: patterns(&config.paths).filter(Pattern::has_session).collect(),
            free: config.free.iter().filter_map(|path| path.parse().ok()).collect(),
            trust,
            believes_traces: false,
            meta: RequestMeta {
                door: config.door.clone(),
                timeout: config.timeout.get(),
                max_body: shared.max_body,
                // A command that nobody waits for any more must not move a game.
                confirm: config.commands,
            },
            shared: shared.clone(),
        })
    }

    /// The same; `yes`: goes on with the traces that its requests say they belong to.
    #[must_use]
    pub fn believing_traces(mut self, yes: bool) -> Self {
        self.believes_traces = yes;
        self
    }

    /// Whether its requests change something, also those by GET.
    #[must_use]
    pub const fn is_for_commands(&self) -> bool {
        self.commands
    }

    /// Whether it says how the whole system is.
    #[must_use]
    pub const fn is_health(&self) -> bool {
        self.health.is_some()
    }

    /// Lets a request in as far as its address may, before anything is done for it: finding out who it is costs more.
    ///
    /// # Errors
    /// The answer, where it may not.
    pub fn enter(&self, head: &Parts, peer: SocketAddr) -> Result<Entered, Box<Answer>> {
        if self.commands && is_prefetch(&head.headers) {
            return Err(answer::unavailable("Not for prefetching").into());
        }
        let place = self.shared.limits.admit_forward(self.trust, peer.ip()).map_err(|refusal| refusal.answer())?;
        if self.counted_by(&head.uri).is_some() {
            self.shared.limits.admit_command(self.trust, peer.ip()).map_err(|refusal| refusal.answer())?;
        }
        Ok(Entered { _place: place, peer })
    }

    /// Sends the request on and answers with what comes back. `client`: none yet, where NATS was never reached.
    pub async fn answer(
        &self,
        client: Option<&Client>,
        request: Request<Incoming>,
        identity: &Identity,
        entered: Entered,
    ) -> Answer {
        let peer = entered.peer.ip();
        tracing::trace!(user = identity.user(), client = %peer, forward = &*self.name, "forwarding");
        if let Err(refusal) = self.admit(request.uri(), identity) {
            return refusal.answer();
        }
        let started = Instant::now();
        let mut span = self.span(&request);
        let answer = match self.exchange(client, request, identity, peer, &span).await {
            Ok(mut answer) => {
                leave_to_the_door(answer.headers_mut());
                if self.commands {
                    answer.headers_mut().entry(CACHE_CONTROL).or_insert(NO_STORE);
                }
                answer
            }
            Err(failure) => {
                span.fail(failure.reason());
                self.explain(&failure)
            }
        };
        span.number("http.response.status_code", answer.status().as_u16().into());
        metrics::histogram!("herald_forward_seconds", "forward" => self.label())
            .record(started.elapsed().as_secs_f64());
        answer
    }

    /// What is traced of a request. Its query may hold tokens.
    fn span(&self, request: &Request<Incoming>) -> Span {
        if !traces::enabled() {
            return Span::none();
        }
        let said = request.headers().get(TRACEPARENT).filter(|_| self.believes_traces);
        let parent = said.and_then(|said| said.to_str().ok()?.parse().ok());
        let mut span = traces::follow(parent, "forward", Kind::Server);
        span.text("herald.forward", &self.name);
        span.text("http.request.method", request.method());
        span.text("url.path", request.uri().path());
        span
    }

    async fn exchange(
        &self,
        client: Option<&Client>,
        request: Request<Incoming>,
        identity: &Identity,
        peer: IpAddr,
        span: &Span,
    ) -> Result<Answer, Failure> {
        let (mut head, body) = request.into_parts();
        let expects = head.headers.contains_key(EXPECT);
        let Whole { bytes: body, room: _room } = self.body(body, expects).await?;
        self.admit_body(&head, &body, identity)?;
        let _slot = self.shared.slots.try_acquire().map_err(|_| Failure::TooMany)?;
        let client = client.ok_or(Failure::Forward(ForwardError::NotConnected))?;
        self.strip(&mut head);
        if let Some(claims) = identity.claims() {
            head.extensions.insert(claims.caller.clone());
        }
        if let Some(context) = span.context() {
            head.extensions.insert(context);
        }
        let request = Request::from_parts(head, Body::from(body));
        let answer = client.request(&self.service, request, &self.meta).await?;
        if answer.size_hint().exact().is_some() {
            return Ok(answer);
        }
        let of_address = self.shared.limits.admit_reading(self.trust, peer)?;
        let place = self.shared.answers.clone().try_acquire_owned().map_err(|_| Failure::TooMany)?;
        let place = (place, of_address);
        Ok(answer.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _held = &place;
                frame
            }))
        }))
    }

    /// What names the session of a request that is counted.
    fn counted_by(&self, uri: &Uri) -> Option<&str> {
        let free = self.free.iter().any(|path| path.matches(uri.path()).is_some());
        self.session.as_deref().filter(|_| !free)
    }

    /// Counts a command by what can be known of it before its body is read.
    fn admit(&self, uri: &Uri, identity: &Identity) -> Result<(), Refusal> {
        let Some(name) = self.counted_by(uri) else { return Ok(()) };
        self.shared.limits.admit_command_of(identity.user())?;
        let session = match self.in_path(uri.path()) {
            Some(named) => commands::session_in_path(named),
            None => uri.query().and_then(|query| commands::session_in_query(query, name)),
        };
        self.admit_in(session, identity)
    }

    /// What names the session in a path, where that says it: then nothing else does.
    fn in_path<'a>(&self, path: &'a str) -> Option<&'a str> {
        self.in_path.iter().find_map(|pattern| pattern.matches(path))
    }

    /// Counts a command in its session, if that is theirs: nobody uses up what others may ask for.
    fn admit_in(&self, session: Option<SessionId>, identity: &Identity) -> Result<(), Refusal> {
        let session = session.filter(|session| identity.may_open(session));
        session.map_or(Ok(()), |session| self.shared.limits.admit_command_in(self.trust, &session))
    }

    /// Counts a command in the session that its body names. Where the query names one too, the service follows one of them:
    /// both have had their share.
    fn admit_body(&self, head: &Parts, body: &[u8], identity: &Identity) -> Result<(), Refusal> {
        if !self.shared.limits.ask_for_session(self.trust) {
            return Ok(());
        }
        let Some(name) = self.counted_by(&head.uri).filter(|_| self.in_path(head.uri.path()).is_none()) else {
            return Ok(());
        };
        let session = commands::session_in_body(body, name);
        let counted = head.uri.query().and_then(|query| commands::session_in_query(query, name));
        self.admit_in(session.filter(|session| counted.as_ref() != Some(session)), identity)
    }

    /// The whole body: what is sent on can then no longer be cut off by its client.
    async fn body(&self, mut body: Incoming, expects: bool) -> Result<Whole, Failure> {
        let limit = self.shared.max_body;
        let deadline = Instant::now() + self.shared.body_timeout;
        let declared = body.size_hint().lower();
        if declared > limit && (expects || declared > limit * THROWN_AWAY) {
            return Err(Failure::BodyTooLarge);
        }
        let (mut whole, mut size) = (BytesMut::new(), 0);
        let mut room: Option<OwnedSemaphorePermit> = None;
        loop {
            let frame = match timeout_at(deadline, body.frame()).await {
                Err(_) => return Err(Failure::BodySlow),
                Ok(None) => break,
                Ok(Some(Err(_))) => return Err(Failure::BodyBroken),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            size += data.len() as u64;
            if size > limit * THROWN_AWAY {
                return Err(Failure::BodyTooLarge);
            }
            if size > limit {
                (whole, room) = (BytesMut::new(), None);
            } else {
                let bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
                let more = self.shared.bodies.clone().try_acquire_many_owned(bytes).map_err(|_| Failure::TooMany)?;
                match &mut room {
                    Some(room) => room.merge(more),
                    None => room = Some(more),
                }
                whole.extend_from_slice(&data);
            }
        }
        if size > limit { Err(Failure::BodyTooLarge) } else { Ok(Whole { bytes: whole.freeze(), room }) }
    }

    /// Cuts the door's prefix from the path.
    fn strip(&self, head: &mut Parts) {
        let rest = head.uri.path_and_query().and_then(|it| it.as_str().strip_prefix(self.strip.as_str()));
        if let Some(uri) = rest.and_then(|rest| rest.parse::<Uri>().ok()) {
            head.uri = uri;
        }
    }

    fn explain(&self, failure: &Failure) -> Answer {
        metrics::counter!("herald_forward_failures_total", "forward" => self.label(), "reason" => failure.reason())
            .increment(1);
        let name = &self.name;
        let error = match failure {
            Failure::Refused(refusal) => return refusal.answer(),
            Failure::TooMany => return answer::unavailable("Too many requests at a time"),
            Failure::BodyTooLarge => {
                return answer::closing(StatusCode::PAYLOAD_TOO_LARGE, "The request's body is too large");
            }
            Failure::BodySlow => {
                return answer::closing(StatusCode::REQUEST_TIMEOUT, "The request's body did not arrive in time");
            }
            Failure::BodyBroken => return answer::closing(StatusCode::BAD_REQUEST, "The request's body broke off"),
            Failure::Forward(error) => error,
        };
        tracing::debug!(error = error as &dyn std::error::Error, forward = &**name, "request not answered");
        if let Some(health) = &self.health
            && !matches!(error, ForwardError::HeadersTooLarge | ForwardError::BodyBroken(_))
        {
            return health.degraded(!matches!(error, ForwardError::NotConnected | ForwardError::Lost));
        }
        match error {
            ForwardError::NotConnected => answer::unavailable("NATS is not connected"),
            ForwardError::NoResponders => answer::unavailable(&format!("{name} is not available")),
            ForwardError::Timeout => {
                answer::error(StatusCode::GATEWAY_TIMEOUT, &format!("{name} did not answer in time"))
            }
            ForwardError::Lost => {
                answer::error(StatusCode::GATEWAY_TIMEOUT, &format!("NATS was lost before {name} answered"))
            }
            ForwardError::BodyTooLarge => {
                answer::error(StatusCode::PAYLOAD_TOO_LARGE, "The request's body is too large")
            }
            ForwardError::HeadersTooLarge => {
                answer::error(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's headers are too large")
            }
            ForwardError::BodyBroken(_) => answer::bad_request("The request's body broke off"),
            ForwardError::BadResponse(_) | ForwardError::Send(_) => {
                answer::error(StatusCode::BAD_GATEWAY, &format!("{name} gave no valid answer"))
            }
        }
    }

    fn label(&self) -> String {
        self.name.to_string()
    }
}

/// The paths as patterns; what is none the configuration's check refuses.
fn patterns(paths: &[String]) -> impl Iterator<Item = Pattern> {
    paths.iter().filter_map(|path| path.parse().ok())
}

/// A request that its address may make, until it is answered.
pub struct Entered {
    _place: AddressTicket,
    peer: SocketAddr,
}

/// A body that has arrived, with its room in memory.
struct Whole {
    bytes: Bytes,
    room: Option<OwnedSemaphorePermit>,
}

/// Takes out of a service's answer what is not its to say: whose pages may read it, which is the listener's `origins`, and the
/// names that Herald keeps for itself.
fn leave_to_the_door(headers: &mut HeaderMap) {
    let not_theirs = |name: &&HeaderName| ["access-control-", "herald-"].iter().any(|of| name.as_str().starts_with(of));
    let names: Vec<HeaderName> = headers.keys().filter(not_theirs).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Why there is no answer to pass on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the body is too large")]
    BodyTooLarge,
    #[error("the body did not arrive in time")]
    BodySlow,
    #[error("the body broke off")]
    BodyBroken,
    #[error("there are too many requests, or answers, at a time")]
    TooMany,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

/// All that [`Failure::reason`] says: shown before any of it happens.
const REASONS: [&str; 12] = [
    "body_too_large",
    "body_slow",
    "too_many",
    "over_limit",
    "body_broken",
    "not_connected",
    "no_responders",
    "timeout",
    "lost",
    "headers_too_large",
    "bad_response",
    "not_sent",
];

impl Failure {
    const fn reason(&self) -> &'static str {
        match self {
            Self::BodyTooLarge | Self::Forward(ForwardError::BodyTooLarge) => "body_too_large",
            Self::BodySlow => "body_slow",
            Self::TooMany => "too_many",
            Self::Refused(_) => "over_limit",
            Self::BodyBroken | Self::Forward(ForwardError::BodyBroken(_)) => "body_broken",
            Self::Forward(ForwardError::NotConnected) => "not_connected",
            Self::Forward(ForwardError::NoResponders) => "no_responders",
            Self::Forward(ForwardError::Timeout) => "timeout",
            Self::Forward(ForwardError::Lost) => "lost",
            Self::Forward(ForwardError::HeadersTooLarge) => "headers_too_large",
            Self::Forward(ForwardError::BadResponse(_)) => "bad_response",
            Self::Forward(ForwardError::Send(_)) => "not_sent",
        }
    }
}

/// Whether a browser only fetches ahead what its user may never open.
fn is_prefetch(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose", "x-purpose", "x-moz"].iter().any(|name| {
        let values = headers.get_all(*name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split([';', ','])).any(|purpose| {
            let purpose = purpose.trim();
            purpose.eq_ignore_ascii_case("prefetch") || purpose.eq_ignore_ascii_case("preview")
        })
    })
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_prefetch_is_known_by_its_headers() {
        let table = [
            ("sec-purpose", "prefetch", true),
            ("sec-purpose", "prefetch;prerender", true),
            ("purpose", "Prefetch", true),
            ("x-moz", "prefetch", true),
            ("x-purpose", "preview", true),
            ("sec-purpose", "navigate", false),
            ("accept", "prefetch", false),
        ];
        for (name, value, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            assert_eq!(is_prefetch(&headers), expected, "{name}: {value}");
        }
    }

    #[test]
    fn the_doors_prefix_stays_at_the_door() {
        let defaults = crate::config::Config::default();
        let health = Health::new(&crate::config::HealthConfig::default()).map(Arc::new).unwrap();
        let config = ForwardConfig {
            name: "x".into(),
            service: Name::new("gm").ok(),
            strip: "/app".into(),
            ..ForwardConfig::default()
        };
        let forward =
            Forward::new(&config, Trust::None, &health, &Forwards::new(&defaults.http, Limits::new(&defaults)))
                .unwrap();
        let (mut head, ()) = Request::get("/app/api/start?lang=fr&x=%2F").body(()).unwrap().into_parts();
        forward.strip(&mut head);
        assert_eq!(head.uri, "/api/start?lang=fr&x=%2F");
    }
}
