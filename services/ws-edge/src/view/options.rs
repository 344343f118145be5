//! What a route may ask of its views beyond roots and dialect.

use std::{fmt, str::FromStr, sync::Arc};

use herald_protocol::{
    Close, Cursor,
    close::{is_reason, is_sendable},
};
use serde::{Deserialize, Serialize};

use super::{InvalidTopics, Topics};
use crate::event::Event;

/// What a route may ask of its views beyond roots and dialect. Views are interned by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ViewOptions {
    /// Which topics it shows as they happen; none: all of its roots.
    pub topics: Vec<Topics>,
    /// What somebody gets who does not read as fast as frames come.
    pub delivery: Delivery,
    /// Events behind which its connections are closed.
    pub close_on: Vec<CloseOn>,
}

impl ViewOptions {
    /// Whether such events are shown as they happen.
    pub(super) fn shows(&self, event: &Event) -> bool {
        if self.topics.is_empty() {
            return true;
        }
        let parts = event.parts();
        self.topics.iter().any(|topics| topics.matches(parts.root, parts.topic))
    }

    /// Which rule closes connections behind that event, if one does.
    pub(super) fn stop(&self, event: &Event) -> Option<Stop> {
        let parts = event.parts();
        let rule = self.close_on.iter().position(|rule| rule.topics.matches(parts.root, parts.topic))?;
        Some(Stop { seq: event.seq, rule: u16::try_from(rule).ok()? })
    }
}

/// What somebody gets who does not read as fast as frames come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// Every frame, as far as the limits of a lag go.
    #[default]
    All,
    /// The newest frame of each topic.
    Latest,
}

/// Events behind which connections are closed, written `<root>.<topic pattern>:<code>`, with `:<reason>` behind it if there is
/// one: `lobby.session.destroyed:1001`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CloseOn {
    /// Which events.
    pub topics: Topics,
    /// The code of the close.
    pub code: u16,
    /// Its reason; none: where the client stands.
    pub reason: Option<Arc<str>>,
}

/// A text that names no events and no close.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCloseOn {
    /// It has not the form.
    #[error("invalid: expected '<root>.<topic pattern>:<code>' or '<root>.<topic pattern>:<code>:<reason>'")]
    Form,
    /// The code is none that a server may send of its own accord.
    #[error("a close code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999, and not 4408, 4410 or 4411")]
    Code,
    /// The reason can't stand in a close frame.
    #[error("a reason must be 1 to 123 bytes without control characters")]
    Reason,
}

impl From<InvalidTopics> for InvalidCloseOn {
    fn from(_: InvalidTopics) -> Self {
        Self::Form
    }
}

impl CloseOn {
    /// The close of a connection that has come to `after`, just behind the event.
    pub(crate) fn close(&self, after: Cursor) -> Close {
        Close::ByEvent { code: self.code, reason: self.reason.clone(), after }
    }
}

impl FromStr for CloseOn {
    type Err = InvalidCloseOn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (topics, rest) = text.split_once(':').ok_or(InvalidCloseOn::Form)?;
        let (code, reason) = rest.split_once(':').map_or((rest, None), |(code, reason)| (code, Some(reason)));
        let code = code.parse().map_err(|_| InvalidCloseOn::Form)?;
        if !is_sendable(code) {
            return Err(InvalidCloseOn::Code);
        }
        if reason.is_some_and(|reason| reason.is_empty() || !is_reason(reason)) {
            return Err(InvalidCloseOn::Reason);
        }
        Ok(Self { topics: topics.parse()?, code, reason: reason.map(Arc::from) })
    }
}

impl TryFrom<String> for CloseOn {
    type Error = InvalidCloseOn;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CloseOn> for String {
    fn from(rule: CloseOn) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for CloseOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.topics, self.code)?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ":{reason}"))
    }
}

/// An event behind which connections are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Its sequence.
    pub seq: u64,
    /// Which of the view's rules says so.
    pub rule: u16,
}

#[cfg(test)]
mod tests {
    use async_nats::Subject;
    use herald_protocol::Epoch;

    use super::*;

    #[test]
    fn events_that_close_are_read_as_they_are_written() {
        for good in ["lobby.session.destroyed:1001", "a.>:4000", "a.b.*.c:3000:Go home: now", "a.b:4404:é"] {
            assert_eq!(good.parse::<CloseOn>().unwrap().to_string(), good);
        }
        let long = format!("a.b:4000:{}", "x".repeat(124));
        for (bad, why) in [
            ("a.b", InvalidCloseOn::Form),
            ("a:1001", InvalidCloseOn::Form),
            ("a.b:", InvalidCloseOn::Form),
            ("a.b:x", InvalidCloseOn::Form),
            ("a.b:70000", InvalidCloseOn::Form),
            ("a.b:1005", InvalidCloseOn::Code),
            ("a.b:1006", InvalidCloseOn::Code),
            ("a.b:2000", InvalidCloseOn::Code),
            ("a.b:4408", InvalidCloseOn::Code),
            ("a.b:5000", InvalidCloseOn::Code),
            ("a.b:4000:", InvalidCloseOn::Reason),
            ("a.b:4000:a\nb", InvalidCloseOn::Reason),
            (&long, InvalidCloseOn::Reason),
        ] {
            assert_eq!(bad.parse::<CloseOn>(), Err(why), "{bad}");
        }
    }

    #[test]
    fn the_first_rule_that_an_event_matches_closes_with_its_words() {
        let rules = ["a.x.y:4001:first", "a.x.*:4002", "b.>:1001"].map(|text| text.parse().unwrap());
        let options = ViewOptions { close_on: rules.into(), ..ViewOptions::default() };
        let after = Cursor { epoch: Epoch::new(0xab), seq: 7 };
        for (subject, expected) in [
            ("a.s.x.y", Some((4001, "first"))),
            ("a.s.x.z", Some((4002, "closed after=000000ab-7"))),
            ("b.s._gone", Some((1001, "closed after=000000ab-7"))),
            ("a.s.x", None),
            ("c.s.x.y", None),
        ] {
            let event = Event::parse(Subject::from(subject), 7, 1, bytes::Bytes::new()).unwrap();
            let close = options.stop(&event).map(|stop| options.close_on[usize::from(stop.rule)].close(after));
            let said = close.as_ref().map(|close| (close.code(), close.reason()));
            assert_eq!(said, expected.map(|(code, reason)| (code, reason.to_owned())), "{subject}");
        }
    }
}
