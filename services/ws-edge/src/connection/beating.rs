//! The route's own heartbeats, between the frames of events.

use tokio::time::Instant;

use super::{Connection, End};
use crate::sessions::Seat;

impl Connection {
    /// Sends one if it is due. Who can't be written to does not read it either.
    pub(super) fn beat(&mut self, now: Instant) -> Result<(), End> {
        let Some(beat) = &mut self.beat else { return Ok(()) };
        if !beat.is_due(now) || self.blocked_since.is_some() {
            return Ok(());
        }
        let words = self.view.text(&beat.text(self.feed.seat().map(Seat::session), self.hub.is_well()));
        // Behind a ping or pong that waits for the same moment.
        let words = match self.control.take() {
            Some(waiting) => [*waiting, words].concat().into(),
            None => words,
        };
        self.send_control(words)
    }
}
