//! Writing: from the queue of a connection's task, as many frames at once as the socket takes.

use std::io::{self, IoSlice};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Connection, Doing, End, WRITE_AT_ONCE, lead::Lead, socket::Control};
use crate::{metrics::Counted, sessions::Way};

impl Connection {
    /// Writes what is queued. `false`: the socket takes no more for now.
    pub(super) fn write(&mut self) -> io::Result<bool> {
        let mut leads = None;
        loop {
            // In front of what is to come, behind what has begun.
            if self.written == 0 && leads.is_none() {
                leads = Lead::of(self);
            }
            if self.queue.is_empty() {
                (self.blocked_since, self.blocked) = (None, None);
                return Ok(true);
            }
            let mut slices = [IoSlice::new(&[]); WRITE_AT_ONCE];
            let mut count = 0;
            for (slice, out) in slices.iter_mut().zip(&self.queue) {
                let from = if count == 0 { self.written } else { 0 };
                *slice = IoSlice::new(&out.bytes[from..]);
                count += 1;
            }
            match self.socket.tcp().try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    self.wrote(bytes);
                    leads = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(lead) = leads {
                        lead.undo(self);
                    }
                    self.blocked_since.get_or_insert_with(Instant::now);
                    self.blocked.get_or_insert_with(|| Counted::blocked("socket"));
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn wrote(&mut self, bytes: usize) {
        (self.blocked_since, self.blocked) = (None, None);
        self.written += bytes;
        while let Some(first) = self.queue.front()
            && self.written >= first.bytes.len()
        {
            self.written -= first.bytes.len();
            self.place = first.place;
            self.queue.pop_front();
            self.delivered.increment(1);
            self.hub.sessions.wrote(self.place.seq, Way::Socket);
        }
    }

    /// Sends a ping or pong as soon as no frame is being written.
    pub(super) fn send_control(&mut self, frame: Bytes) -> Result<(), End> {
        if self.doing == Doing::Listening {
            match self.socket.control(&frame)? {
                Control::Written => return Ok(()),
                Control::Refused => self.take_over(),
                Control::Begun => {
                    self.take_over();
                    return Ok(());
                }
            }
        }
        self.control = Some(Box::new(frame));
        Ok(())
    }
}
