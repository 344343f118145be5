//! Starts of games: one at a time for each session, on whichever bridge; the second of two gets the first one's answer.
//!
//! The record of a start lies beside its session's, is rewritten while the start runs, and holds its answer afterwards.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use herald_protocol::{
    SessionId,
    record::{Arena as Told, Lang, SessionRecord},
};
use herald_runtime::{Context, nats::Nats};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tracing::Instrument;

use crate::{
    action::{self, Actions},
    arena::{Arena, QueryParams},
    bucket::{Bucket, BucketError},
    config::Config,
    metrics,
    pool::{self, Pool, now_ms},
    refusal::{Refusal, chain},
    sessions::{SESSIONS, Sessions},
    splice::splice,
};

/// How often somebody who waits for another's start looks for its answer.
const LOOK: Duration = Duration::from_millis(100);
/// How long the record of a start is of interest; one that runs is rewritten all the time.
const KEPT: Duration = Duration::from_secs(60);
/// What a client is told of a Game Master that fails, whatever the reason.
pub(crate) const UNREACHABLE: &str = "GM unreachable";

/// The record of a session's last start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct StartRecord {
    /// Who runs it: another name for each start.
    #[serde(default)]
    starter: String,
    /// What it was answered; none while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
}

/// The answer to a start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    status: u16,
    body: Box<RawValue>,
}

/// The key of a session's start in the bucket `SESSIONS`. No session id has a dot.
pub(crate) fn start_key(session: &SessionId) -> String {
    format!("{session}.start")
}

/// Starts games.
#[derive(Clone)]
pub(crate) struct Starts {
    records: Bucket<StartRecord>,
    sessions: Sessions,
    pool: Pool,
    arena: Arena,
    actions: Actions,
    context: Context,
    renew: Duration,
    lapse: Duration,
    repeated: Duration,
    patience: Duration,
}

impl StartRecord {
    pub(crate) const fn is_running(&self) -> bool {
        self.answer.is_none()
    }
}

impl Starts {
    pub(crate) fn new(
        nats: &Nats,
        config: &Config,
        (sessions, pool, arena, actions): (&Sessions, &Pool, &Arena, &Actions),
        context: &Context,
    ) -> Self {
        Self {
            records: Bucket::new(nats, SESSIONS),
            sessions: sessions.clone(),
            pool: pool.clone(),
            arena: arena.clone(),
            actions: actions.clone(),
            context: context.clone(),
            renew: config.action.renew.get(),
            lapse: config.action.lapse.get(),
            repeated: config.gm.repeated_start.get(),
            patience: config.gm.start_wait.get(),
        }
    }

    /// Starts a game for the session, or takes part in the start that runs or has just been answered. A start that was
    /// begun is brought to its end even if the caller goes away.
    pub(crate) async fn start(&self, session: SessionId, lang: Lang) -> Result<Answer, Refusal> {
        let key = start_key(&session);
        let deadline = Instant::now() + self.patience;
        let mut seen = (0, Instant::now());
        while Instant::now() < deadline {
            let slot = self.records.get(&key).await?;
            if seen.0 != slot.revision {
                seen = (slot.revision, Instant::now());
            }
            match slot.record {
                // Rewritten all the time by the bridge at work; one that is gone leaves it as it is.
                Some(StartRecord { answer: None, .. }) if seen.1.elapsed() < self.lapse => sleep(LOOK).await,
                Some(StartRecord { answer: Some(answer), .. }) if age(slot.written_ms) < self.repeated => {
                    return Ok(answer);
                }
                _ => {
                    let starter = uuid::Uuid::new_v4().to_string();
                    let mut held = Held { key: key.clone(), starter, revision: slot.revision };
                    match self.write(&mut held, None).await {
                        Ok(()) => return self.begin(session, lang, held).await,
                        Err(error) if error.is_conflict() => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "another start of this session does not end"))
    }

    /// Runs the start in a task of its own and waits for its answer.
    async fn begin(&self, session: SessionId, lang: Lang, held: Held) -> Result<Answer, Refusal> {
        let (answer, answered) = oneshot::channel();
        let this = self.clone();
        let span = tracing::info_span!("start", %session);
        let start = async move {
            // Nobody listens any more where the caller has gone away.
            let _gone = answer.send(this.lead(&session, lang, held).await);
        };
        self.context.supervise("start of a game", start.instrument(span));
        answered.await.unwrap_or_else(|_| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the start failed")))
    }

    /// Starts the game while keeping the start's record alive, and leaves the answer in it.
    async fn lead(&self, session: &SessionId, lang: Lang, mut held: Held) -> Result<Answer, Refusal> {
        let mut renewals = interval_at(Instant::now() + self.renew, self.renew);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = std::pin::pin!(self.play(session, lang));
        let result = loop {
            tokio::select! {
                // The work first: once it is done there is nothing to keep alive.
                biased;
                result = &mut work => break result,
                _ = renewals.tick() => match self.write(&mut held, None).await {
                    Ok(()) => {}
                    Err(error) if error.is_conflict() => {
                        tracing::warn!("start taken for dead and done by another bridge");
                        break Err(Refusal::interrupted());
                    }
                    Err(error) => tracing::warn!(error = chain(&error), "start's record not renewed"),
                },
            }
        };
        let answer = Answer::of(result);
        metrics::start(answer.outcome());
        if let Err(error) = self.write(&mut held, Some(answer.clone())).await {
            tracing::warn!(error = chain(&error), "the answer to a start was not kept");
        }
        Ok(answer)
    }

    /// Rewrites the record of a start that is ours. A write that seemed to fail may have been stored: what then stands in
    /// the way of the next one is our own.
    async fn write(&self, held: &mut Held, answer: Option<Answer>) -> Result<(), BucketError> {
        let record = StartRecord { starter: held.starter.clone(), answer };
        let result = match self.records.write_for(KEPT, &held.key, &record, held.revision).await {
            Err(error) if error.is_conflict() => {
                let slot = self.records.get(&held.key).await?;
                if slot.record().is_none_or(|record| record.starter != held.starter) {
                    return Err(error);
                }
                self.records.write_for(KEPT, &held.key, &record, slot.revision).await
            }
            result => result,
        };
        held.revision = result?;
        Ok(())
    }

    /// Claims a Game Master, ends what runs there and in the session, and starts.
    async fn play(&self, session: &SessionId, lang: Lang) -> Result<Box<RawValue>, Refusal> {
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
        if let Some(previous) = claim.previous() {
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

/// The record of a start that runs here.
struct Held {
    key: String,
    starter: String,
    revision: u64,
}

/// What the Game Master answered.
struct Started {
    body: Box<RawValue>,
    g: Option<String>,
    after: u64,
}

impl Answer {
    fn of(result: Result<Box<RawValue>, Refusal>) -> Self {
        match result {
            Ok(body) => Self { status: StatusCode::OK.as_u16(), body },
            Err(refusal) => Self { status: refusal.status.as_u16(), body: refusal.body() },
        }
    }

    const fn outcome(&self) -> &'static str {
        match self.status {
            200 => "started",
            400 => "refused",
            502 => "unreachable",
            _ => "unavailable",
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        (status, json, String::from(Box::<str>::from(self.body))).into_response()
    }
}

fn age(written_ms: u64) -> Duration {
    Duration::from_millis(now_ms().saturating_sub(written_ms))
}
