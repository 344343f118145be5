//! What bridges know of each other's starts: the record of one, with its answer.

use axum::response::{IntoResponse, Response};
use herald_protocol::SessionId;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::refusal::Refusal;

/// The record of a session's last start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct StartRecord {
    /// Who runs it: another name for each start.
    #[serde(default)]
    pub(super) starter: String,
    /// What it was answered; none while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<Answer>,
}

/// The answer to a start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    status: u16,
    body: Box<RawValue>,
    /// When it is worth trying again, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<u32>,
}

/// The key of a session's start in the bucket `SESSIONS`. No session id has a dot.
pub(crate) fn start_key(session: &SessionId) -> String {
    format!("{session}.start")
}

impl StartRecord {
    /// Whether there is no answer yet.
    pub(crate) const fn is_running(&self) -> bool {
        self.answer.is_none()
    }

    /// Whether it runs, and the `_action` with that message id is its own.
    pub(crate) fn has_claimed(&self, message_id: Option<&str>) -> bool {
        self.is_running() && !self.starter.is_empty() && message_id.is_some_and(|id| id.starts_with(&self.starter))
    }
}

impl Answer {
    pub(super) fn of(result: Result<Box<RawValue>, Refusal>) -> Self {
        match result {
            Ok(body) => Self { status: StatusCode::OK.as_u16(), body, retry: None },
            Err(refusal) => Self { status: refusal.status.as_u16(), body: refusal.body(), retry: refusal.retry },
        }
    }

    pub(super) const fn outcome(&self) -> &'static str {
        match self.status {
            200 => "started",
            400 => "refused",
            502 => "unreachable",
            _ => "unavailable",
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let mut response = (status, json, String::from(Box::<str>::from(self.body))).into_response();
        if let Some(retry) = self.retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
        }
        response
    }
}
