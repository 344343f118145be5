//! Responses the door gives itself: errors as the contract has them, `{"error":"<text>"}`.

use axum::body::Body;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
};

/// What the door answers with.
pub type Answer = Response<Body>;

/// `no-store`: nothing between us and the player keeps an answer that may be another one the next time.
pub const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The same answer, which no browser takes for something else than it says it is: what an engine serves as a picture is no page.
#[must_use]
pub fn taken_at_its_word(mut answer: Answer) -> Answer {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    answer
}

/// A JSON answer.
#[must_use]
pub fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    let mut answer = Response::new(Body::from(value.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    answer
}

/// 204: there is nothing (more) to be had. An `EventSource` that gets it does not come back.
#[must_use]
pub fn no_content() -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    answer
}

/// An error, with a text for people.
#[must_use]
pub fn error(status: StatusCode, text: &str) -> Answer {
    json(status, &serde_json::json!({ "error": text }))
}

/// An error after which the connection is of no use: what comes next on it may be anything.
#[must_use]
pub fn closing(status: StatusCode, text: &str) -> Answer {
    let mut answer = error(status, text);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// 400, naming what is wrong.
#[must_use]
pub fn bad_request(text: &str) -> Answer {
    error(StatusCode::BAD_REQUEST, text)
}

/// 404: there is nothing of that name.
#[must_use]
pub fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "Not found")
}

/// 405, with what is allowed.
#[must_use]
pub fn method_not_allowed(allow: &'static str) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

/// 503, to be tried again in a second.
#[must_use]
pub fn unavailable(text: &str) -> Answer {
    let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, text);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}
