//! The envelope that clients see: event frames and the control frames of the sub-protocol `herald.v1`.

use std::{borrow::Cow, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{cursor::Epoch, presence::Person};

/// The WebSocket sub-protocol with which a client asks for control frames and `prev`.
pub const SUB_PROTOCOL: &str = "herald.v1";
/// The sub-protocol of a client that has to name one and wants none of that: a browser's socket fails where it named some and
/// the door chose none of them.
pub const PLAIN_PROTOCOL: &str = "herald.plain";
/// How an item of the list of sub-protocols begins that is a token: `herald.token.<jwt>`. It is never the one chosen.
pub const TOKEN_PROTOCOL: &str = "herald.token.";
/// The frame by which a client of `herald.v1` hears, with each ping, that a connection on which nothing happens lives: browsers
/// keep pings to themselves.
pub const BEAT: &str = r#"{"event":"herald.beat","data":{}}"#;

/// A payload as JSON text: JSON passes byte for byte, other text becomes a JSON string, nothing becomes `""`.
/// `None` where it is not UTF-8 and can't be shown at all.
#[must_use]
pub fn data_json(payload: &[u8]) -> Option<Cow<'_, [u8]>> {
    if payload.is_empty() {
        return Some(Cow::Borrowed(b"\"\""));
    }
    let text = std::str::from_utf8(payload).ok()?;
    if serde_json::from_str::<&RawValue>(text).is_ok() {
        return Some(Cow::Borrowed(payload));
    }
    serde_json::to_vec(text).ok().map(Cow::Owned)
}

/// An event frame without its closing brace: `{"event":"<root>.<topic>","data":<data>`. What follows (`seq`, `ts`,
/// `prev`, `snapshot`) depends on where the frame goes: [`Tail`].
///
/// `data` must be JSON text ([`data_json`]).
#[must_use]
pub fn event_head(root: &str, topic: &str, data: &[u8]) -> Vec<u8> {
    // The fixed parts and the longest end, so that adding it does not move the frame.
    let fixed = "{\"event\":\".\",\"data\":".len() + Tail::LONGEST;
    let mut head = Vec::with_capacity(root.len() + topic.len() + data.len() + fixed);
    head.extend_from_slice(b"{\"event\":");
    push_string(&mut head, &[root, ".", topic]);
    head.extend_from_slice(b",\"data\":");
    head.extend_from_slice(data);
    head
}

/// Appends a JSON string made of `pieces`. Topics are published by others: they may hold quotes or backslashes.
fn push_string(out: &mut Vec<u8>, pieces: &[&str]) {
    out.push(b'"');
    for piece in pieces {
        if piece.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            out.extend_from_slice(piece.as_bytes());
        } else if let Ok(quoted) = serde_json::to_string(piece) {
            out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
        }
    }
    out.push(b'"');
}

/// The end of an event frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Stream sequence of the event.
    pub seq: u64,
    /// When JetStream stored it, ms since 1970.
    pub ts_ms: u64,
    /// `herald.v1`: sequence of the session's event shown before it, 0 if none is kept.
    pub prev: Option<u64>,
    /// `herald.v1`: whether the frame belongs to a snapshot.
    pub snapshot: bool,
}

impl Tail {
    /// The most bytes an end has: three numbers of 20 digits, their names, the mark of a snapshot, a brace.
    pub const LONGEST: usize = 3 * 20 + ",\"seq\":,\"ts\":,\"prev\":,\"snapshot\":true}".len();

    /// The end of a plain frame: `seq` and `ts`.
    #[must_use]
    pub const fn plain(seq: u64, ts_ms: u64) -> Self {
        Self { seq, ts_ms, prev: None, snapshot: false }
    }

    /// Appends `,"seq":N,"ts":MS[,"prev":P][,"snapshot":true]}`.
    pub fn append(&self, frame: &mut Vec<u8>) {
        push_number(frame, b",\"seq\":", self.seq);
        push_number(frame, b",\"ts\":", self.ts_ms);
        if let Some(prev) = self.prev {
            push_number(frame, b",\"prev\":", prev);
        }
        if self.snapshot {
            frame.extend_from_slice(b",\"snapshot\":true");
        }
        frame.push(b'}');
    }
}

