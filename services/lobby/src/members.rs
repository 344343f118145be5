//! Who is in which session: one client in one session at most, whichever instances are asked, and however many at once.
//!
//! A client's **binding** is a record under its key, written by compare-and-set; the session's record says who is in it. A binding
//! counts while the session that it names lists the client by the same joining, or while it is younger than [`YOUNG`]. So:
//!
//! * **Joining** (1) writes the binding, `joining`, where none counts; (2) within [`LISTED_WITHIN`] lists the client in the session;
//!   (3) makes the binding `joined`. Where that is no longer there, a leave came between, and the client is taken out again.
//! * **Leaving** takes the client out, then deletes the binding.
//!
//! Whatever dies between two of these steps: a binding that nobody listed is void after [`YOUNG`]; who is listed and `joining`
//! has joined; who is listed by a joining that no binding names is taken out by the sweeper.

use std::{cmp::Ordering, time::Duration};

use herald_protocol::SessionId;
use herald_runtime::{
    bucket::{Bucket, BucketError, Slot},
    jetstream::stream_info,
    nats::Nats,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    clock,
    era::Era,
    key,
    planted::{Bug, dies_at},
    record::{Change, Outcome, Session},
    sessions::{ChangeError, Sessions},
    streams::CLIENT,
};

/// How long a binding counts that no session lists.
pub(crate) const YOUNG: Duration = Duration::from_secs(5);
/// How long after its binding was written a client may still be listed: less, so that nobody else takes it for void meanwhile.
const LISTED_WITHIN: Duration = Duration::from_secs(4);
/// Most bindings in a row that others write or delete before it is given up.
const RACES: u32 = 16;

/// In which session a client is, or is about to be: the value of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binding {
    pub(crate) era: u64,
    pub(crate) client_id: String,
    pub(crate) session_id: SessionId,
    pub(crate) state: State,
    pub(crate) at: String,
    /// Which joining this is.
    pub(crate) join: String,
}

/// How far a joining has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Joining,
    Joined,
}

/// What became of a join.
#[derive(Debug)]
pub(crate) enum Joined {
    /// The client is in the session.
    Connected(Box<Session>),
    /// It was in one already, perhaps this one.
    Already,
    /// There is no room.
    Full,
}

/// The bindings. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    nats: Nats,
    bindings: Bucket<Binding>,
    era: Era,
    sessions: Sessions,
    most: usize,
}

impl Members {
    pub(crate) fn new(nats: &Nats, era: Era, sessions: Sessions, most: usize) -> Self {
        Self { nats: nats.clone(), bindings: Bucket::new(nats, CLIENT), era, sessions, most }
    }

