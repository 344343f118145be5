//! The arena path: numbered events, published as the real engine publishes, without an acknowledgement.

use std::time::Duration;

use async_nats::HeaderMap;
use herald_protocol::{
    SessionId, TopicPattern,
    subject::{ARENA, session_topics},
};
use herald_runtime::{
    jetstream::{self, Expect},
    nats::Nats,
};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    clock::now_ms,
    numbered::{ArenaEvent, padding},
};
use crate::dice::Dice;

/// While NATS is away the library keeps what is published, until it is full; what does not fit is dropped, as by an engine
/// that does not wait.
const PATIENCE: Duration = Duration::from_millis(100);
/// Between two attempts to publish the last event.
const AGAIN: Duration = Duration::from_millis(200);
/// Bursts: seldom a few, as agents speak at once; now and then many.
const BURSTS: [(f64, u32); 2] = [(0.002, 60), (0.02, 8)];
/// The topics an engine uses.
const TOPICS: [&str; 11] = [
    "agent.a1.output",
    "agent.a2.output",
    "agent.a3.output",
    "agent.a1.status",
    "agent.a2.status",
    "agent.a3.status",
    "round.start",
    "phase.start",
    "state.global",
    "event.death",
    "event.clone",
];
/// What is never shown, and how often something comes there all the same.
const HIDDEN: (&str, f64) = ("input.fakenews", 0.02);
/// The topic of a session's last event.
const LAST: &str = "event.end";

/// The engine of one session.
#[derive(Debug)]
pub struct Arena {
    nats: Nats,
    session: SessionId,
    dice: Dice,
    published: Vec<u64>,
}

impl Arena {
    /// An engine that has not spoken.
    #[must_use]
    pub const fn new(nats: Nats, session: SessionId, dice: Dice) -> Self {
        Self { nats, session, dice, published: Vec::new() }
    }

    /// The session it speaks in.
    #[must_use]
    pub const fn session(&self) -> &SessionId {
        &self.session
    }

    /// Speaks about `rate` times a second until told to stop.
    pub async fn run(&mut self, rate: f64, stop: &CancellationToken) {
        let mut next = Instant::now();
        while !stop.is_cancelled() {
            next += Duration::from_secs_f64((0.5 + self.dice.fraction()) / rate);
            // Once behind, it does not catch up: a burst that a pause of the machine made says nothing.
            next = next.max(Instant::now());
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep_until(next) => {}
            }
            let lot = self.dice.fraction();
            let burst = BURSTS.into_iter().find(|(chance, _)| lot < *chance).map_or(1, |(_, size)| size);
            for _ in 0..burst {
                self.say().await;
            }
        }
    }

    async fn say(&mut self) {
        let topic = if self.dice.chance(HIDDEN.1) { HIDDEN.0 } else { self.dice.pick(&TOPICS) };
        let (subject, payload) = self.event(topic);
        let sent = timeout(PATIENCE, self.nats.client().publish(subject, payload.into())).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::debug!(session = %self.session, "dropped by the engine");
        }
    }

    /// The next event.
    fn event(&mut self, topic: &str) -> (String, Vec<u8>) {
        let n = u32::try_from(self.published.len()).unwrap_or(u32::MAX);
        let pad = padding(&mut self.dice);
        self.published.push(now_ms());
        let event = ArenaEvent::new(&self.session, n, &pad);
        // Fixed words and strings: they are valid, and can't fail to become JSON.
        let subject = TopicPattern::parse(topic).map(|topic| session_topics(ARENA, &self.session, &topic));
        (subject.unwrap_or_default(), serde_json::to_vec(&event).unwrap_or_default())
    }

    /// Publishes the session's last event until it is acknowledged: it has an id, so that it is stored once. Its sequence,
    /// or `None` at the deadline.
    pub async fn finish(&mut self, deadline: Instant) -> Option<u64> {
        let (subject, payload) = self.event(LAST);
        let payload = bytes::Bytes::from(payload);
        let id = format!("{}:end", self.session);
        while Instant::now() < deadline {
            let expect = Expect { message_id: Some(&id), ..Expect::default() };
            match jetstream::publish(&self.nats, &subject, HeaderMap::new(), payload.clone(), expect).await {
                Ok(ack) => return Some(ack.seq),
                Err(error) => tracing::debug!(session = %self.session, %error, "the last event is not stored yet"),
            }
            sleep(AGAIN).await;
        }
        None
    }

    /// When each event was published.
    #[must_use]
    pub fn into_published(self) -> Vec<u64> {
        self.published
    }
}
