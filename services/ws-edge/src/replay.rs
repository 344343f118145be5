//! A session's past by request: a page of its events, and what there is of it. And how fast it is played again ([`Pace`]), which
//! a feed does.
//!
//! Neither needs a ring nor counts as watching. A page is read as connections read theirs, and what they are told of gaps is
//! told here, too. Work is bounded: so many events looked through, so many bytes, so many requests at a time, so long.

mod body;
#[cfg(test)]
mod fuzz;
mod pace;
mod page;
mod query;
mod summary;

use std::{sync::Arc, time::Duration};

use herald_protocol::{Position, SessionId};
use herald_runtime::metrics::measured;
use http::{HeaderMap, StatusCode};
use metrics::{counter, gauge, histogram};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    answer::{self, Answer},
    config::ReplayConfig,
    feed::StreamHub,
    history::HistoryError,
    limits::WatchTicket,
    view::View,
};

pub(crate) use pace::{Command, Malformed, Pace};
pub(crate) use query::{BadQuery, PageQuery};

/// What is asked for of a session's past.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    /// A page of its events.
    Events(PageQuery),
    /// What there is of it.
    Session,
}

/// Whose past is asked for, by somebody who may see it.
pub(crate) struct Request {
    pub(crate) hub: Arc<StreamHub>,
    pub(crate) session: SessionId,
    /// What they see of it. Nothing is encoded by it but the events themselves.
    pub(crate) view: Arc<View>,
    pub(crate) asked: Asked,
    /// Where the page begins.
    pub(crate) after: Position,
    /// As what they are counted.
    pub(crate) place: WatchTicket,
    /// Ends their connection: for those who don't take the answer.
    pub(crate) abort: CancellationToken,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("nothing is kept of this session")]
    Nothing,
    #[error("the stream's life is in doubt, or has just changed")]
    InDoubt,
    #[error("too late")]
    Late,
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// A past that may be played again.
pub(crate) struct Played {
    pub(crate) pace: Pace,
    /// Its place among those that are played at a time.
    pub(crate) turn: OwnedSemaphorePermit,
}

/// What those share who ask for the past.
#[derive(Debug)]
pub(crate) struct Replays {
    config: ReplayConfig,
    turns: Semaphore,
    /// Pasts that may be played again at a time.
    played: Arc<Semaphore>,
    /// How long the answer may take to leave, and where that is seen to.
    unread: Duration,
    tasks: TaskTracker,
}

impl Replays {
    /// `unread`: a client that does not take its answer for so long is gone, which `tasks` see to.
    pub(crate) fn new(config: &ReplayConfig, unread: Duration, tasks: &TaskTracker) -> Arc<Self> {
        let turns = Semaphore::new(config.max_requests.min(Semaphore::MAX_PERMITS));
        let most = config.max_timed.min(Semaphore::MAX_PERMITS);
        let played = Arc::new(Semaphore::new(most));
        measured(gauge!("herald_timed_replays_count"), &played, move |played| most - played.available_permits());
        Arc::new(Self { config: config.clone(), turns, played, unread, tasks: tasks.clone() })
    }

    /// Lets a past be played at that pace, if there is room for one more.
    pub(crate) fn play(&self, pace: Pace) -> Option<Played> {
        let turn = self.played.clone().try_acquire_owned().ok()?;
        Some(Played { pace, turn })
    }

    /// What a query asks for, of a page of events.
    ///
    /// # Errors
    /// [`BadQuery`]
    pub(crate) fn page_query(&self, query: &str, view_roots: &[Arc<str>]) -> Result<PageQuery, BadQuery> {
        PageQuery::read(query, (self.config.limit, self.config.max_limit), view_roots)
    }

    /// Answers.
    pub(crate) async fn answer(&self, request: Request, headers: &HeaderMap) -> Answer {
        let begun = Instant::now();
        let kind = match request.asked {
            Asked::Events(_) => "events",
            Asked::Session => "session",
        };
        let answered = timeout(self.config.timeout.get(), self.answered(request, headers)).await;
        histogram!("herald_replay_request_seconds", "kind" => kind).record(begun.elapsed());
        let (outcome, answer) = match answered.unwrap_or(Err(Unread::Late)) {
            Ok(answer) => ("read", answer),
            Err(Unread::Nothing) => ("nothing", answer::error(StatusCode::NOT_FOUND, NOTHING)),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, kind, "the past was not read");
                match error {
                    Unread::Late => ("late", answer::unavailable("Too many others read the past")),
                    _ => ("unavailable", answer::unavailable("History is not available")),
                }
            }
        };
        counter!("herald_replay_requests_total", "kind" => kind, "outcome" => outcome).increment(1);
        answer
    }

    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed, so always granted.
        self.turns.acquire().await.ok()
    }

    async fn answered(&self, request: Request, headers: &HeaderMap) -> Result<Answer, Unread> {
        let Request { hub, session, view, asked, after, place, abort } = request;
        match asked {
            Asked::Session => {
                let _turn = self.turn().await;
                let summary = summary::read(&hub.past, &session, &view, &self.config).await?;
                Ok(answer::json(StatusCode::OK, summary.to_string()))
            }
            Asked::Events(query) => {
                let format = body::Format::of(headers);
                let hold = body::Hold { place, abort, unread: self.unread, tasks: self.tasks.clone() };
                let proof = page::settled(&hub.past, after).await?;
                let _turn = self.turn().await;
                let page = page::read(&hub.past, &session, &view, &query, (after, &proof), &self.config).await?;
                Ok(body::answer(&session, &page, format, hold))
            }
        }
    }
}

const NOTHING: &str =
    "Nothing is kept of this session: there never was one of that name here, or it was removed or is too old";
