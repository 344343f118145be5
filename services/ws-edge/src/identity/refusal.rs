//! Why somebody is not let in, in words, codes and numbers.

use herald_protocol::Close;
use http::{HeaderValue, StatusCode, header::WWW_AUTHENTICATE};

use crate::answer::{self, Answer};

/// Why somebody is not let in. What is wrong with a token is said as exactly as its bearer could find out by reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no token, or none came in time.
    Missing,
    /// There are several, which may be anybody's.
    Several,
    /// It is no token.
    Malformed,
    /// Signed in a way that is not accepted here.
    Algorithm,
    /// Signed with a key that nobody here knows.
    UnknownKey,
    /// The signature is not that of its key.
    Signature,
    /// It has expired, or has no time at which it does.
    Expired,
    /// It is not valid yet.
    Early,
    /// Made by somebody else.
    Issuer,
    /// Made for somebody else.
    Audience,
    /// It does not say who its bearer is, or what they may open, in a way that can be understood.
    Claims,
    /// It is not for this session.
    Session,
    /// It is not for what operators alone may see.
    NoOperator,
    /// The one that is to renew another one is somebody else's.
    OtherUser,
    /// The one that is to renew another one allows less.
    Narrower,
    /// A connection's token expired and no other one came.
    Outlived,
    /// The keys could not be read yet: nobody can be let in.
    NoKeys,
}

impl Refusal {
    /// Its name in metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Several => "several",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claims => "claims",
            Self::Session => "session",
            Self::NoOperator => "no_operator",
            Self::OtherUser => "other_user",
            Self::Narrower => "narrower",
            Self::Outlived => "outlived",
            Self::NoKeys => "no_keys",
        }
    }

    /// One sentence for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Missing => "A token is needed",
            Self::Several => "More than one token was given",
            Self::Malformed => "The token is malformed",
            Self::Algorithm => "The token's algorithm is not accepted",
            Self::UnknownKey => "The token's key is not known",
            Self::Signature => "The token's signature is not valid",
            Self::Expired => "The token has expired",
            Self::Early => "The token is not valid yet",
            Self::Issuer => "The token's issuer is not accepted",
            Self::Audience => "The token is for another audience",
            Self::Claims => "The token's claims are not valid",
            Self::Session => "This session is not yours to open",
            Self::NoOperator => "This is for operators",
            Self::OtherUser => "The new token is another user's",
            Self::Narrower => "The new token allows less than the old one",
            Self::Outlived => "The token has expired",
            Self::NoKeys => "Tokens can't be verified now",
        }
    }

    /// The close frame that says it. Browsers never see the status of a handshake that failed, only how a socket was closed.
    #[must_use]
    pub fn close(self) -> Close {
        self.count();
        match self {
            Self::Session | Self::NoOperator | Self::OtherUser | Self::Narrower => Close::NotAllowed(self.text()),
            Self::NoKeys => Close::TryLater(self.text()),
            _ => Close::NotIdentified(self.text()),
        }
    }

    /// The answer that says it.
    #[must_use]
    pub fn answer(self) -> Answer {
        self.count();
        let (status, challenge) = match self {
            Self::NoKeys => return answer::unavailable(self.text()),
            Self::Session | Self::NoOperator | Self::OtherUser | Self::Narrower => {
                (StatusCode::FORBIDDEN, r#"Bearer error="insufficient_scope""#)
            }
            Self::Missing => (StatusCode::UNAUTHORIZED, "Bearer"),
            _ => (StatusCode::UNAUTHORIZED, r#"Bearer error="invalid_token""#),
        };
        let mut answer = answer::error(status, self.text());
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        answer
    }

    fn count(self) {
        metrics::counter!("herald_auth_refused_total", "reason" => self.reason()).increment(1);
        tracing::debug!(reason = self.reason(), "not let in");
    }
}
