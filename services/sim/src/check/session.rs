//! One session, from the first client to the judgement: it is played for a while, comes to rest, every client is waited
//! for, and what they wrote down is handed over with the log.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use herald_protocol::SessionId;
use herald_runtime::nats::Nats;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    arena::Arena,
    client::Status,
    clients::{self, Clients, Tally},
    commands::{Commands, Player},
    played::Played,
    truth::{SessionLog, Truth},
};
use crate::dice::Dice;

/// How long the choice that ends a game may take before it is cut.
const LAST_CHOICE: Duration = Duration::from_secs(10);
/// How often the log is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(100);

/// What sessions share.
#[derive(Debug)]
pub struct Stage {
    /// What clients share.
    pub clients: clients::Shared,
    /// The way of commands.
    pub commands: Commands,
    /// The engine's connection.
    pub arena: Nats,
    /// The log.
    pub truth: Truth,
    /// Everything drawn by lot comes from it.
    pub seed: u64,
    /// Clients of a session.
    pub per_session: usize,
    /// Events a second on the arena path.
    pub rate: f64,
    /// How long each part of coming to rest may take.
    pub settle: Duration,
    /// For whoever looks on.
    pub present: Present,
}

/// The clients of the sessions that are being played.
#[derive(Debug, Default)]
pub struct Present(Mutex<BTreeMap<u64, Vec<Arc<Status>>>>);

impl Present {
    /// How many sessions there are, and what their clients have seen together.
    #[must_use]
    pub fn tally(&self) -> (usize, Tally) {
        let present = self.lock();
        (present.len(), Tally::of(present.values().flatten()))
    }

    /// Held for moments, never across a wait.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Arc<Status>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that is over.
#[derive(Debug)]
pub struct Over {
    /// What was played.
    pub played: Played,
    /// What the log holds; `None` where it could not be read to its end in time, and then nothing can be judged.
    pub log: Option<SessionLog>,
    /// What its clients did.
    pub tally: Tally,
}

impl Stage {
    /// Plays session `number` for `life`, or until told to stop, and brings it to its end. `None` where it did not begin.
    pub async fn play(&self, number: u64, game: bool, life: Duration, stop: &CancellationToken) -> Option<Over> {
        // Its id is not from the seed: two runs with the same one may meet on one server.
        let session = SessionId::new(&uuid::Uuid::new_v4().to_string()).ok()?;
        let dice = |what: &str| Dice::new(self.seed, &format!("session {number} {what}"));
        self.truth.follow(&session);
        let clients = Clients::start(&self.clients, &session, number, self.per_session, self.seed);
        let mut arena = Arena::new(self.arena.clone(), session.clone(), dice("arena"));
        let mut player = Player::new(self.commands.clone(), session.clone(), dice("player"));
        if !self.commands.init(&session, &mut dice("init"), stop).await {
            self.truth.forget(&session);
            return None;
        }
        self.present.lock().insert(number, clients.statuses().to_vec());
        self.run(&mut arena, &mut player, game, life, stop).await;
        let end = self.rest(&session, &clients, &mut arena).await;
        self.present.lock().remove(&number);
        let statuses = clients.statuses().to_vec();
        let notes = clients.end().await;
        let tally = Tally::of(&statuses);
        let seen = statuses.iter().map(|status| status.seen()).max().unwrap_or(0);
        let log = self.read(&session, end.unwrap_or(0).max(seen)).await;
        self.truth.forget(&session);
        let (published, asked) = (arena.into_published(), player.into_asked());
        Some(Over { played: Played { session, published, end, asked, clients: notes }, log, tally })
    }

    /// Traffic, for as long as it lives; then until nothing runs any more.
    async fn run(&self, arena: &mut Arena, player: &mut Player, game: bool, life: Duration, stop: &CancellationToken) {
        let over = CancellationToken::new();
        let session = arena.session().clone();
        let session = &session;
        let speaking = arena.run(self.rate, &over);
        let playing = async {
            let leave = stop.child_token();
            let living = async {
                stop.run_until_cancelled(sleep(life)).await;
                leave.cancel();
            };
            if game {
                tokio::join!(living, player.run(&leave));
                if player.end_game().await && timeout(LAST_CHOICE, self.quiet(session)).await.is_err() {
                    tracing::debug!(%session, "the game does not end by itself");
                }
                if !player.finish(Instant::now() + self.settle).await {
                    tracing::warn!("an action could not be ended in time");
                }
            } else {
                living.await;
            }
            over.cancel();
        };
        tokio::join!(speaking, playing);
    }

    /// Until no action runs, as the log tells. What was accepted stands there already.
    async fn quiet(&self, session: &SessionId) {
        self.truth.complete(0).await;
        while !self.truth.is_quiet(session) {
            sleep(LOOK).await;
        }
    }

    /// Brings everybody to the session's last event; its sequence.
    async fn rest(&self, session: &SessionId, clients: &Clients, arena: &mut Arena) -> Option<u64> {
        let late = |what: &str| tracing::warn!(%session, "{what} in time");
        if !clients.gather(self.deadline()).await {
            late("not every client was there");
        }
        let end = arena.finish(self.deadline()).await;
        if end.is_none() {
            late("the last event was not stored");
        }
        // Without it: whatever the log holds now.
        let Some(log) = self.read(session, end.unwrap_or(0)).await else {
            late("the log was not read");
            return end;
        };
        let last = log.life().shown.iter().rev().find(|shown| end.is_none_or(|end| shown.seq <= end));
        if let Some(last) = last
            && !clients.reach(last.seq, last.ts_ms, self.deadline()).await
        {
            late("not every client had everything");
        }
        end
    }

    /// The log, known at least up to there, and up to whatever the stream holds now.
    async fn read(&self, session: &SessionId, at_least: u64) -> Option<SessionLog> {
        timeout_at(self.deadline(), self.truth.complete(at_least)).await.ok()?;
        self.truth.log(session)
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.settle
    }
}
