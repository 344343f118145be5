//! NATS subjects: built and parsed here and nowhere else.

use std::{fmt, str::FromStr};

use crate::id::{EventType, InstanceId, Name, SessionId, Topic, valid_session_id};

/// The command that makes the arena engine take up a session. Two tokens: a command, never an event.
pub const ARENA_INIT: &str = "arena.init";
/// The root of what gm-bridge publishes.
pub const GM: &str = "gm";
/// The root of what the arena engine publishes.
pub const ARENA: &str = "arena";
/// The root of what comes by HTTP, from engines that are no processes.
pub const APP: &str = "app";
/// The topic that carries news to the arena engine. It lies among the session's events and is never shown.
pub const FAKENEWS_TOPIC: &str = "input.fakenews";
/// What an arena engine subscribes to in order to hear the news of every session.
pub const ARENA_FAKENEWS_ALL: &str = "arena.*.input.fakenews";
/// The topic of the control event that claims a session's running action.
pub const ACTION_TOPIC: &str = "_action";

/// The topic of the control event that ends an action which had no `result` or `error` to say (a start).
pub const DONE_TOPIC: &str = "_done";

/// The first word of the control topic that says what was stored under an idempotency key.
const KEY_TOPIC: &str = "_key";

/// First words of subjects, and of frames, that are Herald's own: no engine's root. Who takes part says something else by
/// `in.<root>.<sid>.text` than that there is an event.
pub const RESERVED: [&str; 7] = ["herald", "in", "conn", "http", "edge", "admit", "epoch"];

/// Where answers go. A question's reply subject is whatever its asker wrote there: who answered elsewhere, too, could be made to
/// publish where the asker may not.
const INBOX: &str = "_INBOX";

/// Whether that is a subject for answers, and nothing else.
#[must_use]
pub fn is_inbox(subject: &str) -> bool {
    subject.starts_with(INBOX)
}

/// `app.<sid>.<topic>`: one event that came by HTTP.
#[must_use]
pub fn app_event(session: &SessionId, topic: &Topic) -> String {
    format!("{APP}.{session}.{topic}")
}

/// `app.<sid>._key.<hash>`: what was stored under the idempotency key of that hash.
#[must_use]
pub fn app_key(session: &SessionId, hash: u128) -> String {
    format!("{APP}.{session}.{KEY_TOPIC}.{hash:032x}")
}

/// The topic of the control event that says that a session is over: whoever watches it is sent away once it has everything.
/// Whoever owns a root may say it; a later [`ACTION_TOPIC`] makes the session alive again.
pub const OVER_TOPIC: &str = "_over";

/// The topic of the control event that a fork begins with: a session whose log begins with another one's.
pub const FORK_TOPIC: &str = "_fork";

/// `<root>.<sid>._fork`: whose log a fork begins with, and up to where.
#[must_use]
pub fn fork(root: &str, session: &SessionId) -> String {
    debug_assert!(Name::new(root).is_ok());
    format!("{root}.{session}.{FORK_TOPIC}")
}

/// `gm.<sid>.<type>`: one event of the Game Master.
#[must_use]
pub fn gm_event(session: &SessionId, event_type: &EventType) -> String {
    format!("{GM}.{session}.{event_type}")
}

/// How the subject ends on which the owner of a root says that it removes a session. Two tokens: no session's event, so that it
/// outlives the session.
pub const PURGED_END: &str = "._purged";
/// What every owner of a root says about that.
pub const PURGED_ALL: &str = "*._purged";
/// `gm._purged`: a session is being removed.
pub const GM_PURGED: &str = "gm._purged";

/// `gm.<sid>._action`: the control event that fences the session's running action.
#[must_use]
pub fn gm_action(session: &SessionId) -> String {
    format!("{GM}.{session}.{ACTION_TOPIC}")
}

/// `gm.<sid>._done`: the control event that ends an action without a last event of its own.
#[must_use]
pub fn gm_done(session: &SessionId) -> String {
    format!("{GM}.{session}.{DONE_TOPIC}")
}

/// `gm.<sid>._over`: the control event that says that the session is over.
#[must_use]
pub fn gm_over(session: &SessionId) -> String {
    format!("{GM}.{session}.{OVER_TOPIC}")
}

/// `*.<sid>._over`: whatever root says that a session is over.
#[must_use]
pub fn over_any_root(session: &SessionId) -> String {
    format!("*.{session}.{OVER_TOPIC}")
}

/// `*.<sid>._action`: whatever root says that something was begun in a session.
#[must_use]
pub fn action_any_root(session: &SessionId) -> String {
    format!("*.{session}.{ACTION_TOPIC}")
}

/// `<root>.<sid>.>`: everything one root says in one session.
#[must_use]
pub fn session_all(root: &str, session: &SessionId) -> String {
    debug_assert!(Name::new(root).is_ok());
    format!("{root}.{session}.>")
}

