//! What the bridge tells the arena engine: `arena.init` and news.
//!
//! The engine speaks core NATS, acknowledges nothing, and ends a game that waits too long. So before news the bridge looks
//! at what the engine last said in that session, and tells it of the session again where it has gone silent.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_nats::{HeaderMap, Subscriber};
use bytes::Bytes;
use futures_util::{StreamExt, future::try_join_all};
use herald_protocol::{
    SessionId,
    record::Lang,
    subject::{self, EventSubject, TopicPattern},
};
use herald_runtime::{
    jetstream::{self, ApiError, Expect, PublishError, Stored},
    nats::Nats,
};
use serde::Serialize;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{config::ArenaConfig, metrics};

/// The stream that holds what the Game Master and the engine say.
pub(crate) const EVENTS: &str = "EVENTS";
/// Topics of the engine, all but the news that we send it ourselves.
const ENGINE_TOPICS: [&str; 6] = ["input.waiting", "round.>", "phase.>", "agent.>", "event.>", "state.>"];
/// The topic by which the engine ends a game.
const END_TOPIC: &str = "event.end";

/// The parameters of a query that travel on to the engine.
pub(crate) type QueryParams = BTreeMap<String, String>;

/// Speaks to the arena engine.
#[derive(Debug, Clone)]
pub(crate) struct Arena {
    nats: Nats,
    config: ArenaConfig,
}

/// Why the engine could not be told something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArenaError {
    /// The log could not be read.
    #[error("the arena's events could not be read")]
    Read(#[from] ApiError),
    /// The message was not stored, as far as we know.
    #[error("the arena could not be told")]
    Publish(#[from] PublishError),
    /// NATS took no subscription.
    #[error("the arena's answer could not be waited for")]
    Subscribe(#[source] async_nats::Error),
    /// It took longer than the Game Master waits.
    #[error("the arena was not reached in time")]
    Timeout,
}

#[derive(Serialize)]
struct InitMessage<'a> {
    session_id: &'a SessionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    lang: Option<Lang>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_params: &'a QueryParams,
}

#[derive(Serialize)]
struct NewsMessage<'a> {
    content: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_params: &'a QueryParams,
}

impl Arena {
    pub(crate) fn new(nats: &Nats, config: &ArenaConfig) -> Self {
        Self { nats: nats.clone(), config: config.clone() }
    }

    /// Tells the engine of a session. A repetition carries the same message id: the log holds it once, and an engine that
    /// hears it twice ignores the second.
    pub(crate) async fn init(
        &self,
        session: &SessionId,
        lang: Option<Lang>,
        query_params: &QueryParams,
    ) -> Result<(), ArenaError> {
        let id = format!("{session}:init");
        self.send_init(session, lang, query_params, &id).await?;
        metrics::arena_init("new");
        Ok(())
    }

    /// Hands news to the engine, waking it first where it has gone silent. Returns when it may be answered.
    pub(crate) async fn news(
        &self,
        session: &SessionId,
        lang: Option<Lang>,
        content: &str,
        query_params: &QueryParams,
    ) -> Result<(), ArenaError> {
        // Before looking: an engine that starts to speak in between is heard.
        let waiting = self.nats.client().subscribe(subject::arena_waiting(session)).await;
        let waiting = waiting.map_err(|error| ArenaError::Subscribe(error.into()))?;
        let answer_at = if self.is_silent(session).await? { self.wake(session, lang, waiting).await? } else { None };
        let message = encode(&NewsMessage { content, query_params });
        self.say_once(&subject::arena_fakenews(session), message).await?;
        if let Some(answer_at) = answer_at {
            sleep_until(answer_at).await;
        }
        Ok(())
    }

    /// Whether an engine spoke lately, in whichever session.
    pub(crate) async fn seen(&self) -> Result<bool, ArenaError> {
        let last = self.last_of_engine(|topics| subject::any_session_topics(subject::ARENA, topics)).await?;
        Ok(last.is_some_and(|last| age(&last) <= self.config.seen.get()))
    }

