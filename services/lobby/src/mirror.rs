//! A copy of a bucket for lists: brought up to date whenever somebody asks, never otherwise, so it can't be behind.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use herald_runtime::{
    jetstream::{ApiError, BatchGet, Stored, batch_get, next_by_subject_leader, stream_info},
    nats::Nats,
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::fresh::Fresh;

/// Most records of one reading.
const BATCH: u32 = 500;
/// Most bytes of one.
const BYTES: u32 = 2 << 20;
/// Marks of deletions are kept for an hour. Who has not looked for longer than this might miss one, and reads everything anew.
const STALE: Duration = Duration::from_secs(1800);

/// A record as it was last read.
#[derive(Debug, Clone)]
pub(crate) struct Entry<T> {
    pub(crate) record: Arc<T>,
    pub(crate) revision: u64,
    pub(crate) written_ms: u64,
}

/// The copy. Clones share it.
#[derive(Debug)]
pub(crate) struct Mirror<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for Mirror<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

#[derive(Debug)]
struct Inner<T> {
    nats: Nats,
    /// The stream under the bucket.
    stream: String,
    /// What its subjects begin with.
    prefix: String,
    copy: Mutex<Copy<T>>,
    fresh: Fresh<()>,
}

#[derive(Debug)]
struct Copy<T> {
    /// When the stream was created that this is a copy of.
    created: String,
    position: u64,
    at: Option<Instant>,
    entries: HashMap<String, Entry<T>>,
}

impl<T: DeserializeOwned> Mirror<T> {
    pub(crate) fn new(nats: &Nats, bucket: &str) -> Self {
        let copy = Copy { created: String::new(), position: 0, at: None, entries: HashMap::new() };
        let inner = Inner {
            nats: nats.clone(),
            stream: format!("KV_{bucket}"),
            prefix: format!("$KV.{bucket}."),
            copy: Mutex::new(copy),
            fresh: Fresh::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What `see` makes of the copy, which has everything that was stored before this was called.
    pub(crate) async fn see<R>(&self, see: impl FnOnce(&HashMap<String, Entry<T>>) -> R) -> Result<R, ApiError> {
        self.inner.fresh.get(self.inner.catch_up()).await?;
        Ok(see(&self.inner.copy().entries))
    }
}

impl<T: DeserializeOwned> Inner<T> {
    fn copy(&self) -> MutexGuard<'_, Copy<T>> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn catch_up(&self) -> Result<(), ApiError> {
        let info = stream_info(&self.nats, &self.stream).await?;
        let mut position = self.copy().begin(&info.created, info.last_seq);
        let filter = format!("{}>", self.prefix);
        while position < info.last_seq {
            let ask = BatchGet { filter: &filter, from: position + 1, batch: BATCH, max_bytes: BYTES };
            let mut messages = batch_get(&self.nats, &self.stream, &ask).await?.messages;
            if messages.is_empty() {
                // A replica that lags, or a mark of a deletion that is kept no more: the leader knows.
                messages.extend(next_by_subject_leader(&self.nats, &self.stream, position + 1, &filter).await?);
            }
            let mut copy = self.copy();
            position = messages.last().map_or(info.last_seq, |last| last.sequence);
            for message in messages {
                copy.take(&self.prefix, &message);
            }
            copy.position = position;
        }
        self.copy().at = Some(Instant::now());
        Ok(())
    }
}

impl<T: DeserializeOwned> Copy<T> {
    /// Where to go on from, in a stream with that head.
    fn begin(&mut self, created: &str, head: u64) -> u64 {
        let stale = self.at.is_some_and(|at| at.elapsed() > STALE);
        if self.created != created || head < self.position || stale {
            *self = Self { created: created.to_owned(), position: 0, at: None, entries: HashMap::new() };
        }
        self.position
    }

    fn take(&mut self, prefix: &str, message: &Stored) {
        let Some(key) = message.subject.strip_prefix(prefix) else { return };
        // A mark of a deletion has no payload.
        if message.payload.is_empty() {
            self.entries.remove(key);
            return;
        }
        match serde_json::from_slice(&message.payload) {
            Ok(record) => {
                let entry =
                    Entry { record: Arc::new(record), revision: message.sequence, written_ms: message.time_ms() };
                self.entries.insert(key.to_owned(), entry);
            }
            Err(error) => tracing::error!(key, %error, "unreadable record left out"),
        }
    }
}
