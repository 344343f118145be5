//! A part of the shelf in memory: events in the order they came, each with the place of its session's last one before it.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher as StdHasher},
};

use async_nats::Subject;
use bytes::Bytes;

use super::part::Hasher;
use crate::event::Event;

/// What stands before the bytes of an event: sequence, time, the lengths of subject and payload.
pub(super) const HEAD: usize = 8 + 8 + 4 + 4;
/// And before that, in memory: the place of the session's event before, counted from 1; 0 for none.
const LINK: usize = 4;

/// Events in the order they came.
pub(super) struct Table {
    floor: u64,
    upto: u64,
    events: Vec<u8>,
    sessions: HashMap<u64, OfSession, BuildHasherDefault<Hashed>>,
}

/// What there is of a session.
#[derive(Clone, Copy, Default)]
struct OfSession {
    /// Where its last event begins, counted from 1.
    last: u32,
    /// Bytes of all of them.
    bytes: u32,
}

impl Table {
    /// An empty one, to begin behind `floor`.
    pub(super) fn behind(floor: u64) -> Self {
        Self { floor, upto: floor, events: Vec::new(), sessions: HashMap::default() }
    }

    /// Another one in its place, with the room that this one had: memory that is new to the process costs more than what is
    /// written into it.
    pub(super) fn again_behind(mut self, floor: u64) -> Self {
        self.events.clear();
        self.sessions.clear();
        Self { floor, upto: floor, ..self }
    }

    /// It knows everything behind this sequence
    pub(super) const fn floor(&self) -> u64 {
        self.floor
    }

    /// and up to this one.
    pub(super) const fn upto(&self) -> u64 {
        self.upto
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.events.len() as u64
    }

    /// Whether an event goes in without passing `most` bytes. Into an empty one every event does.
    pub(super) fn has_room(&self, event: &Event, most: usize) -> bool {
        self.events.is_empty() || self.events.len() + len(event) <= most
    }

    /// The next event.
    pub(super) fn put(&mut self, hasher: &Hasher, event: &Event) {
        let Ok(place) = u32::try_from(self.events.len() + 1) else { return };
        let of_session = self.sessions.entry(hasher.of(event.session())).or_default();
        let before = std::mem::replace(&mut of_session.last, place);
        of_session.bytes = of_session.bytes.saturating_add(u32::try_from(len(event)).unwrap_or(u32::MAX));
        let (subject, payload) = (event.subject().as_bytes(), &event.payload);
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        self.events.reserve(len(event));
        self.events.extend_from_slice(&before.to_le_bytes());
        self.events.extend_from_slice(&event.seq.to_le_bytes());
        self.events.extend_from_slice(&event.ts_ms.to_le_bytes());
        self.events.extend_from_slice(&length(subject));
        self.events.extend_from_slice(&length(payload));
        self.events.extend_from_slice(subject);
        self.events.extend_from_slice(payload);
        self.upto = event.seq;
    }

    /// The stream has moved on with something that is no event.
    pub(super) fn advance(&mut self, seq: u64) {
        self.upto = seq;
    }

    /// The sessions in it, by hash.
    pub(super) fn sessions(&self) -> impl Iterator<Item = u64> {
        self.sessions.keys().copied()
    }

    /// Bytes of a session in it.
    pub(super) fn bytes_of(&self, hash: u64) -> u64 {
        self.sessions.get(&hash).map_or(0, |of_session| of_session.bytes.into())
    }

    /// The bytes of a session's events, the last one first.
    pub(super) fn backwards(&self, hash: u64) -> impl Iterator<Item = &[u8]> {
        let mut next = self.sessions.get(&hash).map_or(0, |of_session| of_session.last) as usize;
        std::iter::from_fn(move || {
            let place = next.checked_sub(1)?;
            let link = self.events.get(place..place + LINK)?;
            next = u32::from_le_bytes(link.try_into().ok()?) as usize;
            let rest = &self.events[place + LINK..];
            rest.get(..event_len(rest)?)
        })
    }

    /// A session's events, in order; perhaps with those of another one of the same hash.
    pub(super) fn of_session(&self, hash: u64) -> Vec<Event> {
        let mut events: Vec<_> =
            self.backwards(hash).filter_map(|bytes| event(&mut Bytes::copy_from_slice(bytes))).collect();
        events.reverse();
        events
    }
}

fn len(event: &Event) -> usize {
    LINK + HEAD + event.subject().len() + event.payload.len()
}

/// How long the event is that `bytes` begin with.
fn event_len(bytes: &[u8]) -> Option<usize> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    Some(HEAD + number(16)? + number(20)?)
}

/// Takes the event off that `bytes` begin with. `None` at their end.
pub(super) fn event(bytes: &mut Bytes) -> Option<Event> {
    let len = event_len(bytes)?;
    if len > bytes.len() {
        return None;
    }
    let mut rest = bytes.split_to(len);
    let head = rest.split_to(HEAD);
    let number = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let subject = rest.split_to(u32::from_le_bytes(head.get(16..20)?.try_into().ok()?) as usize);
    Event::parse(Subject::from_utf8(subject).ok()?, number(0)?, number(8)?, rest)
}

/// What is a hash already is not hashed again.
#[derive(Default)]
struct Hashed(u64);

impl StdHasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
