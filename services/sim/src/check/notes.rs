//! What one client saw, written down as it came. A client judges nothing: that is done later, against the log.

use herald_protocol::{Cursor, Position, SessionId};

use crate::frame::Control;

/// How a client speaks with the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A WebSocket without sub-protocol: the contract of the originals.
    Plain,
    /// A WebSocket with sub-protocol `herald.v1`.
    V1,
    /// Server-sent events.
    Sse,
}

/// Where a connection asked to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what happens from now on.
    Live,
    /// Behind this position (`after=`, `Last-Event-ID`).
    After(Position),
    /// With the last event of each topic, then live.
    Snapshot,
}

/// One thing a client saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The door took the connection: 101 or 200 was received.
    Opened {
        /// When, ms since 1970.
        at_ms: u64,
        /// Where it asked to begin.
        start: Start,
    },
    /// What the door said of the stream or of the connection.
    Control(Control),
    /// An event.
    Event {
        /// Its sequence.
        seq: u64,
        /// The sequence of the session's event before it, where the frame says so.
        prev: Option<u64>,
        /// [`hash`] of its payload as the frame carries it.
        hash: u64,
        /// Whether it is part of a snapshot.
        snapshot: bool,
        /// When it came, ms since 1970.
        at_ms: u64,
        /// When it was stored, ms since 1970, as the frame says.
        ts: u64,
    },
    /// The connection ended.
    Closed {
        /// When, ms since 1970.
        at_ms: u64,
        /// The close code; `None` where it was cut without a word.
        code: Option<u16>,
        /// Where to come back, if the close said so.
        after: Option<Cursor>,
    },
}

/// Everything one client saw, in order, over all of its connections.
#[derive(Debug, Clone)]
pub struct Notes {
    /// The session it watched.
    pub session: SessionId,
    /// How it spoke.
    pub kind: Kind,
    /// Whether it never left of its own accord: it tells how long a fault silenced the door.
    pub staying: bool,
    /// What it saw.
    pub notes: Vec<Note>,
}

/// A hash of a payload: sixty-four bits, the same in every process. Against chance and mix-ups, not against malice.
#[must_use]
pub fn hash(payload: &[u8]) -> u64 {
    // Each step is a bijection of the state: two payloads that differ in one word never meet again by it alone.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |state: u64, word: u64| {
        let mixed = (state ^ word).wrapping_mul(FACTOR);
        mixed ^ (mixed >> 29)
    };
    let (words, rest) = payload.as_chunks::<8>();
    let state = words.iter().fold(payload.len() as u64, |state, word| step(state, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(step(state, u64::from_le_bytes(last)), FACTOR)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_hash_sees_every_byte_and_the_length() {
        let payload = br#"{"type":"llm_text","call":"a","k":7,"of":9,"pad":"xyz"}"#;
        let mut seen = HashSet::from([hash(payload), hash(&payload[1..]), hash(b""), hash(b"\0"), hash(&[0; 8])]);
        assert_eq!(seen.len(), 5);
        for at in 0..payload.len() {
            for bit in 0..8 {
                let mut other = payload.to_vec();
                other[at] ^= 1 << bit;
                assert!(seen.insert(hash(&other)), "byte {at}, bit {bit}");
            }
        }
        assert_eq!(hash(b"herald"), hash(b"herald"), "the same in every process");
    }

    #[test]
    fn a_note_stays_small() {
        // Tens of thousands are kept at a time.
        assert!(size_of::<Note>() <= 56, "{}", size_of::<Note>());
    }
}
