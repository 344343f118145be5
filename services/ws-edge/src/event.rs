//! One event of a session, as the stream holds it.

use async_nats::Subject;
use bytes::Bytes;
use herald_protocol::{EventSubject, TraceContext};

/// What an engine published in a session, with its place in the stream.
///
/// Clones are cheap, but subject and payload are slices of the buffer the socket was read into: whoever keeps an event
/// for longer than a moment copies what it needs, or the whole buffer stays with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    subject: Subject,
    root: u16,
    session: u16,
    /// Stream sequence.
    pub seq: u64,
    /// When JetStream stored it, ms since 1970.
    pub ts_ms: u64,
    /// The same in ns, where it is known so well.
    pub time_ns: u64,
    /// The trace it belongs to, if that is recorded.
    pub trace: Option<Box<TraceContext>>,
    /// What was published.
    pub payload: Bytes,
}

impl Event {
    /// An event from a stored message. `None` where the subject is none of an event: fewer than three tokens, or a
    /// session that is no session id. Allocates nothing.
    #[must_use]
    pub fn parse(subject: Subject, seq: u64, ts_ms: u64, payload: Bytes) -> Option<Self> {
        let parts = EventSubject::parse(&subject)?;
        let root = u16::try_from(parts.root.len()).ok()?;
        let session = u16::try_from(parts.session.len()).ok()?;
        let time_ns = ts_ms.saturating_mul(1_000_000);
        Some(Self { subject, root, session, seq, ts_ms, time_ns, trace: None, payload })
    }

    /// The whole subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Who speaks: the first token.
    #[must_use]
    pub fn root(&self) -> &str {
        self.parts().root
    }

    /// The session id, a valid one.
    #[must_use]
    pub fn session(&self) -> &str {
        self.parts().session
    }

    /// What is behind the session, one token or more.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.parts().topic
    }

    /// Whether it is a control event, which is never shown.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.parts().is_control()
    }

    /// The three parts of its subject.
    #[must_use]
    pub fn parts(&self) -> EventSubject<'_> {
        let (root, rest) = self.subject.split_at(usize::from(self.root));
        let (session, topic) = rest[1..].split_at(usize::from(self.session));
        EventSubject { root, session, topic: &topic[1..] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(subject: &'static str) -> Option<Event> {
        Event::parse(Subject::from_static(subject), 7, 1, Bytes::new())
    }

    #[test]
    fn an_event_knows_the_parts_of_its_subject() {
        let event = parse("arena.s-1.agent.7.status").unwrap();
        assert_eq!((event.root(), event.session(), event.topic()), ("arena", "s-1", "agent.7.status"));
        assert!(!event.is_control() && parse("gm.s._action").unwrap().is_control());
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for odd in ["arena.init", "gm", "", "gm..x", "gm._s.x", "gm.s."] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }
}
