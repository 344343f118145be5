//! The truth: the stream as its leader holds it, read without the help of anything that is to be checked.
//!
//! One task reads the whole stream by sequence, without a filter, and keeps the part of those sessions that are followed.
//! That a direct get ended proves nothing: the truth is complete up to the last sequence that the leader named, every
//! sequence up to there was read, and what is missing the leader itself has said to be deleted (`reader`).
//!
//! A stream may begin another life. Its epoch (in its metadata) or its creation time then differ, its head is below what
//! was read, or the last message that was read is another one; nothing is read until a new epoch is there, and then
//! everything from the beginning. Each session keeps its lives apart.
//!
//! While NATS is away everything waits. Nothing here has a limit of time of its own: whoever waits sets one.

mod log;
mod reader;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use herald_protocol::{Epoch, EventSubject, SessionId};
use herald_runtime::{
    jetstream::{self, ApiError, Batch, BatchGet, Stored, StreamInfo},
    nats::Nats,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

pub use self::log::{ArenaEntry, Call, CallName, GameEntry, Life, SessionLog, Shown, Step, Why};
use self::reader::{Outcome, Reader, Reads};

/// How often the leader is asked how far it is.
const EVERY: Duration = Duration::from_millis(200);
/// How long a leader may take to know what it must.
const ELECTED: Duration = Duration::from_secs(3);
/// The pause after a question that was not answered.
const AGAIN: Duration = Duration::from_millis(100);

/// How far the truth is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The stream's present life; `None` before the first look, and while it is in doubt.
    pub epoch: Option<Epoch>,
    /// Everything up to here was read.
    pub through: u64,
    /// Looks at the leader that were begun.
    begun: u64,
    /// The last look behind which everything was read that the leader had at it.
    complete: u64,
}

/// The stream, as it is read. Dropping it ends the reading.
#[derive(Debug)]
pub struct Truth {
    sessions: Arc<Mutex<Sessions>>,
    known: watch::Receiver<Known>,
    wake: Arc<tokio::sync::Notify>,
    task: JoinHandle<()>,
}

impl Truth {
    /// Begins to read `stream` at its present end. What was stored before is none of the checker's.
    #[must_use]
    pub fn spawn(nats: &Nats, stream: &str) -> Self {
        let sessions = Arc::<Mutex<Sessions>>::default();
        let (sender, known) = watch::channel(Known { epoch: None, through: 0, begun: 0, complete: 0 });
        let wake = Arc::<tokio::sync::Notify>::default();
        let source = Direct { nats: nats.clone(), stream: stream.to_owned() };
        let task = tokio::spawn(follow(source, sessions.clone(), sender, wake.clone()));
        Self { sessions, known, wake, task }
    }

    /// Waits until the stream's life and end are known for the first time. Safe to cancel.
    pub async fn ready(&self) -> Known {
        self.wait(|known| known.epoch.is_some()).await
    }

    /// Keeps a session's events from now on. To be called before the first of them is published, and after
    /// [`Truth::ready`].
    pub fn follow(&self, session: &SessionId) {
        let mut sessions = self.lock();
        if let Some(epoch) = sessions.epoch {
            let log = || SessionLog::new(session.clone(), epoch);
            sessions.logs.entry(session.clone()).or_insert_with(log);
        }
    }

    /// Forgets a session.
    pub fn forget(&self, session: &SessionId) {
        self.lock().logs.remove(session);
    }

    /// A followed session as far as it is known. It is complete where [`Truth::complete`] was waited for.
    #[must_use]
    pub fn log(&self, session: &SessionId) -> Option<SessionLog> {
        let sessions = self.lock();
        let mut log = sessions.logs.get(session)?.clone();
        let life = log.life_mut();
        (life.through, life.trimmed) = (sessions.through, sessions.trimmed);
        Some(log)
    }

    /// The sequence of the last event of a followed session that clients must get, as far as it is known, 0 before the
    /// first, with the epoch it belongs to.
    #[must_use]
    pub fn tail(&self, session: &SessionId) -> Option<(Epoch, u64)> {
        let sessions = self.lock();
        let life = sessions.logs.get(session)?.life();
        Some((life.epoch, life.last_shown()))
    }

    /// Whether no action of a followed session is open, as far as it is known: nothing more comes by itself.
    #[must_use]
    pub fn is_quiet(&self, session: &SessionId) -> bool {
        self.lock().logs.get(session).is_none_or(SessionLog::is_quiet)
    }

    /// How far the truth is known; changes as it is read.
    #[must_use]
    pub fn known(&self) -> watch::Receiver<Known> {
        self.known.clone()
    }

    /// Waits until everything was read that the leader had at the time of the call, and `at_least` that sequence: the
    /// highest that any client has seen, as a leader just elected may answer from behind. A sequence that the leader does not
    /// reach within `ELECTED` is none of this life's. Goes on for as long as NATS is away. Safe to cancel.
    pub async fn complete(&self, at_least: u64) -> Known {
        let known = self.looked().await;
        if known.through >= at_least {
            return known;
        }
        let there = self.wait(|known| known.epoch.is_some() && known.through >= at_least);
        let _not_of_this_life = timeout(ELECTED, there).await;
        self.looked().await
    }

