//! The records of sessions: which are known, how far their init came, which Game Master they play on.

use herald_protocol::{SessionId, record::SessionRecord};
use herald_runtime::{
    bucket::{Bucket, BucketError, Slot},
    nats::Nats,
};

/// The bucket that holds them. Its age limit is the time a session is known after its last action.
pub(crate) const SESSIONS: &str = "SESSIONS";
/// Writers of one session's record are few; more lost races than this in a row are a fault, not bad luck.
const RACES: u32 = 32;

/// The records of sessions.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    records: Bucket<SessionRecord>,
}

impl Sessions {
    /// The records in the bucket [`SESSIONS`].
    pub(crate) fn new(nats: &Nats) -> Self {
        Self { records: Bucket::new(nats, SESSIONS) }
    }

    /// What is known of a session; `None` for one that was neither started nor initialised.
    pub(crate) async fn get(&self, session: &SessionId) -> Result<Option<SessionRecord>, BucketError> {
        Ok(self.records.get(session.as_str()).await?.record)
    }

    /// Changes the record of a session, which is created if there is none, and returns it. `change` may run several times,
    /// each time on the record as it then is.
    pub(crate) async fn change(
        &self,
        session: &SessionId,
        change: impl Fn(&mut SessionRecord),
    ) -> Result<SessionRecord, BucketError> {
        let mut races = 0;
        loop {
            let slot = self.slot(session).await?;
            let mut record = slot.record.unwrap_or_default();
            change(&mut record);
            match self.write(session, &record, slot.revision).await {
                Ok(()) => return Ok(record),
                Err(error) if error.is_conflict() && races < RACES => races += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The record of a session with its revision.
    pub(crate) async fn slot(&self, session: &SessionId) -> Result<Slot<SessionRecord>, BucketError> {
        self.records.get(session.as_str()).await
    }

    /// Writes the record of a session whose revision is still `revision`.
    pub(crate) async fn write(
        &self,
        session: &SessionId,
        record: &SessionRecord,
        revision: u64,
    ) -> Result<(), BucketError> {
        self.records.write(session.as_str(), record, revision).await.map(drop)
    }

    /// Deletes the record of a session.
    pub(crate) async fn forget(&self, session: &SessionId) -> Result<(), BucketError> {
        self.records.clear(session.as_str()).await
    }

    /// Rewrites the record of a known session, so that it lives on from now. `None` if it is not known.
    pub(crate) async fn touch(&self, session: &SessionId) -> Result<Option<SessionRecord>, BucketError> {
        let slot = self.slot(session).await?;
        let Some(record) = slot.record else { return Ok(None) };
        match self.write(session, &record, slot.revision).await {
            // Whoever was faster has prolonged it.
            Err(error) if !error.is_conflict() => Err(error),
            _ => Ok(Some(record)),
        }
    }
}
