//! What a request is answered when it is not done: a status and one sentence, as `{"error":"<text>"}`.

use std::borrow::Cow;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use herald_protocol::id::InvalidToken;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::metrics;

/// When it is worth trying again where NATS was away or busy, in seconds.
const RETRY: u32 = 1;

/// The answer to a request that is not done. Its text is for the client: no address, subject or path of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: Cow<'static, str>,
    /// What it is counted under: one of few.
    pub(crate) reason: &'static str,
    /// For a wrong method: the right ones.
    allow: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into(), reason, allow: None }
    }

    /// 400: something about the request is wrong; the text names what.
    pub(crate) fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad", text)
    }

    /// 401: nobody knows who asks.
    pub(crate) fn unknown(text: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unidentified", text)
    }

    /// 403: it is known who asks, and they may not.
    pub(crate) fn forbidden(text: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", text)
    }

    /// 413: there is too much of something.
    pub(crate) fn too_large(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
    }

    /// 415: the body is of a kind that nobody here reads.
    pub(crate) fn unsupported(text: &'static str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported", text)
    }

    /// 503: not now.
    pub(crate) fn unavailable(reason: &'static str, text: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, text)
    }

    pub(crate) fn wrong_method(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Method not allowed") }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        metrics::refused(self.status, self.reason);
        let mut response = (self.status, Json(json!({ "error": self.text }))).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY));
            }
            _ => {}
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl From<InvalidToken> for Refusal {
    fn from(error: InvalidToken) -> Self {
        Self::bad(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_http_wants_beside_the_sentence() {
        let header = |refusal: Refusal, name| {
            let response = refusal.into_response();
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        assert_eq!(header(Refusal::unknown("who?"), header::WWW_AUTHENTICATE).as_deref(), Some("Bearer"));
        assert_eq!(header(Refusal::unavailable("away", "not now"), header::RETRY_AFTER).as_deref(), Some("1"));
        assert_eq!(header(Refusal::wrong_method("POST"), header::ALLOW).as_deref(), Some("POST"));
        assert_eq!(header(Refusal::bad("no"), header::RETRY_AFTER), None);
        let text = Refusal::from(herald_protocol::SessionId::new("a.b").unwrap_err()).text;
        assert!(text.starts_with("invalid session id: expected "), "{text}");
    }
}
