//! Telling what has happened: statuses, of which no older one ever follows a newer one, and events for whoever is interested.
//!
//! A status is what its sockets show. It carries the revision of the session's record that it was made of (`Lobby-Rev`), and is
//! stored only behind an older one: each names the last status it saw, the server refuses it if there is another, and whoever
//! was refused looks whether that one is newer. So it does not matter who tells, how late, or how often.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::future::join_all;
use herald_protocol::SessionId;
use herald_runtime::{
    jetstream::{self, ApiError, Expect, PublishError, Stored},
    nats::Nats,
};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    key, metrics,
    record::{Session, Status},
    streams::{ROOT, STREAM},
};

/// The revision of the record that a status was made of.
const REVISION: &str = "Lobby-Rev";
/// How long telling may take before the sweeper is left to do it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before a status is sent again that met another one under way.
const PAUSE: Duration = Duration::from_millis(5);

/// Something that happened in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// It was made.
    Created,
    /// It is gone.
    Destroyed,
    /// A player came, went, or is ready or no longer.
    Player { kind: &'static str, client: String, ready: bool, at: String },
}

/// The last status told of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    /// The revision it was made of; 0: none was told.
    pub(crate) revision: u64,
    /// Its sequence in the stream, 0 without one.
    pub(crate) sequence: u64,
    /// When it was stored, in ms since 1970.
    pub(crate) at_ms: u64,
}

/// Why something could not be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TellError {
    #[error("the last status can't be read")]
    Read(#[from] ApiError),
    #[error("the status was not stored")]
    Publish(#[from] PublishError),
}

/// Tells.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    nats: Nats,
}

impl Teller {
    pub(crate) fn new(nats: &Nats) -> Self {
        Self { nats: nats.clone() }
    }

    /// Tells how a session is as of a revision of its record, and what made it so. `last` is the sequence of the last status, as
    /// far as it is known; returns that of the last one now. What can't be told now is told by the sweeper.
    pub(crate) async fn tell(
        &self,
        session: &Session,
        revision: u64,
        events: &[Event],
        last: Option<u64>,
    ) -> Option<u64> {
        let status = session.status();
        let (told, ()) =
            tokio::join!(self.status(&session.id, &status, revision, last), self.events(session, revision, events));
        told.inspect_err(|error| {
            metrics::status("failed");
            tracing::warn!(session = %session.id, error = error as &dyn std::error::Error, "a status was not told");
        })
        .ok()
    }

