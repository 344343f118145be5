//! The requests that history is made of.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use async_nats::jetstream::response::Response;
use herald_protocol::{Epoch, subject::PURGED_ALL};
use herald_runtime::{
    jetstream::{self, ApiError, Batch, BatchGet, MultiLast, Stored, ask_removal, epoch::EpochWatcher},
    nats::Nats,
};
use serde::Deserialize;
use tokio::time::sleep;

use super::{Extent, Holes, Purges};
use crate::planted::{Bug, planted};

/// The first pause before a request is repeated, or a lagging replica asked again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// One stream, as history asks it. "Leader" sees everything that was acknowledged before; the others may be answered by a
/// replica that lags.
pub(super) trait Reads: Send + Sync + 'static {
    /// Leader: the last message of `filter`.
    fn last(&self, filter: &str) -> impl Future<Output = Result<Option<Stored>, ApiError>> + Send;
    /// Leader: the first message of `filter` at or behind `from`.
    fn next(&self, filter: &str, from: u64) -> impl Future<Output = Result<Option<Stored>, ApiError>> + Send;
    /// Leader: what the stream holds.
    fn extent(&self) -> impl Future<Output = Result<Extent, ApiError>> + Send;
    /// Leader: the life that the stream lives, looked at from now on. `None` while that is in doubt.
    fn life(&self) -> impl Future<Output = Option<Epoch>> + Send;
    /// The life that the stream is believed to live; `None` while that is in doubt. Asks nobody.
    fn believed(&self) -> Option<Epoch>;
    /// A replica: messages in order.
    fn batch(&self, request: BatchGet<'_>) -> impl Future<Output = Result<Batch, ApiError>> + Send;
    /// A replica: the last message of each subject, as one cut; too many where they have more than `bytes`.
    fn multi_last(&self, filters: &[String], bytes: usize) -> impl Future<Output = Result<MultiLast, ApiError>> + Send;
    /// Leader: how many messages there are on each subject of `filter`.
    fn subjects(&self, filter: &str) -> impl Future<Output = Result<BTreeMap<String, u64>, ApiError>> + Send;
    /// Gives a lagging replica time, more each time.
    fn pause(&self, attempt: u32) -> impl Future<Output = ()> + Send;
}

/// The real one.
pub(super) struct JetStream {
    pub(super) nats: Nats,
    pub(super) stream: String,
    pub(super) watcher: Arc<EpochWatcher>,
    pub(super) purges: Arc<Purges>,
}

impl JetStream {
    /// How much of what is missing behind `first` is explained. Word of a removal is stored before anything is missing for it: so
    /// it is there once that was seen.
    async fn explained(&self, first: u64, missing: u64) -> Result<u64, ApiError> {
        let explained = self.purges.explained(first);
        if missing <= explained {
            return Ok(explained);
        }
        while let Some(word) = self.next(PURGED_ALL, self.purges.unread()).await? {
            match serde_json::from_slice(&word.payload) {
                Ok(purged) => self.purges.note(word.sequence, &purged),
                Err(error) => tracing::warn!(stream = self.stream, %error, "unreadable word of a removed session"),
            }
            self.purges.read(word.sequence);
        }
        Ok(self.purges.explained(first))
    }

    /// The sequences missing between the first and the last, one by one.
    async fn holes(&self) -> Result<Holes, ApiError> {
        #[derive(Deserialize)]
        struct Info {
            state: State,
        }
        #[derive(Deserialize)]
        struct State {
            #[serde(default)]
            deleted: Vec<u64>,
        }
        let asked = serde_json::json!({"deleted_details": true});
        let answer = self.nats.jetstream().request(format!("STREAM.INFO.{}", self.stream), &asked).await;
        match answer {
            Ok(Response::Ok(Info { state: State { mut deleted } })) => {
                deleted.sort_unstable();
                Ok(if deleted.is_empty() { Holes::None } else { Holes::At(deleted.into()) })
            }
            Ok(Response::Err { error }) => {
                Err(ApiError::Refused { code: error.error_code().0, description: error.to_string() })
            }
            Err(error) => Err(ApiError::Send(error.into())),
        }
    }
}

impl JetStream {
    /// Repeats a request while repeating may help, also once the stream's owner has removed what can't be read. Whoever waits
    /// sets the limit.
    async fn patiently<T, F>(&self, mut request: impl FnMut() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let mut attempt = 0;
        loop {
            match request().await {
                Err(ApiError::Unreadable { sequence }) if ask_removal(&self.nats, &self.stream, sequence).await => {}
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "history request repeated");
                    sleep(pause(attempt)).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }
}

impl Reads for JetStream {
    async fn last(&self, filter: &str) -> Result<Option<Stored>, ApiError> {
        self.patiently(|| jetstream::last_by_subject_leader(&self.nats, &self.stream, filter)).await
    }

    async fn next(&self, filter: &str, from: u64) -> Result<Option<Stored>, ApiError> {
        self.patiently(|| jetstream::next_by_subject_leader(&self.nats, &self.stream, from, filter)).await
    }

    async fn extent(&self) -> Result<Extent, ApiError> {
        let info = self.patiently(|| jetstream::stream_info(&self.nats, &self.stream)).await?;
        let span = if info.messages == 0 { 0 } else { (info.last_seq + 1).saturating_sub(info.first_seq) };
        let missing = span.saturating_sub(info.messages);
        let explained = if missing == 0 { 0 } else { self.explained(info.first_seq, missing).await? };
        let holes = match missing {
            missing if missing <= explained => Holes::None,
            // Seldom: Herald's own streams have none.
            1..=Holes::MOST => self.holes().await?,
            _ => Holes::Everywhere,
        };
        Ok(Extent { first: info.first_seq, last: info.last_seq, holes })
    }

    async fn life(&self) -> Option<Epoch> {
        self.watcher.check().await.epoch()
    }

    fn believed(&self) -> Option<Epoch> {
        self.watcher.life().borrow().epoch()
    }

    async fn batch(&self, request: BatchGet<'_>) -> Result<Batch, ApiError> {
        let mut batch = self.patiently(|| jetstream::batch_get(&self.nats, &self.stream, &request)).await?;
        if (planted(Bug::HistoryEndedEarly) || planted(Bug::LaggingReplica)) && batch.pending == 0 {
            batch.messages.truncate(batch.messages.len() * 3 / 4);
        }
        Ok(batch)
    }

    async fn multi_last(&self, filters: &[String], bytes: usize) -> Result<MultiLast, ApiError> {
        self.patiently(|| jetstream::multi_last(&self.nats, &self.stream, filters, None, bytes)).await
    }

    async fn subjects(&self, filter: &str) -> Result<BTreeMap<String, u64>, ApiError> {
        self.patiently(|| jetstream::subjects(&self.nats, &self.stream, filter)).await
    }

    async fn pause(&self, attempt: u32) {
        sleep(pause(attempt)).await;
    }
}

/// The pause behind the `attempt`-th attempt, counted from 0.
fn pause(attempt: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST_PAUSE)
}
