//! Watching over the records of all bridges' actions, and ending those whose bridge is gone.
//!
//! A record has lapsed when it was not rewritten for `action.lapse` as seen by a watcher that could have seen it: one with a
//! connection, whose own round trips to the leader were good all the time. After anything else it counts anew. Before a
//! record is taken for lapsed the leader is asked for it, so a watch that has fallen behind proves nothing either. If two
//! bridges come to the same conclusion, one claim wins, and the other finds the record changed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::jetstream::kv::{Entry, Operation};
use futures_util::{StreamExt, stream::BoxStream};
use herald_protocol::{
    SessionId,
    record::{ActionKind, ActionRecord},
    subject,
};
use herald_runtime::nats::NatsState;
use tokio::{
    sync::watch::Receiver,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    ACTIONS, Shared,
    claim::{Claim, Condition, NotClaimed},
    ending::Ending,
    ledger::LedgerError,
    runner,
};
use crate::{bucket::Slot, metrics};

/// How often the watch is begun anew: one that asks beyond the end of a bucket that was rolled back would hear nothing.
const WATCH_AGAIN: Duration = Duration::from_secs(60);
/// Pause before a watch that could not be begun is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// So many looks fall into the time a record may go without being rewritten.
const LOOKS: u32 = 5;

/// What was last seen of a record.
#[derive(Debug)]
struct Seen {
    record: ActionRecord,
    revision: u64,
    /// The session's last `_action`, where that is not the record's: somebody has claimed and not yet written the record, or
    /// died in between.
    claimed: Option<u64>,
    /// Since when it would have been seen if it had been rewritten.
    since: Instant,
}

/// All records, as this bridge sees them.
struct Watcher {
    shared: Arc<Shared>,
    seen: HashMap<SessionId, Seen>,
    state: Receiver<NatsState>,
}

/// Watches until it is cancelled.
pub(super) async fn watch(shared: &Arc<Shared>) {
    let mut watcher = Watcher { shared: Arc::clone(shared), seen: HashMap::new(), state: shared.nats.state() };
    loop {
        match watcher.entries().await {
            Ok(mut entries) => watcher.follow(&mut entries).await,
            Err(error) => {
                tracing::debug!(error = &*error, "records of actions can't be watched yet");
                sleep(RETRY).await;
                watcher.count_anew();
            }
        }
    }
}

type Entries = BoxStream<'static, Result<Entry, async_nats::Error>>;

impl Watcher {
    /// The records as they are and as they change.
    async fn entries(&self) -> Result<Entries, async_nats::Error> {
        let bucket = self.shared.nats.jetstream().get_key_value(ACTIONS).await?;
        let entries = bucket.watch_with_history(">").await?;
        Ok(entries.map(|entry| entry.map_err(async_nats::Error::from)).boxed())
    }

    /// Follows one watch until it is time for a new one.
    async fn follow(&mut self, entries: &mut Entries) {
        let again = Instant::now() + WATCH_AGAIN;
        let every = self.shared.config.lapse.get() / LOOKS;
        let mut looks = interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_look = Instant::now();
        while Instant::now() < again {
            tokio::select! {
                // What was written is taken note of before it is judged what was not.
                biased;
                changed = self.state.changed() => {
                    self.count_anew();
                    if changed.is_err() || self.shared.nats.connected() {
                        return;
                    }
                }
                entry = entries.next() => match entry {
                    Some(Ok(entry)) => self.note(entry),
                    // A missed heartbeat among others: the watch repairs itself.
                    Some(Err(error)) => tracing::debug!(error = &*error, "watch of the records stumbled"),
                    None => return sleep(RETRY).await,
                },
                _ = looks.tick() => {
                    // A process that was halted has missed what was written meanwhile.
                    if last_look.elapsed() > every * 2 {
                        self.count_anew();
                    }
                    self.look(every).await;
                    last_look = Instant::now();
                }
            }
        }
    }

