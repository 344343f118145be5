//! Sends back what clients send: for the conformance tests, and in their build alone.

use super::{Connection, Doing, End};
use crate::feed::Out;

/// Frames that wait for a client that does not read. The tests' own do.
const WAITING: usize = 64;

impl Connection {
    /// Sends back the message that was just received.
    pub(super) fn echo(&mut self) -> Result<(), End> {
        self.take_over();
        if self.queue.len() < WAITING {
            self.queue.push_back(Out { bytes: self.inbound.echo().into(), place: self.place });
        }
        // At once: a close may be next.
        if !self.write()? {
            self.doing = Doing::Blocked;
        }
        Ok(())
    }
}
