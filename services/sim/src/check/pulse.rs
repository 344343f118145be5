//! How a dead connection is noticed, where nothing but silence tells.
//!
//! `herald.v1` knows from its hello how often something must be heard, and gives up a little later. A plain client pings,
//! as libraries do that can, and gives up where neither the pong nor anything else comes; where others wait for a session
//! to come to rest, `herald.v1` does so, too. An event stream is silent for 15 s at most, unless the door is configured
//! otherwise, and given up a little later.

use std::time::Duration;

use tokio::time::Instant;

use super::{link::Heard, notes::Kind};
use crate::frame::Control;

/// A plain client pings this often, and waits as long again for whatever comes.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// An event stream may be silent for this long, and so may a `herald.v1` connection before its hello.
const SILENCE: Duration = Duration::from_secs(20);
/// Beside a quarter of it, so much later than promised a heartbeat may come: a busy machine is no dead one.
const GRACE: Duration = Duration::from_secs(1);

/// Whether the other side still lives.
#[derive(Debug)]
pub(super) struct Pulse {
    kind: Kind,
    /// Whether it asks for a sign of life.
    pings: bool,
    silence: Duration,
    last: Instant,
    pinged: bool,
}

/// What silence means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Check {
    Alive,
    Ping,
    Dead,
}

impl Pulse {
    pub(super) fn new(kind: Kind) -> Self {
        let pings = kind == Kind::Plain;
        let silence = if pings { KEEPALIVE } else { SILENCE };
        Self { kind, pings, silence, last: Instant::now(), pinged: false }
    }

    /// Others wait: whoever can ping does.
    pub(super) fn hurry(&mut self) {
        if self.kind != Kind::Sse {
            (self.pings, self.silence) = (true, self.silence.min(KEEPALIVE));
        }
    }

    pub(super) fn beat(&mut self, heard: &Heard) {
        // 0: the door does not say.
        if let Heard::Control(Control::Hello { heartbeat_ms: ms @ 1.., .. }) = *heard
            && self.kind == Kind::V1
            && !self.pings
        {
            self.silence = Duration::from_millis(ms + ms / 4) + GRACE;
        }
        self.restart();
    }

    pub(super) fn restart(&mut self) {
        (self.last, self.pinged) = (Instant::now(), false);
    }

    pub(super) fn next_at(&self) -> Instant {
        self.last + if self.pinged { self.silence * 2 } else { self.silence }
    }

    pub(super) fn check(&mut self) -> Check {
        if Instant::now() < self.next_at() {
            return Check::Alive;
        }
        if self.pings && !self.pinged {
            self.pinged = true;
            return Check::Ping;
        }
        Check::Dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_as_each_kind_can() {
        let pass = tokio::time::advance;
        let mut plain = Pulse::new(Kind::Plain);
        pass(KEEPALIVE).await;
        assert_eq!(plain.check(), Check::Ping);
        assert_eq!(plain.check(), Check::Alive);
        pass(KEEPALIVE).await;
        assert_eq!(plain.check(), Check::Dead);
        plain.beat(&Heard::Nothing);
        assert_eq!(plain.check(), Check::Alive);
        let mut v1 = Pulse::new(Kind::V1);
        let epoch = herald_protocol::Epoch::new(1);
        let hello = |heartbeat_ms| Heard::Control(Control::Hello { epoch, head: 0, heartbeat_ms });
        v1.beat(&hello(4_000));
        pass(Duration::from_secs(5)).await;
        assert_eq!(v1.check(), Check::Alive);
        pass(Duration::from_secs(1)).await;
        assert_eq!(v1.check(), Check::Dead);
        let mut hurried = Pulse::new(Kind::V1);
        hurried.hurry();
        hurried.beat(&hello(25_000));
        pass(KEEPALIVE).await;
        assert_eq!(hurried.check(), Check::Ping);
        pass(KEEPALIVE).await;
        assert_eq!(hurried.check(), Check::Dead);
    }
}
