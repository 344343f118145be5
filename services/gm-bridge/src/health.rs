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

use crate::{arena::Arena, pool::Pool};

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
    game_masters: Vec<GameMasterHealth>,
}

/// Whether one Game Master answers: the one at that place of the configuration, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct GameMasterHealth {
    number: usize,
    ready: bool,
}

/// Looks at what this service needs.
#[derive(Clone)]
pub(crate) struct Prober {
    nats: Nats,
    pool: Pool,
    arena: Arena,
    last: Arc<Mutex<Option<(Instant, Look)>>>,
}

/// A look at the arena engine (`None` where the log can't be read), shared by all who ask meanwhile.
type Look = Shared<BoxFuture<'static, Option<bool>>>;

impl Prober {
    pub(crate) fn new(nats: &Nats, pool: &Pool, arena: &Arena) -> Self {
        Self { nats: nats.clone(), pool: pool.clone(), arena: arena.clone(), last: Arc::default() }
    }

    pub(crate) async fn health(&self) -> Health {
        let look = self.look();
        let ready = join_all(self.pool.seats().iter().map(|seat| seat.pulse.beats()));
        let (ready, arena_seen) = join(ready, look).await;
        let gm_client_ready = ready.contains(&true);
        let nats_connected = self.nats.connected();
        let all_well = nats_connected && gm_client_ready && arena_seen.is_some();
        let status = if all_well { "ok" } else { "degraded" };
        let arena_seen = arena_seen == Some(true);
        let game_masters =
            ready.into_iter().enumerate().map(|(index, ready)| GameMasterHealth { number: index + 1, ready }).collect();
        Health { status, service: "herald", nats_connected, gm_client_ready, arena_seen, game_masters }
    }

    /// The look that is under way or good still, else a new one.
    fn look(&self) -> Look {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((begun, look)) if begun.elapsed() < GOOD_FOR || look.peek().is_none() => look.clone(),
            _ => {
                let arena = self.arena.clone();
                let look = async move { engine_spoke(&arena).await }.boxed().shared();
                *last = Some((Instant::now(), look.clone()));
                look
            }
        }
    }
}

async fn engine_spoke(arena: &Arena) -> Option<bool> {
    timeout(LOG_TIMEOUT, arena.seen()).await.ok()?.ok()
}
