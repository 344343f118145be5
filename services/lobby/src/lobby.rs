//! All that can be asked of the lobby, whoever asks.

use std::sync::Arc;

use herald_protocol::SessionId;
use herald_runtime::{bucket::BucketError, nats::Nats};
use tokio::time::Instant;

use crate::{
    clock,
    config::Config,
    era::Era,
    maze::{self, Maze},
    members::Members,
    mirror::Mirror,
    record::{Change, Outcome, Session, Status},
    sessions::{ChangeError, Room, Sessions},
    streams::SESSION,
    tell::Teller,
};

/// The rule by which labyrinths of new sessions are made.
const RULE: &str = "dfs1";
/// How often a session is made again where an era ends meanwhile.
const ERAS: u32 = 8;

/// Why there is no new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CreateError {
    #[error("too many sessions")]
    TooMany,
    #[error(transparent)]
    Records(#[from] ChangeError),
}

/// The lobby. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Lobby {
    pub(crate) era: Era,
    pub(crate) sessions: Sessions,
    pub(crate) members: Members,
    pub(crate) all: Mirror<Session>,
    pub(crate) teller: Teller,
    pub(crate) nats: Nats,
    most: usize,
}

impl Lobby {
    pub(crate) fn new(nats: &Nats, config: &Config) -> Self {
        let (era, teller) = (Era::new(nats), Teller::new(nats));
        let room =
            Room { players: config.max_players, waiting: config.commit.max_waiting, desks: config.commit.max_sessions };
        let sessions = Sessions::new(nats, era.clone(), teller.clone(), room);
        Self {
            members: Members::new(nats, era.clone(), sessions.clone(), config.max_players),
            all: Mirror::new(nats, SESSION),
            most: config.max_sessions,
            nats: nats.clone(),
            era,
            sessions,
            teller,
        }
    }

    /// Makes a session, of a seed of its own where none is given.
    pub(crate) async fn create(&self, size: u8, seed: &str) -> Result<Session, CreateError> {
        let mut era = self.era.now().await.map_err(ChangeError::from)?;
        let count = |session: &Arc<Session>| usize::from(session.exists_in(era));
        if self.see(|sessions| sessions.map(count).sum::<usize>()).await? >= self.most {
            return Err(CreateError::TooMany);
        }
        let Maze { start_x, start_y, map, .. } = maze::dfs1(size, seed);
        for _ in 0..ERAS {
            let session = Session {
                era,
                id: new_id(),
                seed: seed.to_owned(),
                size,
                labyrinth_id: uuid::Uuid::new_v4().to_string(),
                start_x,
                start_y,
                rule: RULE.to_owned(),
                map: map.clone(),
                created_at: clock::now(),
                players: Vec::new(),
                destroyed: false,
            };
            self.sessions.create(&session).await.map_err(ChangeError::from)?;
            // Everything may have been destroyed while this was written: then nobody will ever see it.
            let now = self.era.now().await.map_err(|_| ChangeError::Unknown)?;
            if now == era {
                return Ok(session);
            }
            era = now;
        }
        Err(ChangeError::Busy.into())
    }

    /// All sessions, oldest first.
    pub(crate) async fn list(&self) -> Result<Vec<Arc<Session>>, ChangeError> {
        // The era first: what is listed existed when that was read, or was made later.
        let era = self.era.now().await?;
        let mut sessions: Vec<_> =
            self.see(|sessions| sessions.filter(|session| session.exists_in(era)).cloned().collect()).await?;
        sessions.sort_by(|a, b| (&a.created_at, a.id.as_str()).cmp(&(&b.created_at, b.id.as_str())));
        Ok(sessions)
    }

    /// What `see` makes of all records of sessions.
    async fn see<R>(&self, see: impl FnOnce(&mut dyn Iterator<Item = &Arc<Session>>) -> R) -> Result<R, ChangeError> {
        let seen = self.all.see(|entries| see(&mut entries.values().map(|entry| &entry.record))).await;
        seen.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "sessions can't be listed");
            ChangeError::Away
        })
    }

    /// Says whether a member is ready. `None`: it is no member.
    pub(crate) async fn ready(
        &self,
        id: &SessionId,
        client: &str,
        ready: bool,
        deadline: Instant,
    ) -> Result<Option<Status>, ChangeError> {
        let change = Change::Ready { client: client.to_owned(), ready };
        let decided = self.sessions.change(id, change, deadline).await?;
        Ok((decided.outcome != Outcome::NotMember).then(|| decided.session.status()))
    }

    /// A session, if it exists.
    pub(crate) async fn session(&self, id: &SessionId) -> Result<Option<Session>, BucketError> {
        self.sessions.get(id).await
    }
}

fn new_id() -> SessionId {
    let id = uuid::Uuid::new_v4().to_string();
    SessionId::new(&id).unwrap_or_else(|_| unreachable!("a UUID is a session id"))
}
