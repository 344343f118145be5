//! Who sent a request.

use std::sync::Arc;

use herald_protocol::{Grant, SessionId};

/// Longest name of a user or a role, in bytes.
const LONGEST: usize = 256;

/// Who sent a request, as its door has verified it: an extension of the request, for [`Client`](super::Client) to send along
/// and for the service to read. Where there is none, the door is open to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    user: Arc<str>,
    role: Option<Arc<str>>,
    sessions: Arc<Grant>,
}

/// A name that can't be one of a user or a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to 256 bytes without control characters, and no blank at either end")]
pub struct InvalidCaller;

impl Caller {
    /// A user, what they are, and what they may open.
    ///
    /// # Errors
    /// Where a name is one that could not travel unchanged.
    pub fn new(user: &str, role: Option<&str>, sessions: Grant) -> Result<Self, InvalidCaller> {
        if !is_name(user) || !role.is_none_or(is_name) {
            return Err(InvalidCaller);
        }
        Ok(Self { user: user.into(), role: role.map(Arc::from), sessions: Arc::new(sessions) })
    }

    /// Who it is.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What they are, where their token says it.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    /// Which sessions they may open.
    #[must_use]
    pub fn sessions(&self) -> &Grant {
        &self.sessions
    }

    /// Whether they may open `session`.
    #[must_use]
    pub fn may_open(&self, session: &SessionId) -> bool {
        self.sessions.allows(session)
    }
}

fn is_name(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.trim() == text && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_misread_are_none() {
        let caller = |user: &str, role| Caller::new(user, role, Grant::All);
        assert!(caller("auth0|5f7c", Some("operator")).is_ok() && caller("Zoë Ångström", None).is_ok());
        for bad in ["", " ann", "ann ", "a\r\nHerald-Role: operator", "a\0", "\u{85}", &"x".repeat(257)] {
            assert_eq!(caller(bad, None), Err(InvalidCaller), "{bad:?}");
            assert_eq!(caller("ann", Some(bad)), Err(InvalidCaller), "{bad:?}");
        }
    }
}