/// `*.<sid>.>`: everything any root says in one session.
#[must_use]
pub fn session_any_root(session: &SessionId) -> String {
    format!("*.{session}.>")
}

/// `<root>.<sid>.<pattern>`: those topics of a session that match the pattern.
#[must_use]
pub fn session_topics(root: &str, session: &SessionId, pattern: &TopicPattern) -> String {
    debug_assert!(Name::new(root).is_ok());
    format!("{root}.{session}.{pattern}")
}

/// `<root>.*.<pattern>`: those topics of any session that match the pattern.
#[must_use]
pub fn any_session_topics(root: &str, pattern: &TopicPattern) -> String {
    debug_assert!(Name::new(root).is_ok());
    format!("{root}.*.{pattern}")
}

/// `<root>.>`: a whole root, as a stream captures it.
#[must_use]
pub fn root_all(root: &Name) -> String {
    format!("{root}.>")
}

/// `arena.<sid>.input.fakenews`: news for the arena engine.
#[must_use]
pub fn arena_fakenews(session: &SessionId) -> String {
    format!("{ARENA}.{session}.{FAKENEWS_TOPIC}")
}

/// `arena.<sid>.input.waiting`: the engine's word that it waits for news.
#[must_use]
pub fn arena_waiting(session: &SessionId) -> String {
    format!("{ARENA}.{session}.input.waiting")
}

/// `http.<service>`: HTTP requests to a service.
#[must_use]
pub fn http_service(service: &Name) -> String {
    format!("http.{service}")
}

/// `admit.<service>`: the question to an engine whether somebody may come in.
#[must_use]
pub fn admission(service: &Name) -> String {
    format!("admit.{service}")
}

/// What a client does that its engine is told of: the last word of [`uplink`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UplinkKind {
    /// It sent a text.
    Text,
    /// It sent bytes.
    Binary,
    /// It is there.
    Join,
    /// It is there no more.
    Leave,
}

impl UplinkKind {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Join => "join",
            Self::Leave => "leave",
        }
    }
}

/// `in.<root>.<sid>.<kind>`: what a client that watches a session sent up its socket, or that it has come or gone.
#[must_use]
pub fn uplink(root: &str, session: &SessionId, kind: UplinkKind) -> String {
    debug_assert!(Name::new(root).is_ok());
    format!("in.{root}.{session}.{}", kind.as_str())
}

/// `conn.<edge>.<conn>`: a message to one connection. `conn` is a word of letters and digits.
#[must_use]
pub fn connection(edge: &InstanceId, conn: &str) -> String {
    debug_assert!(!conn.is_empty() && conn.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    format!("conn.{edge}.{conn}")
}

/// What an edge subscribes to in order to hear what goes to its connections.
#[must_use]
pub fn connections_of(edge: &InstanceId) -> String {
    format!("conn.{edge}.*")
}

/// The connection that a subject of [`connections_of`] names: whatever stands there.
#[must_use]
pub fn parse_connection(subject: &str) -> Option<&str> {
    subject.strip_prefix("conn.")?.split_once('.').map(|(_, conn)| conn)
}

/// `edge.newest.<root>.<sid>`: what edges tell each other of connections of which a session has one at a time.
#[must_use]
pub fn newest(root: &str, session: &SessionId) -> String {
    debug_assert!(Name::new(root).is_ok());
    format!("edge.newest.{root}.{session}")
}

/// What every edge subscribes to in order to hear [`newest`].
pub const NEWEST_ALL: &str = "edge.newest.*.*";

/// The root and the session that a [`newest`] subject names.
#[must_use]
pub fn parse_newest(subject: &str) -> Option<(&str, SessionId)> {
    let (root, session) = subject.strip_prefix("edge.newest.")?.split_once('.')?;
    Some((root, SessionId::new(session).ok()?))
}

/// `edge.watching.<sid>`: the question how many connections watch a session.
#[must_use]
pub fn watching(session: &SessionId) -> String {
    format!("edge.watching.{session}")
}

/// What every edge subscribes to in order to answer [`watching`].
pub const WATCHING_ALL: &str = "edge.watching.*";

/// The session a [`watching`] subject asks about.
#[must_use]
pub fn parse_watching(subject: &str) -> Option<SessionId> {
    subject.strip_prefix("edge.watching.").and_then(|id| SessionId::new(id).ok())
}

/// `edge.presence.<edge>`: what an edge says of who is there by it. `life` names the edge for as long as it runs.
#[must_use]
pub fn presence(life: &InstanceId) -> String {
    format!("edge.presence.{life}")
}

/// What every edge subscribes to in order to hear what others say of [`presence`].
pub const PRESENCE_ALL: &str = "edge.presence.*";

/// Which edge says it, on a [`presence`] subject.
#[must_use]
pub fn parse_presence(subject: &str) -> Option<InstanceId> {
    subject.strip_prefix("edge.presence.").and_then(|life| InstanceId::new(life).ok())
}

/// `edge.present.<root>.<sid>`: the question who is there in a session. One edge answers it; all know the same.
#[must_use]
pub fn present(root: &Name, session: &SessionId) -> String {
    format!("edge.present.{root}.{session}")
}

/// What every edge that shows sessions of this root subscribes to, as one of a queue group, in order to answer [`present`].
#[must_use]
pub fn present_all(root: &str) -> String {
    format!("edge.present.{root}.*")
}

/// The root and the session a [`present`] subject asks about.
#[must_use]
pub fn parse_present(subject: &str) -> Option<(Name, SessionId)> {
    let (root, session) = subject.strip_prefix("edge.present.")?.split_once('.')?;
    Some((Name::new(root).ok()?, SessionId::new(session).ok()?))
}

/// `epoch.<stream>`: the question to a stream's owner to look at its epoch now.
#[must_use]
pub fn epoch(stream: &str) -> String {
    format!("epoch.{stream}")
}

/// The subject of an event, `<root>.<session>.<topic>`, borrowed from the message that carried it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSubject<'a> {
    /// Who speaks: the first token.
    pub root: &'a str,
    /// The session: the second token, a valid session id.
    pub session: &'a str,
    /// The rest, one token or more.
    pub topic: &'a str,
}

