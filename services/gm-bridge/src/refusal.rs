//! What a request is answered when it can't be done: a status and one sentence, as `{"error":"<text>"}`.

use std::{borrow::Cow, error::Error};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use herald_protocol::id::InvalidToken;
use herald_runtime::{bucket::BucketError, jetstream::PublishError};
use http::{HeaderValue, StatusCode, header};
use serde_json::{json, value::RawValue};

use crate::{action::ActionError, arena::ArenaError, game_master::RequestError, metrics, pool::PoolError};

/// When it is worth trying again where an action must end first, in seconds: they take minutes, but there are many.
const ROOM: u32 = 10;
/// Where nobody knows.
const SOON: u32 = 1;

/// The answer to a request that is not done. Its text is for the client: no address, subject or path of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: Cow<'static, str>,
    /// For a wrong method: the right ones.
    allow: Option<&'static str>,
    /// When it is worth trying again, in seconds.
    pub(crate) retry: Option<u32>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        // What is not to be had now is worth another try, whatever it is.
        let retry = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(SOON);
        Self { status, text: text.into(), allow: None, retry }
    }

    /// 400: something about the request is wrong; the text names what.
    pub(crate) fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(crate) fn session_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Session not found")
    }

    /// 403: the door says who asks, and this session is not among theirs.
    pub(crate) fn not_theirs() -> Self {
        Self::new(StatusCode::FORBIDDEN, "This session is not yours")
    }

    /// 409: it can be done once something else has been done; the text says what is in the way.
    pub(crate) fn conflict(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, text)
    }

    pub(crate) fn no_game() -> Self {
        Self::bad("No game started")
    }

    pub(crate) fn wrong_method(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed") }
    }

    /// The body of the answer.
    pub(crate) fn body(&self) -> Box<RawValue> {
        serde_json::value::to_raw_value(&json!({ "error": self.text })).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }

    /// 503: this bridge can't do it now; another one may.
    fn busy(retry: u32) -> Self {
        Self { retry: Some(retry), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "gm-bridge is busy") }
    }

    /// 503: another bridge took the start for dead, or the session was cancelled meanwhile.
    pub(crate) fn interrupted() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the start was interrupted")
    }

    /// 503: what it needs of NATS is not to be had. The cause is logged here, once.
    pub(crate) fn nats(error: &(dyn Error + 'static)) -> Self {
        tracing::warn!(error = chain(error), "a request failed for want of nats");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "NATS is not connected")
    }

    /// 502, or 400 where the Game Master refuses for a reason of its own.
    pub(crate) fn game_master(error: &RequestError, text: &'static str) -> Self {
        let unreachable = Self::unreachable(error, text);
        match error {
            RequestError::Refused { reason } => Self::bad(reason.clone()),
            _ => unreachable,
        }
    }

    /// 502, also where the Game Master refuses: the request had nothing in it that could be wrong. The cause is logged
    /// here, once.
    pub(crate) fn unreachable(error: &RequestError, text: &'static str) -> Self {
        tracing::warn!(error = chain(error), "the game master failed a request");
        Self::new(StatusCode::BAD_GATEWAY, text)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        metrics::refused(self.status.as_u16());
        let mut response = (self.status, Json(json!({ "error": self.text }))).into_response();
        if let Some(retry) = self.retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
        }
        if let Some(allow) = self.allow {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl From<InvalidToken> for Refusal {
    fn from(error: InvalidToken) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<BucketError> for Refusal {
    fn from(error: BucketError) -> Self {
        match error {
            // Somebody else wrote again and again.
            BucketError::Conflict { .. } => Self::busy(SOON),
            BucketError::Unavailable { .. } | BucketError::Unknown { .. } => Self::nats(&error),
        }
    }
}

impl From<PoolError> for Refusal {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Busy => {
                Self { retry: Some(ROOM), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()) }
            }
            PoolError::Bucket(error) => error.into(),
            PoolError::Log(_) => Self::nats(&error),
        }
    }
}

impl From<ArenaError> for Refusal {
    fn from(error: ArenaError) -> Self {
        match error {
            ArenaError::Publish(PublishError::TooLarge) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "the content is larger than NATS takes")
            }
            error => Self::nats(&error),
        }
    }
}

impl From<ActionError> for Refusal {
    fn from(error: ActionError) -> Self {
        match error {
            ActionError::NotConnected => Self::nats(&error),
            ActionError::Busy => Self::busy(ROOM),
            ActionError::TooMany => {
                Self { retry: Some(ROOM), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too many actions are running") }
            }
            ActionError::QuotaUsedUp => {
                Self::conflict("The session's quota is used up: delete it, or play on in another one")
            }
            ActionError::Over => Self::conflict("The session is over"),
            ActionError::Superseded => Self::new(StatusCode::SERVICE_UNAVAILABLE, "another action took over"),
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_for_now_is_told_when_to_come_back() {
        let table: [(Refusal, u16, Option<&str>); 6] = [
            (ActionError::Busy.into(), 503, Some("10")),
            (ActionError::TooMany.into(), 429, Some("10")),
            (PoolError::Busy.into(), 503, Some("10")),
            (ActionError::Superseded.into(), 503, Some("1")),
            (ActionError::NotConnected.into(), 503, Some("1")),
            (ActionError::QuotaUsedUp.into(), 409, None),
        ];
        for (refusal, status, retry) in table {
            let answer = refusal.clone().into_response();
            let said = answer.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!((answer.status().as_u16(), said), (status, retry), "{refusal:?}");
        }
    }
}
