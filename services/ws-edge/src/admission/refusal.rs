//! Why somebody is not let in by an engine, in words, codes and numbers.

use std::sync::Arc;

use herald_protocol::Close;
use herald_runtime::questions::Unanswered;
use http::{HeaderValue, StatusCode, header::WWW_AUTHENTICATE};

use crate::answer::{self, Answer};

/// Who it is is not known well enough.
const NOT_IDENTIFIED: u16 = 4401;
/// What an engine means that says no, and not why.
pub(super) const NOT_ALLOWED: u16 = 4403;
/// There is nothing of that name.
const NO_SESSION: u16 = 4404;

/// What is said where nobody could say anything.
const NO_ANSWER: &str = "admission cannot be answered now";

/// Why an engine does not let somebody in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It says so.
    #[error("refused with {code}")]
    Said {
        /// 4401, 4403, 4404, or another code of its own.
        code: u16,
        /// Why, at most 123 bytes without control characters; `None`: nothing that can be passed on.
        reason: Option<Arc<str>>,
    },
    /// It says nothing that can be understood, and whoever is not let in stays outside.
    #[error("not answered: {}", .0.reason())]
    Unanswered(Silence),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// NATS is away.
    NotConnected,
    /// No engine listens.
    NoResponders,
    /// None answered in time.
    Timeout,
    /// So many questions waited that its turn did not come in time.
    TooMany,
    /// The question could not be sent.
    NotSent,
    /// What came is no answer.
    Invalid,
    /// It let somebody in who asked for no session, and named none.
    NoSession,
}

impl From<Unanswered> for Silence {
    fn from(error: Unanswered) -> Self {
        match error {
            Unanswered::NotConnected => Self::NotConnected,
            Unanswered::NoResponders => Self::NoResponders,
            Unanswered::Timeout => Self::Timeout,
            Unanswered::Send(_) => Self::NotSent,
        }
    }
}

impl Silence {
    /// Its name in metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::NoResponders => "no_responders",
            Self::Timeout => "timeout",
            Self::TooMany => "too_many",
            Self::NotSent => "not_sent",
            Self::Invalid => "invalid",
            Self::NoSession => "no_session_named",
        }
    }
}

impl Refusal {
    /// All names in metrics, to be shown before any of it happens.
    pub(super) const REASONS: [&'static str; 11] = [
        "not_identified",
        "not_allowed",
        "no_session",
        "other",
        "not_connected",
        "no_responders",
        "timeout",
        "too_many",
        "not_sent",
        "invalid",
        "no_session_named",
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Said { code: NOT_IDENTIFIED, .. } => "not_identified",
            Self::Said { code: NOT_ALLOWED, .. } => "not_allowed",
            Self::Said { code: NO_SESSION, .. } => "no_session",
            Self::Said { .. } => "other",
            Self::Unanswered(silence) => silence.reason(),
        }
    }

    /// The close frame that says it: browsers see nothing else of a socket.
    #[must_use]
    pub fn close(&self) -> Close {
        match self {
            Self::Said { code, .. } => Close::Refused { code: *code, reason: self.text() },
            Self::Unanswered(_) => Close::TryLater(NO_ANSWER),
        }
    }

    /// The answer that says it.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let Self::Said { code, .. } = self else { return answer::unavailable("Admission cannot be answered now") };
        let status = match *code {
            NOT_IDENTIFIED => StatusCode::UNAUTHORIZED,
            NO_SESSION => StatusCode::NOT_FOUND,
            _ => StatusCode::FORBIDDEN,
        };
        // The code too: of an engine's own ones the status says little.
        let mut answer = answer::error_with_code(status, &self.text(), *code);
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }

    fn text(&self) -> Arc<str> {
        match self {
            Self::Said { reason: Some(reason), .. } => reason.clone(),
            Self::Said { code: NOT_IDENTIFIED, .. } => "Not identified".into(),
            Self::Said { code: NO_SESSION, .. } => "No such session".into(),
            Self::Said { .. } => "Not allowed".into(),
            Self::Unanswered(_) => NO_ANSWER.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_hear_the_engines_code_and_requests_the_status_it_stands_for() {
        for (code, reason, status, text) in [
            (4401, None, 401, "Not identified"),
            (4403, Some("This table is full"), 403, "This table is full"),
            (4404, None, 404, "No such session"),
            (4444, None, 403, "Not allowed"),
        ] {
            let refusal = Refusal::Said { code, reason: reason.map(Arc::from) };
            let (close, answer) = (refusal.close(), refusal.answer());
            assert_eq!((close.code(), close.reason().as_str(), answer.status().as_u16()), (code, text, status));
            assert_eq!(answer.headers().contains_key(WWW_AUTHENTICATE), status == 401);
        }
        let silent = Refusal::Unanswered(Silence::Timeout);
        assert_eq!((silent.close().code(), silent.answer().status().as_u16()), (1013, 503));
        assert!(silent.answer().headers().contains_key("retry-after"));
    }
}