    /// Lets a client into a session.
    pub(crate) async fn join(&self, id: &SessionId, client: &str, deadline: Instant) -> Result<Joined, ChangeError> {
        self.connected()?;
        let key = key::of(client);
        for _ in 0..RACES {
            let (era, session, slot) =
                tokio::try_join!(self.era.now(), self.sessions.get(id), self.bindings.get(&key))?;
            let session = session.ok_or(ChangeError::NoSession)?;
            match slot.record().map(|binding| (binding, binding.era.cmp(&era))) {
                Some((binding, Ordering::Equal)) if self.counts(binding, &slot).await? => return Ok(Joined::Already),
                // The era was read a moment too early.
                Some((_, Ordering::Greater)) if Instant::now() < deadline => continue,
                _ => {}
            }
            if session.players.len() >= self.most && session.player(client).is_none() {
                return Ok(Joined::Full);
            }
            let join = uuid::Uuid::new_v4().simple().to_string();
            let binding = Binding {
                era,
                client_id: client.to_owned(),
                session_id: id.clone(),
                state: State::Joining,
                at: clock::now(),
                join,
            };
            let begun = Instant::now();
            match self.bindings.write(&key, &binding, slot.revision).await {
                Ok(revision) => {
                    dies_at(Bug::DiesBound);
                    return self.enter(&key, binding, revision, deadline.min(begun + LISTED_WITHIN)).await;
                }
                // Another join or leave of this client came first.
                Err(BucketError::Conflict { .. }) if Instant::now() < deadline => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ChangeError::Busy)
    }

    /// The second and third step: the binding is there.
    async fn enter(
        &self,
        key: &str,
        mut binding: Binding,
        revision: u64,
        deadline: Instant,
    ) -> Result<Joined, ChangeError> {
        let Binding { session_id: id, client_id: client, join, .. } = binding.clone();
        let listed =
            self.sessions.change(&id, Change::Join { client: client.clone(), join: join.clone() }, deadline).await;
        let session = match listed {
            Ok(decided) if decided.outcome != Outcome::Full => decided.session,
            // Perhaps it is listed: then it has joined, else the binding is void soon.
            Err(ChangeError::Unknown) => return Err(ChangeError::Unknown),
            refused => {
                self.forget(key, revision).await;
                return refused.map(|_| Joined::Full);
            }
        };
        dies_at(Bug::DiesListed);
        binding.state = State::Joined;
        if let Err(BucketError::Conflict { .. }) = self.bindings.write(key, &binding, revision).await {
            dies_at(Bug::DiesOvertaken);
            let patience = Instant::now() + LISTED_WITHIN;
            // What fails here is done by the sweeper.
            let _taken = self.sessions.change(&id, Change::Leave { client, join }, patience).await;
            // Without a binding somebody has left: first came this join, then that leave. With another one, this was too slow.
            if self.bindings.get(key).await?.record.is_some() {
                return Err(ChangeError::Busy);
            }
        }
        Ok(Joined::Connected(Box::new(Session::clone(&session))))
    }

    /// Takes a client out of the session it is in. Whether it was in one.
    pub(crate) async fn leave(&self, client: &str, deadline: Instant) -> Result<bool, ChangeError> {
        self.connected()?;
        let key = key::of(client);
        for _ in 0..RACES {
            let (era, slot) = tokio::try_join!(self.era.now(), self.bindings.get(&key))?;
            let Some(binding) = slot.record().filter(|binding| binding.era >= era) else { return Ok(false) };
            let change = Change::Leave { client: client.to_owned(), join: binding.join.clone() };
            match self.sessions.change(&binding.session_id, change, deadline).await {
                Ok(decided) if decided.outcome == Outcome::Done => {
                    dies_at(Bug::DiesTakenOut);
                    self.unbind(&key, &binding.join, slot.revision).await;
                    dies_at(Bug::DiesUnbound);
                    return Ok(true);
                }
                Ok(_) | Err(ChangeError::NoSession) => {}
                Err(error) => return Err(error),
            }
            // Nobody lists it: what a crash, or another leave, has left, or a join that is under way and is overtaken now.
            let under_way = binding.state == State::Joining && self.is_young(&slot).await?;
            match self.bindings.delete(&key, slot.revision).await {
                Ok(_) => return Ok(under_way),
                Err(BucketError::Conflict { .. }) if Instant::now() < deadline => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ChangeError::Busy)
    }

    /// The session a client is in.
    pub(crate) async fn session_of(&self, client: &str) -> Result<Option<Session>, BucketError> {
        let key = key::of(client);
        let (era, slot) = tokio::try_join!(self.era.now(), self.bindings.get(&key))?;
        match slot.record.filter(|binding| binding.era == era) {
            Some(binding) => self.lists(&binding).await,
            None => Ok(None),
        }
    }

    /// The binding under a key, with its revision and whether it counts.
    pub(crate) async fn look(&self, key: &str) -> Result<Option<(Binding, u64, bool)>, BucketError> {
        let (era, slot) = tokio::try_join!(self.era.now(), self.bindings.get(key))?;
        let Some(binding) = slot.record() else { return Ok(None) };
        let counts = binding.era > era || (binding.era == era && self.counts(binding, &slot).await?);
        Ok(slot.record.map(|binding| (binding, slot.revision, counts)))
    }

    /// Deletes a binding, if it is still of that revision.
    pub(crate) async fn remove(&self, key: &str, revision: u64) -> Result<(), BucketError> {
        self.bindings.delete(key, revision).await.map(drop)
    }

    fn connected(&self) -> Result<(), ChangeError> {
        if self.nats.connected() { Ok(()) } else { Err(ChangeError::Away) }
    }

    /// Whether a binding of this era keeps its client from joining elsewhere.
    async fn counts(&self, binding: &Binding, slot: &Slot<Binding>) -> Result<bool, BucketError> {
        // Its age first: what is listed after that was listed in time.
        let young = self.is_young(slot).await?;
        Ok(young || self.lists(binding).await?.is_some())
    }

    /// The session that a binding names, if the client is in it by that joining.
    async fn lists(&self, binding: &Binding) -> Result<Option<Session>, BucketError> {
        let session = self.sessions.get(&binding.session_id).await?;
        Ok(session.filter(|session| session.lists(&binding.client_id, &binding.join)))
    }

    /// Whether a binding was written a moment ago, by the server's clock.
    async fn is_young(&self, slot: &Slot<Binding>) -> Result<bool, BucketError> {
        let bucket = stream_info(&self.nats, &format!("KV_{CLIENT}")).await;
        let now = bucket.map_err(|error| BucketError::Unavailable { bucket: CLIENT, source: error.into() })?.now_ns;
        Ok(u128::from((now / 1_000_000).saturating_sub(slot.written_ms)) < YOUNG.as_millis())
    }

    /// Deletes a binding that came to nothing. What stays is void soon.
    async fn forget(&self, key: &str, revision: u64) {
        if let Err(error) = self.bindings.delete(key, revision).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a binding stays until it is void");
        }
    }

    /// Deletes the binding of a joining that is over, also where its third step came meanwhile.
    async fn unbind(&self, key: &str, join: &str, mut revision: u64) {
        for _ in 0..RACES {
            match self.bindings.delete(key, revision).await {
                Err(BucketError::Conflict { .. }) => {}
                Err(error) => {
                    return tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a binding stays until it is void"
                    );
                }
                Ok(_) => return,
            }
            match self.bindings.get(key).await {
                Ok(slot) if slot.record().is_some_and(|binding| binding.join == join) => revision = slot.revision,
                _ => return,
            }
        }
    }
}

impl From<BucketError> for ChangeError {
    fn from(error: BucketError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "records not available");
        match error {
            BucketError::Conflict { .. } => Self::Busy,
            BucketError::Unavailable { .. } => Self::Away,
            BucketError::Unknown { .. } => Self::Unknown,
        }
    }
}
