//! What a connection notes down of itself, for whoever looks into the running process: how far it is, what it is at, and why it
//! began where it did. Noted by its own task where that has something to do anyway; what the append loop does for a connection
//! that is up to date is looked up.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::{SystemTime, UNIX_EPOCH},
};

use herald_protocol::Epoch;

use crate::{
    feed::{Place, Start},
    sessions::Listener,
};

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Doing {
    /// It begins, or catches up.
    #[default]
    CatchesUp,
    /// It is up to date: what comes next is written at once.
    Listens,
    /// Its client takes nothing for now.
    Blocked,
    /// It waits for history.
    AsksHistory,
    /// It has no session to show.
    Waits,
}

/// Why a connection shows its session from where it does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resume {
    /// When that was, ms since 1970.
    pub(crate) at_ms: u64,
    /// What was asked for.
    pub(crate) asked: Start,
    /// What it got: `live`, `ring`, `history`, `replay`, `snapshot`, `latest`, `seek` or `gap`.
    pub(crate) got: &'static str,
    /// It began behind this sequence.
    pub(crate) behind: u64,
    /// The life of the stream.
    pub(crate) epoch: Epoch,
    /// Where the ring here began.
    pub(crate) floor: u64,
    /// How far the stream was here.
    pub(crate) head: u64,
    /// What it could not be given.
    pub(crate) gap: Option<Gap>,
}

/// What could not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// As in `herald.gap`.
    pub(crate) reason: &'static str,
}

/// All of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Noted {
    /// How far everything is sent.
    pub(crate) place: Place,
    pub(crate) doing: Doing,
    pub(crate) resume: Option<Resume>,
}

/// The notes of one connection.
#[derive(Default)]
pub(crate) struct Notes {
    noted: Mutex<Noted>,
    listener: OnceLock<Weak<dyn Listener>>,
}

impl Notes {
    /// Who knows how far it is while it listens.
    pub(crate) fn ask(&self, listener: Weak<dyn Listener>) {
        // A connection has one for as long as it lives.
        let _ = self.listener.set(listener);
    }

    /// So far it is.
    pub(crate) fn at(&self, place: Place, doing: Doing) {
        let mut noted = self.noted();
        (noted.place, noted.doing) = (place, doing);
    }

    /// From there it shows its session.
    pub(crate) fn resumed(&self, resume: Resume) {
        self.noted().resume = Some(resume);
    }

    /// That it could not be given.
    pub(crate) fn missed(&self, gap: Gap) {
        if let Some(resume) = &mut self.noted().resume {
            resume.gap = Some(gap);
        }
    }

    /// What is noted, as it is now.
    pub(crate) fn look(&self) -> Noted {
        let mut noted = *self.noted();
        if noted.doing == Doing::Listens {
            let listener = self.listener.get().and_then(Weak::upgrade);
            noted.place = listener.and_then(|listener| listener.place()).unwrap_or(noted.place);
        }
        noted
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.look().fmt(f)
    }
}

/// Now, ms since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
