//! Views: what a connection sees of a session, and how.
//!
//! Two connections with equal views read the same ring, so an event is encoded once for all of them.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use herald_protocol::{
    Cursor, Epoch, SessionId, TopicPattern,
    frame::{Control, Tail},
    subject,
};
use serde::{Deserialize, Serialize};

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
}

impl View {
    /// Whether its clients see such events, as far as the subject tells.
    #[must_use]
    pub fn shows(&self, event: &Event) -> bool {
        let parts = event.parts();
        self.roots.iter().any(|root| **root == *parts.root)
            && self.dialect.shows(parts.root, parts.topic)
            && !self.hidden.iter().any(|it| it.root.as_str() == parts.root && it.pattern.matches(parts.topic))
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
            Encoding::Plain => websocket_text(|out| head.write(Tail { prev: None, snapshot: false, ..tail }, out)),
            Encoding::V1 => websocket_text(|out| head.write(tail, out)),
            Encoding::Sse => {
                let mut text = Vec::new();
                head.write(Tail { prev: None, snapshot: false, ..tail }, &mut text);
                server_sent(None, cursor, &text)
            }
        }
    }

    /// A control frame, where the view has such. `cursor` as in [`View::encode`].
    #[must_use]
    pub fn control(&self, control: &Control, cursor: Option<Cursor>) -> Option<Bytes> {
        match self.encoding {
            Encoding::Plain => None,
            Encoding::V1 => Some(websocket_text(|out| out.extend_from_slice(control.frame().as_bytes()))),
            Encoding::Sse => Some(server_sent(Some(control.name()), cursor, control.data().as_bytes())),
        }
    }
}

/// A WebSocket text frame in one piece: the text is written behind room for the longest header, then the header in
/// front of it, so that nothing moves.
fn websocket_text(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = vec![0; websocket::MAX_HEADER];
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
    all: Mutex<Vec<Arc<View>>>,
}

impl Views {
    /// The one view equal to `view`. Views come from configuration, a handful at most, and are never dropped.
    pub fn intern(&self, view: View) -> Arc<View> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.iter().find(|known| ***known == view) {
            return known.clone();
        }
        let view = Arc::new(view);
        all.push(view.clone());
        view
    }
}

/// The cursor of a sequence in a life.
pub(crate) const fn cursor(epoch: Epoch, seq: u64) -> Cursor {
    Cursor { epoch, seq }
}
