//! Which sessions somebody may open.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::id::{InvalidToken, SessionId};

/// What stands for all sessions.
const ALL: &str = "*";

/// Which sessions somebody may open: watch, with all of their past, and play in. As text `*`, or ids separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// All there are and will be.
    All,
    /// These, which may be none.
    Sessions(BTreeSet<SessionId>),
}

impl Grant {
    /// Whether `session` is one of them.
    #[must_use]
    pub fn allows(&self, session: &SessionId) -> bool {
        match self {
            Self::All => true,
            Self::Sessions(sessions) => sessions.contains(session),
        }
    }

    /// Whether it allows everything that `other` allows.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Sessions(_), Self::All) => false,
            (Self::Sessions(these), Self::Sessions(those)) => these.is_superset(those),
        }
    }

    /// The grant that a list of ids makes, `*` among them meaning all.
    ///
    /// # Errors
    /// Where one of them is no session id.
    pub fn of<'a>(ids: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidToken> {
        let (mut all, mut sessions) = (false, BTreeSet::new());
        for id in ids {
            if id == ALL {
                all = true;
            } else {
                sessions.insert(SessionId::new(id)?);
            }
        }
        Ok(if all { Self::All } else { Self::Sessions(sessions) })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = match self {
            Self::All => return f.write_str(ALL),
            Self::Sessions(sessions) => sessions,
        };
        for (at, session) in sessions.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{session}")?;
        }
        Ok(())
    }
}

impl FromStr for Grant {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() { Self::of([]) } else { Self::of(text.split(',')) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> Grant {
        text.parse().unwrap()
    }

    #[test]
    fn a_grant_allows_its_own_sessions_and_no_other() {
        let id = |text| SessionId::new(text).unwrap();
        let two = grant("one,two");
        assert!(two.allows(&id("one")) && two.allows(&id("two")) && grant("*").allows(&id("three")));
        for other in ["three", "One", "one-", "on", "onee"] {
            assert!(!two.allows(&id(other)) && !grant("").allows(&id(other)), "{other}");
        }
    }

    #[test]
    fn grants_read_back_as_they_are_written() {
        for text in ["", "*", "a", "a,b,c"] {
            assert_eq!(grant(text).to_string(), text);
        }
        assert_eq!((grant("a,*"), grant("b,a,b")), (Grant::All, grant("a,b")));
        for bad in [",", "a,", "a.b", "a b", "**", "a*", ">", "a,\n", " a"] {
            assert!(bad.parse::<Grant>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_wider_grant_covers_a_narrower_one() {
        for (wide, narrow, covers) in [
            ("*", "*", true),
            ("*", "a", true),
            ("a", "*", false),
            ("a,b", "a", true),
            ("a", "a,b", false),
            ("a", "", true),
            ("", "", true),
            ("a", "b", false),
        ] {
            assert_eq!(grant(wide).covers(&grant(narrow)), covers, "{wide} {narrow}");
        }
    }
}
