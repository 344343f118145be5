//! Which session an alias stands for, as the bucket of the aliases has it now.
//!
//! One watcher per bucket and process; connections follow its copy. A watch that went wrong shows itself in the bucket's
//! numbers (another creation time, revisions it should have seen or that are gone), and is begun anew.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::jetstream::{
    consumer::push::{OrderedError, OrderedErrorKind},
    kv::{self, Operation},
};
use futures_util::StreamExt;
use herald_protocol::{SessionId, record::AliasTarget};
use herald_runtime::{
    health::Condition,
    jetstream::{ApiError, StreamInfo, stream_info},
    nats::Nats,
};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// How often the bucket's numbers are compared with what was seen.
const LOOK: Duration = Duration::from_secs(3);
/// How long to wait before a bucket that was not there, or a watch that broke, is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Aliases kept in memory; a bucket that holds more is not one of game masters.
const MOST: usize = 100_000;
/// Names without a value that may gather before those that nobody waits for any more are swept out.
const SLACK: usize = 256;

/// The aliases of one bucket. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Aliases {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    targets: HashMap<String, watch::Sender<Option<AliasTarget>>>,
    /// Size at which to sweep next.
    sweep_at: usize,
}

impl Aliases {
    /// Follows an alias, which need not have a value yet.
    #[must_use]
    pub fn watch(&self, alias: &SessionId) -> watch::Receiver<Option<AliasTarget>> {
        let mut table = self.lock();
        if table.targets.len() >= table.sweep_at {
            table.targets.retain(|_, target| target.receiver_count() > 0 || target.borrow().is_some());
            table.sweep_at = table.targets.len() * 2 + SLACK;
        }
        table.targets.entry(alias.as_str().to_owned()).or_default().subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, alias: &str, target: Option<AliasTarget>) {
        let mut table = self.lock();
        if let Some(known) = table.targets.get(alias) {
            known.send_if_modified(|now| {
                let changed = *now != target;
                *now = target;
                changed
            });
        } else if target.is_some() && table.targets.len() < MOST {
            table.targets.insert(alias.to_owned(), watch::Sender::new(target));
        } else if target.is_some() {
            metrics::counter!("herald_aliases_dropped_total", "reason" => "too_many").increment(1);
        }
    }

    /// Forgets the values of all aliases but these.
    fn keep(&self, seen: &HashSet<String>) {
        let table = self.lock();
        let gone: Vec<_> = table.targets.keys().filter(|alias| !seen.contains(*alias)).cloned().collect();
        drop(table);
        for alias in gone {
            self.set(&alias, None);
        }
    }

