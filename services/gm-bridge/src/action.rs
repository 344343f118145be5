//! The running action of a session: one at a time, on whichever bridge, fenced by the server.
//!
//! An action is claimed by publishing `gm.<sid>._action` with the expected last sequence of that subject, and every event of
//! it is published with the same sequence as its fence: once another action is claimed, the server refuses all that still
//! comes from the old one, wherever it hung. So nothing here has to know who else is running.
//!
//! - `claim`: how an action is claimed, publishes, ends the one before it, and is finished.
//! - `keeper`: the action's record in the bucket `ACTIONS`, rewritten while it runs: the sign that its bridge lives, and
//!   the place where a command waits for its end.
//! - `runner`: a command from its claim to its last event.
//! - `watcher`: ends the actions of bridges that are gone, this one's former life included, also of one that died between
//!   its `_action` and its record.
//!
//! The log itself says what became of an action: what follows an `_action` is its own, up to the next one. It has ended with
//! `result`, with `error`, or with `_done` where it has nothing to say (a start), or with `_over` where it ends the session. An `error` that a bridge formed names in
//! `Herald-Ends` the action whose end it is: as the first word of an action that is the one before.
//!
//! **At shutdown** commands that were taken before the subscription ended are run; running actions may go on for `action.drain`; those that have not ended by then close their stream and
//! say so as their last event (`"detail":"bridge stopped"`). A command that waits for such an action is left in its record,
//! marked as released: any bridge takes it up at once, else the next one that starts.

mod claim;
mod ending;
mod keeper;
mod ledger;
mod open;
mod patience;
mod quota;
mod runner;
mod running;
mod watcher;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use herald_protocol::{
    InstanceId, SessionId,
    record::{ActionKind, ActionRecord, Lang, NewsKind, WaitingCommand},
    subject,
};
use herald_runtime::{
    Context,
    bucket::{Bucket, BucketError},
    nats::Nats,
    traces,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::claim::Claim;
pub(crate) use self::open::Admission;
use self::{
    claim::{Condition, NotClaimed},
    ending::Ending,
    ledger::{Ledger, LedgerError},
    open::Open,
    quota::{Kept, Quota},
    running::{ActionLook, Running},
};
use crate::{
    config::{ActionConfig, ActionPolicy},
    game_master::GameMaster,
    metrics,
    publisher::{PublishFailure, Publisher},
    redact::Redactor,
};

/// Commands in a row that may come between the end of what ran in a session and its removal.
const CLEARINGS: u32 = 8;

/// The bucket that holds the records of open actions.
pub const ACTIONS: &str = "ACTIONS";

/// What a player may ask the Game Master of a running game.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Three news to choose from.
    Propose {
        /// In which language.
        lang: Lang,
    },
    /// What becomes of the chosen one.
    Choose {
        /// Which one.
        news: NewsKind,
        /// In which language.
        lang: Lang,
    },
}

/// What actions ask and tell the pool of Game Masters.
pub trait Lease: Send + Sync + 'static {
    /// The Game Master a session plays on, read through the leader; `Ok(None)` if it has none (never started, or taken
    /// over). Asked right before the request of an action whose `_action` has the stream sequence `action`: who is told
    /// `None` makes no request. The pool notes that the session plays.
    fn begin<'a>(
        &'a self,
        session: &'a SessionId,
        kind: ActionKind,
        action: u64,
    ) -> BoxFuture<'a, Result<Option<GameMaster>, LeaseError>>;

    /// The stream of that action is over: `by_itself` with `result` or the Game Master's own `error`; else it was cut, and
    /// a choose may run on inside the Game Master. Told by whoever ends the action, which is another bridge where the one
    /// that ran it is gone, and then perhaps twice. Failing to note it is the pool's to log.
    fn finish<'a>(&'a self, session: &'a SessionId, action: u64, by_itself: bool) -> BoxFuture<'a, ()>;

    /// The bridge of that action is gone, and the session has been told: what else it had begun is nobody's any more.
    fn lost<'a>(&'a self, _session: &'a SessionId, _kind: ActionKind, _action: u64) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Who has a Game Master can't be known now.
