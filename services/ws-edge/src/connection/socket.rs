//! The one thing a connection shares with the append loop: its socket, and who may write to it.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{net::TcpStream, sync::Notify};

use crate::{
    feed::{Out, Place},
    log::{Batch, Frame},
    sessions::{Goes, Listener},
};

/// A socket. While it *listens*, the append loop writes frames to it; else its own task does.
pub(super) struct Socket {
    tcp: TcpStream,
    lane: Mutex<Lane>,
    changed: Notify,
}

struct Lane {
    /// Which time of listening this is: offers of earlier ones are not for us.
    token: u64,
    listens: bool,
    /// It stopped listening by itself: it may still be on the session's list.
    left: bool,
    /// How far frames were written while it listened.
    place: Place,
    /// A frame that has begun, and how many bytes of it are written.
    begun: Option<(Out, usize)>,
}

/// What became of a control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// It is written.
    Written,
    /// It has begun; the socket does not listen any more.
    Begun,
    /// Nothing of it is written; the socket does not listen any more.
    Refused,
}

/// What had happened while a socket listened.
pub(super) struct Heard {
    /// How far frames were written.
    pub(super) place: Place,
    /// A frame that has begun, and how many bytes of it are written.
    pub(super) begun: Option<(Out, usize)>,
    /// Whether it may still be on the session's list, which has to be told.
    pub(super) left: bool,
}

impl Socket {
    pub(super) fn new(tcp: TcpStream) -> Self {
        let lane = Lane { token: 0, listens: false, left: false, place: Place::default(), begun: None };
        Self { tcp, lane: Mutex::new(lane), changed: Notify::new() }
    }

    pub(super) const fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Waits until it stopped listening other than by [`Socket::stop`]. Cancelling is safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Listens from now on, for frames behind `place`. Nothing else may write.
    pub(super) fn listen(&self, place: Place) -> u64 {
        let mut lane = self.lane();
        lane.token += 1;
        lane.listens = true;
        lane.place = place;
        lane.token
    }

    /// Whether it still listens.
    pub(super) fn listens(&self) -> bool {
        self.lane().listens
    }

    /// Listens no longer.
    pub(super) fn stop(&self) -> Heard {
        let mut lane = self.lane();
        let listened = std::mem::take(&mut lane.listens);
        Heard { place: lane.place, begun: lane.begun.take(), left: std::mem::take(&mut lane.left) || listened }
    }

    /// Writes a control frame between the frames of others.
    ///
    /// # Errors
    /// The socket's.
    pub(super) fn control(&self, frame: &Bytes) -> io::Result<Control> {
        let mut lane = self.lane();
        if !lane.listens {
            return Ok(Control::Refused);
        }
        let outcome = match self.tcp.try_write(frame) {
            Ok(written) if written == frame.len() => return Ok(Control::Written),
            Ok(written) => {
                lane.begun = Some((Out { bytes: frame.clone(), place: lane.place }, written));
                Control::Begun
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Control::Refused,
            Err(error) => return Err(error),
        };
        (lane.listens, lane.left) = (false, true);
        Ok(outcome)
    }

    fn lane(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// So many bytes of these frames were written, not all. Returns how many frames that were.
    fn wrote(&mut self, frames: &[Frame], mut written: usize) -> usize {
        for (taken, frame) in frames.iter().enumerate() {
            let place = self.place.at(frame);
            if written < frame.bytes.len() {
                self.begun = (written > 0).then(|| (Out { bytes: frame.bytes.clone(), place }, written));
                return taken;
            }
            self.place = place;
            written -= frame.bytes.len();
        }
        frames.len()
    }
}

impl Listener for Socket {
    fn offer(&self, token: u64, batch: &Batch) -> (usize, Goes) {
        let mut lane = self.lane();
        if lane.token != token || !lane.listens {
            return (0, Goes::Away);
        }
        let (frames, bytes) = batch.behind(lane.place.seq);
        let Some(last) = frames.last() else { return (0, Goes::On) };
        // Where nothing is written it is blocked, or broken: the task finds out which.
        let written = self.tcp.try_write(bytes).unwrap_or(0);
        if written == bytes.len() {
            lane.place = lane.place.at(last);
            return (frames.len(), Goes::On);
        }
        let taken = lane.wrote(frames, written);
        lane.listens = false;
        self.changed.notify_one();
        (taken, Goes::Away)
    }

    fn dismiss(&self, token: u64) {
        let mut lane = self.lane();
        if lane.token == token && lane.listens {
            lane.listens = false;
            self.changed.notify_one();
        }
    }

    fn is_current(&self, token: u64) -> bool {
        let lane = self.lane();
        lane.token == token && lane.listens
    }

    fn place(&self) -> Option<Place> {
        let lane = self.lane();
        lane.listens.then_some(lane.place)
    }
}
