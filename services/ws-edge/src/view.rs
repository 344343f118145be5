//! Views: what a connection sees of a session, and how.
//!
//! Two connections with equal views read the same ring, so an event is encoded once for all of them.

mod options;
mod veil;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use herald_protocol::{
    Cursor, Epoch, SessionId, TopicPattern,
    frame::{Control, Tail},
    subject,
};
use serde::{Deserialize, Serialize};

pub use options::{CloseOn, Delivery, InvalidCloseOn, Stop, ViewOptions};
pub use veil::{InvalidVisible, Veil, Visible};

use crate::{
    dialect::{Dialect, Head},
    event::Event,
    websocket,
};

/// Some topics of a root, written `<root>.<topic pattern>` as in a subject without its session: `arena.agent.*.status`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Topics {
    /// The root.
    pub root: herald_protocol::Name,
    /// Its topics.
    pub pattern: TopicPattern,
}

impl Topics {
    /// Whether that topic of that root is one of these.
    #[must_use]
    pub fn matches(&self, root: &str, topic: &str) -> bool {
        self.root.as_str() == root && self.pattern.matches(topic)
    }
}

/// A text that names no topics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid topics: expected '<root>.<topic pattern>'")]
pub struct InvalidTopics;

impl FromStr for Topics {
    type Err = InvalidTopics;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (root, pattern) = text.split_once('.').ok_or(InvalidTopics)?;
        Ok(Self {
            root: root.parse().map_err(|_| InvalidTopics)?,
            pattern: TopicPattern::parse(pattern).map_err(|_| InvalidTopics)?,
        })
    }
}

impl TryFrom<String> for Topics {
    type Error = InvalidTopics;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Topics> for String {
    fn from(topics: Topics) -> Self {
        topics.to_string()
    }
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.root, self.pattern)
    }
}

/// How a frame travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// A WebSocket text frame of the originals' contract.
    Plain,
    /// A WebSocket text frame of `herald.v1`: with `prev`, and control frames beside it.
    V1,
    /// A server-sent event: `id: <cursor>`, `data: <frame>`.
    Sse,
}

/// What a connection sees of a session, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct View {
    /// The roots it shows.
    pub roots: Vec<Arc<str>>,
    /// Topics of these roots it never shows (control topics are never shown anyway).
    pub hidden: Vec<Topics>,
    /// Topics whose last events make up a snapshot.
    pub snapshot: Vec<Topics>,
    /// How an event becomes a frame.
    pub dialect: Dialect,
    /// How a frame travels.
    pub encoding: Encoding,
    /// Topics that its clients don't see, because of who they are.
    pub veils: Vec<Veil>,
    /// What else its route asks for.
    pub options: ViewOptions,
}

impl View {
    /// Whether its clients see such events, as far as the subject tells.
    #[must_use]
    pub fn shows(&self, event: &Event) -> bool {
        self.may_show(event) && self.options.shows(event)
    }

    /// Whether its clients see such events in a snapshot, of which they are: there also what is not shown as it happens.
    #[must_use]
    pub fn may_show(&self, event: &Event) -> bool {
        let parts = event.parts();
        self.roots.iter().any(|root| **root == *parts.root)
            && self.dialect.shows(parts.root, parts.topic)
            && !self.hidden.iter().any(|hidden| hidden.matches(parts.root, parts.topic))
            && !self.veils.iter().any(|veil| veil.hides(parts.root, parts.topic))
    }

    /// Which of its rules closes connections behind that event, shown or not, if one does.
    #[must_use]
    pub fn stop(&self, event: &Event) -> Option<Stop> {
        if self.options.close_on.is_empty() { None } else { self.options.stop(event) }
    }

    /// Whether a newer frame takes the place of an older one that somebody has not got yet.
    #[must_use]
    pub const fn conflates(&self) -> bool {
        !matches!(self.options.delivery, Delivery::All)
    }

    /// Whether its frames carry `prev`.
    #[must_use]
    pub const fn is_chained(&self) -> bool {
        matches!(self.encoding, Encoding::V1)
    }

    /// Whether its clients are told about hello, gap, live and bye.
    #[must_use]
    pub const fn has_control(&self) -> bool {
        matches!(self.encoding, Encoding::V1 | Encoding::Sse)
    }

    /// The subjects a snapshot of `session` consists of.
    #[must_use]
    pub fn snapshot_filters(&self, session: &SessionId) -> Vec<String> {
        let of_session = |topics: &Topics| subject::session_topics(topics.root.as_str(), session, &topics.pattern);
        self.snapshot.iter().map(of_session).collect()
    }

