//! What can be seen of the running actions from outside, for whoever looks into the running process.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use herald_protocol::record::ActionKind;
use serde::Serialize;
use tokio::time::Instant;

use super::Running;

/// What an action notes down of itself.
#[derive(Debug)]
pub(in crate::action) struct Notes {
    kind: ActionKind,
    begun: Instant,
    stream: Mutex<Option<Stream>>,
}

#[derive(Debug)]
struct Stream {
    game_master: String,
    asked: Instant,
    opened: Option<Instant>,
    events: u64,
    last: Option<Instant>,
}

/// An action that runs here.
#[derive(Debug, Serialize)]
pub(crate) struct ActionLook {
    pub(crate) session: String,
    /// Counts the session's actions.
    pub(crate) n: u64,
    pub(crate) kind: &'static str,
    pub(crate) age_s: f64,
    /// Another one has taken over, and this one is about to leave.
    pub(crate) superseded: bool,
    /// Its stream, while there is one.
    pub(crate) stream: Option<StreamLook>,
}

/// A Game Master's stream.
#[derive(Debug, Serialize)]
pub(crate) struct StreamLook {
    /// Host and port.
    pub(crate) game_master: String,
    /// How long ago the Game Master was asked.
    pub(crate) asked_s: f64,
    /// How long it has been answering; `null` before that.
    pub(crate) open_s: Option<f64>,
    /// Events of it that are stored.
    pub(crate) events: u64,
    /// How long ago the last of them was.
    pub(crate) last_event_s: Option<f64>,
}

impl Notes {
    pub(super) fn new(kind: ActionKind) -> Self {
        Self { kind, begun: Instant::now(), stream: Mutex::default() }
    }

    /// That Game Master is asked.
    pub(in crate::action) fn asks(&self, game_master: String) {
        let stream = Stream { game_master, asked: Instant::now(), opened: None, events: 0, last: None };
        *self.stream() = Some(stream);
    }

    /// It answers.
    pub(in crate::action) fn opened(&self) {
        if let Some(stream) = &mut *self.stream() {
            stream.opened = Some(Instant::now());
        }
    }

    /// So many more of its events are stored.
    pub(in crate::action) fn published(&self, events: usize) {
        if let Some(stream) = &mut *self.stream() {
            stream.events += events as u64;
            stream.last = Some(Instant::now());
        }
    }

    /// It is over.
    pub(in crate::action) fn closed(&self) {
        *self.stream() = None;
    }

    fn stream(&self) -> MutexGuard<'_, Option<Stream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// The actions that run here, by their sessions.
    pub(crate) fn look(&self) -> Vec<ActionLook> {
        let places = self.places();
        let looks = places.iter().map(|(session, place)| ActionLook {
            session: session.to_string(),
            n: place.n,
            kind: place.notes.kind.as_str(),
            age_s: seconds(place.notes.begun.elapsed()),
            superseded: place.superseded.is_cancelled(),
            stream: place.notes.stream().as_ref().map(|stream| StreamLook {
                game_master: stream.game_master.clone(),
                asked_s: seconds(stream.asked.elapsed()),
                open_s: stream.opened.map(|at| seconds(at.elapsed())),
                events: stream.events,
                last_event_s: stream.last.map(|at| seconds(at.elapsed())),
            }),
        });
        let mut looks: Vec<_> = looks.collect();
        drop(places);
        looks.sort_unstable_by(|one, other| one.session.cmp(&other.session));
        looks
    }
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
