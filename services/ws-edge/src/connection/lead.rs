//! What goes out between the frames of the log: pings and pongs, and what is said to one client alone.

use bytes::Bytes;

use super::{Connection, Doing, End};
use crate::{feed::Out, guests::Word};

/// What is in front of the queue and no frame of the log.
#[derive(Clone, Copy)]
pub(super) enum Lead {
    /// A ping or pong.
    Control,
    /// Something for this client alone.
    Word,
}

impl Lead {
    /// Puts what there is in front of the queue.
    pub(super) fn of(connection: &mut Connection) -> Option<Self> {
        let control = connection.control.take().map(|bytes| (*bytes, Self::Control));
        let (bytes, lead) = control.or_else(|| connection.next_word().map(|bytes| (bytes, Self::Word)))?;
        connection.queue.push_front(Out { bytes, place: connection.place });
        Some(lead)
    }

    /// It has not begun: of pings and pongs a later one may still take its place.
    pub(super) fn undo(self, connection: &mut Connection) {
        match (self, connection.queue.pop_front()) {
            (Self::Control, out) => connection.control = out.map(|out| Box::new(out.bytes)),
            (Self::Word, Some(out)) => connection.stay.guest().not_said(out.bytes),
            (Self::Word, None) => {}
        }
    }
}

impl Connection {
    /// Something is to be said to this client alone: its task says it.
    pub(super) fn rung(&mut self) -> Result<(), End> {
        if self.doing == Doing::Blocked || self.doing == Doing::Listening && self.begins() {
            // What was said before waits with everything else; that it has to go does not.
            return self.stay.guest().told_to_go().map_or(Ok(()), |close| Err(End::Close(close)));
        }
        self.take_over();
        Ok(())
    }

    /// Whether its client has yet to hear the hello, which comes before everything else.
    fn begins(&self) -> bool {
        self.place.epoch.is_none() && self.feed.seat().is_some()
    }

    /// The next frame for this client alone.
    fn next_word(&mut self) -> Option<Bytes> {
        if self.begins() {
            return None;
        }
        match self.stay.guest().next_word()? {
            Word::Ready(frame) => Some(frame),
            Word::Close(close) => {
                self.told = Some(Box::new(close));
                None
            }
        }
    }
}
