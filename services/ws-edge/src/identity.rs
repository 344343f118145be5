//! Who somebody is, and what that allows.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use herald_protocol::SessionId;

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
    /// Who it is.
    pub user: Box<str>,
    /// What they are, if the token says it.
    pub role: Option<Box<str>>,
    /// Which sessions they may open.
    pub sessions: Sessions,
    /// Until when all this is so.
    pub expires: SystemTime,
}

/// The sessions that somebody may open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sessions {
    /// All there are and will be.
    All,
    /// These.
    These(BTreeSet<SessionId>),
}

impl Identity {
    /// Who it is, where that is known.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.claims().map(|claims| &*claims.user)
    }

    /// What they are, where their token says it.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.claims().and_then(|claims| claims.role.as_deref())
    }

    /// Whether they may watch this session, its past included.
    #[must_use]
    pub fn may_open(&self, session: &SessionId) -> bool {
        self.claims().is_none_or(|claims| claims.sessions.has(session))
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

impl Sessions {
    /// Whether `session` is one of them.
    #[must_use]
    pub fn has(&self, session: &SessionId) -> bool {
        match self {
            Self::All => true,
            Self::These(sessions) => sessions.contains(session),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(sessions: Sessions) -> Identity {
        let role = Some("player".into());
        Identity::Known(Arc::new(Claims { user: "ann".into(), role, sessions, expires: SystemTime::now() }))
    }

    #[test]
    fn a_token_opens_its_own_sessions_and_no_other() {
        let id = |text| SessionId::new(text).unwrap();
        let ann = known(Sessions::These([id("one"), id("two")].into()));
        assert_eq!((ann.user(), ann.role()), (Some("ann"), Some("player")));
        assert!(ann.may_open(&id("one")) && ann.may_open(&id("two")));
        for other in ["three", "One", "one-", "on", "onee"] {
            assert!(!ann.may_open(&id(other)), "{other}");
        }
        assert!(!known(Sessions::These(BTreeSet::new())).may_open(&id("one")));
        assert!(known(Sessions::All).may_open(&id("one")));
    }

    #[test]
    fn where_nobody_is_asked_everything_is_open() {
        let anybody = Identity::Anonymous;
        assert!(anybody.may_open(&SessionId::new("one").unwrap()));
        assert_eq!((anybody.user(), anybody.role()), (None, None));
    }
}
