//! The records of sessions, and the only writer of them.
//!
//! Changes of one session that come while another one of it is being written wait, and are then made all together by one write
//! (group commit): a session with many players costs one write for each round trip, not one for each player. A change is made on
//! what this process believes the record to be; the server takes the write only if that is so, else the record is read and the
//! change made again. So a belief can be wrong, but never harmful; what comes to nothing to be written is decided again on what
//! the leader says, as there is no write to prove it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use herald_protocol::SessionId;
use herald_runtime::{
    bucket::{Bucket, BucketError},
    nats::Nats,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;

use crate::{
    clock,
    era::Era,
    metrics,
    planted::{Bug, dies_at},
    record::{Change, Outcome, Session},
    streams::SESSION,
    tell::{Event, Teller},
};

/// Most changes of one write.
const GROUP: usize = 256;
/// How long to wait before a record is read again that somebody else has written: so many milliseconds, by chance.
const JITTER_MS: std::ops::RangeInclusive<u64> = 1..=20;
/// How long it is remembered what the record of a session was.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Why a change was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeError {
    /// There is no such session.
    #[error("no such session")]
    NoSession,
    /// Others were faster all the time, or too many wait. Nothing was done.
    #[error("busy")]
    Busy,
    /// NATS is away. Nothing was done.
    #[error("the records are not available")]
    Away,
    /// NATS was lost when the write had left: nobody knows.
    #[error("it is not known whether it was done")]
    Unknown,
}

/// A change that was decided, and the session it was decided on, with the change if it was made.
#[derive(Debug, Clone)]
pub(crate) struct Decided {
    pub(crate) outcome: Outcome,
    pub(crate) session: Arc<Session>,
}

/// How much there may be of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Members of a session.
    pub(crate) players: usize,
    /// Changes of one session that wait.
    pub(crate) waiting: usize,
    /// Sessions of which something waits or is remembered.
    pub(crate) desks: usize,
}

/// The records. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nats: Nats,
    records: Bucket<Session>,
    era: Era,
    teller: Teller,
    room: Room,
    desks: Mutex<HashMap<SessionId, Desk>>,
    tasks: TaskTracker,
}

/// The changes of one session that wait.
#[derive(Debug)]
struct Desk {
    waiting: Vec<Waiting>,
    /// Whether there is a task that works them off.
    worked: bool,
    believed: Option<Believed>,
    used: Instant,
}

#[derive(Debug)]
struct Waiting {
    change: Change,
    deadline: Instant,
    answer: oneshot::Sender<Result<Decided, ChangeError>>,
}

/// What this process believes the record to be.
#[derive(Debug)]
struct Believed {
    session: Arc<Session>,
    revision: u64,
    /// The sequence of the last status.
    told: Option<u64>,
}

impl Sessions {
    pub(crate) fn new(nats: &Nats, era: Era, teller: Teller, room: Room) -> Self {
        let records = Bucket::new(nats, SESSION);
        let (nats, desks, tasks) = (nats.clone(), Mutex::default(), TaskTracker::new());
        Self { shared: Arc::new(Shared { nats, records, era, teller, room, desks, tasks }) }
    }

    /// A session as the leader has it, if it exists.
    pub(crate) async fn get(&self, id: &SessionId) -> Result<Option<Session>, BucketError> {
        let (era, slot) = tokio::try_join!(self.shared.era.now(), self.shared.records.get(id.as_str()))?;
        Ok(slot.record.filter(|session| session.exists_in(era)))
    }

    /// The record of a session with its revision, whether or not it exists.
    pub(crate) async fn record(&self, id: &SessionId) -> Result<Option<(Session, u64)>, BucketError> {
        let slot = self.shared.records.get(id.as_str()).await?;
        Ok(slot.record.map(|session| (session, slot.revision)))
    }

    /// Stores a new session, and tells of it. `Conflict`: there is one of that id.
    pub(crate) async fn create(&self, session: &Session) -> Result<(), BucketError> {
        let revision = self.shared.records.write(session.id.as_str(), session, 0).await?;
        self.shared.teller.tell(session, revision, &[Event::Created], Some(0)).await;
        Ok(())
    }

    /// Removes the record of a session that is destroyed, if it is still of that revision.
    pub(crate) async fn remove(&self, id: &SessionId, revision: u64) -> Result<(), BucketError> {
        self.shared.records.delete(id.as_str(), revision).await.map(drop)
    }

    /// Makes a record one of a session that is destroyed, if it is still of that revision. Returns the new one.
    pub(crate) async fn mark_destroyed(&self, session: &mut Session, revision: u64) -> Result<u64, BucketError> {
        session.destroy();
        self.shared.records.write(session.id.as_str(), session, revision).await
    }

    /// Makes a change of a session that exists, together with others that wait. Where this is dropped the change may be made all
    /// the same.
    pub(crate) async fn change(
        &self,
        id: &SessionId,
        change: Change,
        deadline: Instant,
    ) -> Result<Decided, ChangeError> {
        if !self.shared.nats.connected() {
            return Err(ChangeError::Away);
        }
        let (answer, decided) = oneshot::channel();
        self.enter(id, Waiting { change, deadline, answer })?;
        // The task that works it off answers, or has panicked.
        decided.await.unwrap_or(Err(ChangeError::Unknown))
    }

