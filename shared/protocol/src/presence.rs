//! Who is there: what edges tell each other, and clients.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::{InstanceId, SessionId};

/// Whom a person is told apart by: a hash of user and role, or of a connection of nobody known. 32 hex digits as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonId(u128);

/// A text that is no [`PersonId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits")]
pub struct InvalidPersonId;

impl PersonId {
    /// That of a hash.
    #[must_use]
    pub const fn new(hash: u128) -> Self {
        Self(hash)
    }
}

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for PersonId {
    type Err = InvalidPersonId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let hash = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        hash.map(Self).ok_or(InvalidPersonId)
    }
}

impl Serialize for PersonId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PersonId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Somebody who is there: one user in one role, however many connections they have, or one connection of nobody known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Whom they are told apart by.
    pub id: PersonId,
    /// Who it is; none: nobody known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    /// What they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Arc<str>>,
    /// What others call them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Since when they are there, ms since 1970.
    pub since: u64,
}

/// What an edge says to all others of who is there by it, on [`crate::subject::presence`].
///
/// What it says is a log of its own, numbered by `n`: a message with `rooms` is the next entry, one without only repeats how far
/// the log has come. Who finds that it missed something asks for the whole, which is said to all, in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its name.
    pub edge: InstanceId,
    /// The number of its last message with changes, this one included.
    pub n: u64,
    /// What has changed; in a part of the whole: what is so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<Room>,
    /// Whether this is a part of all that is so as of `n`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// Who is asked for the whole.
    #[serde(default, skip_serializing_if = "Asks::is_none")]
    pub asks: Asks,
    /// It ends: what it said counts for so long, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_ms: Option<u64>,
}

/// A part of a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which one, from 0.
    pub at: u32,
    /// Of how many.
    pub of: u32,
}

/// Who is asked for the whole of what they have said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asks {
    /// Nobody.
    #[default]
    None,
    /// Everybody: somebody has just come.
    All,
    /// These, by the last word of their subject.
    Of(Vec<InstanceId>),
}

impl Asks {
    /// Whether nobody is asked.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// What is said of one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// The root that the session belongs to: another game may have one of the same name.
    pub root: Arc<str>,
    /// The session.
    pub session: SessionId,
    /// Who is there now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub here: Vec<Arc<Person>>,
    /// Who is there no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<PersonId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = PersonId::new(0xab);
        assert_eq!(id.to_string(), "000000000000000000000000000000ab");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "ab", "000000000000000000000000000000AB", "+00000000000000000000000000000ab", &"0".repeat(33)] {
            assert_eq!(bad.parse::<PersonId>(), Err(InvalidPersonId), "{bad}");
        }
    }

    #[test]
    fn what_is_said_has_these_bytes_and_no_more() {
        let edge = InstanceId::new("edge-1").unwrap();
        let beat = Said { edge, n: 7, rooms: vec![], part: None, asks: Asks::None, ends_ms: None };
        assert_eq!(serde_json::to_string(&beat).unwrap(), r#"{"edge":"edge-1","n":7}"#);
        let ann = Person { id: PersonId::new(1), user: Some("ann".into()), role: None, name: None, since: 5 };
        let room = Room {
            root: "gm".into(),
            session: SessionId::new("s").unwrap(),
            here: vec![Arc::new(ann)],
            gone: vec![PersonId::new(2)],
        };
        let of = vec![InstanceId::new("x").unwrap()];
        let said = Said { rooms: vec![room], part: Some(Part { at: 0, of: 1 }), asks: Asks::Of(of), ..beat.clone() };
        let text = serde_json::to_string(&said).unwrap();
        assert_eq!(
            text,
            r#"{"edge":"edge-1","n":7,"rooms":[{"root":"gm","session":"s","here":[{"id":"00000000000000000000000000000001","user":"ann","since":5}],"gone":["00000000000000000000000000000002"]}],"part":{"at":0,"of":1},"asks":{"of":["x"]}}"#
        );
        assert_eq!(serde_json::from_str::<Said>(&text).unwrap(), said);
        assert_eq!(serde_json::from_str::<Said>(r#"{"edge":"edge-1","n":7}"#).unwrap(), beat);
        let all = r#"{"edge":"e","n":0,"asks":"all","ends_ms":5}"#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Said>(all).unwrap()).unwrap(), all);
    }
}
