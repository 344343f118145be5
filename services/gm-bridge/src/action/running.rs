//! The actions that run in this process, so that one which supersedes another here does not wait for the records to say so.

mod look;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use herald_protocol::{SessionId, record::ActionKind};
use tokio_util::sync::CancellationToken;

pub(crate) use self::look::ActionLook;
pub(super) use self::look::Notes;
use crate::metrics;

/// Who runs here, by session.
#[derive(Debug, Default)]
pub(super) struct Running {
    places: Mutex<HashMap<SessionId, Place>>,
}

#[derive(Debug)]
struct Place {
    n: u64,
    superseded: CancellationToken,
    left: CancellationToken,
    notes: Arc<Notes>,
}

/// A running action's place, left when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    running: Arc<Running>,
    session: SessionId,
    n: u64,
    superseded: CancellationToken,
    left: CancellationToken,
    notes: Arc<Notes>,
    /// When the one who sat here before has left.
    vacated: Option<CancellationToken>,
}

impl Running {
    /// Takes the session's place for its action number `n`, and turns out an older one.
    pub(super) fn enter(self: &Arc<Self>, session: &SessionId, n: u64, kind: ActionKind) -> Seat {
        let (superseded, left) = (CancellationToken::new(), CancellationToken::new());
        let notes = Arc::new(Notes::new(kind));
        let place = Place { n, superseded: superseded.clone(), left: left.clone(), notes: notes.clone() };
        let mut vacated = None;
        let mut places = self.places();
        match places.get(session) {
            // A newer one was faster in taking its place: its claim came later all the same.
            Some(newer) if newer.n > n => superseded.cancel(),
            _ => {
                if let Some(older) = places.insert(session.clone(), place) {
                    older.superseded.cancel();
                    vacated = Some(older.left);
                }
            }
        }
        drop(places);
        metrics::actions_running(1.0);
        Seat { running: Arc::clone(self), session: session.clone(), n, superseded, left, notes, vacated }
    }

    /// Turns out the session's action if its number is below `n`.
    pub(super) fn supersede(&self, session: &str, n: u64) {
        if let Some(place) = self.places().get(session).filter(|place| place.n < n) {
            place.superseded.cancel();
        }
    }

    fn places(&self) -> MutexGuard<'_, HashMap<SessionId, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Cancelled once another action took over.
    pub(super) const fn superseded(&self) -> &CancellationToken {
        &self.superseded
    }

    /// What is noted down of it, for whoever looks into the running process.
    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Waits until the one who sat here before has closed its stream.
    pub(super) async fn vacated(&mut self) {
        if let Some(left) = self.vacated.take() {
            left.cancelled().await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut places = self.running.places();
        if places.get(&self.session).is_some_and(|place| place.n == self.n) {
            places.remove(&self.session);
        }
        drop(places);
        self.left.cancel();
        metrics::actions_running(-1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newer_action_turns_out_the_older_whoever_comes_first() {
        let running: Arc<Running> = Arc::default();
        let session = SessionId::new("s").unwrap();
        let first = running.enter(&session, 1, ActionKind::Propose);
        let mut second = running.enter(&session, 2, ActionKind::Choose);
        assert!(first.superseded().is_cancelled() && !second.superseded().is_cancelled());
        let late = running.enter(&session, 1, ActionKind::Propose);
        assert!(late.superseded().is_cancelled() && !second.superseded().is_cancelled());
        let looks = running.look();
        assert_eq!((looks.len(), looks[0].n, looks[0].kind), (1, 2, "choose"));
        assert!(looks[0].stream.is_none() && !looks[0].superseded);
        second.notes().asks("gm:8899".to_owned());
        second.notes().opened();
        second.notes().published(3);
        let stream = running.look().remove(0).stream.unwrap();
        assert_eq!((stream.game_master.as_str(), stream.events), ("gm:8899", 3));
        assert!(stream.open_s.is_some() && stream.last_event_s.is_some());
        second.notes().closed();
        assert!(running.look()[0].stream.is_none());
        drop((first, late));
        second.vacated().await;
        running.supersede("s", 2);
        assert!(!second.superseded().is_cancelled());
        running.supersede("s", 3);
        assert!(second.superseded().is_cancelled());
        drop(second);
        assert!(running.places().is_empty());
    }
}
