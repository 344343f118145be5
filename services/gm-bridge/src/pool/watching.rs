//! Who watches a session: asked of every edge, on `edge.watching.<session>`.
//!
//! Each edge answers with its name and its number of connections. An answer of none counts only if it is everybody's: each
//! edge known from the last 30 s must have spoken. A bridge learns of edges from their answers, to every question and to
//! one that it asks of itself every few seconds. While it has not yet asked for as long as it remembers, it does not know
//! whom to expect and takes the whole of the time for an answer.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use herald_protocol::{InstanceId, SessionId, subject};
use herald_runtime::nats::Nats;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::config::GmConfig;

/// What a bridge asks about when it only wants to know who is there; nobody can have a game of that name.
const ROLL_CALL: &str = "roll-call";
/// More edges than this are not remembered: nobody runs as many, but anybody may answer.
const MOST_EDGES: usize = 1024;

/// Asks the edges.
#[derive(Debug, Clone)]
pub(crate) struct Watching {
    nats: Nats,
    timeout: Duration,
    forgotten: Duration,
    since: Instant,
    edges: Arc<Mutex<HashMap<InstanceId, Instant>>>,
}

#[derive(Deserialize)]
struct Answer {
    edge: InstanceId,
    count: u64,
}

impl Watching {
    pub(crate) fn new(nats: &Nats, config: &GmConfig) -> Self {
        Self {
            nats: nats.clone(),
            timeout: config.watching_timeout.get(),
            forgotten: config.edge_forgotten.get(),
            since: Instant::now(),
            edges: Arc::default(),
        }
    }

    /// Calls the roll, several times within the time in which an edge is forgotten, until `stop`.
    pub(crate) async fn call_the_roll(self, stop: CancellationToken) {
        let Ok(nobody) = SessionId::new(ROLL_CALL) else { return };
        let mut ticks = interval(self.forgotten / 3);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let call = self.ask(&nobody, |_| false);
            if stop.run_until_cancelled(call).await.is_none() {
                break;
            }
        }
    }

    /// Whether nobody watches the session, for certain: every edge that should have answered did, and has no connection.
    pub(crate) async fn nobody_watches(&self, session: &SessionId) -> bool {
        let expected = self.known();
        // A bridge that has just come, or that knows nobody, can't tell when all have spoken: then the time decides.
        let sure = self.since.elapsed() >= self.forgotten && !expected.is_empty();
        let complete = |answered: &HashMap<InstanceId, u64>| {
            answered.values().any(|count| *count > 0)
                || (sure && expected.iter().all(|edge| answered.contains_key(edge)))
        };
        let Some(answered) = self.ask(session, complete).await else { return false };
        expected.iter().all(|edge| answered.contains_key(edge)) && answered.values().all(|count| *count == 0)
    }

    /// Collects answers until they are complete or the time is over. `None` if the question could not be asked.
    async fn ask(
        &self,
        session: &SessionId,
        complete: impl Fn(&HashMap<InstanceId, u64>) -> bool,
    ) -> Option<HashMap<InstanceId, u64>> {
        if !self.nats.connected() {
            return None;
        }
        let client = self.nats.client();
        let deadline = Instant::now() + self.timeout;
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await.ok()?;
        client.publish_with_reply(subject::watching(session), inbox, "".into()).await.ok()?;
        let mut answered = HashMap::new();
        while !complete(&answered) {
            let Ok(Some(reply)) = timeout_at(deadline, replies.next()).await else { break };
            if reply.status.is_some() {
                break; // no responders: there is no edge at all
            }
            match serde_json::from_slice::<Answer>(&reply.payload) {
                Ok(Answer { edge, count }) => {
                    self.remember(&edge);
                    answered.insert(edge, count);
                }
                Err(error) => tracing::warn!(%error, "unreadable answer of an edge"),
            }
        }
        // A connection that broke in between may have taken answers with it.
        self.nats.connected().then_some(answered)
    }

    fn remember(&self, edge: &InstanceId) {
        let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        if edges.len() >= MOST_EDGES {
            edges.retain(|_, spoken| spoken.elapsed() < self.forgotten);
        }
        if edges.len() < MOST_EDGES || edges.contains_key(edge) {
            edges.insert(edge.clone(), Instant::now());
        }
    }

    fn known(&self) -> HashSet<InstanceId> {
        let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        edges.retain(|_, spoken| spoken.elapsed() < self.forgotten);
        edges.keys().cloned().collect()
    }
}
