//! One start, from the claim of a Game Master to its answer.

use herald_protocol::{
    SessionId,
    record::{Arena as Told, Lang, SessionRecord},
};
use http::StatusCode;
use serde_json::value::RawValue;

use super::{Starts, UNREACHABLE};
use crate::{
    action,
    arena::QueryParams,
    pool,
    refusal::{Refusal, chain},
    splice::splice,
};

/// What the Game Master answered.
struct Started {
    body: Box<RawValue>,
    g: Option<String>,
    after: u64,
}

impl Starts {
    /// Claims a Game Master, ends what runs there and in the session, and starts.
    pub(super) async fn play(&self, session: &SessionId, lang: Lang) -> Result<Box<RawValue>, Refusal> {
        let mut claim = self.pool.claim(session).await?;
        let result = self.play_on(&mut claim, session, lang).await;
        let (started, action) = match result {
            Ok(started) => started,
            Err(refusal) => {
                if let Err(error) = claim.release().await {
                    tracing::warn!(error = chain(&error), "game master not released after a failed start");
                }
                return Err(refusal);
            }
        };
        let settled = self.settle(claim, session, lang, &started).await;
        end(action).await;
        settled.map(|()| started.body)
    }

    async fn play_on(
        &self,
        claim: &mut pool::Claim<'_>,
        session: &SessionId,
        lang: Lang,
    ) -> Result<(Started, action::Claim), Refusal> {
        if let Some(previous) = claim.previous().await? {
            let ended = claim.previous_saw_end().await.map_err(|error| Refusal::nats(&error))?;
            tracing::info!(previous = %previous.session, ended, "game master goes to another session");
            self.actions.take_over(&previous.session, ended).await?;
            claim.told();
        }
        let action = self.actions.claim_start(session).await?;
        match self.ask(claim, &action, session, lang).await {
            Ok(started) => Ok((started, action)),
            Err(refusal) => {
                end(action).await;
                Err(refusal)
            }
        }
    }

    async fn ask(
        &self,
        claim: &mut pool::Claim<'_>,
        action: &action::Claim,
        session: &SessionId,
        lang: Lang,
    ) -> Result<Started, Refusal> {
        // The last look before the Game Master is asked: neither the claim nor the action is somebody else's by now.
        claim.confirm().await?;
        if !action.is_held() {
            return Err(Refusal::interrupted());
        }
        let json = claim.seat().gm.start(lang).await.map_err(|error| Refusal::game_master(&error, UNREACHABLE))?;
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
        let key = claim.seat().key.clone();
        claim.playing(started.g.clone(), started.after).await?;
        tracing::info!(g = started.g, after = started.after, "game started");
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