    fn enter(&self, id: &SessionId, waiting: Waiting) -> Result<(), ChangeError> {
        let mut desks = self.shared.desks();
        if !desks.contains_key(id) && desks.len() >= self.shared.room.desks {
            desks.retain(|_, desk| desk.worked);
            if desks.len() >= self.shared.room.desks {
                return Err(ChangeError::Busy);
            }
        }
        let new = || Desk { waiting: Vec::new(), worked: false, believed: None, used: Instant::now() };
        let desk = desks.entry(id.clone()).or_insert_with(new);
        if desk.waiting.len() >= self.shared.room.waiting {
            return Err(ChangeError::Busy);
        }
        desk.waiting.push(waiting);
        if !std::mem::replace(&mut desk.worked, true) {
            let believed = desk.believed.take();
            self.shared.tasks.spawn(Arc::clone(&self.shared).work(id.clone(), believed));
        }
        Ok(())
    }

    /// Forgets what has not been of interest for a while.
    pub(crate) fn tidy(&self) {
        self.shared.desks().retain(|_, desk| desk.worked || desk.used.elapsed() < REMEMBERED);
    }

    /// Waits until everything that was begun is done.
    pub(crate) async fn finish(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    fn desks(&self) -> MutexGuard<'_, HashMap<SessionId, Desk>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(self: Arc<Self>, id: SessionId, mut believed: Option<Believed>) {
        let mut left = Left { shared: &self, id: &id, panicked: true };
        loop {
            let group = {
                let mut desks = self.desks();
                // A desk that is worked is kept.
                let Some(desk) = desks.get_mut(&id) else { return };
                if desk.waiting.is_empty() {
                    left.panicked = false;
                    (desk.worked, desk.used) = (false, Instant::now());
                    if believed.is_none() {
                        desks.remove(&id);
                    } else {
                        desk.believed = believed;
                    }
                    return;
                }
                let many = desk.waiting.len().min(GROUP);
                desk.waiting.drain(..many).collect::<Vec<_>>()
            };
            believed = self.commit(&id, believed, group).await;
        }
    }

    /// Makes the changes of a group and answers them. Returns what is believed then.
    async fn commit(&self, id: &SessionId, believed: Option<Believed>, mut group: Vec<Waiting>) -> Option<Believed> {
        let mut believed = believed;
        let mut surely = false;
        loop {
            let now = Instant::now();
            let late: Vec<_> = group.extract_if(.., |waiting| waiting.deadline <= now).collect();
            refuse(late, ChangeError::Busy);
            if group.is_empty() {
                return believed;
            }
            let Ok(era) = self.era.now().await else {
                refuse(group, ChangeError::Away);
                return believed;
            };
            if believed.is_none() {
                let Ok(slot) = self.records.get(id.as_str()).await else {
                    refuse(group, ChangeError::Away);
                    return None;
                };
                surely = true;
                let revision = slot.revision;
                believed = slot.record.map(|session| Believed { session: session.into(), revision, told: None });
            }
            // An id is given out once: what has been destroyed, or is of another era, never exists again.
            let Some(known) = believed.take().filter(|known| known.session.exists_in(era)) else {
                refuse(group, ChangeError::NoSession);
                return None;
            };
            let made = Made::of(&known.session, &group, self.room.players);
            if made.events.is_empty() {
                if !surely {
                    continue;
                }
                metrics::commit("unchanged");
                made.answer(group, known.session.clone());
                return Some(known);
            }
            match self.records.write(id.as_str(), &made.session, known.revision).await {
                Ok(revision) => {
                    metrics::commit("written");
                    metrics::changes(made.events.len());
                    dies_at(Bug::DiesUntold);
                    let told = self.teller.tell(&made.session, revision, &made.events, known.told).await;
                    let session = Arc::new(made.session.clone());
                    made.answer(group, session.clone());
                    return Some(Believed { session, revision, told });
                }
                Err(BucketError::Conflict { .. }) => {
                    metrics::commit("conflict");
                    sleep(Duration::from_millis(rand::random_range(JITTER_MS))).await;
                }
                Err(error) => {
                    metrics::commit("failed");
                    tracing::warn!(session = %id, error = &error as &dyn std::error::Error, "changes not written");
                    let unknown = matches!(error, BucketError::Unknown { .. });
                    refuse(group, if unknown { ChangeError::Unknown } else { ChangeError::Away });
                    return None;
                }
            }
        }
    }
}

/// Clears a desk whose task has panicked: whoever waits there is told that nobody knows, and the next change begins anew.
struct Left<'a> {
    shared: &'a Shared,
    id: &'a SessionId,
    panicked: bool,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        if self.panicked {
            self.shared.desks().remove(self.id);
        }
    }
}

/// What becomes of a session by the changes of a group.
struct Made {
    session: Session,
    outcomes: Vec<Outcome>,
    /// One for each change that was made: none, and there is nothing to be written.
    events: Vec<Event>,
}

impl Made {
    fn of(session: &Session, group: &[Waiting], most: usize) -> Self {
        let mut made = Self { session: session.clone(), outcomes: Vec::with_capacity(group.len()), events: Vec::new() };
        let at = clock::now();
        for Waiting { change, .. } in group {
            let outcome = made.session.apply(change, &at, most);
            made.outcomes.push(outcome);
            if outcome != Outcome::Done {
                continue;
            }
            let (kind, client, ready) = match change {
                Change::Join { client, .. } => ("player.joined", client, false),
                Change::Leave { client, .. } => ("player.left", client, false),
                Change::Ready { client, ready } => ("player.ready", client, *ready),
            };
            made.events.push(Event::Player { kind, client: client.clone(), ready, at: at.clone() });
        }
        made
    }

    fn answer(self, group: Vec<Waiting>, session: Arc<Session>) {
        for (waiting, outcome) in group.into_iter().zip(self.outcomes) {
            // Who asked may have gone.
            let _gone = waiting.answer.send(Ok(Decided { outcome, session: session.clone() }));
        }
    }
}

fn refuse(group: Vec<Waiting>, error: ChangeError) {
    for waiting in group {
        let _gone = waiting.answer.send(Err(error));
    }
}