    /// Waits for a look that begins now, and all that it finds.
    async fn looked(&self) -> Known {
        let begun = self.known.borrow().begun;
        self.wake.notify_one();
        self.wait(|known| known.epoch.is_some() && known.complete > begun).await
    }

    async fn wait(&self, condition: impl FnMut(&Known) -> bool) -> Known {
        // The task lives as long as `self`.
        let mut known = self.known.clone();
        match known.wait_for(condition).await.map(|known| *known) {
            Ok(known) => known,
            Err(_) => std::future::pending().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        lock(&self.sessions)
    }
}

impl Drop for Truth {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The sessions that are followed, and how far.
#[derive(Debug, Default)]
struct Sessions {
    logs: HashMap<SessionId, SessionLog>,
    epoch: Option<Epoch>,
    through: u64,
    trimmed: u64,
}

impl Sessions {
    /// Another life began: nothing of it is known yet.
    fn begin(&mut self, epoch: Epoch, through: u64) {
        if self.epoch.is_some() {
            let (through, trimmed) = (self.through, self.trimmed);
            for log in self.logs.values_mut() {
                let life = log.life_mut();
                (life.through, life.trimmed) = (through, trimmed);
                log.begin(epoch);
            }
        }
        (self.epoch, self.through, self.trimmed) = (Some(epoch), through, 0);
    }

    fn take(&mut self, messages: &[Stored]) {
        for message in messages {
            let Some(subject) = EventSubject::parse(&message.subject) else { continue };
            if let Some(log) = self.logs.get_mut(subject.session) {
                log.take(subject.root, subject.topic, message);
            }
        }
    }
}

/// Held for moments, never across a wait.
fn lock(sessions: &Mutex<Sessions>) -> MutexGuard<'_, Sessions> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(
    source: Direct,
    sessions: Arc<Mutex<Sessions>>,
    known: watch::Sender<Known>,
    wake: Arc<tokio::sync::Notify>,
) {
    let mut reader = Reader::default();
    let mut next = Instant::now();
    let mut trouble = false;
    loop {
        tokio::select! {
            () = sleep_until(next) => {}
            () = wake.notified() => {}
        }
        let mut look = 0;
        known.send_modify(|known| {
            known.begun += 1;
            look = known.begun;
        });
        let outcome = look_and_read(&source, &mut reader, &sessions, &known).await;
        next = Instant::now() + if outcome.is_ok() { EVERY } else { AGAIN };
        match outcome {
            Ok(true) => {
                trouble = false;
                known.send_modify(|known| known.complete = look);
            }
            Ok(false) => known.send_modify(|known| known.epoch = None),
            Err(error) if !trouble => {
                trouble = true;
                tracing::info!(error = &error as &dyn std::error::Error, "the log can't be read at the moment");
            }
            Err(_) => {}
        }
    }
}

/// One look at the leader, and everything read that it has. False while the stream's life is in doubt.
async fn look_and_read(
    source: &Direct,
    reader: &mut Reader,
    sessions: &Mutex<Sessions>,
    known: &watch::Sender<Known>,
) -> Result<bool, ApiError> {
    let info = source.info().await?;
    match reader.look(&info) {
        Outcome::Doubt => return Ok(false),
        Outcome::Same => {}
        Outcome::Began(epoch) => {
            tracing::info!(%epoch, through = reader.through(), head = info.last_seq, "the truth begins");
            lock(sessions).begin(epoch, reader.through());
        }
    }
    while reader.through() < info.last_seq {
        let Some(messages) = reader.read(source, info.last_seq).await? else { return Ok(false) };
        {
            let mut sessions = lock(sessions);
            sessions.take(&messages);
            sessions.through = reader.through();
        }
        known.send_modify(|known| (known.epoch, known.through) = (reader.epoch(), reader.through()));
    }
    {
        let mut sessions = lock(sessions);
        sessions.trimmed = sessions.trimmed.max(info.first_seq.saturating_sub(1));
    }
    known.send_modify(|known| (known.epoch, known.through) = (reader.epoch(), reader.through()));
    Ok(true)
}

/// The stream itself.
struct Direct {
    nats: Nats,
    stream: String,
}

impl Reads for Direct {
    async fn info(&self) -> Result<StreamInfo, ApiError> {
        jetstream::stream_info(&self.nats, &self.stream).await
    }

    async fn batch(&self, from: u64) -> Result<Batch, ApiError> {
        let request = BatchGet { filter: ">", from, batch: 512, max_bytes: 4 << 20 };
        jetstream::batch_get(&self.nats, &self.stream, &request).await
    }

    async fn next(&self, from: u64) -> Result<Option<Stored>, ApiError> {
        jetstream::next_by_subject_leader(&self.nats, &self.stream, from, ">").await
    }
}
