//! What can be seen of the watched sessions from outside, for whoever looks into the running process.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use herald_protocol::{Epoch, SessionId};

use super::{Sessions, lock};
use crate::{log::Mark, view::View};

/// A watched session.
#[derive(Debug)]
pub(crate) struct SessionLook {
    /// Somebody has said that it is over.
    pub(crate) over: bool,
    pub(crate) rings: Vec<RingLook>,
}

/// Its ring in one view.
#[derive(Debug)]
pub(crate) struct RingLook {
    pub(crate) view: Arc<View>,
    /// Connections that read from it.
    pub(crate) readers: usize,
    pub(crate) held: Mark,
    /// Everything shown behind this sequence is in it.
    pub(crate) floor: u64,
    /// The last shown event, 0 where there is none or that is not known.
    pub(crate) last: u64,
    /// All that it has ever taken.
    pub(crate) taken: Mark,
    /// How long nobody has read it.
    pub(crate) idle: Option<Duration>,
}

/// A stream, as it is taken in here.
#[derive(Debug)]
pub(crate) struct StreamLook {
    /// The life it is served in; none was known so far.
    pub(crate) epoch: Option<Epoch>,
    /// Whether it is sure that it still lives this life.
    pub(crate) serving: bool,
    /// How far it is taken in.
    pub(crate) seq: u64,
    /// Sessions with a ring.
    pub(crate) sessions: usize,
}

impl Sessions {
    /// That session, if it has a ring here.
    pub(crate) fn look(&self, session: &SessionId) -> Option<SessionLook> {
        let session = lock(&self.registry).sessions.get(session).cloned()?;
        let state = lock(&session.state);
        let rings = state.rooms.iter().map(|room| RingLook {
            view: room.log.view().clone(),
            readers: room.seats,
            held: room.log.held(),
            floor: room.log.floor(),
            last: room.log.last_shown(),
            taken: room.log.mark(),
            idle: room.empty_since.map(|since| since.elapsed()),
        });
        Some(SessionLook { over: state.words.is_over(), rings: rings.collect() })
    }

    /// What the ring of that session and view has ever taken: who is at another mark lags so far behind.
    pub(crate) fn taken(&self, session: &SessionId, view: &Arc<View>) -> Option<Mark> {
        let session = lock(&self.registry).sessions.get(session).cloned()?;
        let state = lock(&session.state);
        let room = state.rooms.iter().find(|room| Arc::ptr_eq(room.log.view(), view))?;
        Some(room.log.mark())
    }

    /// The stream.
    pub(crate) fn look_at_stream(&self) -> StreamLook {
        let registry = lock(&self.registry);
        let (now, sessions) = (registry.now, registry.sessions.len());
        drop(registry);
        let epoch = (now.generation > 0).then_some(now.epoch);
        StreamLook { epoch, serving: now.serving, seq: self.settled.load(Ordering::Acquire), sessions }
    }
}
