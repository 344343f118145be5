//! The record of an open action: rewritten while its bridge lives, deleted after its last event.

use std::{sync::Arc, time::Duration};

use herald_protocol::{
    SessionId,
    record::{ActionRecord, WaitingCommand},
    subject,
};
use herald_runtime::bucket::Slot;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Shared, claim::Condition, ledger::LedgerError};

/// Pause before a record that somebody else has just written is looked at again.
pub(super) const RACE_PAUSE: Duration = Duration::from_millis(20);
/// Pause before a renewal that NATS did not take is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// Rewrites a record until it is stopped or dropped; dropped, it lets the record lapse.
#[derive(Debug)]
pub(super) struct Keeper {
    quit: CancellationToken,
    task: Option<JoinHandle<Holding>>,
    renewed: watch::Receiver<Instant>,
}

/// A record that is ours.
pub(super) struct Holding {
    shared: Arc<Shared>,
    session: SessionId,
    pub(super) record: ActionRecord,
    revision: u64,
    /// When the last rewriting that was stored began.
    renewed: Instant,
}

/// Another action has taken over the record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Superseded;

impl Keeper {
    /// Begins to keep. `superseded` is cancelled when somebody else has taken over.
    pub(super) fn start(holding: Holding, superseded: CancellationToken) -> Self {
        let quit = CancellationToken::new();
        let (news, renewed) = watch::channel(holding.renewed);
        let task = tokio::spawn(keep(holding, quit.clone(), superseded, news));
        Self { quit, task: Some(task), renewed }
    }