    /// Whether the engine does not play this session: it never spoke, ended it, or has been silent for longer than it
    /// waits for news.
    async fn is_silent(&self, session: &SessionId) -> Result<bool, ApiError> {
        let last = self.last_of_engine(|topics| subject::session_topics(subject::ARENA, session, topics)).await?;
        Ok(last.is_none_or(|last| topic(&last) == Some(END_TOPIC) || age(&last) > self.config.silent.get()))
    }

    /// The engine's last word on the subjects that `subjects` makes of a topic pattern, read through the leader. Our own
    /// news are not its words.
    async fn last_of_engine(&self, subjects: impl Fn(&TopicPattern) -> String) -> Result<Option<Stored>, ApiError> {
        let subject = |topics: &str| TopicPattern::parse(topics).map(|topics| subjects(&topics)).unwrap_or_default();
        let last = jetstream::last_by_subject_leader(&self.nats, EVENTS, &subject(">")).await?;
        let Some(last) = last else { return Ok(None) };
        if !topic(&last).is_some_and(|topic| topic == subject::FAKENEWS_TOPIC || subject::is_control(topic)) {
            return Ok(Some(last));
        }
        let filters = ENGINE_TOPICS.map(subject);
        let reads = filters.iter().map(|filter| jetstream::last_by_subject_leader(&self.nats, EVENTS, filter));
        Ok(try_join_all(reads).await?.into_iter().flatten().max_by_key(|stored| stored.sequence))
    }

    /// Tells the engine of the session again and waits until it asks for news, for a while. Returns when news sent now may
    /// be answered: the Game Master empties its queue at the answer, and the engine's asking must have passed by then.
    async fn wake(
        &self,
        session: &SessionId,
        lang: Option<Lang>,
        mut waiting: Subscriber,
    ) -> Result<Option<Instant>, ArenaError> {
        // An id of its own: with the first one's it would not be stored again within the dedupe window.
        self.send_init(session, lang, &QueryParams::new(), &fresh_id()).await?;
        metrics::arena_init("silent");
        let asked = timeout(self.config.waiting_timeout.get(), waiting.next()).await;
        Ok(match asked {
            Ok(Some(_)) => Some(Instant::now() + self.config.settle.get()),
            Ok(None) | Err(_) => {
                tracing::warn!(%session, "the arena engine does not ask for news; sent all the same");
                None
            }
        })
    }

    async fn send_init(
        &self,
        session: &SessionId,
        lang: Option<Lang>,
        query_params: &QueryParams,
        id: &str,
    ) -> Result<(), PublishError> {
        if uuid::Uuid::try_parse(session.as_str()).is_err() {
            tracing::warn!(%session, "the arena engine plays only sessions whose id is a uuid");
        }
        let message = encode(&InitMessage { session_id: session, lang, query_params });
        let sent = jetstream::publish_surely(&self.nats, subject::ARENA_INIT, HeaderMap::new(), message, id);
        sent.await.map(drop)
    }

    /// Sends one copy, whatever becomes of its acknowledgement: the engine listens beside the stream and hears every copy,
    /// and would take a second one for the news of its next round.
    async fn say_once(&self, subject: &str, payload: Bytes) -> Result<(), PublishError> {
        jetstream::publish(&self.nats, subject, HeaderMap::new(), payload, Expect::default()).await.map(drop)
    }
}

fn fresh_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// JSON of a message: strings and maps of strings can't fail.
fn encode(message: &impl Serialize) -> Bytes {
    serde_json::to_vec(message).unwrap_or_default().into()
}

fn topic(stored: &Stored) -> Option<&str> {
    EventSubject::parse(&stored.subject).map(|event| event.topic)
}

fn age(stored: &Stored) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(stored.time_ms()))
}
