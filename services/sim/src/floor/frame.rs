//! Frames, as ws-edge's plain clients get them.

use std::time::{SystemTime, UNIX_EPOCH};

use herald_protocol::frame::Tail;

use super::stream::Place;
use crate::wire::websocket;

/// Makes frames, and numbers them.
#[derive(Default)]
pub(super) struct Frames {
    seq: u64,
    /// When the stream stored it; the clock is read where nothing did.
    stored_ms: Option<u64>,
    text: Vec<u8>,
    frame: Vec<u8>,
}

impl Frames {
    /// The next event.
    pub(super) const fn count(&mut self) {
        self.seq += 1;
    }

    /// The next event, with its place in a stream.
    pub(super) const fn stored(&mut self, place: Place) {
        self.seq = place.seq;
        self.stored_ms = Some(place.stored_ms);
    }

    /// The frame of that event, alone.
    pub(super) fn alone(&mut self, root: &[u8], topic: &[u8], payload: &[u8]) -> &[u8] {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        self.append(&mut frame, root, topic, payload);
        self.frame = frame;
        &self.frame
    }

    /// The same, behind others. The topic and the payload are taken for what they should be: JSON, and no quotes.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, root: &[u8], topic: &[u8], payload: &[u8]) {
        // Some 500 million years fit.
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        self.text.clear();
        for part in [b"{\"event\":\"", root, b".", topic, b"\",\"data\":", payload] {
            self.text.extend_from_slice(part);
        }
        Tail::plain(self.seq, self.stored_ms.unwrap_or_else(now)).append(&mut self.text);
        websocket::server_head(out, websocket::TEXT, self.text.len());
        out.extend_from_slice(&self.text);
    }
}

/// Root, session and topic of a subject; `None` where it has fewer than three tokens.
pub(super) fn tokens(subject: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut tokens = subject.splitn(3, |byte| *byte == b'.');
    Some((tokens.next()?, tokens.next()?, tokens.next()?))
}

#[cfg(test)]
mod tests {
    use herald_protocol::frame::event_head;

    use super::*;

    #[test]
    fn frames_are_what_ws_edge_sends() {
        let mut frames = Frames::default();
        frames.count();
        let payload = [br#"{"pad":""#, &[b'x'; 300][..], br#""}"#].concat();
        let (root, session, topic) = tokens(b"arena.s.agent.pavel.status").unwrap();
        assert_eq!((root, session), (&b"arena"[..], &b"s"[..]));
        let frame = frames.alone(root, topic, &payload).to_vec();
        let head = websocket::Head::read(&frame).unwrap().unwrap();
        assert_eq!((head.opcode, head.total()), (websocket::TEXT, frame.len()));
        let text = std::str::from_utf8(&frame[head.header..]).unwrap();
        let ts_ms = text.rsplit_once(":").unwrap().1.trim_end_matches('}').parse().unwrap();
        let mut expected = event_head("arena", "agent.pavel.status", &payload);
        Tail::plain(1, ts_ms).append(&mut expected);
        assert_eq!(text.as_bytes(), expected);
        let mut two = Vec::new();
        frames.append(&mut two, root, topic, &payload);
        frames.append(&mut two, root, topic, &payload);
        assert_eq!(two.len(), 2 * frame.len());
    }

    #[test]
    fn a_stored_event_is_shown_with_its_place() {
        let mut frames = Frames::default();
        frames.stored(Place { seq: 48, stored_ms: 1_767_225_600_000, delivery: 3 });
        let frame = frames.alone(b"arena", b"bench", b"{}").to_vec();
        assert!(frame.ends_with(br#"{"event":"arena.bench","data":{},"seq":48,"ts":1767225600000}"#), "{frame:?}");
    }

    #[test]
    fn a_short_subject_is_no_event() {
        assert_eq!(tokens(b"arena.init"), None);
    }
}