    /// Waits until the record was rewritten within that time: by this process' own monotonic clock, which goes on while it
    /// is halted.
    pub(super) async fn renewed_within(&self, time: Duration) {
        let mut renewed = self.renewed.clone();
        while renewed.borrow_and_update().elapsed() >= time {
            if renewed.changed().await.is_err() {
                // It is kept no longer.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Stops keeping. `None` only if the process is ending.
    pub(super) async fn stop(mut self) -> Option<Holding> {
        self.quit.cancel();
        self.task.take()?.await.ok()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.quit.cancel();
    }
}

async fn keep(
    mut holding: Holding,
    quit: CancellationToken,
    superseded: CancellationToken,
    news: watch::Sender<Instant>,
) -> Holding {
    let renew = holding.shared.config.renew.get();
    let mut state = holding.shared.nats.state();
    let mut pause = renew;
    loop {
        tokio::select! {
            () = quit.cancelled() => return holding,
            // Back from an outage: the watchers have begun to count.
            Ok(()) = state.changed() => {}
            () = sleep(pause) => {}
        }
        // A write that is cut short here may be stored: the next one then finds another revision, reads it, and goes on.
        let renewed = tokio::select! {
            () = quit.cancelled() => return holding,
            // What was to come over the old connection is lost: to wait for it could cost the record.
            Ok(()) = state.changed() => None,
            renewed = timeout(renew, holding.renew()) => renewed.ok(),
        };
        pause = match renewed {
            Some(Ok(Ok(()))) => {
                news.send_replace(holding.renewed);
                renew
            }
            Some(Ok(Err(Superseded))) => {
                superseded.cancel();
                quit.cancelled().await;
                return holding;
            }
            Some(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "record of the action not renewed");
                RETRY.min(renew)
            }
            None => Duration::ZERO,
        };
    }
}

impl Holding {
    /// Takes over the session's record. That is read if it is not given as it was before the claim; then the log is asked,
    /// too: a later action that has come to its end has left no record. `condition` says which waiting command stays.
    ///
    /// # Errors
    /// The inner one if a later action has it already.
    pub(super) async fn take(
        shared: &Arc<Shared>,
        session: &SessionId,
        record: &ActionRecord,
        slot: Option<Slot<ActionRecord>>,
        condition: &Condition,
    ) -> Result<Result<Self, Superseded>, LedgerError> {
        let mut slot = slot;
        loop {
            let found = match slot.take() {
                Some(slot) => slot,
                None => {
                    let found = shared.records.get(session.as_str()).await?;
                    if !is_last(shared, session, record.seq).await? {
                        return Ok(Err(Superseded));
                    }
                    found
                }
            };
            let mut record = record.clone();
            match found.record {
                Some(later) if later.n > record.n => return Ok(Err(Superseded)),
                // Written at an earlier try, whose acknowledgement got lost.
                Some(ours) if (ours.n, ours.seq) == (record.n, record.seq) => record = ours,
                before => record.next = condition.carry(before.and_then(|before| before.next)),
            }
            let renewed = Instant::now();
            match shared.records.write(session.as_str(), &record, found.revision).await {
                Ok(revision) => {
                    let (shared, session) = (Arc::clone(shared), session.clone());
                    return Ok(Ok(Self { shared, session, record, revision, renewed }));
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn renew(&mut self) -> Result<Result<(), Superseded>, LedgerError> {
        self.record.beat += 1;
        match self.write().await? {
            Ok(()) => Ok(Ok(())),
            Err(Superseded) => match self.reread().await? {
                Ok(()) => {
                    self.record.beat += 1;
                    // Lost again: the next renewal tries again.
                    self.write().await.map(|_| Ok(()))
                }
                Err(Superseded) => Ok(Err(Superseded)),
            },
        }
    }

    /// Deletes the record, unless a command waits in it: then that is what is returned, and the record stays.
    pub(super) async fn delete(&mut self) -> Result<Result<Option<WaitingCommand>, Superseded>, LedgerError> {
        loop {
            if let Some(next) = &self.record.next {
                return Ok(Ok(Some(next.clone())));
            }
            match self.shared.records.delete(self.session.as_str(), self.revision).await {
                Ok(_) => return Ok(Ok(None)),
                Err(error) if error.is_conflict() => {
                    // Gone already, or a newer action's: nothing of ours is left.
                    let slot = self.shared.records.get(self.session.as_str()).await?;
                    if !self.adopt(slot) {
                        return Ok(Err(Superseded));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Leaves the record, with the command that waits in it, to whoever sees it first.
    pub(super) async fn release(&mut self) -> Result<(), LedgerError> {
        self.record.released = true;
        while self.write().await? == Err(Superseded) && self.reread().await? == Ok(()) {
            self.record.released = true;
        }
        Ok(())
    }

    /// The inner error says only that the revision is another one.
    async fn write(&mut self) -> Result<Result<(), Superseded>, LedgerError> {
        let begun = Instant::now();
        match self.shared.records.write(self.session.as_str(), &self.record, self.revision).await {
            Ok(revision) => {
                (self.revision, self.renewed) = (revision, begun);
                Ok(Ok(()))
            }
            Err(error) if error.is_conflict() => Ok(Err(Superseded)),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks who has written the record.
    async fn reread(&mut self) -> Result<Result<(), Superseded>, LedgerError> {
        let slot = self.shared.records.get(self.session.as_str()).await?;
        let (revision, newer) = (slot.revision, slot.record().is_some_and(|found| found.n > self.record.n));
        if self.adopt(slot) {
            return Ok(Ok(()));
        }
        // No record, or an older one. Whoever superseded us may have finished and deleted it; or it was lost, with or
        // without us. The log decides.
        if newer || !is_last(&self.shared, &self.session, self.record.seq).await? {
            return Ok(Err(Superseded));
        }
        self.revision = revision;
        Ok(Ok(()))
    }

    /// Goes on from what is stored, if that is our own record.
    fn adopt(&mut self, slot: Slot<ActionRecord>) -> bool {
        match slot.record {
            Some(record) if (record.n, record.seq) == (self.record.n, self.record.seq) => {
                self.record = record;
                self.revision = slot.revision;
                true
            }
            _ => false,
        }
    }
}

/// Whether the session's last `_action` is the one with that sequence.
async fn is_last(shared: &Shared, session: &SessionId, sequence: u64) -> Result<bool, LedgerError> {
    let last = shared.publisher.last(&subject::gm_action(session)).await?;
    Ok(last.is_some_and(|last| last.sequence == sequence))
}

impl std::fmt::Debug for Holding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holding").field("session", &self.session).field("record", &self.record).finish_non_exhaustive()
    }
}