    /// Subjects of `session` that everything is among that it shows as it happens, or closes connections behind.
    #[must_use]
    pub fn filters(&self, session: &SessionId) -> Vec<String> {
        if self.options.topics.is_empty() {
            return self.roots.iter().map(|root| subject::session_all(root, session)).collect();
        }
        let of_session = |topics: &Topics| subject::session_topics(topics.root.as_str(), session, &topics.pattern);
        let closing = self.options.close_on.iter().map(|rule| &rule.topics);
        self.options.topics.iter().chain(closing).map(of_session).collect()
    }

    /// The frame of an event up to its numbers. `None`: its payload is not UTF-8 and can't be shown.
    #[must_use]
    pub fn head(&self, event: &Event) -> Option<Head> {
        let parts = event.parts();
        self.dialect.head(parts.root, parts.topic, &event.payload)
    }

    /// A frame as it goes on the wire. `cursor` is its place, where it has one that a client may come back to.
    #[must_use]
    pub fn encode(&self, head: &Head, tail: Tail, cursor: Option<Cursor>) -> Bytes {
        match self.encoding {
            Encoding::Plain => {
                websocket_text(head.longest(), |out| head.write(Tail { prev: None, snapshot: false, ..tail }, out))
            }
            Encoding::V1 => websocket_text(head.longest(), |out| head.write(tail, out)),
            Encoding::Sse => {
                let mut text = Vec::with_capacity(head.longest());
                head.write(Tail { prev: None, snapshot: false, ..tail }, &mut text);
                server_sent(None, cursor, &text)
            }
        }
    }

    /// A frame of a message to one connection: as an event's, without its numbers. `None`: its clients see no such topic, or the
    /// payload is not UTF-8.
    #[must_use]
    pub fn message(&self, root: &str, topic: &str, payload: &[u8]) -> Option<Bytes> {
        if !self.dialect.shows(root, topic) {
            return None;
        }
        let head = self.dialect.head(root, topic, payload)?;
        Some(match self.encoding {
            Encoding::Plain | Encoding::V1 => websocket_text(head.longest(), |out| head.write_bare(out)),
            Encoding::Sse => {
                let mut text = Vec::with_capacity(head.longest());
                head.write_bare(&mut text);
                server_sent(None, None, &text)
            }
        })
    }

    /// A text that is no event's, as it goes on the wire.
    #[must_use]
    pub fn text(&self, text: &str) -> Bytes {
        match self.encoding {
            Encoding::Plain | Encoding::V1 => websocket_text(text.len(), |out| out.extend_from_slice(text.as_bytes())),
            Encoding::Sse => server_sent(None, None, text.as_bytes()),
        }
    }

    /// A control frame, where the view has such. `cursor` as in [`View::encode`].
    #[must_use]
    pub fn control(&self, control: &Control, cursor: Option<Cursor>) -> Option<Bytes> {
        match self.encoding {
            Encoding::Plain => None,
            Encoding::V1 => {
                let text = control.frame();
                Some(websocket_text(text.len(), |out| out.extend_from_slice(text.as_bytes())))
            }
            Encoding::Sse => Some(server_sent(Some(control.name()), cursor, control.data().as_bytes())),
        }
    }
}

/// A WebSocket text frame in one piece: the text, at most `longest` bytes, is written behind room for the longest header,
/// then the header in front of it, so that nothing moves. A ring keeps the frame with all the room that was made for it.
fn websocket_text(longest: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(websocket::MAX_HEADER + longest);
    out.resize(websocket::MAX_HEADER, 0);
    write(&mut out);
    let header = websocket::text_header(out.len() - websocket::MAX_HEADER);
    let start = websocket::MAX_HEADER - header.len();
    out[start..websocket::MAX_HEADER].copy_from_slice(&header);
    Bytes::from(out).slice(start..)
}

/// One server-sent event. JSON may hold line breaks between its tokens: each line becomes a `data:` line, which the
/// client joins again.
fn server_sent(name: Option<&str>, cursor: Option<Cursor>, text: &[u8]) -> Bytes {
    use std::io::Write as _;

    let mut out = Vec::with_capacity(text.len() + 64);
    // Writing to a Vec does not fail.
    if let Some(name) = name {
        let _ = writeln!(out, "event: {name}");
    }
    if let Some(cursor) = cursor {
        let _ = writeln!(out, "id: {cursor}");
    }
    let mut rest = text;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
        out.push(b'\n');
        let Some(end) = end else { break };
        let broken_by = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + broken_by..];
    }
    out.push(b'\n');
    out.into()
}