impl<'a> EventSubject<'a> {
    /// Takes a subject apart. `None` where it has fewer than three tokens or its session is no session id.
    #[must_use]
    pub fn parse(subject: &'a str) -> Option<Self> {
        let (root, rest) = subject.split_once('.')?;
        let (session, topic) = rest.split_once('.')?;
        (!root.is_empty() && !topic.is_empty() && valid_session_id(session)).then_some(Self { root, session, topic })
    }

    /// Whether this is a control event: formed by Herald itself, never shown to clients.
    #[must_use]
    pub fn is_control(&self) -> bool {
        is_control(self.topic)
    }

    /// Whether clients may see it: neither control nor news on its way to the engine.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        let for_the_engine = self.root == ARENA && self.topic == FAKENEWS_TOPIC;
        !self.is_control() && !for_the_engine
    }
}

/// Whether a topic is a control topic (its first character is `_`).
#[must_use]
pub fn is_control(topic: &str) -> bool {
    topic.starts_with('_')
}

/// Topics of a session, as NATS matches them: `*` stands for one token, a last `>` for one or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicPattern(Box<str>);

/// A pattern that NATS would not accept, or that could reach outside a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid topic pattern: expected tokens of printable ASCII joined by '.', '*' for one token, '>' as the last one"
)]
pub struct InvalidPattern;