    /// Stores a status, unless one of the same revision or a newer one is there. Returns the sequence of the last one.
    pub(crate) async fn status(
        &self,
        session: &SessionId,
        status: &Status,
        revision: u64,
        last: Option<u64>,
    ) -> Result<u64, TellError> {
        let (subject, body) = (subject(session, "status"), json(status));
        let deadline = Instant::now() + PATIENCE;
        let mut last = match last {
            Some(last) => last,
            None => match self.told(session).await? {
                told if told.revision >= revision => return Ok(newer(told)),
                told => told.sequence,
            },
        };
        loop {
            let mut headers = HeaderMap::new();
            headers.insert(REVISION, revision.to_string());
            let expect = Expect { last_subject_sequence: Some(last), ..Expect::default() };
            match jetstream::publish(&self.nats, &subject, headers, body.clone(), expect).await {
                Ok(stored) => {
                    metrics::status("told");
                    return Ok(stored.seq);
                }
                Err(PublishError::WrongLast { .. }) => match self.told(session).await? {
                    told if told.revision >= revision => return Ok(newer(told)),
                    told => last = told.sequence,
                },
                Err(PublishError::Retry) if Instant::now() < deadline => sleep(PAUSE).await,
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= deadline {
                return Err(PublishError::Timeout.into());
            }
        }
    }

    /// Stores a status of the same revision once more, behind that one: before it is lost by its age.
    pub(crate) async fn again(&self, session: &Session, told: Told) -> Result<(), TellError> {
        let mut headers = HeaderMap::new();
        headers.insert(REVISION, told.revision.to_string());
        let expect = Expect { last_subject_sequence: Some(told.sequence), ..Expect::default() };
        let subject = subject(&session.id, "status");
        match jetstream::publish(&self.nats, &subject, headers, json(&session.status()), expect).await {
            // Somebody else was here, with this one or a newer one.
            Ok(_) | Err(PublishError::WrongLast { .. } | PublishError::Retry) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The last status that was told of a session.
    pub(crate) async fn told(&self, session: &SessionId) -> Result<Told, ApiError> {
        let last = jetstream::last_by_subject_leader(&self.nats, STREAM, &subject(session, "status")).await?;
        Ok(last.as_ref().map_or(Told { revision: 0, sequence: 0, at_ms: 0 }, told))
    }

    /// Says that a session is gone, for the first or for the second time.
    pub(crate) async fn destroyed(&self, session: &Session, revision: u64, again: bool) -> Result<(), TellError> {
        self.store(session, revision, usize::from(again), &Event::Destroyed).await.map_err(TellError::from)
    }

    /// Stores events, in their order. They are history: what is true is in the records, so one that is lost is only logged.
    async fn events(&self, session: &Session, revision: u64, events: &[Event]) {
        let stored =
            join_all(events.iter().enumerate().map(|(at, event)| self.store(session, revision, at, event))).await;
        for (event, error) in events.iter().zip(stored).filter_map(|(event, stored)| Some((event, stored.err()?))) {
            metrics::event_lost();
            tracing::warn!(session = %session.id, ?event, error = &error as &dyn std::error::Error, "an event was not stored");
        }
    }

    /// Stores one, the `at`-th of that revision.
    async fn store(&self, session: &Session, revision: u64, at: usize, event: &Event) -> Result<(), PublishError> {
        let id = format!("{}:{revision}:{}:{at}", session.id, event.about());
        let (topic, body) = event.message(session);
        let subject = subject(&session.id, topic);
        jetstream::publish_surely(&self.nats, &subject, HeaderMap::new(), body, &id).await.map(drop)
    }
}

impl Event {
    /// Whom it is about, as a word.
    fn about(&self) -> String {
        match self {
            Self::Created | Self::Destroyed => "-".to_owned(),
            Self::Player { client, .. } => key::of(client),
        }
    }

    fn message(&self, session: &Session) -> (&'static str, Bytes) {
        #[derive(Serialize)]
        struct Created<'a> {
            id: &'a str,
            seed: &'a str,
            size: u8,
            labyrinth_id: &'a str,
            start_x: u8,
            start_y: u8,
            created_at: &'a str,
        }
        #[derive(Serialize)]
        struct Player<'a> {
            client_id: &'a str,
            ready: bool,
            at: &'a str,
        }
        match self {
            Self::Created => {
                let Session { id, seed, size, labyrinth_id, start_x, start_y, created_at, .. } = session;
                let (size, start_x, start_y) = (*size, *start_x, *start_y);
                (
                    "session.created",
                    json(&Created { id: id.as_str(), seed, size, labyrinth_id, start_x, start_y, created_at }),
                )
            }
            Self::Destroyed => ("session.destroyed", Bytes::from_static(b"{}")),
            Self::Player { kind, client, ready, at } => (kind, json(&Player { client_id: client, ready: *ready, at })),
        }
    }
}

/// `lobby.<sid>.<topic>`.
fn subject(session: &SessionId, topic: &str) -> String {
    format!("{ROOT}.{session}.{topic}")
}

fn told(stored: &Stored) -> Told {
    Told { revision: revision(stored), sequence: stored.sequence, at_ms: stored.time_ms() }
}

/// The revision that a status was made of; 0 where it does not say one.
pub(crate) fn revision(status: &Stored) -> u64 {
    status.headers.get(REVISION).and_then(|revision| revision.as_str().parse().ok()).unwrap_or(0)
}

fn newer(told: Told) -> u64 {
    metrics::status("newer");
    told.sequence
}

/// JSON of what always has some.
fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()
}
