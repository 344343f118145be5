//! What a connection is to be sent next: a cursor that moves along a log, through history and ring.

use std::sync::Arc;

use herald_protocol::{Position, SessionId, record::AliasTarget};
use tokio::sync::watch;

use crate::{history::History, sessions::Sessions, view::View};

/// One stream as connections read it: the rings of the watched sessions, and what came before them.
pub struct StreamHub {
    /// The recent end of each watched session.
    pub sessions: Arc<Sessions>,
    /// Everything else.
    pub history: History,
}

/// Whose log a connection shows.
#[derive(Debug, Clone)]
pub enum Target {
    /// This session's. The connection counts as somebody watching it.
    Session(SessionId),
    /// The session that an alias names, moving with it; nothing while it names none. Does not count as watching: the
    /// Game Master's own socket must not keep its session from being taken over.
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
}
