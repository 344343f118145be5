//! The era: a number that everything stored carries. Another era, and nothing of what was before exists.

use std::sync::Arc;

use herald_runtime::{
    bucket::{Bucket, BucketError},
    nats::Nats,
};
use serde::{Deserialize, Serialize};

use crate::{fresh::Fresh, streams::META};

/// The key of the era.
const KEY: &str = "era";
/// Most lost races in a row before the next era is not begun: each was one that somebody else began.
const RACES: u32 = 64;

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Record {
    era: u64,
}

/// Which era it is. Clones share what they read.
#[derive(Debug, Clone)]
pub(crate) struct Era {
    records: Bucket<Record>,
    last: Arc<Fresh<u64>>,
}

impl Era {
    pub(crate) fn new(nats: &Nats) -> Self {
        Self { records: Bucket::new(nats, META), last: Arc::new(Fresh::new()) }
    }

    /// The era as the leader has it, read after this was called.
    pub(crate) async fn now(&self) -> Result<u64, BucketError> {
        let read = async { Ok(self.records.get(KEY).await?.record.unwrap_or_default().era) };
        self.last.get(read).await
    }

    /// Begins the next one: with that, all sessions, members and bindings are gone.
    pub(crate) async fn next(&self) -> Result<u64, BucketError> {
        for _ in 0..RACES {
            let slot = self.records.get(KEY).await?;
            let next = Record { era: slot.record.unwrap_or_default().era + 1 };
            match self.records.write(KEY, &next, slot.revision).await {
                Err(error) if error.is_conflict() => {}
                written => return written.map(|_| next.era),
            }
        }
        Err(BucketError::Conflict { bucket: META })
    }
}
