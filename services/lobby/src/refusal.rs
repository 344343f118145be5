//! What a request is answered when it is not done: `{"detail":"<sentence>"}`, or the list of what is wrong with its shape.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{lobby::CreateError, metrics, sessions::ChangeError};

/// The answer to a request that is not done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) detail: Detail,
    /// What it is counted under: one of few.
    reason: &'static str,
}

/// What is said of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Detail {
    Text(&'static str),
    List(Vec<Fault>),
}

/// A field that is not of the shape it must have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Fault {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) loc: Vec<Value>,
    pub(crate) msg: &'static str,
    pub(crate) input: Value,
}

impl Refusal {
    pub(crate) const fn new(status: StatusCode, reason: &'static str, text: &'static str) -> Self {
        Self { status, detail: Detail::Text(text), reason }
    }

    /// 400: a value that is out of bounds.
    pub(crate) const fn bad(text: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "value", text)
    }

    /// 404: nothing is there.
    pub(crate) const fn not_found(text: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", text)
    }

    /// 422: these fields are not of the shape they must have.
    pub(crate) const fn shape(faults: Vec<Fault>) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, detail: Detail::List(faults), reason: "shape" }
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NoSession => Self::not_found("Session not found"),
            ChangeError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy, try again"),
            ChangeError::Away => Self::new(StatusCode::SERVICE_UNAVAILABLE, "away", "Service not available"),
            ChangeError::Unknown => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "unknown", "It is not known whether this was done")
            }
        }
    }
}

impl From<CreateError> for Refusal {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::TooMany => Self::new(StatusCode::TOO_MANY_REQUESTS, "sessions", "Too many sessions"),
            CreateError::Records(error) => error.into(),
        }
    }
}

impl From<herald_runtime::bucket::BucketError> for Refusal {
    fn from(error: herald_runtime::bucket::BucketError) -> Self {
        // What was only read was not half done.
        match ChangeError::from(error) {
            ChangeError::Unknown => ChangeError::Away.into(),
            error => error.into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        metrics::refused(self.status, self.reason);
        let mut response = (self.status, Json(json!({ "detail": self.detail }))).into_response();
        let more = match self.status {
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
            _ => None,
        };
        response.headers_mut().extend(more);
        response
    }
}
