//! One start, from the claim of a Game Master to its answer.

use herald_protocol::{
    SessionId,
    record::{Arena as Told, Lang, SessionRecord},
};
use http::StatusCode;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{Starts, UNREACHABLE};
use crate::{
    action::{self, ActionError},
    arena::QueryParams,
    pool,
    publisher::PublishFailure,
    refusal::{Refusal, chain},
    splice::splice,
};

/// What the Game Master answered.
struct Started {
    body: Box<RawValue>,
    g: Option<String>,
    after: u64,
}

/// Why a start came to nothing on one Game Master.
struct Failed {
    refusal: Refusal,
    /// Nobody was asked for anything: another Game Master may be.
    elsewhere: bool,
}

impl<E: Into<Refusal>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { refusal: error.into(), elsewhere: false }
    }
}

impl Starts {
    /// Claims a Game Master, ends what runs there and in the session, and starts. By `starter` it is known whose action the start's
    /// is, should this bridge die.
    pub(super) async fn play(&self, session: &SessionId, lang: Lang, starter: &str) -> Result<Box<RawValue>, Refusal> {
        let mut left = self.pool.seats().len();
        loop {
            left -= 1;
            let mut claim = self.pool.claim(session).await?;
            let failed = match self.play_on(&mut claim, session, lang, starter).await {
                Ok((started, action)) => {
                    let settled = self.settle(claim, session, lang, &started).await;
                    end(action).await;
                    return settled.map(|()| started.body);
                }
                Err(failed) => failed,
            };
            if let Err(error) = claim.release().await {
                tracing::warn!(error = chain(&error), "game master not released after a failed start");
            }
            if !failed.elsewhere || left == 0 {
                return Err(failed.refusal);
            }
        }
    }

    async fn play_on(
        &self,
        claim: &mut pool::Claim<'_>,
        session: &SessionId,
        lang: Lang,
        starter: &str,
    ) -> Result<(Started, action::Claim), Failed> {
        if let Some(previous) = claim.previous().await? {
            let ended = claim.previous_saw_end().await.map_err(|error| Refusal::nats(&error))?;
            tracing::info!(previous = %previous.session, ended, "game master goes to another session");
            self.actions.take_over(&previous.session, ended).await?;
            claim.told();
        }
        let action = self.actions.claim_start(session, starter).await?;
        match self.ask(claim, &action, session, lang).await {
            Ok(started) => Ok((started, action)),
            Err(failed) => {
                end(action).await;
                Err(failed)
            }
        }
    }

    async fn ask(
        &self,
        claim: &mut pool::Claim<'_>,
        action: &action::Claim,
        session: &SessionId,
        lang: Lang,
    ) -> Result<Started, Failed> {
        // The last look before the Game Master is asked: neither the claim nor the action is somebody else's by now, as
        // could be known a moment ago. A bridge that was halted in between looks again.
        loop {
            let begun = Instant::now();
            claim.confirm().await?;
            action.surely_held().await.map_err(|failure| match failure {
                PublishFailure::Superseded => Refusal::interrupted(),
                failure => ActionError::from(failure).into(),
            })?;
            if begun.elapsed() < self.lapse / 2 {
                break;
            }
        }
        let json = match claim.seat().gm.start(lang).await {
            Ok(json) => json,
            Err(error) => {
                let elsewhere = error.never_sent();
                if elsewhere {
                    claim.seat().pulse.missed();
                }
                return Err(Failed { refusal: Refusal::game_master(&error, UNREACHABLE), elsewhere });
            }
        };
        let broken = |error: &(dyn std::error::Error + 'static)| {
            tracing::warn!(error = chain(error), "the game master's answer to a start can't be used");
            Refusal::new(StatusCode::BAD_GATEWAY, UNREACHABLE)
        };
        let spliced = splice(&json, session).map_err(|error| broken(&error))?;
        let body = serde_json::from_slice(&spliced.body).map_err(|error| broken(&error))?;
        Ok(Started { body, g: spliced.gm_session_id, after: action.sequence() })
    }

    /// Notes what has been started, and tells the arena engine of the session if nobody has yet.
    async fn settle(
        &self,
        claim: pool::Claim<'_>,
        session: &SessionId,
        lang: Lang,
        started: &Started,
    ) -> Result<(), Refusal> {
        let seat = claim.seat();
        let key = seat.key.clone();
        claim.playing(started.g.clone(), started.after).await?;
        tracing::info!(g = started.g, after = started.after, "game started");
        if let Err(error) = self.pool.leave_others(session, seat).await {
            tracing::warn!(error = chain(&error), "a game master that was left is still noted as played on");
        }
        // A bridge that was halted since finds the session removed: it must not make it known again.
        if !self.pool.is_played(seat, session, started.after).await? {
            return Err(Refusal::interrupted());
        }
        let note = |record: &mut SessionRecord| {
            record.gm = Some(key.clone());
            record.lang = Some(lang);
        };
        if self.sessions.change(session, note).await?.arena == Told::None {
            self.arena.init(session, Some(lang), &QueryParams::new()).await?;
            self.sessions.change(session, |record| record.arena = Told::Sent).await?;
        }
        Ok(())
    }
}

async fn end(action: action::Claim) {
    if let Err(error) = action.finish().await {
        tracing::warn!(error = chain(&error), "the action of a start was not ended in order");
    }
}
