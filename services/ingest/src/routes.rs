//! The HTTP interface, served over `http.ingest`. Thin: who asks, what they bring, where it is now.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, FromRequestParts, Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
    routing::post,
};
use herald_protocol::{Position, SessionId, subject};
use herald_runtime::{
    http_over_nats::{Caller, Deadline},
    jetstream::{self, ForkError},
    nats::Nats,
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    auth::Gate,
    config::Config,
    event::{self, Event, Form},
    key::Key,
    log::{Log, STREAM, StoreError},
    refusal::Refusal,
};

/// How long before whoever asks gives up the answer leaves.
const BEFORE_THE_END: Duration = Duration::from_millis(500);

/// Everybody who can do something.
pub(crate) struct Api {
    pub(crate) config: Config,
    pub(crate) gate: Gate,
    pub(crate) nats: Nats,
    pub(crate) log: Log,
}

/// The Router of all of it.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let largest = api.config.http.max_body.as_usize();
    Router::new()
        .route("/sessions/{sid}/events", post(publish).fallback(async || Refusal::wrong_method("POST")))
        .route("/sessions/{sid}/fork", post(fork).fallback(async || Refusal::wrong_method("POST")))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "not_found", "Not found"))
        .layer(DefaultBodyLimit::max(largest))
        .layer(axum::middleware::map_response(never_stored))
        .with_state(api)
}

/// An answer is about one request.
async fn never_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What the door says of a request.
struct Asked {
    caller: Option<Caller>,
    deadline: Option<Instant>,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let deadline = parts.extensions.get().map(|&Deadline(at)| at);
        Ok(Self { caller: parts.extensions.get().cloned(), deadline })
    }
}

async fn publish(
    State(api): State<Arc<Api>>,
    asked: Asked,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let Path(session) = path.map_err(|_| Refusal::bad("invalid session id: not UTF-8"))?;
    let session = SessionId::new(&session)?;
    let publisher = api.gate.admit(asked.caller.as_ref(), &headers, &session)?;
    let form = Form::of(&headers)?;
    event::as_it_is(&headers)?;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Refusal::too_large(format!("the body is larger than {}", api.config.http.max_body))
        }
        _ => Refusal::bad("the body could not be read"),
    })?;
    let key = Key::of(&headers, &publisher, &session, form, &body)?;
    let events = event::read(form, &body, &session, &api.config.limits)?;

    tracing::debug!(%session, ?publisher, events = events.len(), again = key.is_some(), "storing");
    let wait = Instant::now() + api.config.publish.wait.get();
    let until = asked.deadline.and_then(|at| at.checked_sub(BEFORE_THE_END)).map_or(wait, |end| end.min(wait));
    let stored = api.log.store(&session, &events, key.as_ref(), until).await;
    let stored = stored.map_err(|error| explain(error, &events, key.is_some()))?;
    let answer = match form {
        Form::One => json!({ "seq": stored.first }),
        Form::Lines => json!({ "first": stored.first, "last": stored.last, "count": events.len() }),
    };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// Makes a session whose log begins with this one's: for who may publish there.
async fn fork(
    State(api): State<Arc<Api>>,
    asked: Asked,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Path(session) = path.map_err(|_| Refusal::bad("invalid session id: not UTF-8"))?;
    let session = SessionId::new(&session)?;
    api.gate.admit(asked.caller.as_ref(), &headers, &session)?;
    let Query(pairs) = query.map_err(|_| Refusal::bad("the query is malformed"))?;
    let mut places = pairs.iter().filter(|(name, _)| name == "at").map(|(_, value)| value.parse::<Position>());
    let at = match (places.next(), places.next()) {
        (_, Some(_)) => return Err(Refusal::bad("at is given twice")),
        (Some(Err(_)), None) => return Err(Refusal::bad("at: expected a cursor or a sequence")),
        (Some(Ok(at)), None) => Some(at),
        (None, None) => None,
    };
    let forked = jetstream::fork(&api.nats, STREAM, subject::APP, &session, at).await.map_err(not_forked)?;
    tracing::info!(%session, fork = %forked.session, at = forked.at, "session forked");
    Ok((StatusCode::CREATED, Json(json!({ "session_id": forked.session, "at": forked.at }))).into_response())
}

fn not_forked(error: ForkError) -> Refusal {
    match error {
        ForkError::NoSession => Refusal::new(StatusCode::NOT_FOUND, "not_found", "Nothing is kept of this session"),
        ForkError::TooOld => Refusal::bad("at: nothing of the session is kept up to there"),
        ForkError::Beyond => Refusal::bad("at: there is no such place yet"),
        ForkError::OtherLife => Refusal::bad("at: that place was in another life of the log"),
        ForkError::TooDeep => Refusal::new(StatusCode::CONFLICT, "too_deep", "It is a fork of too many forks"),
        ForkError::Api(_) | ForkError::Publish(_) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "no fork was made");
            Refusal::unavailable("away", "The log is not available; a fork that nobody was told of does no harm")
        }
    }
}

fn explain(error: StoreError, events: &[Event], keyed: bool) -> Refusal {
    let unknown = |text| Refusal::new(StatusCode::GATEWAY_TIMEOUT, "unknown", text);
    match error {
        StoreError::Away => Refusal::unavailable("away", "NATS is not connected; nothing was stored"),
        StoreError::Busy => Refusal::unavailable("busy", "Too many requests are stored at a time; nothing was stored"),
        StoreError::Refused => Refusal::unavailable("refused", "The log takes nothing now; nothing was stored"),
        StoreError::Unknown if keyed => unknown(
            "It is not known whether this was stored; send it again with the same Idempotency-Key, which is safe",
        ),
        StoreError::Unknown => {
            unknown("It is not known whether this was stored; with an Idempotency-Key it could safely be sent again")
        }
        StoreError::TooLarge(at) => events.get(at).map_or_else(
            || Refusal::too_large("an event is larger than NATS takes"),
            |event| event.too_large("NATS takes"),
        ),
        StoreError::KeyReused => Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "key_reused",
            "This Idempotency-Key was used for another request",
        ),
        StoreError::KeyGone => Refusal::new(
            StatusCode::GONE,
            "key_gone",
            "This Idempotency-Key was used, and what was stored under it is kept no more: whether it was this request can't be \
             told; nothing was stored now",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_ask_again_is_told_so() {
        let with = |error, keyed| explain(error, &[], keyed);
        for (error, reason) in
            [(StoreError::Away, "away"), (StoreError::Busy, "busy"), (StoreError::Refused, "refused")]
        {
            let refusal = with(error, false);
            assert_eq!((refusal.status, refusal.reason), (StatusCode::SERVICE_UNAVAILABLE, reason));
            assert!(refusal.text.ends_with("; nothing was stored"), "{refusal:?}");
        }
        assert!(with(StoreError::Unknown, true).text.ends_with("which is safe"));
        assert!(with(StoreError::Unknown, false).text.contains("could safely"));
        assert_eq!(with(StoreError::KeyReused, true).status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(with(StoreError::KeyGone, true).status, StatusCode::GONE);
        assert_eq!(with(StoreError::TooLarge(0), true).status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
