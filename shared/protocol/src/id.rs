//! Tokens from outside, validated once: session ids, event types, configured names, instance ids, path segments.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest session id and event type, in bytes.
pub const MAX_TOKEN: usize = 64;
/// Longest topic, in bytes.
pub const MAX_TOPIC: usize = 128;
/// Longest path segment, in bytes (after decoding).
pub const MAX_SEGMENT: usize = 128;

/// Why a token was refused. The text names the rule and never repeats the input, which may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind}: expected {rule}")]
pub struct InvalidToken {
    kind: &'static str,
    rule: &'static str,
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates the whole of `text`.
            ///
            /// # Errors
            /// [`InvalidToken`] where the text breaks the rule of the type.
            pub fn new(text: &str) -> Result<Self, InvalidToken> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(InvalidToken { kind: $kind, rule: $rule }) }
            }

            /// The token as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidToken;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(de::Error::custom)
            }
        }
    };
}

token!(
    /// One game run. `[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}` for the whole string, so it is always exactly one subject token.
    SessionId,
    "session id",
    "1 to 64 letters, digits, '_' or '-', the first a letter or digit",
    |text| valid_session_id(text)
);

token!(
    /// What kind of event it is: the third token of `gm.<sid>.<type>`. Same alphabet as a session id, so a name that
    /// starts with `_` (control events, formed by Herald alone) can't come from outside.
    EventType,
    "event type",
    "1 to 64 letters, digits, '_' or '-', the first a letter or digit",
    |text| token_of(text, MAX_TOKEN, |byte| byte == b'_' || byte == b'-')
);

token!(
    /// What an event from outside is about: `chat.message`. Tokens like an event type's, joined by dots: it reaches out of no
    /// session, and a control topic, whose first character is `_`, is none.
    Topic,
    "topic",
    "words of letters, digits, '_' or '-', each begun by a letter or digit and at most 64 long, joined by '.', 128 bytes in all",
    |text| text.len() <= MAX_TOPIC
        && text.split('.').all(|word| token_of(word, MAX_TOKEN, |byte| byte == b'_' || byte == b'-'))
);

token!(
    /// A name that an operator chose in the configuration: a root, a service, a door. `[a-z][a-z0-9-]{0,31}`.
    Name,
    "name",
    "1 to 32 lower-case letters, digits or '-', the first a letter",
    |text| {
        text.len() <= 32
            && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    }
);

token!(
    /// One running process (an edge, a bridge). `[A-Za-z0-9_-]{1,64}`.
    InstanceId,
    "instance id",
    "1 to 64 letters, digits, '_' or '-'",
    |text| {
        (1..=MAX_TOKEN).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    }
);

token!(
    /// A decoded path segment that may be passed on to an upstream: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`. No slash, no
    /// leading dot, no control character: it can't name anything but one entry of one folder.
    Segment,
    "path segment",
    "1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit",
    |text| token_of(text, MAX_SEGMENT, |byte| matches!(byte, b'.' | b'_' | b'-'))
);

impl EventType {
    /// The type of an event as its source wrote it, or `unknown` where that is no valid token.
    #[must_use]
    pub fn from_wire(text: &str) -> Self {
        Self::new(text).unwrap_or_else(|_| Self("unknown".into()))
    }
}

/// How the id of a fork begins.
const FORK: &str = "fork-";

impl SessionId {
    /// The id of a fork. `id` is 32 characters of which ids are made, and no other fork's.
    #[must_use]
    pub fn fork(id: &str) -> Self {
        debug_assert!(valid_session_id(id) && id.len() == 32);
        Self(format!("{FORK}{id}").into())
    }

    /// Whether it says that it is a fork's: only of those is it asked what they were made of.
    #[must_use]
    pub fn is_fork(&self) -> bool {
        self.0.starts_with(FORK)
    }
}

/// Whether `text` is a session id, without building one: the test on the hot path of an edge.
#[must_use]
pub fn valid_session_id(text: &str) -> bool {
    token_of(text, MAX_TOKEN, |byte| byte == b'_' || byte == b'-')
}

fn token_of(text: &str, longest: usize, also: fn(u8) -> bool) -> bool {
    text.len() <= longest
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || also(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_id_of_a_fork_says_so() {
        let fork = SessionId::fork("0123456789abcdef0123456789abcdef");
        assert!(fork.is_fork() && valid_session_id(fork.as_str()));
        assert!(!SessionId::new("table-1").unwrap().is_fork() && !SessionId::new("fork").unwrap().is_fork());
    }

    #[test]
    fn session_ids_are_one_token_of_at_most_64_bytes() {
        for good in ["a", "0", "5e551040-0000-4000-8000-00000000000a", "A_b-c", &"x".repeat(64)] {
            assert!(SessionId::new(good).is_ok(), "{good}");
        }
        for bad in ["", &"x".repeat(65), "a.b", "*", ">", "abc\n", "\0", "🎲", "_a", "-a", "a b", "é", "a/b", "a%00"]
        {
            assert!(SessionId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_event_type_from_outside_is_a_token_or_unknown() {
        assert_eq!(EventType::from_wire("llm_text").as_str(), "llm_text");
        for odd in ["_action", "a.b", "", "*", ">", "x y", &"x".repeat(65)] {
            assert_eq!(EventType::from_wire(odd).as_str(), "unknown", "{odd:?}");
        }
    }

    #[test]
    fn a_topic_is_words_joined_by_dots_and_never_a_control_topic() {
        for good in
            ["message", "chat.message", "agent.7.out_put", "a-b.C", &format!("{0}.{1}", "x".repeat(64), "y".repeat(63))]
        {
            assert!(Topic::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "_key",
            "_key.x",
            "a._b",
            "*",
            "a.>",
            "a b",
            "a\n",
            "\0",
            "é",
            "-a",
            "a/b",
            &"x".repeat(65),
            &["x"; 65].join("."),
        ] {
            assert!(Topic::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_segment_stays_in_its_folder() {
        assert!(Segment::new("real.png").is_ok());
        for bad in ["..", ".hidden", "../state", "a/b", "real.png\0", &"x".repeat(129), ""] {
            assert!(Segment::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_and_instances_have_their_own_alphabets() {
        assert!(Name::new("gm").is_ok() && Name::new("Gm").is_err() && Name::new("1a").is_err());
        assert!(InstanceId::new("-edge_1").is_ok() && InstanceId::new("a.b").is_err() && InstanceId::new("").is_err());
    }

    #[test]
    fn json_carries_tokens_as_strings_and_refuses_bad_ones() {
        let id: SessionId = serde_json::from_str("\"abc\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"abc\"");
        assert!(serde_json::from_str::<SessionId>("\"a.b\"").is_err());
        assert!(serde_json::from_str::<SessionId>("5").is_err());
    }

    proptest! {
        #[test]
        fn whatever_parses_is_one_plain_token(text in "\\PC{0,80}|[a-zA-Z0-9_.*>\\-]{0,80}") {
            if let Ok(id) = SessionId::new(&text) {
                prop_assert_eq!(id.as_str(), text.as_str());
                prop_assert!(!text.contains(['.', '*', '>', ' ', '\r', '\n', '\0', '/']));
                prop_assert!((1..=MAX_TOKEN).contains(&text.len()));
            }
            let event_type = EventType::from_wire(&text);
            prop_assert!(!event_type.as_str().starts_with('_') && !event_type.as_str().contains(['.', '*', '>']));
        }
    }
}