    fn note(&mut self, entry: Entry) {
        let Ok(session) = SessionId::new(&entry.key) else { return };
        if entry.operation != Operation::Put {
            self.seen.remove(&session);
        } else if let Ok(record) = serde_json::from_slice::<ActionRecord>(&entry.value) {
            self.see(session, record, entry.revision);
        } else {
            tracing::error!(%session, "unreadable record of an action");
        }
        metrics::actions_open(self.seen.len());
    }

    fn see(&mut self, session: SessionId, record: ActionRecord, revision: u64) {
        self.shared.running.supersede(session.as_str(), record.n);
        let now = Instant::now();
        let seen = self.seen.entry(session).or_insert_with(|| Seen {
            record: record.clone(),
            revision,
            claimed: None,
            since: now,
        });
        // A command that was left waiting is no sign of life.
        if (seen.record.n, seen.record.beat) != (record.n, record.beat) {
            (seen.since, seen.claimed) = (now, None);
        }
        seen.record = record;
        seen.revision = revision;
    }

    fn count_anew(&mut self) {
        let now = Instant::now();
        self.seen.values_mut().for_each(|seen| seen.since = now);
    }

    /// A round trip to the leader, over the record that was silent for longest; and what follows if it has lapsed.
    async fn look(&mut self, good: Duration) {
        let lapse = self.shared.config.lapse.get();
        let due = self.seen.iter().filter(|(_, seen)| seen.record.released || seen.since.elapsed() >= lapse);
        let mut due: Vec<SessionId> = due.map(|(session, _)| session.clone()).collect();
        if due.is_empty() {
            let silent = self.seen.iter().min_by_key(|(_, seen)| seen.since).map(|(session, _)| session.clone());
            due.extend(silent);
        }
        for session in due {
            let asked = timeout(good, self.ask(&session)).await;
            let Ok(Ok((slot, fence))) = asked else {
                // Who can't hear may not conclude anything from silence.
                return self.count_anew();
            };
            let Some(record) = slot.record else {
                self.seen.remove(&session);
                continue;
            };
            let seq = record.seq;
            self.see(session.clone(), record, slot.revision);
            let lapsed = |seen: &&mut Seen| seen.record.released || seen.since.elapsed() >= lapse;
            let Some(seen) = self.seen.get_mut(&session).filter(lapsed) else { continue };
            seen.since = Instant::now();
            // A claimer whose record is still missing gets as much time as one whose record is there.
            let known = seen.claimed.replace(fence);
            if fence == seq || known == Some(fence) {
                let revision = seen.revision;
                self.end(session, Condition::Lapsed { revision, fence });
            }
        }
    }

    /// What the leader says of a session: its record, and the sequence of its last `_action`.
    async fn ask(&self, session: &SessionId) -> Result<(Slot<ActionRecord>, u64), LedgerError> {
        let slot = self.shared.records.get(session.as_str()).await?;
        let last = self.shared.publisher.last(&subject::gm_action(session)).await?;
        Ok((slot, last.map_or(0, |last| last.sequence)))
    }

    /// Ends a lapsed action, in a task of its own. One that can't be taken on now is found again at a later look.
    fn end(&self, session: SessionId, condition: Condition) {
        let Ok(permit) = self.shared.permit(ActionKind::Lost) else { return };
        let shared = Arc::clone(&self.shared);
        tracing::warn!(%session, "the bridge of an action is gone");
        self.shared.tasks.spawn(async move {
            match Claim::claim(&shared, &session, ActionKind::Lost, condition, permit).await {
                Ok(claim) => end(claim).await,
                Err(NotClaimed::Otherwise | NotClaimed::Superseded) => {
                    tracing::debug!(%session, "another bridge was faster")
                }
                Err(NotClaimed::Unavailable(error)) => {
                    tracing::debug!(%session, error = &*error, "lost action not claimed");
                }
            }
        });
    }
}

async fn end(mut claim: Claim) {
    let session = claim.session().clone();
    let finished = match claim.end_predecessor(Ending::Lost).await {
        Ok(_) => claim.finish_and_claim_next().await,
        Err(failure) => Err(failure.into()),
    };
    match finished {
        Ok(Some((claim, command))) => runner::drive(claim, command).await,
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(%session, error = &error as &dyn std::error::Error, "lost action not ended, its record lapses");
        }
    }
}