#[derive(Debug, thiserror::Error)]
#[error("the records of the game masters can't be read")]
pub struct LeaseError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Why an action could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// NATS is away, or did not answer in time. If the claim was stored all the same, it is ended as soon as possible.
    #[error("NATS is not connected")]
    NotConnected,
    /// This bridge runs as many actions as it may, or is shutting down.
    #[error("the bridge takes no more actions")]
    Busy,
    /// As many actions are open, on all bridges, as may be.
    #[error("too many actions are running")]
    TooMany,
    /// Another action was claimed in the same moment and took over.
    #[error("another action took over")]
    Superseded,
    /// As much is kept of the session as may be.
    #[error("the session's quota is used up")]
    QuotaUsedUp,
    /// Somebody has said that the session is over: only a start makes it alive again.
    #[error("the session is over")]
    Over,
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Its action is claimed and runs.
    Started,
    /// It waits for the running action to end (policy `queue`).
    Queued,
}

/// What a cancel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// An action was stopped, or a waiting command dropped.
    Cancelled,
    /// There was nothing to stop.
    Idle,
}

/// What became of a session that was to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is over, and this is the stream sequence of the action that said so.
    Over(u64),
    /// An action is open.
    Running,
}

/// What is kept of a session in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remains {
    /// Nothing.
    Nothing,
    /// What stays of one that was removed: the fence, and that it is over.
    Purged,
    /// More than that.
    Something,
}

/// The actions of this bridge. Clones share them.
#[derive(Clone)]
pub struct Actions {
    shared: Arc<Shared>,
}

struct Shared {
    nats: Nats,
    publisher: Publisher,
    records: Bucket<ActionRecord>,
    config: ActionConfig,
    redactor: Redactor,
    lease: Arc<dyn Lease>,
    bridge: InstanceId,
    running: Arc<Running>,
    open: Arc<Open>,
    permits: Arc<Semaphore>,
    /// Those of cancels: what makes room must not wait for room.
    cancels: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// Cancelled when no more commands come.
    closed: CancellationToken,
    /// Cancelled when the time for running actions is over.
    cut: CancellationToken,
}

