//! `DELETE /sessions/{sid}`: removes all that is kept of a session.
//!
//! The session's action is claimed, so that whatever ran there has ended, wherever it ran, and nothing that comes late of it is
//! stored: the claim's own `_action` stays, what is removed lies before it. Then, in this order, each step such that a
//! repetition does no harm and goes on where another one has stopped:
//!
//! 1. `gm._purged` says in the stream what is about to be missing there: edges forget what they have of it.
//! 2. The records are deleted: session, start, its place at a Game Master, the aliases that show it.
//! 3. The events are removed, of all roots, below the claim. A request that comes late removes nothing that is newer.
//! 4. `gm.<sid>._over` sends its clients away.

use std::time::Duration;

use herald_protocol::{SessionId, subject};
use herald_runtime::{
    jetstream::{self, ApiError},
    nats::Nats,
};
use http::StatusCode;
use tokio::time::sleep;

use crate::{
    action::{ActionError, Actions, Claim, Remains},
    arena::EVENTS,
    metrics,
    pool::Pool,
    publisher::PublishFailure,
    refusal::Refusal,
    sessions::Sessions,
    starts::Starts,
};

/// How often the stream is asked to remove something before the request is given up.
const TRIES: u32 = 5;
/// Pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Removes sessions.
#[derive(Clone)]
pub(crate) struct Purger {
    nats: Nats,
    sessions: Sessions,
    pool: Pool,
    actions: Actions,
    starts: Starts,
}

impl Purger {
    pub(crate) fn new(nats: &Nats, sessions: &Sessions, pool: &Pool, actions: &Actions, starts: &Starts) -> Self {
        Self {
            nats: nats.clone(),
            sessions: sessions.clone(),
            pool: pool.clone(),
            actions: actions.clone(),
            starts: starts.clone(),
        }
    }

    /// Removes all that is kept of a session, and returns how many messages of its log that were. Once begun it is brought to
    /// its end even if the caller goes away.
    pub(crate) async fn purge(&self, session: SessionId) -> Result<u64, Refusal> {
        if self.starts.is_running(&session).await? {
            return Err(Refusal::conflict("The session is being started; try again"));
        }
        let known = self.sessions.get(&session).await?.is_some();
        match self.actions.remains(&session).await? {
            Remains::Nothing if !known => return Err(Refusal::session_not_found()),
            Remains::Purged if !known => return Ok(0),
            _ => {}
        }
        let this = self.clone();
        let purging = self.actions.spawn(async move { this.run(&session).await });
        let failed = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the session was not deleted");
        purging.await.unwrap_or_else(|error| Err(failed(error)))
    }

    async fn run(&self, session: &SessionId) -> Result<u64, Refusal> {
        let mut claim = self.actions.clear(session).await?;
        let purged = self.remove(&mut claim, session).await;
        let said = match &purged {
            Ok(_) => claim.say_over().await.map_err(not_carried_out),
            // What is left is found by the next request.
            Err(_) => Ok(()),
        };
        let finished = claim.finish().await;
        let purged = purged?;
        said?;
        finished?;
        tracing::info!(%session, purged, "session removed");
        metrics::session_purged(purged);
        Ok(purged)
    }

    async fn remove(&self, claim: &mut Claim, session: &SessionId) -> Result<u64, Refusal> {
        let (all, below) = (subject::session_any_root(session), claim.sequence());
        let held = jetstream::subjects(&self.nats, EVENTS, &all).await.map_err(|error| Refusal::nats(&error))?;
        // But for the claim itself.
        claim.announce_purge(held.values().sum::<u64>().saturating_sub(1)).await.map_err(not_carried_out)?;
        // A bridge that was halted since must not delete what another one has written.
        claim.surely_held().await.map_err(not_carried_out)?;
        self.sessions.forget(session).await?;
        self.starts.forget(session).await?;
        self.pool.leave(session, below, true).await?;
        self.pool.forget_aliases(session, below).await?;
        self.empty(&all, below).await.map_err(|error| Refusal::nats(&error))
    }

    async fn empty(&self, filter: &str, below: u64) -> Result<u64, ApiError> {
        let mut tries = 1;
        loop {
            match jetstream::purge_below(&self.nats, EVENTS, filter, below).await {
                Err(error) if error.is_transient() && tries < TRIES => {
                    tracing::debug!(%error, "not removed yet");
                    tries += 1;
                    sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }
}

fn not_carried_out(failure: PublishFailure) -> Refusal {
    match failure {
        PublishFailure::Superseded => ActionError::Superseded.into(),
        failure => ActionError::from(failure).into(),
    }
}