/// The views of a process, each once: equal views are one, so that they share rings.
#[derive(Debug, Default)]
pub struct Views {
    table: Mutex<Table>,
}

/// By their hashes. Those of configuration are a handful; where a route shows a user their own, each user has one.
#[derive(Debug, Default)]
struct Table {
    hasher: RandomState,
    views: HashMap<u64, Vec<Weak<View>>>,
    /// Size at which those that nobody has any more are swept out next.
    sweep_at: usize,
}

/// Views that nobody has any more and that may gather before they are swept out.
const SLACK: usize = 64;

impl Views {
    /// The one view equal to `view`.
    pub fn intern(&self, view: View) -> Arc<View> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = table.hasher.hash_one(&view);
        let known =
            table.views.get(&hash).into_iter().flatten().filter_map(Weak::upgrade).find(|known| **known == view);
        if let Some(known) = known {
            return known;
        }
        if table.views.len() >= table.sweep_at {
            table.views.retain(|_, views| {
                views.retain(|view| view.strong_count() > 0);
                !views.is_empty()
            });
            table.sweep_at = table.views.len() * 2 + SLACK;
        }
        let view = Arc::new(view);
        table.views.entry(hash).or_default().push(Arc::downgrade(&view));
        view
    }
}

/// The cursor of a sequence in a life.
pub(crate) const fn cursor(epoch: Epoch, seq: u64) -> Cursor {
    Cursor { epoch, seq }
}

#[cfg(test)]
mod tests {
    use async_nats::Subject;
    use proptest::prelude::*;

    use super::*;

    const CURSOR: Cursor = Cursor { epoch: Epoch::new(0xab), seq: 7 };

    fn view(encoding: Encoding) -> View {
        View {
            roots: vec!["gm".into(), "arena".into()],
            hidden: vec!["arena.input.fakenews".parse().unwrap(), "gm.secret.>".parse().unwrap()],
            snapshot: vec!["gm.proposal".parse().unwrap(), "arena.agent.*.status".parse().unwrap()],
            dialect: Dialect::Event,
            encoding,
            veils: vec![],
            options: ViewOptions::default(),
        }
    }

    fn event(subject: &str, payload: &str) -> Event {
        Event::parse(Subject::from(subject), 7, 9, Bytes::from(payload.to_owned())).unwrap()
    }

    fn encoded(encoding: Encoding, payload: &str, tail: Tail) -> Bytes {
        let view = view(encoding);
        view.encode(&view.head(&event("gm.s.phase", payload)).unwrap(), tail, Some(CURSOR))
    }

    #[test]
    fn a_view_shows_its_roots_without_what_is_hidden() {
        let view = view(Encoding::Plain);
        for shown in ["gm.s.phase", "arena.s.agent.7.output", "arena.s.input.waiting", "gm.s.secret"] {
            assert!(view.shows(&event(shown, "")), "{shown}");
        }
        for hidden in ["lobby.s.x", "gm.s._action", "arena.s.input.fakenews", "gm.s.secret.plan"] {
            assert!(!view.shows(&event(hidden, "")), "{hidden}");
        }
        let filters = view.snapshot_filters(&"s".parse().unwrap());
        assert_eq!(filters, ["gm.s.proposal", "arena.s.agent.*.status"]);
    }

    #[test]
    fn topics_are_all_that_is_shown_as_it_happens() {
        let topics = ["gm.phase", "arena.agent.>"].map(|text| text.parse().unwrap()).into();
        let options = ViewOptions { topics, ..ViewOptions::default() };
        let view = View { options, ..view(Encoding::Plain) };
        for (subject, live, snapshot) in [
            ("gm.s.phase", true, true),
            ("arena.s.agent.7.status", true, true),
            ("gm.s.proposal", false, true),
            ("arena.s.phase", false, true),
            ("arena.s.input.fakenews", false, false),
            ("gm.s._action", false, false),
        ] {
            let event = event(subject, "");
            assert_eq!((view.shows(&event), view.may_show(&event)), (live, snapshot), "{subject}");
        }
        assert_eq!(view.filters(&"s".parse().unwrap()), ["gm.s.phase", "arena.s.agent.>"]);
        assert_eq!(super::tests::view(Encoding::Plain).filters(&"s".parse().unwrap()), ["gm.s.>", "arena.s.>"]);
    }