fn push_number(out: &mut Vec<u8>, key: &[u8], mut number: u64) {
    out.extend_from_slice(key);
    // 20 digits: the longest u64.
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // A remainder of 10 fits a u8.
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A control frame of `herald.v1` (and, as `event: herald.*`, of SSE).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// The first frame, and again when the stream began a new life; only a gap that leads into a life comes before it.
    Hello {
        /// Life of the stream.
        epoch: Epoch,
        /// Its last sequence as this edge knows it.
        head: u64,
        /// How often something is heard from the server, ms.
        heartbeat_ms: u64,
    },
    /// Sequences that can't be delivered.
    Gap {
        /// The first one missing.
        from: u64,
        /// The last one missing.
        to: u64,
        /// Why: `epoch`, `trimmed`, `beyond`, ...
        reason: &'static str,
    },
    /// The snapshot is complete; what follows is everything after `after`.
    Live {
        /// The snapshot's cut.
        after: u64,
    },
    /// The server closes; come back by cursor.
    Bye {
        /// The cursor to come back with.
        after: String,
        /// Wait this long first, ms.
        retry_ms: u64,
    },
    /// The server closes, and there is nothing to come back for: the session is over.
    Over {
        /// The cursor behind all that was said.
        after: String,
    },
    /// What the client sends is read slower, or was not taken.
    Uplink {
        /// `slowed` or `refused`.
        state: &'static str,
        /// Why: `rate`, `away`, `busy`, `nobody`, ...
        reason: &'static str,
        /// After how long it is worth sending more, ms.
        retry_ms: u64,
    },
    /// How the past is played again.
    Replay {
        /// `playing`, `paused`, `live`, or `refused`: what the client wanted was not done.
        state: &'static str,
        /// Why it was refused.
        reason: Option<&'static str>,
        /// So many times as fast as it was, in thousandths.
        speed: u32,
        /// What comes next is behind that sequence.
        after: u64,
    },
    /// An event stream is closed, with what a socket's close frame would say.
    Closed {
        /// The code.
        code: u16,
        /// The reason.
        reason: String,
    },
    /// Somebody is there who was not.
    Join {
        /// Who.
        person: Arc<Person>,
        /// How many are there with them.
        count: u64,
    },
    /// Somebody is there no more.
    Leave {
        /// Who.
        person: Arc<Person>,
        /// How many are there without them.
        count: u64,
    },
    /// How many are there.
    Presence {
        /// So many.
        count: u64,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum ControlData<'a> {
    Hello {
        epoch: Epoch,
        head: u64,
        heartbeat_ms: u64,
    },
    Gap {
        from: u64,
        to: u64,
        reason: &'a str,
    },
    Live {
        after: u64,
    },
    Bye {
        after: &'a str,
        retry_ms: u64,
    },
    Over {
        over: bool,
        after: &'a str,
    },
    Uplink {
        state: &'a str,
        reason: &'a str,
        retry_ms: u64,
    },
    Replay {
        state: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        speed: f64,
        after: u64,
    },
    Closed {
        code: u16,
        reason: &'a str,
    },
    Person {
        #[serde(flatten)]
        person: &'a Person,
        count: u64,
    },
    Presence {
        count: u64,
    },
}

impl Control {
    /// The event's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "herald.hello",
            Self::Gap { .. } => "herald.gap",
            Self::Live { .. } => "herald.live",
            Self::Bye { .. } | Self::Over { .. } => "herald.bye",
            Self::Uplink { .. } => "herald.uplink",
            Self::Replay { .. } => "herald.replay",
            Self::Closed { .. } => "herald.closed",
            Self::Join { .. } => "herald.join",
            Self::Leave { .. } => "herald.leave",
            Self::Presence { .. } => "herald.presence",
        }
    }

    /// The JSON text under `data`.
    #[must_use]
    pub fn data(&self) -> String {
        let data = match self {
            Self::Hello { epoch, head, heartbeat_ms } => {
                ControlData::Hello { epoch: *epoch, head: *head, heartbeat_ms: *heartbeat_ms }
            }
            Self::Gap { from, to, reason } => ControlData::Gap { from: *from, to: *to, reason },
            Self::Live { after } => ControlData::Live { after: *after },
            Self::Bye { after, retry_ms } => ControlData::Bye { after, retry_ms: *retry_ms },
            Self::Over { after } => ControlData::Over { over: true, after },
            Self::Uplink { state, reason, retry_ms } => ControlData::Uplink { state, reason, retry_ms: *retry_ms },
            Self::Replay { state, reason, speed, after } => {
                ControlData::Replay { state, reason: *reason, speed: f64::from(*speed) / 1000.0, after: *after }
            }
            Self::Closed { code, reason } => ControlData::Closed { code: *code, reason },
            Self::Join { person, count } | Self::Leave { person, count } => {
                ControlData::Person { person, count: *count }
            }
            Self::Presence { count } => ControlData::Presence { count: *count },
        };
        // Strings and numbers alone: serialising them can't fail, and an empty object would still be JSON.
        serde_json::to_string(&data).unwrap_or_else(|_| "{}".into())
    }

    /// The whole frame: `{"event":"herald.hello","data":{...}}`.
    #[must_use]
    pub fn frame(&self) -> String {
        format!("{{\"event\":\"{}\",\"data\":{}}}", self.name(), self.data())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(root: &str, topic: &str, data: &[u8], tail: Tail) -> String {
        let mut frame = event_head(root, topic, data);
        tail.append(&mut frame);
        String::from_utf8(frame).unwrap()
    }

    #[test]
    fn an_event_frame_has_exactly_these_bytes() {
        assert_eq!(
            frame("gm", "phase", br#"{"type": "phase"}"#, Tail::plain(7, 1_700_000_000_000)),
            r#"{"event":"gm.phase","data":{"type": "phase"},"seq":7,"ts":1700000000000}"#
        );
        let tail = Tail { prev: Some(0), ..Tail::plain(u64::MAX, 0) };
        assert_eq!(
            frame("gm", "x", b"1", tail),
            r#"{"event":"gm.x","data":1,"seq":18446744073709551615,"ts":0,"prev":0}"#
        );
        let tail = Tail { snapshot: true, ..Tail::plain(1, 2) };
        assert_eq!(frame("gm", "x", b"1", tail), r#"{"event":"gm.x","data":1,"seq":1,"ts":2,"snapshot":true}"#);
    }

    #[test]
    fn payloads_become_json_or_are_refused() {
        let table: [(&[u8], Option<&[u8]>); 9] = [
            (b"{\"a\":1e400,\"a\":2}", Some(b"{\"a\":1e400,\"a\":2}")),
            (b"", Some(b"\"\"")),
            (b"NaN", Some(b"\"NaN\"")),
            (b"plain \"text\"", Some(b"\"plain \\\"text\\\"\"")),
            (b"{\"c\":NaN}", Some(b"\"{\\\"c\\\":NaN}\"")),
            (b"\xff\xfe", None),
            (b"{\"x\":\"\\ud83d\"}", Some(b"{\"x\":\"\\ud83d\"}")),
            (b"null", Some(b"null")),
            (b"{} {}", Some(b"\"{} {}\"")),
        ];
        for (payload, expected) in table {
            assert_eq!(data_json(payload).as_deref(), expected, "{payload:?}");
        }
    }

    #[test]
    fn control_frames_have_the_documented_shapes() {
        let hello = Control::Hello { epoch: Epoch::new(0xab), head: 5, heartbeat_ms: 25_000 };
        assert_eq!(
            hello.frame(),
            r#"{"event":"herald.hello","data":{"epoch":"000000ab","head":5,"heartbeat_ms":25000}}"#
        );
        let gap = Control::Gap { from: 1, to: 9, reason: "epoch" };
        assert_eq!(gap.frame(), r#"{"event":"herald.gap","data":{"from":1,"to":9,"reason":"epoch"}}"#);
        assert_eq!(Control::Live { after: 3 }.frame(), r#"{"event":"herald.live","data":{"after":3}}"#);
        let bye = Control::Bye { after: "000000ab-5".into(), retry_ms: 100 };
        assert_eq!(bye.frame(), r#"{"event":"herald.bye","data":{"after":"000000ab-5","retry_ms":100}}"#);
        let over = Control::Over { after: "000000ab-5".into() };
        assert_eq!(over.frame(), r#"{"event":"herald.bye","data":{"over":true,"after":"000000ab-5"}}"#);
        let slowed = Control::Uplink { state: "slowed", reason: "rate", retry_ms: 50 };
        let text = r#"{"event":"herald.uplink","data":{"state":"slowed","reason":"rate","retry_ms":50}}"#;
        assert_eq!(slowed.frame(), text);
        let playing = Control::Replay { state: "playing", reason: None, speed: 2_500, after: 7 };
        assert_eq!(playing.frame(), r#"{"event":"herald.replay","data":{"state":"playing","speed":2.5,"after":7}}"#);
        let refused = Control::Replay { state: "refused", reason: Some("beyond"), speed: 4_000, after: 7 };
        let text = r#"{"event":"herald.replay","data":{"state":"refused","reason":"beyond","speed":4.0,"after":7}}"#;
        assert_eq!(refused.frame(), text);
        let closed = Control::Closed { code: 1012, reason: "a \"b\"".into() };
        assert_eq!(closed.frame(), r#"{"event":"herald.closed","data":{"code":1012,"reason":"a \"b\""}}"#);
        let id = crate::presence::PersonId::new(0xab);
        let ann = Arc::new(Person { id, user: Some("ann".into()), role: Some("dm".into()), name: None, since: 5 });
        let join = Control::Join { person: ann.clone(), count: 3 };
        assert_eq!(
            join.frame(),
            r#"{"event":"herald.join","data":{"id":"000000000000000000000000000000ab","user":"ann","role":"dm","since":5,"count":3}}"#
        );
        let leave = Control::Leave { person: ann, count: 2 };
        assert_eq!((leave.name(), leave.data()), ("herald.leave", join.data().replace("3}", "2}")));
        assert_eq!(Control::Presence { count: 9 }.frame(), r#"{"event":"herald.presence","data":{"count":9}}"#);
    }

    proptest! {
        #[test]
        fn every_frame_is_json_whatever_the_payload_and_topic(
            payload in prop::collection::vec(any::<u8>(), 0..60), topic in "\\PC{1,20}|[\"\\\\\u{1}a]{1,9}", seq: u64, ts: u64
        ) {
            if let Some(data) = data_json(&payload) {
                let text = frame("arena", &topic, &data, Tail::plain(seq, ts));
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                let event = format!("arena.{topic}");
                prop_assert_eq!(value["event"].as_str(), Some(event.as_str()));
                prop_assert_eq!(value["seq"].as_u64(), Some(seq));
                prop_assert_eq!(value["ts"].as_u64(), Some(ts));
            } else {
                prop_assert!(std::str::from_utf8(&payload).is_err());
            }
        }
    }
}