impl Actions {
    /// Begins to run actions, and to watch over those of all bridges. The stream `EVENTS` and the bucket `ACTIONS` exist.
    /// At shutdown running actions have `drain` to end by themselves; the context's supervision waits for them. Commands
    /// that come meanwhile are run until `closed` is cancelled: whoever took them has not been told to go elsewhere.
    #[must_use]
    pub fn start(
        nats: &Nats,
        config: &ActionConfig,
        redactor: Redactor,
        lease: Arc<dyn Lease>,
        context: &Context,
        closed: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared {
            nats: nats.clone(),
            publisher: Publisher::new(nats, config),
            records: Bucket::new(nats, ACTIONS),
            config: config.clone(),
            redactor,
            lease,
            bridge: context.instance.clone(),
            running: Arc::default(),
            open: Open::new(config.max_open),
            permits: Arc::new(Semaphore::new(config.max_running)),
            cancels: Arc::new(Semaphore::new(config.max_running)),
            tasks: TaskTracker::new(),
            shutdown: context.shutdown.token(),
            closed,
            cut: CancellationToken::new(),
        });
        context.supervise("actions", Arc::clone(&shared).live());
        Self { shared }
    }

    /// The actions that run in this bridge, and how many are open on all bridges together, as far as known.
    pub(crate) fn look(&self) -> (Vec<ActionLook>, usize) {
        (self.shared.running.look(), self.shared.open.count())
    }

    /// Claims an action for a command and runs it to its end in the background. Returns once `_action` and the action's
    /// record are stored, or (policy `queue`, while another action is open) once the command is stored as waiting.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn run(
        &self,
        session: &SessionId,
        command: Command,
        policy: ActionPolicy,
    ) -> Result<Accepted, ActionError> {
        self.check_quota(session).await?;
        let admission = self.admit(session)?;
        let accepted = match policy {
            ActionPolicy::Cancel => self.drive(self.supersede(session, command.kind()).await, command),
            ActionPolicy::Queue => self.queue_or_drive(session, command).await,
        }?;
        admission.opened();
        Ok(accepted)
    }

    /// Asks whether more may be kept of a session than is.
    ///
    /// # Errors
    /// [`ActionError::QuotaUsedUp`], or that it can't be known.
    pub(crate) async fn check_quota(&self, session: &SessionId) -> Result<(), ActionError> {
        let quota = Quota::of(&self.shared.config);
        if !quota.is_set() {
            return Ok(());
        }
        let kept = self.within(async {
            // What can wait for a leader to be found does: a command must not fail because one has just died.
            let mut patience = self.shared.patience();
            loop {
                match Kept::read(&self.shared.nats, session, quota).await {
                    Ok(kept) => return Ok(kept),
                    Err(_) if !self.shared.nats.connected() => return Err(ActionError::NotConnected),
                    Err(error) => patience.after(&error).await?,
                }
            }
        });
        if quota.is_used_up(kept.await?) {
            metrics::command_over_quota();
            tracing::warn!(%session, "a command was refused: the session's quota is used up");
            return Err(ActionError::QuotaUsedUp);
        }
        Ok(())
    }

    /// Asks whether an action may be opened in a session; one that takes over from another always may. The answer counts as
    /// an open action as long as it is kept.
    ///
    /// # Errors
    /// [`ActionError::TooMany`].
    pub(crate) fn admit(&self, session: &SessionId) -> Result<Admission, ActionError> {
        self.shared.open.admit(session)
    }

    /// Stops the running action and drops the waiting command. Returns once the end is published.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn cancel(&self, session: &SessionId) -> Result<Cancelled, ActionError> {
        self.within(async {
            let ledger = Ledger::read(&self.shared, session).await?;
            if ledger.record().is_none() && ledger.ended() {
                return Ok(Cancelled::Idle);
            }
            let mut claim = match self.supersede(session, ActionKind::Cancel).await {
                // What came in the same moment has stopped what ran.
                Err(ActionError::Superseded) => return Ok(Cancelled::Cancelled),
                claimed => claimed?,
            };
            let dropped = claim.dropped_command();
            let stopped = claim.end_predecessor(Ending::Cancelled).await?;
            claim.finish().await?;
            Ok(if stopped || dropped { Cancelled::Cancelled } else { Cancelled::Idle })
        })
        .await
    }

    /// Says that a session is over, unless an action is open in it: that costs money, and is to be cancelled first.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn end(&self, session: &SessionId) -> Result<Ended, ActionError> {
        self.within(async {
            let ledger = Ledger::read(&self.shared, session).await?;
            if ledger.record().is_none() && ledger.is_over() {
                return Ok(Ended::Over(ledger.fence()));
            }
            let claimed = self.claim(session, ActionKind::Cancel, Condition::Idle, "").await?;
            let Some(mut claim) = claimed else { return Ok(Ended::Running) };
            let action = claim.sequence();
            claim.say_over().await?;
            claim.finish().await?;
            Ok(Ended::Over(action))
        })
        .await
    }

    /// What is kept of a session in the log, of whatever root.
    ///
    /// # Errors
    /// [`ActionError`].
    pub(crate) async fn remains(&self, session: &SessionId) -> Result<Remains, ActionError> {
        let (ledger, all) = (Ledger::read(&self.shared, session).await?, subject::session_any_root(session));
        let publisher = &self.shared.publisher;
        let (first, last) = futures_util::try_join!(publisher.next(1, &all), publisher.last(&all))
            .map_err(|error| ActionError::from(LedgerError::from(error)))?;
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(if ledger.record().is_some() { Remains::Something } else { Remains::Nothing });
        };
        let over = ledger.is_over() && *last.subject == *subject::gm_over(session);
        let purged = over && ledger.record().is_none() && first.sequence >= ledger.fence();
        Ok(if purged { Remains::Purged } else { Remains::Something })
    }

    /// Claims an action behind which nothing of the session stands in the log but itself: whatever ran is stopped, and its end
    /// told before.
    ///
    /// # Errors
    /// [`ActionError`].
    pub(crate) async fn clear(&self, session: &SessionId) -> Result<Claim, ActionError> {
        for _ in 0..CLEARINGS {
            let mut claim = self.supersede(session, ActionKind::Cancel).await?;
            if !self.within(async { Ok(claim.end_predecessor(Ending::Cancelled).await?) }).await? {
                return Ok(claim);
            }
            // What was told stands behind its own place; it stands before the next one's.
            self.within(claim.finish()).await?;
        }
        Err(ActionError::Superseded)
    }

    /// Runs something that is brought to its end at a shutdown, too.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.shared.tasks.spawn(work)
    }

    /// Claims a start: what runs in the session is stopped, and its end published, before this returns. The message id of
    /// its `_action` begins with `starter`.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn claim_start(&self, session: &SessionId, starter: &str) -> Result<Claim, ActionError> {
        self.within(async {
            let claimed = self.claim(session, ActionKind::Start, Condition::Any, starter).await?;
            let mut claim = claimed.ok_or(ActionError::Superseded)?;
            claim.end_predecessor(Ending::Superseded).await?;
            Ok(claim)
        })
        .await
    }

    /// Ends whatever runs in a session whose Game Master goes to another one, and waits until its runner is surely gone.
    /// Publishes `gm.error {"error":"Game taken over"}`; with `silent` (it saw `end`) only where an action has to be ended.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn take_over(&self, session: &SessionId, silent: bool) -> Result<(), ActionError> {
        let claimed = self.within(async {
            let mut claim = self.supersede(session, ActionKind::Cancel).await?;
            let stopped = claim.end_predecessor(Ending::TakenOver).await?;
            if !stopped && !silent {
                claim.end_with(Ending::TakenOver).await?;
            }
            Ok((claim, stopped))
        });
        let (claim, stopped) = claimed.await?;
        if stopped {
            claim.predecessor_left().await;
        }
        self.within(claim.finish()).await
    }

    /// Runs a claimed command in the background.
    fn drive(&self, claimed: Result<Claim, ActionError>, command: Command) -> Result<Accepted, ActionError> {
        match claimed {
            Ok(claim) => {
                // A part of what the one who asked is a part of, also once that has its answer.
                let runs = traces::within(traces::current(), runner::drive(claim, command));
                drop(self.shared.tasks.spawn(runs));
            }
            // It has run its course: the session is told by the one that came in the same moment.
            Err(ActionError::Superseded) => {}
            Err(error) => return Err(error),
        }
        Ok(Accepted::Started)
    }

    /// Claims and runs, unless an action is open: then the command is left in its record.
    async fn queue_or_drive(&self, session: &SessionId, command: Command) -> Result<Accepted, ActionError> {
        // How long an action may be open without a record: its claimer is about to write it, or has died in between.
        let patience = Instant::now() + self.shared.config.lapse.get();
        while Instant::now() < patience {
            if self.queue(session, command).await? {
                return Ok(Accepted::Queued);
            }
            match self.claim(session, command.kind(), Condition::Idle, "").await {
                Ok(None) => sleep(keeper::RACE_PAUSE).await,
                Ok(Some(claim)) => return self.drive(Ok(claim), command),
                Err(error) => return self.drive(Err(error), command),
            }
        }
        self.drive(self.supersede(session, command.kind()).await, command)
    }

    /// Leaves a command in the record of the open action. False if none is open, or it has not taken over the record yet: with
    /// that it drops what waits there, which came before it.
    async fn queue(&self, session: &SessionId, command: Command) -> Result<bool, ActionError> {
        loop {
            let ledger = Ledger::read(&self.shared, session).await?;
            let (revision, last) = (ledger.revision(), ledger.number());
            let Some(mut record) = ledger.into_slot().record else { return Ok(false) };
            if last.is_some_and(|last| last > record.n) {
                return Ok(false);
            }
            record.next = Some(command.waiting());
            match self.shared.records.write(session.as_str(), &record, revision).await {
                Ok(_) => return Ok(true),
                Err(error) if error.is_conflict() => sleep(keeper::RACE_PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Claims, whatever runs.
    async fn supersede(&self, session: &SessionId, kind: ActionKind) -> Result<Claim, ActionError> {
        self.claim(session, kind, Condition::Any, "").await?.ok_or(ActionError::Superseded)
    }

    /// Claims in a task of its own, so that a caller who stops waiting leaves nothing half done: a claim that nobody takes
    /// is ended. Its message ids begin with `by`. `None` if the condition does not hold.
    async fn claim(
        &self,
        session: &SessionId,
        kind: ActionKind,
        condition: Condition,
        by: &str,
    ) -> Result<Option<Claim>, ActionError> {
        let permit = self.shared.permit(kind)?;
        if !self.shared.nats.connected() {
            return Err(ActionError::NotConnected);
        }
        let (answer, claimed) = oneshot::channel();
        let (shared, session, by) = (Arc::clone(&self.shared), session.clone(), by.to_owned());
        self.shared.tasks.spawn(async move {
            let claimed = Claim::claim(&shared, &session, kind, condition, permit, &by).await;
            if let Err(Ok(unwanted)) = answer.send(claimed) {
                unwanted.abandon().await;
            }
        });
        match timeout(self.shared.config.claim_wait.get(), claimed).await {
            Ok(Ok(Ok(claim))) => Ok(Some(claim)),
            Ok(Ok(Err(NotClaimed::Otherwise))) => Ok(None),
            Ok(Ok(Err(NotClaimed::Over))) => Err(ActionError::Over),
            Ok(Ok(Err(NotClaimed::Superseded))) => Err(ActionError::Superseded),
            Ok(Ok(Err(NotClaimed::Unavailable(error)))) => {
                tracing::warn!(error = &*error, "action not claimed");
                Err(ActionError::NotConnected)
            }
            Ok(Err(_)) | Err(_) => Err(ActionError::NotConnected),
        }
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, ActionError>>) -> Result<T, ActionError> {
        timeout(self.shared.config.claim_wait.get(), work).await.unwrap_or(Err(ActionError::NotConnected))
    }
}

impl Shared {
    /// The right to run one more action.
    fn permit(&self, kind: ActionKind) -> Result<OwnedSemaphorePermit, ActionError> {
        if self.closed.is_cancelled() || self.cut.is_cancelled() {
            return Err(ActionError::Busy);
        }
        let permits = if kind == ActionKind::Cancel { &self.cancels } else { &self.permits };
        Arc::clone(permits).try_acquire_owned().map_err(|_| ActionError::Busy)
    }

    /// Watches over all bridges' actions until the shutdown begins, then lets this bridge's own come to their end.
    async fn live(self: Arc<Self>) {
        let shutdown = self.shutdown.clone();
        shutdown.run_until_cancelled(watcher::watch(&self)).await;
        let ended = async {
            self.closed.cancelled().await;
            self.tasks.close();
            self.tasks.wait().await;
        };
        if timeout(self.config.drain.get(), ended).await.is_err() {
            self.cut.cancel();
            self.tasks.close();
            self.tasks.wait().await;
        }
    }
}

impl Command {
    const fn kind(self) -> ActionKind {
        match self {
            Self::Propose { .. } => ActionKind::Propose,
            Self::Choose { .. } => ActionKind::Choose,
        }
    }

    /// What the Game Master is asked for, in a word.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Propose { .. } => "propose",
            Self::Choose { .. } => "choose",
        }
    }

    /// As it stands in a record.
    const fn waiting(self) -> WaitingCommand {
        match self {
            Self::Propose { lang } => WaitingCommand { kind: ActionKind::Propose, lang, news: None },
            Self::Choose { news, lang } => WaitingCommand { kind: ActionKind::Choose, lang, news: Some(news) },
        }
    }

    /// What stands in a record; `None` if it makes no sense.
    const fn from_waiting(waiting: &WaitingCommand) -> Option<Self> {
        match (waiting.kind, waiting.news) {
            (ActionKind::Propose, _) => Some(Self::Propose { lang: waiting.lang }),
            (ActionKind::Choose, Some(news)) => Some(Self::Choose { news, lang: waiting.lang }),
            _ => None,
        }
    }
}

impl From<PublishFailure> for ActionError {
    fn from(failure: PublishFailure) -> Self {
        tracing::warn!(error = &failure as &dyn std::error::Error, "action not carried out");
        Self::NotConnected
    }
}

impl From<BucketError> for ActionError {
    fn from(error: BucketError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "records of actions not available");
        Self::NotConnected
    }
}