    #[test]
    fn a_raw_frame_is_the_payload_and_nothing_else() {
        for payload in ["{\"type\":\"x\"}", "", "NaN", "\"\u{0}\n"] {
            let raw = |encoding| {
                let view = View { dialect: Dialect::Raw, ..view(encoding) };
                let head = view.head(&event("gm.s.phase", payload)).unwrap();
                view.encode(&head, Tail { snapshot: true, prev: Some(1), ..Tail::plain(7, 9) }, Some(CURSOR))
            };
            assert_eq!(&raw(Encoding::Plain)[2..], payload.as_bytes());
            let lines = payload.replace('\n', "\ndata: ");
            assert_eq!(raw(Encoding::Sse), format!("id: 000000ab-7\ndata: {lines}\n\n"));
        }
        let broken = Event::parse(Subject::from("gm.s.x"), 7, 9, Bytes::from_static(b"\xff")).unwrap();
        assert!(View { dialect: Dialect::Raw, ..view(Encoding::Plain) }.head(&broken).is_none());
    }

    #[test]
    fn each_encoding_has_exactly_these_bytes() {
        let tail = Tail { prev: Some(3), ..Tail::plain(7, 9) };
        let plain = br#"{"event":"gm.phase","data":{"a":1},"seq":7,"ts":9}"#;
        assert_eq!(encoded(Encoding::Plain, "{\"a\":1}", tail), [&[0x81, 50], &plain[..]].concat());
        let v1 = br#"{"event":"gm.phase","data":{"a":1},"seq":7,"ts":9,"prev":3}"#;
        assert_eq!(encoded(Encoding::V1, "{\"a\":1}", tail), [&[0x81, 59], &v1[..]].concat());
        let sse = [b"id: 000000ab-7\ndata: ", &plain[..], b"\n\n"].concat();
        assert_eq!(encoded(Encoding::Sse, "{\"a\":1}", tail), sse);
        let snapshot = Tail { snapshot: true, ..Tail::plain(7, 9) };
        assert!(encoded(Encoding::V1, "1", snapshot).ends_with(br#","snapshot":true}"#));
        assert!(encoded(Encoding::Plain, "1", snapshot).ends_with(br#""ts":9}"#), "nothing the originals don't know");
    }

    #[test]
    fn control_is_for_those_who_know_it() {
        let live = Control::Live { after: 5 };
        assert_eq!(view(Encoding::Plain).control(&live, Some(CURSOR)), None);
        let v1 = view(Encoding::V1).control(&live, Some(CURSOR)).unwrap();
        assert_eq!(&v1[2..], br#"{"event":"herald.live","data":{"after":5}}"#);
        let sse = view(Encoding::Sse).control(&live, Some(CURSOR)).unwrap();
        assert_eq!(sse, "event: herald.live\nid: 000000ab-7\ndata: {\"after\":5}\n\n");
        let nameless = view(Encoding::Sse).control(&live, None).unwrap();
        assert_eq!(nameless, "event: herald.live\ndata: {\"after\":5}\n\n");
    }

    #[test]
    fn long_frames_have_their_longer_header() {
        for len in [10, 125, 126, 65_535, 65_536, 200_000] {
            let frame = encoded(Encoding::Plain, &format!("\"{}\"", "x".repeat(len)), Tail::plain(7, 9));
            let mut cursor = std::io::Cursor::new(&frame[..]);
            let (_, length) = tungstenite::protocol::frame::FrameHeader::parse(&mut cursor).unwrap().unwrap();
            assert_eq!(length, frame.len() as u64 - cursor.position());
        }
    }

    #[test]
    fn a_frame_takes_little_more_memory_than_it_has_bytes() {
        let tails = [Tail::plain(7, 9), Tail { prev: Some(u64::MAX), ..Tail::plain(u64::MAX, u64::MAX) }];
        for (encoding, tail) in
            [Encoding::Plain, Encoding::V1, Encoding::Sse].into_iter().flat_map(|it| tails.map(|tail| (it, tail)))
        {
            for len in [0, 100, 400, 5000, 100_000] {
                let frame = encoded(encoding, &format!("\"{}\"", "x".repeat(len)), tail);
                let bytes = frame.len();
                let room = frame.try_into_mut().unwrap().capacity();
                assert!(room <= bytes + crate::log::FRAME_SLACK, "{room} for {bytes} as {encoding:?}");
            }
        }
    }

    #[test]
    fn equal_views_are_one() {
        let views = Views::default();
        let first = views.intern(view(Encoding::V1));
        assert!(Arc::ptr_eq(&first, &views.intern(view(Encoding::V1))));
        assert!(!Arc::ptr_eq(&first, &views.intern(view(Encoding::Plain))));
    }

    #[test]
    fn views_that_nobody_has_are_forgotten() {
        let (views, rule) = (Views::default(), "gm.user.{user}.> for user".parse::<Visible>().unwrap());
        let of = |user: usize| View {
            veils: rule.veil(Some(&user.to_string()), None).into_iter().collect(),
            ..view(Encoding::V1)
        };
        let first = views.intern(of(0));
        for user in 1..1000 {
            assert!(!Arc::ptr_eq(&first, &views.intern(of(user))));
        }
        assert!(Arc::ptr_eq(&first, &views.intern(of(0))), "one that is in use is not");
        assert!(views.table.lock().unwrap().views.len() <= 2 * SLACK + 2);
    }

    #[test]
    fn what_is_veiled_is_no_event_of_the_view() {
        let rules = ["gm.dm.> for role:dm", "gm.user.{user}.> for user"].map(|text| text.parse::<Visible>().unwrap());
        let veils = |user, role| rules.iter().filter_map(|rule| rule.veil(user, role)).collect();
        let (ann, bob) = (herald_protocol::UserToken::of("ann"), herald_protocol::UserToken::of("bob"));
        let own = format!("gm.s.user.{ann}.hand");
        let other = format!("gm.s.user.{bob}.hand");
        for (user, role, sees) in [
            (Some("ann"), None, [true, false, true, false]),
            (None, Some("dm"), [true, true, false, false]),
            (None, None, [true, false, false, false]),
        ] {
            let view = View { veils: veils(user, role), ..view(Encoding::Plain) };
            let shown = ["gm.s.phase", "gm.s.dm.note", &own, &other].map(|subject| view.shows(&event(subject, "")));
            assert_eq!(shown, sees, "{user:?} {role:?}");
        }
    }

    #[test]
    fn a_message_to_one_has_an_event_s_frame_without_numbers() {
        let frame = |encoding| view(encoding).message("gm", "whisper", b"{\"a\":1}");
        let text = br#"{"event":"gm.whisper","data":{"a":1}}"#;
        assert_eq!(frame(Encoding::V1).unwrap(), [&[0x81, 37], &text[..]].concat());
        assert_eq!(frame(Encoding::Plain), frame(Encoding::V1));
        assert_eq!(frame(Encoding::Sse).unwrap(), [b"data: ", &text[..], b"\n\n"].concat());
        assert_eq!(view(Encoding::V1).message("gm", "_x", b"1"), None);
        assert_eq!(view(Encoding::V1).message("gm", "x", b"\xff"), None);
    }

    #[test]
    fn topics_are_read_as_they_are_written() {
        for good in ["gm.proposal", "arena.agent.*.status", "lobby.>"] {
            assert_eq!(good.parse::<Topics>().unwrap().to_string(), good);
        }
        for bad in ["gm", "gm.", ".x", "*.x", "GM.x", "gm.a..b", "gm.>.x", "gm.a b"] {
            assert!(bad.parse::<Topics>().is_err(), "{bad}");
        }
    }

    proptest! {
        /// Whatever breaks lines in a payload, a client that reads as the standard says has the same JSON.
        #[test]
        fn a_server_sent_event_survives_line_breaks(
            breaks in prop::collection::vec(prop_oneof![Just("\n"), Just("\r"), Just("\r\n"), Just(" "), Just("")], 4),
            text in "\\PC{0,12}[\r\n]{0,3}\\PC{0,12}",
        ) {
            let text = serde_json::to_string(&text).unwrap();
            let payload = format!("{}{{{}\"a\"{}:{text}{}}}", breaks[0], breaks[1], breaks[2], breaks[3]);
            let sent = encoded(Encoding::Sse, &payload, Tail::plain(7, 9));
            let sent = std::str::from_utf8(&sent).unwrap().strip_suffix("\n\n").unwrap();
            prop_assert!(!sent.contains('\r') && !sent.contains("\n\n"));
            let lines: Vec<_> = sent.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            prop_assert_eq!(lines.len() + 1, sent.lines().count());
            let read: serde_json::Value = serde_json::from_str(&lines.join("\n")).unwrap();
            prop_assert_eq!(&read["data"], &serde_json::from_str::<serde_json::Value>(&payload).unwrap());
        }
    }
}
