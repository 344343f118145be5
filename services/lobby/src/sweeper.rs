//! Putting in order what crashes, and eras that are over, have left. Every instance does it, again and again; all of it is
//! compare-and-set, so that it does not matter who is first.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use herald_protocol::SessionId;
use herald_runtime::{
    Context,
    bucket::BucketError,
    jetstream::{ApiError, multi_last},
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::{
    clock,
    config::Config,
    key,
    lobby::Lobby,
    members::Binding,
    metrics,
    mirror::{Entry, Mirror},
    planted::{Bug, dies_at},
    record::{Change, Session},
    sessions::ChangeError,
    streams::{CLIENT, ROOT, STREAM},
    tell::TellError,
};

/// Things that are put in order at a time.
const AT_ONCE: usize = 16;
/// Statuses that are looked at by one reading, and how many bytes these may have.
const STATUSES: usize = 128;
const STATUSES_BYTES: usize = 16 << 20;
/// How long the record of a destroyed session stays: longer than it takes somebody to come who was just let in.
const LINGER_MS: u64 = 5_000;
/// How long a change of the sweeper's may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// Sweeps until the shutdown begins: every now and then, and at once when `again` says so.
pub(crate) fn start(lobby: Lobby, config: &Config, again: Arc<Notify>, context: &Context) {
    let stop = context.shutdown.token();
    let every = config.sweep.every.get();
    let mut sweeper = Sweeper {
        bindings: Mirror::new(&lobby.nats, CLIENT),
        lobby,
        life_ms: u64::from(config.session_ttl_h) * 3_600_000,
        // A status is told once more long before the stream forgets it.
        refresh: config.stream.max_age.get() / 2,
        told: HashMap::new(),
    };
    context.supervise("sweeper", async move {
        let work = async {
            loop {
                if let Err(error) = sweeper.sweep().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "not swept");
                }
                // Not all instances at the same moment.
                let pause = every.mul_f64(rand::random_range(0.75..1.25));
                let _early = timeout(pause, again.notified()).await;
            }
        };
        stop.run_until_cancelled(work).await;
    });
}

#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Tell(#[from] TellError),
    #[error(transparent)]
    Change(#[from] ChangeError),
}

struct Sweeper {
    lobby: Lobby,
    bindings: Mirror<Binding>,
    /// How long a session lives that nobody touches; 0: for ever.
    life_ms: u64,
    /// After how long a status is told again.
    refresh: Duration,
    /// Which revision of a session's record is known to have been told, and when that was seen.
    told: HashMap<SessionId, (u64, Instant)>,
}

impl Sweeper {
    async fn sweep(&mut self) -> Result<(), SweepError> {
        self.lobby.sessions.tidy();
        let era = self.lobby.era.now().await?;
        let (life_ms, now_ms) = (self.life_ms, clock::now_ms());
        let over = |entry: &Entry<Session>| is_due(entry, era, life_ms, now_ms);
        let (gone, there): (Vec<_>, Vec<_>) =
            self.lobby.all.see(|entries| entries.values().cloned().partition(over)).await?;
        metrics::sessions(there.len());
        self.told.retain(|_, (_, at)| at.elapsed() < self.refresh);
        all(gone.iter().map(|entry| self.bury(entry, era))).await;

        let (strays, void) = self.astray(era, &there).await?;
        all(strays.iter().map(|(session, client, join)| self.take_out(session, client, join))).await;
        all(void.iter().map(|key| self.unbind(key))).await;
        self.tell(&there).await
    }

    /// Ends a session whose era or time is over: nobody joins it any more, its viewers are told, and with a later sweep its record
    /// goes. Then that it is gone is said again, to those who were let in before and came too late to hear it. Another instance
    /// may go on with it at any step.
    async fn bury(&self, entry: &Entry<Session>, era: u64) -> Result<(), SweepError> {
        let id = &entry.record.id;
        let Some((mut session, mut revision)) = self.lobby.sessions.record(id).await? else { return Ok(()) };
        if !session.is_over(era) && revision != entry.revision {
            // Somebody came just in time.
            return Ok(());
        }
        let again = session.destroyed;
        if !again {
            revision = self.lobby.sessions.mark_destroyed(&mut session, revision).await?;
            dies_at(Bug::DiesBurying);
        }
        self.lobby.teller.status(id, &session.status(), revision, None).await?;
        self.lobby.teller.destroyed(&session, revision, again).await?;
        if again && entry.record.destroyed && clock::now_ms().saturating_sub(entry.written_ms) > LINGER_MS {
            self.lobby.sessions.remove(id, revision).await?;
            metrics::swept("session");
        }
        Ok(())
    }

