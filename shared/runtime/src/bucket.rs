//! Records in a key-value bucket: read through the leader, written by compare-and-set.
//!
//! A key-value `get` may be answered by a replica that lags; what is read here decides who may do something, so it never is.

use std::{marker::PhantomData, time::Duration};

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    jetstream::{self, ACK_WAIT, ApiError, Expect, PublishError, Stored},
    nats::Nats,
};

/// A write that meets another one to the same key under way is tried again after so long, then after twice as long, and so on
/// up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(15);
/// Short beside what is waited for: a leader that stores what is under way, or another one in its place.
const LONGEST_PAUSE: Duration = Duration::from_millis(120);
/// Writers of one key are few; more lost races than this in a row are a fault, not bad luck.
const RACES: u32 = 32;
/// The header by which a key-value store marks a deletion.
const OPERATION: &str = "KV-Operation";
/// How long the mark of a deletion is kept: watchers need it now, nobody later.
const MARK: Duration = Duration::from_secs(3600);
/// The header that limits a message's life.
const TIME_TO_LIVE: &str = "Nats-TTL";

/// A bucket whose values are JSON records of one type.
#[derive(Debug)]
pub struct Bucket<T> {
    nats: Nats,
    name: &'static str,
    record: PhantomData<fn() -> T>,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot<T> {
    /// The record; `None` where there is none, or where what is there can't be read (and may be overwritten).
    pub record: Option<T>,
    /// The revision that the next write must name; 0 for a key that never was.
    pub revision: u64,
    /// When it was written, in ms since 1970, by the server's clock.
    pub written_ms: u64,
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// JetStream could not be asked, or refused. Of a write nothing was stored.
    #[error("bucket {bucket} is unavailable")]
    Unavailable {
        /// Its name.
        bucket: &'static str,
        /// What JetStream said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// JetStream did not answer in time: a write may have been stored all the same.
    #[error("bucket {bucket} does not answer")]
    Unknown {
        /// Its name.
        bucket: &'static str,
        /// What became of the last try.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody else wrote first.
    #[error("a record of bucket {bucket} was written by somebody else")]
    Conflict {
        /// Its name.
        bucket: &'static str,
    },
}

impl BucketError {
    /// Whether somebody else wrote first: read again, decide again.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}

impl<T> Clone for Bucket<T> {
    fn clone(&self) -> Self {
        Self { nats: self.nats.clone(), name: self.name, record: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> Bucket<T> {
    /// The bucket of that name; its owner has created it.
    #[must_use]
    pub fn new(nats: &Nats, name: &'static str) -> Self {
        Self { nats: nats.clone(), name, record: PhantomData }
    }

    /// Reads a key through the leader.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`].
    pub async fn get(&self, key: &str) -> Result<Slot<T>, BucketError> {
        let found =
            jetstream::last_by_subject_leader(&self.nats, &format!("KV_{}", self.name), &self.subject(key)).await;
        let stored = found.map_err(|error: ApiError| self.unavailable(error))?;
        Ok(stored.map_or(Slot { record: None, revision: 0, written_ms: 0 }, |stored| self.slot(key, &stored)))
    }

    /// Writes a key whose revision is still `revision` (0: that never was). Returns the new revision.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn write(&self, key: &str, record: &T, revision: u64) -> Result<u64, BucketError> {
        let payload = serde_json::to_vec(record).map_err(|error| self.unavailable(error))?;
        self.publish(key, HeaderMap::new(), payload.into(), revision).await
    }

    /// As [`Bucket::write`], for a record that is of interest for so long.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn write_for(&self, time: Duration, key: &str, record: &T, revision: u64) -> Result<u64, BucketError> {
        let mut headers = HeaderMap::new();
        headers.insert(TIME_TO_LIVE, format!("{}s", time.as_secs().max(1)));
        let payload = serde_json::to_vec(record).map_err(|error| self.unavailable(error))?;
        self.publish(key, headers, payload.into(), revision).await
    }

    /// Deletes a key whose revision is still `revision`.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn delete(&self, key: &str, revision: u64) -> Result<u64, BucketError> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, "DEL");
        headers.insert(TIME_TO_LIVE, format!("{}s", MARK.as_secs()));
        self.publish(key, headers, Bytes::new(), revision).await
    }

    /// Deletes a key, whatever stands there.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn clear(&self, key: &str) -> Result<(), BucketError> {
        for _ in 0..RACES {
            let slot = self.get(key).await?;
            if slot.record.is_none() {
                return Ok(());
            }
            match self.delete(key, slot.revision).await {
                Err(error) if error.is_conflict() => {}
                deleted => return deleted.map(drop),
            }
        }
        Err(BucketError::Conflict { bucket: self.name })
    }

    /// Writes something under a key that holds no record, whatever stands there: proof that the bucket takes writes.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`].
    pub async fn mark(&self, key: &str, time: Duration) -> Result<(), BucketError> {
        let mut headers = HeaderMap::new();
        headers.insert(TIME_TO_LIVE, format!("{}s", time.as_secs().max(1)));
        let subject = self.subject(key);
        let marked = jetstream::publish(&self.nats, &subject, headers, "{}".into(), Expect::default());
        marked.await.map(drop).map_err(|error| self.unavailable(error))
    }

    /// Writes, again where no acknowledgement comes: with its id a copy that was stored all the same is recognised.
    async fn publish(&self, key: &str, headers: HeaderMap, payload: Bytes, revision: u64) -> Result<u64, BucketError> {
        let (subject, id) = (self.subject(key), uuid::Uuid::new_v4().simple().to_string());
        let expect = Expect { last_subject_sequence: Some(revision), message_id: Some(&id), ..Expect::default() };
        let deadline = Instant::now() + self.nats.request_timeout();
        let (mut pause, mut unknown) = (FIRST_PAUSE, false);
        loop {
            let again = Instant::now() + ACK_WAIT < deadline;
            let sent = jetstream::publish(&self.nats, &subject, headers.clone(), payload.clone(), expect);
            match timeout(ACK_WAIT, sent).await.unwrap_or(Err(PublishError::Timeout)) {
                Ok(acknowledged) => return Ok(acknowledged.seq),
                Err(PublishError::WrongLast { .. }) if unknown => return self.stored(&subject, &id).await,
                Err(PublishError::WrongLast { .. }) => return Err(BucketError::Conflict { bucket: self.name }),
                Err(PublishError::Retry) if again => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(PublishError::Timeout) if again => unknown = true,
                Err(error) if unknown || matches!(error, PublishError::Timeout | PublishError::Failed(_)) => {
                    return Err(BucketError::Unknown { bucket: self.name, source: error.into() });
                }
                Err(error) => return Err(self.unavailable(error)),
            }
        }
    }

    /// What a write came to that was refused after a copy of it had left: the revision, if the copy is the last one.
    async fn stored(&self, subject: &str, id: &str) -> Result<u64, BucketError> {
        let last = jetstream::last_by_subject_leader(&self.nats, &format!("KV_{}", self.name), subject).await;
        let last = last.map_err(|error| BucketError::Unknown { bucket: self.name, source: error.into() })?;
        let ours = last.filter(|last| last.message_id() == Some(id)).map(|last| last.sequence);
        ours.ok_or(BucketError::Conflict { bucket: self.name })
    }

    fn slot(&self, key: &str, stored: &Stored) -> Slot<T> {
        // Markers of a deletion, ours or the server's, have no payload; a record always has one.
        let record = if stored.payload.is_empty() { None } else { self.read(key, &stored.payload) };
        Slot { record, revision: stored.sequence, written_ms: stored.time_ms() }
    }

    fn read(&self, key: &str, payload: &[u8]) -> Option<T> {
        serde_json::from_slice(payload)
            .inspect_err(|error| tracing::error!(bucket = self.name, key, %error, "unreadable record taken for none"))
            .ok()
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    fn unavailable(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BucketError {
        BucketError::Unavailable { bucket: self.name, source: source.into() }
    }
}

impl<T> Slot<T> {
    /// The record, if it is there.
    #[must_use]
    pub const fn record(&self) -> Option<&T> {
        self.record.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use herald_testkit::{Nats as Server, within};

    use super::*;
    use crate::{Context, config::Common, nats};

    #[tokio::test]
    async fn a_write_waits_for_one_under_way_for_about_as_long_as_a_request() {
        within(Duration::from_secs(30), async {
            let server = Server::start().await;
            let mut common = Common::with_operations_port(0);
            common.nats.url = server.url();
            let context = Context::new("test", common);
            let nats = nats::connect(&context.common.nats, "nats", &context).await.unwrap();
            // In place of the bucket's stream.
            let mut writes = nats.client().subscribe("$KV.ACTIONS.s").await.unwrap();
            let leader = async {
                for under_way in (0..16).rev() {
                    let write = writes.next().await.unwrap();
                    let answer = if under_way > 0 {
                        r#"{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}"#
                    } else {
                        r#"{"stream":"KV_ACTIONS","seq":7}"#
                    };
                    nats.client().publish(write.reply.unwrap(), answer.into()).await.unwrap();
                }
            };
            let bucket: Bucket<u64> = Bucket::new(&nats, "ACTIONS");
            let (written, ()) = tokio::join!(bucket.write("s", &1, 6), leader);
            assert_eq!(written.unwrap(), 7);
        })
        .await;
    }
}
