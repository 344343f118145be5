//! The requests that history is made of.

use std::{future::Future, time::Duration};

use herald_runtime::{
    jetstream::{self, ApiError, Batch, BatchGet, MultiLast, Stored},
    nats::Nats,
};
use tokio::time::sleep;

use super::Extent;
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
    /// A replica: messages in order.
    fn batch(&self, request: BatchGet<'_>) -> impl Future<Output = Result<Batch, ApiError>> + Send;
    /// A replica: the last message of each subject, as one cut.
    fn multi_last(&self, filters: &[String]) -> impl Future<Output = Result<MultiLast, ApiError>> + Send;
    /// Gives a lagging replica time, more each time.
    fn pause(&self, attempt: u32) -> impl Future<Output = ()> + Send;
}

/// The real one.
pub(super) struct JetStream {
    pub(super) nats: Nats,
    pub(super) stream: String,
}

impl Reads for JetStream {
    async fn last(&self, filter: &str) -> Result<Option<Stored>, ApiError> {
        patiently(|| jetstream::last_by_subject_leader(&self.nats, &self.stream, filter)).await
    }

    async fn next(&self, filter: &str, from: u64) -> Result<Option<Stored>, ApiError> {
        patiently(|| jetstream::next_by_subject_leader(&self.nats, &self.stream, from, filter)).await
    }

    async fn extent(&self) -> Result<Extent, ApiError> {
        let info = patiently(|| jetstream::stream_info(&self.nats, &self.stream)).await?;
        Ok(Extent { first: info.first_seq, last: info.last_seq })
    }

    async fn batch(&self, request: BatchGet<'_>) -> Result<Batch, ApiError> {
        let mut batch = patiently(|| jetstream::batch_get(&self.nats, &self.stream, &request)).await?;
        if (planted(Bug::HistoryEndedEarly) || planted(Bug::LaggingReplica)) && batch.pending == 0 {
            batch.messages.truncate(batch.messages.len() * 3 / 4);
        }
        Ok(batch)
    }

    async fn multi_last(&self, filters: &[String]) -> Result<MultiLast, ApiError> {
        patiently(|| jetstream::multi_last(&self.nats, &self.stream, filters, None)).await
    }

    async fn pause(&self, attempt: u32) {
        sleep(pause(attempt)).await;
    }
}

/// Repeats a request while repeating may help. Whoever waits sets the limit.
async fn patiently<T, F>(mut request: impl FnMut() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let mut attempt = 0;
    loop {
        match request().await {
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "history request repeated");
                sleep(pause(attempt)).await;
                attempt += 1;
            }
            answer => return answer,
        }
    }
}

/// The pause behind the `attempt`-th attempt, counted from 0.
fn pause(attempt: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST_PAUSE)
}
