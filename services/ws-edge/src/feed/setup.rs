//! What a connection is to show, and from where.

use std::{sync::Arc, time::Duration};

use herald_protocol::{Position, SessionId, record::AliasTarget};
use herald_runtime::nats::Nats;
use tokio::{sync::watch, time::timeout};

use super::Past;
use crate::{
    beat::Beat,
    guests::Stay,
    replay::Played,
    sessions::{Opening, Seat, Sessions},
    uplink::Uplink,
    view::View,
};

/// How long a client that comes back waits for word whether there is anything to come back for.
const LOOK: Duration = Duration::from_secs(2);

/// One stream as connections read it: the rings of the watched sessions, and what came before them.
pub struct StreamHub {
    /// The recent end of each watched session.
    pub sessions: Arc<Sessions>,
    /// Everything else.
    pub past: Past,
    /// The connection that says whether NATS is there.
    pub nats: Nats,
}

impl StreamHub {
    /// Whether events come: NATS is there, and the stream is served.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.nats.connected() && self.sessions.is_serving()
    }
}

/// Whose log a connection shows.
#[derive(Debug, Clone)]
pub enum Target {
    /// This session's. The connection counts as somebody watching it.
    Session(SessionId),
    /// The session that an alias names, moving with it; nothing while it names none. Does not count as watching: the
    /// Game Master's own socket must not keep its session from being taken over. It is never closed because of a gap
    /// either: who follows an alias has no cursor to come back with, and the Game Master never opens a second socket.
    Alias(watch::Receiver<Option<AliasTarget>>),
}

/// Where a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what comes next.
    Live,
    /// Behind a position; `Seq(0)`: with the session's first kept event.
    After(Position),
    /// With the last event of each snapshot topic, then live.
    Snapshot,
}

/// What a connection is to show.
pub struct Setup {
    /// The stream of its route.
    pub hub: Arc<StreamHub>,
    /// What it shows of it, and how.
    pub view: Arc<View>,
    /// Whose log.
    pub target: Target,
    /// From where.
    pub start: Start,
    /// Where a live start begins.
    pub now: Option<Now>,
    /// Its place among the guests.
    pub stay: Stay,
    /// Where what its client says goes, if it may say anything.
    pub uplink: Option<Arc<Uplink>>,
    /// What tells its client that it lives, where the route has such.
    pub beat: Option<Box<Beat>>,
    /// How fast, where it is the past in its own time.
    pub(crate) played: Option<Played>,
}

/// The present of a session, from before its client was told that it is connected: what is stored from then on is shown,
/// however long the connection takes to begin. Keeps the ring open until then.
pub struct Now {
    opening: Opening,
    _seat: Seat,
}

impl Now {
    /// Where the ring stood.
    pub(crate) const fn opening(&self) -> Opening {
        self.opening
    }
}

impl Setup {
    /// Fixes the present, where that is where the connection begins.
    #[must_use]
    pub fn begun(mut self) -> Self {
        if let (Start::Live, Target::Session(session)) = (self.start, &self.target) {
            let seat = self.hub.sessions.hold(session, &self.view);
            self.now = seat.opening().map(|opening| Now { opening, _seat: seat });
        }
        self
    }

    /// Whether nothing is to come for a client that says what it has: the session is over, and it has everything. Where nobody
    /// can say so, something is.
    pub(crate) async fn is_finished(&self) -> bool {
        let (Start::After(at), Target::Session(session)) = (self.start, &self.target) else { return false };
        let finished = self.hub.past.is_finished(session, &self.view, at);
        at.seq() > 0 && matches!(timeout(LOOK, finished).await, Ok(Ok(true)))
    }

    /// Whether it begins with what comes next and nobody knows behind what: the stream is not served now. What is stored
    /// until it is would be missed without a word, so such a client must not be told that it is connected. One that follows
    /// an alias is all the same: it never comes a second time.
    #[must_use]
    pub fn misses_now(&self) -> bool {
        self.start == Start::Live && self.now.is_none() && matches!(self.target, Target::Session(_))
    }
}
