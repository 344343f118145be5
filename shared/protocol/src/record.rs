//! Records that instances share through JetStream: what a session, a Game Master and a running action are.

use serde::{Deserialize, Serialize};

use crate::{
    id::{InstanceId, SessionId},
    subject::{EventSubject, FORK_TOPIC},
};

/// The language of a game.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lang {
    /// French, the default.
    #[default]
    Fr,
    /// English.
    En,
}

impl Lang {
    /// As it stands in a query.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fr => "fr",
            Self::En => "en",
        }
    }

    /// Reads a query's value; `None` for a language that the games don't speak.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "fr" => Some(Self::Fr),
            "en" => Some(Self::En),
            _ => None,
        }
    }
}

/// Which of the three proposed news the player takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NewsKind {
    /// The real one.
    Real,
    /// The invented one.
    Fake,
    /// The satirical one.
    Satirical,
}

impl NewsKind {
    /// As it stands in a query.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Fake => "fake",
            Self::Satirical => "satirical",
        }
    }

    /// Reads a query's value.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "real" => Some(Self::Real),
            "fake" => Some(Self::Fake),
            "satirical" => Some(Self::Satirical),
            _ => None,
        }
    }
}

/// How far `/init_session` came with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// Never asked.
    #[default]
    None,
    /// Begun; `arena.init` may or may not be out. Whoever finds this repeats the publish.
    Initialising,
    /// Done: another init is a duplicate.
    Ready,
}

/// Whether the arena engine was told of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arena {
    /// Not yet.
    #[default]
    None,
    /// `arena.init` was sent.
    Sent,
}

/// What is known of a session, in the bucket `SESSIONS` under its id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SessionRecord {
    /// How far `/init_session` came.
    #[serde(default)]
    pub init: Init,
    /// Whether `arena.init` was sent.
    #[serde(default)]
    pub arena: Arena,
    /// The language of its last start or init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<Lang>,
    /// The key of the Game Master it plays on, once started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gm: Option<String>,
}

/// What an alias of the bucket `ALIASES` stands for: the session it shows, from behind `after`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasTarget {
    /// The session shown under the alias.
    pub session: SessionId,
    /// Stream sequence: events above it are shown.
    pub after: u64,
}

/// What an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    /// A game starts on a Game Master.
    Start,
    /// The Game Master proposes three news.
    Propose,
    /// The player's choice is resolved.
    Choose,
    /// The running action is stopped.
    Cancel,
    /// The running action's bridge is gone; another one ends it.
    Lost,
}

impl ActionKind {
    /// As it stands in records, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Propose => "propose",
            Self::Choose => "choose",
            Self::Cancel => "cancel",
            Self::Lost => "lost",
        }
    }
}

/// The payload of `gm.<sid>._action`: the control event that opens an action and fences its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionEvent {
    /// Counts the session's actions from 1.
    pub n: u64,
    /// What it is.
    pub kind: ActionKind,
    /// The action before it, which it has to end if that did not end by itself. None for a session's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// What a claim found of the action before it: the way back for whoever has to tell how both ended, should the claimer die
/// before its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Stream sequence of its `_action`.
    pub action: u64,
    /// Stream sequence of the session's last `gm.*` event that was read; later ones may stand between it and the claim.
    pub last: u64,
}

/// The payload of `<root>._purged`: a session is being removed from the stream, in all its roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Whose events.
    pub session: SessionId,
    /// Those up to this stream sequence.
    pub upto: u64,
    /// So many messages, at most.
    pub events: u64,
}

/// The payload of `<root>.<fork>._fork`, a fork's first message: its log begins with another session's, of all roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forked {
    /// Whose log.
    pub session: SessionId,
    /// The first sequence of its own that was kept when the fork was made.
    pub first: u64,
    /// Up to this sequence.
    pub at: u64,
    /// Of how many sessions its log is made of, but for itself.
    pub depth: u32,
}

impl Forked {
    /// A fork of a fork of a fork ... ends here: each costs whoever reads the last one.
    pub const MAX_DEPTH: u32 = 8;

