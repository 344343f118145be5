//! Starts of games: one at a time for each session, on whichever bridge; the second of two gets the first one's answer.
//!
//! The record of a start lies beside its session's, is rewritten while the start runs, and holds its answer afterwards.

mod play;
mod record;

use std::time::Duration;

use herald_protocol::{SessionId, record::Lang};
use herald_runtime::{
    Context,
    bucket::{Bucket, BucketError},
    nats::Nats,
};
use http::StatusCode;
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tracing::Instrument;

pub(crate) use self::record::{Answer, StartRecord, start_key};
use crate::{
    action::{Actions, Admission},
    arena::Arena,
    config::Config,
    metrics,
    pool::{Pool, now_ms},
    refusal::{Refusal, chain},
    sessions::{SESSIONS, Sessions},
};

/// How often somebody who waits for another's start looks for its answer.
const LOOK: Duration = Duration::from_millis(100);
/// How long the record of a start is of interest; one that runs is rewritten all the time.
const KEPT: Duration = Duration::from_secs(60);
/// What a client is told of a Game Master that fails, whatever the reason.
pub(crate) const UNREACHABLE: &str = "GM unreachable";

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
        // Whoever has seen a start run gets its answer, whatever the clocks here and at the server say of its age.
        let mut waited = false;
        while Instant::now() < deadline {
            let slot = self.records.get(&key).await?;
            if seen.0 != slot.revision {
                seen = (slot.revision, Instant::now());
            }
            match slot.record {
                // Rewritten all the time by the bridge at work; one that is gone leaves it as it is.
                Some(StartRecord { answer: None, .. }) if seen.1.elapsed() < self.lapse => {
                    waited = true;
                    sleep(LOOK).await;
                }
                Some(StartRecord { answer: Some(answer), .. }) if waited || age(slot.written_ms) < self.repeated => {
                    return Ok(answer);
                }
                _ => {
                    self.actions.check_quota(&session).await?;
                    let admission = self.actions.admit(&session)?;
                    let starter = uuid::Uuid::new_v4().to_string();
                    let mut held = Held { key: key.clone(), starter, revision: slot.revision };
                    match self.write(&mut held, None).await {
                        Ok(()) => return self.begin(session, lang, held, admission).await,
                        Err(error) if error.is_conflict() => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "another start of this session does not end"))
    }

    /// Whether a start of the session runs, on whichever bridge.
    pub(crate) async fn is_running(&self, session: &SessionId) -> Result<bool, BucketError> {
        let slot = self.records.get(&start_key(session)).await?;
        Ok(slot.record().is_some_and(StartRecord::is_running) && age(slot.written_ms) < self.lapse)
    }

    /// Forgets the answer of the session's last start: the next one is another game's.
    pub(crate) async fn forget_answer(&self, session: &SessionId) -> Result<(), BucketError> {
        let slot = self.records.get(&start_key(session)).await?;
        if slot.record().is_none_or(StartRecord::is_running) {
            return Ok(());
        }
        match self.records.delete(&start_key(session), slot.revision).await {
            // Another start runs by now.
            Err(error) if error.is_conflict() => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    /// Deletes what is kept of the session's last start.
    pub(crate) async fn forget(&self, session: &SessionId) -> Result<(), BucketError> {
        self.records.clear(&start_key(session)).await
    }

    /// Runs the start in a task of its own and waits for its answer.
    async fn begin(&self, session: SessionId, lang: Lang, held: Held, admission: Admission) -> Result<Answer, Refusal> {
        let (answer, answered) = oneshot::channel();
        let this = self.clone();
        let span = tracing::info_span!("start", %session);
        let start = async move {
            // Nobody listens any more where the caller has gone away.
            let _gone = answer.send(this.lead(&session, lang, held).await);
            drop(admission);
        };
        self.context.supervise("start of a game", start.instrument(span));
        answered.await.unwrap_or_else(|_| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the start failed")))
    }

    /// Starts the game while keeping the start's record alive, and leaves the answer in it.
    async fn lead(&self, session: &SessionId, lang: Lang, mut held: Held) -> Result<Answer, Refusal> {
        let mut renewals = interval_at(Instant::now() + self.renew, self.renew);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let starter = held.starter.clone();
        let mut work = std::pin::pin!(self.play(session, lang, &starter));
        let result = loop {
            tokio::select! {
                // The work first: once it is done there is nothing to keep alive.
                biased;
                result = &mut work => break result,
                _ = renewals.tick() => {}
            }
            match self.write(&mut held, None).await {
                Ok(()) => {}
                Err(error) if error.is_conflict() => {
                    tracing::warn!("start taken for dead and done by another bridge");
                    break Err(Refusal::interrupted());
                }
                Err(error) => tracing::warn!(error = chain(&error), "start's record not renewed"),
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
}

/// The record of a start that runs here.
struct Held {
    key: String,
    starter: String,
    revision: u64,
}

fn age(written_ms: u64) -> Duration {
    Duration::from_millis(now_ms().saturating_sub(written_ms))
}