    /// Members whose joining no binding names, and keys of bindings that name nothing.
    async fn astray(
        &self,
        era: u64,
        there: &[Entry<Session>],
    ) -> Result<(Vec<(SessionId, String, String)>, Vec<String>), ApiError> {
        let joins: HashMap<&str, (&SessionId, &str)> = there
            .iter()
            .flat_map(|entry| {
                let session = &entry.record.id;
                entry
                    .record
                    .players
                    .iter()
                    .map(move |player| (player.join.as_str(), (session, player.client_id.as_str())))
            })
            .collect();
        self.bindings
            .see(|bindings| {
                let void = bindings
                    .iter()
                    .filter(|(_, entry)| entry.record.era < era || !joins.contains_key(entry.record.join.as_str()));
                let void = void.map(|(key, _)| key.clone()).collect();
                let bound = |client: &str, join: &str| {
                    bindings.get(&key::of(client)).is_some_and(|entry| entry.record.join == join)
                };
                let strays = joins.iter().filter(|(join, (_, client))| !bound(client, join));
                let strays = strays
                    .map(|(join, (session, client))| ((*session).clone(), (*client).to_owned(), (*join).to_owned()));
                (strays.collect(), void)
            })
            .await
    }

    /// Takes a member out whose joining is over, if it is: no binding ever comes back.
    async fn take_out(&self, session: &SessionId, client: &str, join: &str) -> Result<(), SweepError> {
        let bound = self.lobby.members.look(&key::of(client)).await?;
        if bound.is_some_and(|(binding, ..)| binding.join == join) {
            return Ok(());
        }
        let change = Change::Leave { client: client.to_owned(), join: join.to_owned() };
        self.lobby.sessions.change(session, change, Instant::now() + PATIENCE).await?;
        metrics::swept("player");
        Ok(())
    }

    /// Deletes a binding that does not count.
    async fn unbind(&self, key: &str) -> Result<(), SweepError> {
        if let Some((_, revision, false)) = self.lobby.members.look(key).await? {
            self.lobby.members.remove(key, revision).await?;
            metrics::swept("binding");
        }
        Ok(())
    }

    /// Tells the statuses that whoever made them could not tell any more, and those that the stream will forget soon.
    async fn tell(&mut self, there: &[Entry<Session>]) -> Result<(), SweepError> {
        let now = Instant::now();
        let untold = |entry: &&Entry<Session>| {
            self.told.get(&entry.record.id).is_none_or(|(revision, _)| *revision < entry.revision)
        };
        let untold: Vec<_> = there.iter().filter(untold).collect();
        for some in untold.chunks(STATUSES) {
            let subjects: Vec<_> = some.iter().map(|entry| format!("{ROOT}.{}.status", entry.record.id)).collect();
            // Any replica may answer; what it does not know is asked once more.
            let found = multi_last(&self.lobby.nats, STREAM, &subjects, None, STATUSES_BYTES).await?;
            let young = clock::now_ms().saturating_sub(u64::try_from(self.refresh.as_millis()).unwrap_or(u64::MAX));
            let fine = |entry: &Entry<Session>| {
                let subject = format!("{ROOT}.{}.status", entry.record.id);
                found.messages.iter().any(|message| {
                    *message.subject == *subject
                        && crate::tell::revision(message) >= entry.revision
                        && message.time_ms() > young
                })
            };
            let owed = some.iter().filter(|entry| !fine(entry));
            all(owed.map(|entry| self.heal(&entry.record.id, young))).await;
            let fine = some.iter().filter(|entry| fine(entry));
            self.told.extend(fine.map(|entry| (entry.record.id.clone(), (entry.revision, now))));
        }
        Ok(())
    }

    async fn heal(&self, id: &SessionId, young: u64) -> Result<(), SweepError> {
        let Some((session, revision)) = self.lobby.sessions.record(id).await? else { return Ok(()) };
        let told = self.lobby.teller.told(id).await?;
        if told.revision < revision {
            self.lobby.teller.status(id, &session.status(), revision, Some(told.sequence)).await?;
            metrics::swept("status");
        } else if told.at_ms <= young {
            self.lobby.teller.again(&session, told).await?;
        }
        Ok(())
    }
}

/// Whether a session's era is over, or it was not touched for as long as it lives; 0: for ever.
fn is_due(entry: &Entry<Session>, era: u64, life_ms: u64, now_ms: u64) -> bool {
    entry.record.is_over(era) || (life_ms > 0 && now_ms.saturating_sub(entry.written_ms) > life_ms)
}

/// Does all of them, some at a time. What fails is logged, and done the next time.
async fn all(work: impl Iterator<Item = impl Future<Output = Result<(), SweepError>>>) {
    stream::iter(work)
        .for_each_concurrent(AT_ONCE, async |work| match work.await {
            // Somebody else was first.
            Ok(()) | Err(SweepError::Bucket(BucketError::Conflict { .. })) => {}
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "something was not put in order"),
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::session;

    #[test]
    fn a_session_goes_with_its_era_or_when_nobody_has_touched_it_for_as_long_as_it_lives() {
        let entry = |session: Session| Entry { record: session.into(), revision: 7, written_ms: 10_000 };
        let mut destroyed = session();
        destroyed.destroy();
        let (alive, destroyed) = (entry(session()), entry(destroyed));
        assert!(!is_due(&alive, 1, 0, u64::MAX), "without a limit it lives for ever");
        assert!(!is_due(&alive, 0, 0, 10_000), "its era began after that was read");
        assert!(is_due(&alive, 2, 0, 10_000) && is_due(&destroyed, 1, 0, 10_000));
        assert!(!is_due(&alive, 1, 5_000, 15_000) && is_due(&alive, 1, 5_000, 15_001));
        assert!(!is_due(&alive, 1, 5_000, 9_000), "a clock that is behind ends nothing");
    }
}