    /// Keeps the copy true to `bucket` until `stop`. `condition` says whether it is.
    pub async fn follow(self, nats: Nats, bucket: String, condition: Condition, stop: CancellationToken) {
        let endless = async {
            loop {
                if let Err(error) = self.follow_once(&nats, &bucket, &condition).await {
                    condition.fail(error.to_string());
                    tracing::info!(%error, bucket, "aliases are not followed, trying again");
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        stop.run_until_cancelled(endless).await;
    }

    /// One watch, from a whole reading of the bucket to the first sign that it can't be trusted.
    async fn follow_once(&self, nats: &Nats, bucket: &str, condition: &Condition) -> Result<(), AliasError> {
        let mut position = Position::new(bucket);
        let info = position.look(nats).await?;
        position.created = info.created;
        let store = nats.jetstream().get_key_value(bucket).await.map_err(AliasError::other)?;
        let mut watch = store.watch_with_history(">").await.map_err(AliasError::other)?;
        let mut seen = (info.messages > 0).then(HashSet::new);
        if seen.is_none() {
            self.keep(&HashSet::new());
            condition.ok();
        }
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        let mut state = nats.state();
        loop {
            tokio::select! {
                entry = watch.next() => match entry {
                    Some(Ok(entry)) => {
                        position.revision = entry.revision;
                        let current = entry.seen_current;
                        let key = self.take(entry);
                        if let Some(keys) = &mut seen {
                            keys.extend(key);
                            if current {
                                self.keep(keys);
                                seen = None;
                                condition.ok();
                            }
                        }
                    }
                    // The library goes on by itself; the next look finds out whether it did.
                    Some(Err(error)) if goes_on(&error) => {
                        tracing::debug!(%error, bucket, "watch of the aliases stumbled");
                    }
                    // Asked on after its connection was closed for good, it panics.
                    Some(Err(error)) => return Err(AliasError::other(error)),
                    None => return Err(AliasError::Ended),
                },
                _ = look.tick() => position.compare(nats).await?,
                changed = state.changed() => {
                    changed.map_err(|_| AliasError::Ended)?;
                    look.reset_after(Duration::from_millis(200));
                }
            }
        }
    }

    /// Takes over one entry and says of which key.
    fn take(&self, entry: kv::Entry) -> Option<String> {
        // Other records of the same bucket have other fields: no aliases.
        let target = match entry.operation {
            Operation::Put => serde_json::from_slice::<AliasTarget>(&entry.value).ok(),
            Operation::Delete | Operation::Purge => None,
        };
        self.set(&entry.key, target);
        Some(entry.key)
    }
}

/// Where a watch stands in its bucket.
struct Position {
    /// The bucket's stream.
    stream: String,
    created: String,
    revision: u64,
    /// Whether the last look found the bucket ahead.
    behind: bool,
}

impl Position {
    fn new(bucket: &str) -> Self {
        Self { stream: format!("KV_{bucket}"), created: String::new(), revision: 0, behind: false }
    }

    async fn look(&self, nats: &Nats) -> Result<StreamInfo, AliasError> {
        stream_info(nats, &self.stream).await.map_err(|error| match error {
            ApiError::StreamNotFound => AliasError::NoBucket,
            error => AliasError::other(error),
        })
    }

    /// Compares with the bucket itself. No answer is no finding: then NATS is away, and says so elsewhere.
    async fn compare(&mut self, nats: &Nats) -> Result<(), AliasError> {
        let info = match self.look(nats).await {
            Ok(info) => info,
            Err(AliasError::NoBucket) => return Err(AliasError::NoBucket),
            Err(_) => return Ok(()),
        };
        if info.created != self.created || info.last_seq < self.revision {
            return Err(AliasError::Rewritten);
        }
        let behind = info.last_seq > self.revision && info.messages > 0;
        if behind && self.behind {
            return Err(AliasError::Stuck);
        }
        self.behind = behind;
        Ok(())
    }
}

/// Whether a watch may be asked on after that.
fn goes_on(error: &kv::WatcherError) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<OrderedError>());
    cause.is_some_and(|cause| cause.kind() == OrderedErrorKind::MissingHeartbeat)
}

/// Why the aliases are not followed at the moment.
#[derive(Debug, thiserror::Error)]
enum AliasError {
    #[error("the bucket is not there")]
    NoBucket,
    #[error("the watch has ended")]
    Ended,
    #[error("the bucket was recreated or rolled back")]
    Rewritten,
    #[error("the watch has fallen behind the bucket")]
    Stuck,
    #[error("the bucket does not answer")]
    Other(#[source] async_nats::Error),
}

impl AliasError {
    fn other(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Other(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(session: &str, after: u64) -> AliasTarget {
        AliasTarget { session: SessionId::new(session).unwrap(), after }
    }

    fn alias(name: &str) -> SessionId {
        SessionId::new(name).unwrap()
    }

    #[tokio::test]
    async fn who_watches_sees_every_change_and_no_repetition() {
        let aliases = Aliases::default();
        let mut early = aliases.watch(&alias("g"));
        assert_eq!(*early.borrow_and_update(), None);
        aliases.set("g", Some(target("s1", 5)));
        assert!(early.has_changed().unwrap());
        assert_eq!(*early.borrow_and_update(), Some(target("s1", 5)));
        aliases.set("g", Some(target("s1", 5)));
        assert!(!early.has_changed().unwrap(), "the same once more is no change");
        assert_eq!(*aliases.watch(&alias("g")).borrow(), Some(target("s1", 5)), "who comes later knows it too");
        aliases.keep(&HashSet::new());
        assert_eq!(*early.borrow_and_update(), None, "what is gone from the bucket is gone");
    }

    #[test]
    fn names_that_nobody_waits_for_are_not_kept() {
        let aliases = Aliases::default();
        aliases.set("known", Some(target("s", 1)));
        let held = aliases.watch(&alias("held"));
        for number in 0..10_000 {
            drop(aliases.watch(&alias(&format!("x{number}"))));
        }
        let table = aliases.lock();
        assert!(table.targets.len() < 3 * SLACK, "{}", table.targets.len());
        assert!(table.targets.contains_key("known") && table.targets.contains_key("held"));
        drop(held);
    }
}
