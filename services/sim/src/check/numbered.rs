//! The numbers that events carry, so that each can be told from every other and none can be missing unnoticed.

use std::borrow::Cow;

use herald_protocol::SessionId;
use serde::{Deserialize, Serialize};

use super::notes::hash;
use crate::dice::Dice;

/// The longest padding: a long article.
const ARTICLE: usize = 30_000;

/// One event of a call to a Game Master (`sim gm --numbered`): the `k`-th of `of`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallEvent<'a> {
    /// The event's type. The last one of a call is `result`.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// The call: no other one of any Game Master has this id.
    #[serde(borrow)]
    pub call: Cow<'a, str>,
    /// The Game Master's own id.
    #[serde(borrow)]
    pub g: Cow<'a, str>,
    /// From 0.
    pub k: u32,
    /// How many events the call has in all.
    pub of: u32,
    /// A hash over call, `k` and padding.
    #[serde(borrow)]
    pub h: Cow<'a, str>,
    /// As long as it happens to be.
    #[serde(borrow)]
    pub pad: Cow<'a, str>,
}

impl<'a> CallEvent<'a> {
    /// An event with its hash.
    #[must_use]
    pub fn new(kind: &'a str, (call, g): (&'a str, &'a str), (k, of): (u32, u32), pad: &'a str) -> Self {
        let h = digest(call, k.into(), pad).into();
        Self { kind: kind.into(), call: call.into(), g: g.into(), k, of, h, pad: pad.into() }
    }

    /// Whether the hash is that of the content.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.h == digest(&self.call, self.k.into(), &self.pad)
    }
}

/// One event of the arena as the checker publishes it: the `n`-th of its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArenaEvent<'a> {
    /// From 0.
    pub n: u32,
    /// A hash over session, `n` and padding.
    #[serde(borrow)]
    pub h: Cow<'a, str>,
    /// As long as it happens to be.
    #[serde(borrow)]
    pub pad: Cow<'a, str>,
}

impl<'a> ArenaEvent<'a> {
    /// An event with its hash.
    #[must_use]
    pub fn new(session: &SessionId, n: u32, pad: &'a str) -> Self {
        Self { n, h: digest(session.as_str(), n.into(), pad).into(), pad: pad.into() }
    }

    /// Whether the hash is that of the content, and it belongs to the session.
    #[must_use]
    pub fn is_sound(&self, session: &SessionId) -> bool {
        self.h == digest(session.as_str(), self.n.into(), &self.pad)
    }
}

/// 16 hex digits.
fn digest(whose: &str, number: u64, pad: &str) -> String {
    let parts = [hash(whose.as_bytes()), number, hash(pad.as_bytes())];
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
    format!("{:016x}", hash(&bytes))
}

/// Something to carry: mostly a few words, now and then a paragraph, seldom a whole article.
#[must_use]
pub fn padding(dice: &mut Dice) -> String {
    let length = match dice.roll(0..=999) {
        0 => dice.index(ARTICLE),
        1..=30 => dice.index(4000),
        _ => dice.index(120),
    };
    "abcdefghijklmnopqrstuvwxyz ".chars().cycle().skip(dice.index(27)).take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_event_is_what_the_contract_calls_a_flat_event() {
        let event = CallEvent::new("llm_text", ("c1", "g1"), (3, 9), "xyz");
        let text = serde_json::to_string(&event).unwrap();
        assert!(text.starts_with(r#"{"type":"llm_text","call":"c1","g":"g1","k":3,"of":9,"h":""#), "{text}");
        let read: CallEvent<'_> = serde_json::from_str(&text).unwrap();
        assert!(read.is_sound() && read == event);
        for other in [
            CallEvent { k: 4, ..read.clone() },
            CallEvent { call: "c2".into(), ..read.clone() },
            CallEvent { pad: "xy".into(), ..read.clone() },
        ] {
            assert!(!other.is_sound(), "{other:?}");
        }
    }

    #[test]
    fn an_arena_event_belongs_to_its_session() {
        let (one, other) = (SessionId::new("one").unwrap(), SessionId::new("other").unwrap());
        let text = serde_json::to_string(&ArenaEvent::new(&one, 7, "pad")).unwrap();
        let read: ArenaEvent<'_> = serde_json::from_str(&text).unwrap();
        assert!(read.is_sound(&one) && !read.is_sound(&other));
        assert!(!ArenaEvent { n: 8, ..read }.is_sound(&one));
    }
}