impl TopicPattern {
    /// Validates a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`] for empty tokens, wildcards inside a token, a `>` that is not last, or odd characters.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            let wildcard = token == "*" || (token == ">" && tokens.peek().is_none());
            let plain = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>');
            if !wildcard && !plain {
                return Err(InvalidPattern);
            }
        }
        Ok(Self(text.into()))
    }

    /// Whether `topic` is one of these.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let mut tokens = topic.split('.');
        for wanted in self.0.split('.') {
            match tokens.next() {
                None => return false,
                Some(_) if wanted == ">" => return true,
                Some(token) if wanted != "*" && wanted != token => return false,
                Some(_) => {}
            }
        }
        tokens.next().is_none()
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TopicPattern {
    type Err = InvalidPattern;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for TopicPattern {
    type Error = InvalidPattern;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<TopicPattern> for String {
    fn from(pattern: TopicPattern) -> Self {
        pattern.0.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn event_subjects_have_a_root_a_session_and_a_topic() {
        let parsed = EventSubject::parse("arena.s-1.agent.7.status").unwrap();
        assert_eq!((parsed.root, parsed.session, parsed.topic), ("arena", "s-1", "agent.7.status"));
        for odd in ["arena.init", "arena", "", "arena..x", "arena._s.x", "arena.s.", ".s.x", "arena.s"] {
            assert_eq!(EventSubject::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn control_events_and_news_for_the_engine_are_not_shown() {
        let shown = |subject| EventSubject::parse(subject).unwrap().is_shown();
        assert!(shown("gm.s.proposal") && shown("arena.s.input.waiting") && shown("arena.s.input.fakenewsXYZ"));
        assert!(shown("gm.s.input.fakenews"), "only the arena's");
        assert!(!shown("gm.s._action") && !shown("arena.s.input.fakenews") && !shown("arena.s._x.y"));
    }

    #[test]
    fn patterns_match_as_nats_does() {
        let table = [
            ("agent.*.status", "agent.7.status", true),
            ("agent.*.status", "agent.status", false),
            ("agent.*.status", "agent.7.status.x", false),
            ("agent.>", "agent.7.status", true),
            ("agent.>", "agent", false),
            (">", "x", true),
            ("proposal", "proposal", true),
            ("proposal", "proposals", false),
        ];
        for (pattern, topic, expected) in table {
            assert_eq!(TopicPattern::parse(pattern).unwrap().matches(topic), expected, "{pattern} {topic}");
        }
        for bad in ["", ".", "a.", ">.a", "a>", "a*", "a b", "a.\n", "é"] {
            assert!(TopicPattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn watching_names_its_session() {
        let session = SessionId::new("s1").unwrap();
        assert_eq!(parse_watching(&watching(&session)), Some(session));
        assert_eq!(parse_watching("edge.watching.*"), None);
    }

    #[test]
    fn what_goes_up_and_to_one_connection_names_both_ends() {
        let (session, edge) = (SessionId::new("s1").unwrap(), InstanceId::new("edge-1").unwrap());
        for (kind, subject) in [
            (UplinkKind::Text, "in.dice.s1.text"),
            (UplinkKind::Binary, "in.dice.s1.binary"),
            (UplinkKind::Join, "in.dice.s1.join"),
            (UplinkKind::Leave, "in.dice.s1.leave"),
        ] {
            assert_eq!(uplink("dice", &session, kind), subject);
        }
        assert_eq!(connection(&edge, "a1"), "conn.edge-1.a1");
        assert_eq!(parse_connection("conn.edge-1.a1"), Some("a1"));
        assert_eq!((parse_connection("conn.a1"), parse_connection("in.x.y")), (None, None));
        assert_eq!(connections_of(&edge), "conn.edge-1.*");
        assert_eq!(parse_newest(&newest("dice", &session)), Some(("dice", session)));
        assert_eq!((parse_newest("edge.newest.dice"), parse_newest("edge.newest.dice.a.b")), (None, None));
    }

    #[test]
    fn who_is_there_is_said_by_edges_and_asked_of_sessions() {
        let (edge, session) = (InstanceId::new("0a1b").unwrap(), SessionId::new("s1").unwrap());
        assert_eq!(presence(&edge), "edge.presence.0a1b");
        assert_eq!(parse_presence(&presence(&edge)), Some(edge));
        assert_eq!((parse_presence("edge.presence.*"), parse_presence("edge.presence.a.b")), (None, None));
        let root = Name::new("dice").unwrap();
        assert_eq!(present(&root, &session), "edge.present.dice.s1");
        assert_eq!(present_all("dice"), "edge.present.dice.*");
        assert_eq!(parse_present("edge.present.dice.s1"), Some((root, session)));
        for bad in ["edge.present.dice", "edge.present.*.s1", "edge.present.dice.s1.x", "edge.presence.dice.s1"] {
            assert_eq!(parse_present(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_built_for_a_session_parses_back_into_that_session(
            id in "[a-zA-Z0-9_.*>\\-]{0,70}", kind in "\\PC{0,70}|[a-z_.*>]{0,70}"
        ) {
            let event_type = EventType::from_wire(&kind);
            if let (Ok(session), Ok(topic)) = (SessionId::new(&id), Topic::new(&kind)) {
                let subject = app_event(&session, &topic);
                let parsed = EventSubject::parse(&subject).unwrap();
                prop_assert_eq!((parsed.root, parsed.session, parsed.topic), (APP, id.as_str(), kind.as_str()));
                prop_assert!(parsed.is_shown());
            }
            if let Ok(session) = SessionId::new(&id) {
                prop_assert!(!EventSubject::parse(&app_key(&session, 7)).unwrap().is_shown());
                for subject in [gm_event(&session, &event_type), gm_action(&session), arena_fakenews(&session)] {
                    let parsed = EventSubject::parse(&subject).unwrap();
                    prop_assert_eq!(parsed.session, id.as_str());
                    prop_assert!(!parsed.topic.contains(['*', '>', ' ', '\r', '\n']));
                }
                prop_assert!(EventSubject::parse(&gm_event(&session, &event_type)).unwrap().is_shown());
            }
        }

        #[test]
        fn a_pattern_never_leaves_its_session(id in "[a-z0-9]{1,8}", pattern in "[a-z*>.]{0,20}") {
            let session = SessionId::new(&id).unwrap();
            if let Ok(pattern) = TopicPattern::parse(&pattern) {
                let subject = session_topics(GM, &session, &pattern);
                prop_assert_eq!(subject.split('.').nth(1), Some(id.as_str()));
                prop_assert!(subject.split('.').all(|token| !token.is_empty()));
            }
        }
    }
}
