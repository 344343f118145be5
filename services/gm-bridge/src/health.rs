//! What `/health` answers: true to the facts, each looked at when somebody asks, at most once a second.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, join, join_all},
};
use herald_runtime::nats::Nats;
use serde::Serialize;
use tokio::time::{Instant, timeout};

use crate::{arena::Arena, game_master::RequestError, pool::Pool};

/// How long a look is good for.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// How long the log may take to say when the arena engine last spoke.
const LOG_TIMEOUT: Duration = Duration::from_secs(2);

/// The answer of `/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Health {
    status: &'static str,
    service: &'static str,
    nats_connected: bool,
    gm_client_ready: bool,
    arena_seen: bool,
}

/// Looks at what this service needs.
#[derive(Clone)]
pub(crate) struct Prober {
    nats: Nats,
    pool: Pool,
    arena: Arena,
    last: Arc<Mutex<Option<(Instant, Look)>>>,
}

/// A look at the Game Masters and the arena engine, shared by all who ask meanwhile.
type Look = Shared<BoxFuture<'static, (bool, bool)>>;

impl Prober {
    pub(crate) fn new(nats: &Nats, pool: &Pool, arena: &Arena) -> Self {
        Self { nats: nats.clone(), pool: pool.clone(), arena: arena.clone(), last: Arc::default() }
    }

    pub(crate) async fn health(&self) -> Health {
        let look = self.look();
        let (gm_client_ready, arena_seen) = look.await;
        let nats_connected = self.nats.connected();
        let status = if nats_connected && gm_client_ready { "ok" } else { "degraded" };
        Health { status, service: "herald", nats_connected, gm_client_ready, arena_seen }
    }

    /// The look that is under way or good still, else a new one.
    fn look(&self) -> Look {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((begun, look)) if begun.elapsed() < GOOD_FOR || look.peek().is_none() => look.clone(),
            _ => {
                let (pool, arena) = (self.pool.clone(), self.arena.clone());
                let look = async move { join(one_answers(&pool), engine_spoke(&arena)).await }.boxed().shared();
                *last = Some((Instant::now(), look.clone()));
                look
            }
        }
    }
}

/// Whether a Game Master answers: one that can be reached can be played on. What it answers is its own matter; it may
/// refuse to tell the state of a game that nobody has started.
async fn one_answers(pool: &Pool) -> bool {
    let answers = async |gm: &crate::game_master::GameMaster| {
        !matches!(gm.probe().await, Err(RequestError::Unreachable(_) | RequestError::Timeout))
    };
    join_all(pool.seats().iter().map(|seat| answers(&seat.gm))).await.contains(&true)
}

async fn engine_spoke(arena: &Arena) -> bool {
    matches!(timeout(LOG_TIMEOUT, arena.seen()).await, Ok(Ok(true)))
}
