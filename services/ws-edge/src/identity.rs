//! Who somebody is, and what that allows.
//!
//! A listener with `auth = "jwt"` asks for a token: [`token`] finds it in a request, [`Verifier`] verifies it by a secret or by the
//! keys of a JWKS. A socket that came without one introduces itself in its first frame; a connection
//! lives as long as its token says ([`Lease`]). Who is refused is told why, by [`Refusal`], and never learns more than that.
//!
//! Invariants: nothing of a session, its past included, is read before [`Identity::may_open`] has said yes, which is asked in
//! one place (`route.rs`); a token is in no log and goes on to nobody.

use std::{sync::Arc, time::SystemTime};

use herald_protocol::{Grant, SessionId};
use herald_runtime::http_over_nats::Caller;
use serde_json::{Map, Value};

mod crypto;
mod introduction;
mod keys;
mod keyset;
mod lease;
mod refusal;
pub mod token;
mod verify;

#[cfg(test)]
pub(crate) mod forge;

pub(crate) use introduction::{Unheard, hear};
pub(crate) use keys::url as jwks_url;
pub use lease::{Heard, Lease, LetIn};
pub use refusal::Refusal;
pub use verify::{InvalidJwt, Verifier};

/// Who is at the other end of a request.
#[derive(Debug, Clone)]
pub enum Identity {
    /// Nobody was asked: the listener takes everybody as they come, and shows them everything it has.
    Anonymous,
    /// Somebody whose token was verified.
    Known(Arc<Claims>),
}

/// What a verified token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who it is, and what they may open.
    pub caller: Caller,
    /// Until when this is so.
    pub expires: SystemTime,
    /// Whether it says at all what they may open. Where it does not, they may open nothing, unless an engine says so.
    pub names_sessions: bool,
    /// Further claims that engines are told (`jwt.admission_claims`).
    pub further: Map<String, Value>,
}

impl Claims {
    /// Whether it says the same, but for how long that is so.
    #[must_use]
    pub fn say_the_same(&self, other: &Self) -> bool {
        (&self.caller, self.names_sessions, &self.further) == (&other.caller, other.names_sessions, &other.further)
    }

    /// Whether an engine may be asked to let them watch what they ask for: where they name sessions, it has to be one of those,
    /// and where an alias may stand for any, it has to be all.
    #[must_use]
    pub fn may_ask_for(&self, session: Option<&SessionId>, alias: bool) -> bool {
        let named = if alias {
            *self.caller.sessions() == Grant::All
        } else {
            session.is_none_or(|session| self.caller.may_open(session))
        };
        named || !self.names_sessions
    }
}

impl Identity {
    /// Who it is, where that is known.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.claims().map(|claims| claims.caller.user())
    }

    /// What they are, where their token says it.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.claims().and_then(|claims| claims.caller.role())
    }

    /// Whether they may watch this session, its past included.
    #[must_use]
    pub fn may_open(&self, session: &SessionId) -> bool {
        self.claims().is_none_or(|claims| claims.caller.may_open(session))
    }

    /// Whether an engine may be asked to let them watch this.
    #[must_use]
    pub fn may_ask_for(&self, session: Option<&SessionId>, alias: bool) -> bool {
        self.claims().is_none_or(|claims| claims.may_ask_for(session, alias))
    }

    /// Whether they may watch every session there is: what an alias shows may be any of them.
    #[must_use]
    pub fn may_open_all(&self) -> bool {
        self.claims().is_none_or(|claims| *claims.caller.sessions() == Grant::All)
    }

    /// What was verified, where anything was.
    #[must_use]
    pub const fn claims(&self) -> Option<&Arc<Claims>> {
        match self {
            Self::Anonymous => None,
            Self::Known(claims) => Some(claims),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_own_sessions_and_where_nobody_is_asked_everything_is_open() {
        let id = |text| SessionId::new(text).unwrap();
        let known = |sessions: &str| {
            let caller = Caller::new("ann", Some("player"), sessions.parse().unwrap()).unwrap();
            let (expires, further) = (SystemTime::now(), Map::new());
            Identity::Known(Arc::new(Claims { caller, expires, names_sessions: true, further }))
        };
        let ann = known("one,two");
        assert_eq!((ann.user(), ann.role()), (Some("ann"), Some("player")));
        assert!(ann.may_open(&id("one")) && !ann.may_open(&id("three")) && !ann.may_open_all());
        assert!(known("*").may_open(&id("three")) && known("*").may_open_all() && !known("").may_open(&id("one")));
        let anybody = Identity::Anonymous;
        assert!(anybody.may_open(&id("one")) && anybody.may_open_all());
        assert_eq!((anybody.user(), anybody.role()), (None, None));
    }

    #[test]
    fn an_engine_is_asked_for_what_a_token_allows_or_says_nothing_of() {
        let (one, three) = (SessionId::new("one").unwrap(), SessionId::new("three").unwrap());
        let known = |sessions: &str, names_sessions| {
            let caller = Caller::new("ann", None, sessions.parse().unwrap()).unwrap();
            let (expires, further) = (SystemTime::now(), Map::new());
            Identity::Known(Arc::new(Claims { caller, expires, names_sessions, further }))
        };
        for (identity, asks_for_one, asks_for_three, for_any, by_alias) in [
            (known("one,two", true), true, false, true, false),
            (known("", true), false, false, true, false),
            (known("*", true), true, true, true, true),
            (known("", false), true, true, true, true),
            (Identity::Anonymous, true, true, true, true),
        ] {
            assert_eq!(identity.may_ask_for(Some(&one), false), asks_for_one, "{identity:?}");
            assert_eq!(identity.may_ask_for(Some(&three), false), asks_for_three, "{identity:?}");
            assert_eq!(identity.may_ask_for(None, false), for_any, "{identity:?}");
            assert_eq!(identity.may_ask_for(Some(&one), true), by_alias, "{identity:?}");
        }
    }
}