    /// The record in a session's first message; `None` where that is none. What comes later counts for nothing: nobody makes a
    /// session that is there already begin with another one. And it can only speak of what was stored before it.
    #[must_use]
    pub fn read(subject: &str, payload: &[u8], sequence: u64) -> Option<Self> {
        if EventSubject::parse(subject)?.topic != FORK_TOPIC {
            return None;
        }
        let forked: Self = serde_json::from_slice(payload).ok()?;
        (forked.at < sequence && (1..=Self::MAX_DEPTH).contains(&forked.depth)).then_some(forked)
    }
}

/// A command that waits for the running action to end (policy `queue`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingCommand {
    /// `propose` or `choose`.
    pub kind: ActionKind,
    /// In which language.
    pub lang: Lang,
    /// For a choose: which news.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub news: Option<NewsKind>,
}

/// An open action, in the bucket `ACTIONS` under its session's id, rewritten every 2 s by the bridge that runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionRecord {
    /// Number of the action.
    pub n: u64,
    /// Stream sequence of its `_action`.
    pub seq: u64,
    /// What it is about: its kind or, where it ends a lost action, that one's.
    pub kind: ActionKind,
    /// Who runs it.
    pub bridge: InstanceId,
    /// What is to follow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<WaitingCommand>,
    /// Counts the rewritings by the bridge that runs it. A command that was left waiting changes the record too, and must
    /// not be taken for a sign of life.
    #[serde(default)]
    pub beat: u64,
    /// Its bridge went away in order and left `next` behind: whoever sees this takes over at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
    /// Number of the action that it superseded on another bridge, once the runner there has closed its stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_speaks_of_what_was_before_it() {
        let record = |at, depth| {
            let session = SessionId::new("s").unwrap();
            serde_json::to_vec(&Forked { session, first: 1, at, depth }).unwrap()
        };
        let read = |payload: &[u8]| Forked::read("gm.fork-1._fork", payload, 10);
        assert_eq!(read(&record(9, 1)).map(|forked| (forked.at, forked.depth)), Some((9, 1)));
        for (at, depth) in [(10, 1), (9, 0), (9, 9)] {
            assert_eq!(read(&record(at, depth)), None, "{at} {depth}");
        }
        assert_eq!(read(b"{}"), None);
        for other in ["gm.fork-1.phase", "gm.fork-1._fork.x", "gm._fork", ""] {
            assert_eq!(Forked::read(other, &record(9, 1), 10), None, "{other}");
        }
    }

    #[test]
    fn a_session_record_has_the_documented_shape() {
        let record = SessionRecord { init: Init::Initialising, lang: Some(Lang::En), ..SessionRecord::default() };
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(json, r#"{"init":"initialising","arena":"none","lang":"en"}"#);
        assert_eq!(serde_json::from_str::<SessionRecord>(&json).unwrap(), record);
        assert_eq!(serde_json::from_str::<SessionRecord>("{}").unwrap(), SessionRecord::default());
    }

    #[test]
    fn an_action_event_has_the_documented_shape() {
        let event = ActionEvent { n: 1, kind: ActionKind::Propose, before: None };
        assert_eq!(serde_json::to_string(&event).unwrap(), r#"{"n":1,"kind":"propose"}"#);
        let event = ActionEvent { n: 4, kind: ActionKind::Lost, before: Some(Before { action: 7, last: 9 }) };
        let json = r#"{"n":4,"kind":"lost","before":{"action":7,"last":9}}"#;
        assert_eq!(serde_json::to_string(&event).unwrap(), json);
        assert_eq!(serde_json::from_str::<ActionEvent>(json).unwrap(), event);
    }

    #[test]
    fn word_of_a_removed_session_has_the_documented_shape() {
        let purged = Purged { session: SessionId::new("s").unwrap(), upto: 7, events: 3 };
        let json = serde_json::to_string(&purged).unwrap();
        assert_eq!(json, r#"{"session":"s","upto":7,"events":3}"#);
        assert_eq!(serde_json::from_str::<Purged>(&json).unwrap(), purged);
    }

    #[test]
    fn queries_are_read_to_the_letter() {
        for lang in [Lang::Fr, Lang::En] {
            assert_eq!(Lang::parse(lang.as_str()), Some(lang));
        }
        for kind in [NewsKind::Real, NewsKind::Fake, NewsKind::Satirical] {
            assert_eq!(NewsKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!((Lang::parse("FR"), NewsKind::parse("")), (None, None));
    }
}
