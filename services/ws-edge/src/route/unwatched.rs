//! Why somebody can't watch what they ask for, and what they are told.

use herald_protocol::Close;
use http::StatusCode;

use crate::{
    admission,
    answer::{self, Answer},
    identity::Refusal,
    limits,
};

/// Why somebody can't watch.
pub(super) enum Unwatched {
    /// They may not, or it is not known whether they may.
    Refused(Refusal),
    /// The engine that was asked does not let them in.
    NotAdmitted(admission::Refusal),
    /// There can't be such a session.
    NoSession,
    /// The stream is not served now.
    NotReady,
    /// It would be over a limit.
    OverLimit(limits::Refusal),
    /// As many pasts are played again as may be.
    Busy,
}

impl Unwatched {
    pub(super) fn answer(self) -> Box<Answer> {
        match self {
            Self::Refused(refusal) => refusal.answer(),
            Self::NotAdmitted(refusal) => refusal.answer(),
            Self::NoSession => answer::error(StatusCode::NOT_FOUND, "No such session"),
            Self::NotReady => answer::unavailable("Not ready"),
            Self::OverLimit(refusal) => refusal.answer(),
            Self::Busy => answer::unavailable("Too many others replay a session"),
        }
        .into()
    }

    pub(super) fn close(self) -> Close {
        match self {
            Self::Refused(refusal) => refusal.close(),
            Self::NotAdmitted(refusal) => refusal.close(),
            Self::NoSession => Close::NoSession,
            Self::NotReady => Close::TryLater("not ready"),
            Self::OverLimit(refusal) => refusal.close(),
            Self::Busy => Close::TryLater("too many others replay a session"),
        }
    }
}
