//! `sim gm`: the Game Master's contract, with invented texts in place of a model.
//!
//! A request becomes an action (`action`), which plays a script (`script`) about the one game of the process (`game`)
//! into an outlet; the SSE body at its other end adds heartbeats (`stream`). A choose hands its news to Herald's door
//! and listens to the arena on the socket that was opened at the start (`door`). As in the original, an action runs on
//! when its client leaves, and its effects fall on whatever game is there by then.
//!
//! With `--numbered` it tells no story: its streams carry numbers (`numbered`), by which `sim check` knows every event.

pub mod action;
pub mod dashboard;
pub mod door;
pub mod event;
pub mod game;
pub mod indices;
pub mod memory;
pub mod numbered;
pub mod poster;
mod python;
pub mod script;
pub mod server;
pub mod stream;
pub mod words;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use bytes::Bytes;
use futures_util::future::try_join_all;
use herald_protocol::SessionId;
use herald_runtime::Context;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    door::Door,
    game::{Game, Rules},
    numbered::Numbered,
    stream::Outlet,
};
use crate::{cli::GmOptions, serve};

/// The one game of this process, and everything that acts on it.
#[derive(Debug)]
pub struct GameMaster {
    /// As told on the command line.
    pub options: GmOptions,
    /// The way to the arena, if there is one.
    pub door: Option<Door>,
    /// Cancelled at the end of the process.
    pub token: CancellationToken,
    game: Mutex<Game>,
    /// With `--numbered`: its calls.
    pub numbered: Option<Numbered>,
    posters: Mutex<BTreeMap<&'static str, Bytes>>,
    actions: TaskTracker,
    /// With `--leak`: where every action speaks, whoever listens.
    shared_outlet: Outlet,
}

impl GameMaster {
    /// A game master that nobody has called yet.
    ///
    /// # Errors
    /// If the door's URL can't be used.
    pub fn new(options: GmOptions, token: CancellationToken) -> Result<Arc<Self>> {
        let id = match &options.id {
            Some(id) => id.clone(),
            None => SessionId::new(&uuid::Uuid::new_v4().to_string())?,
        };
        let door = if options.no_door || options.numbered {
            None
        } else {
            Some(Door::new(&options.door, id.clone(), options.reopen)?)
        };
        let rules = Rules { seed: options.seed, turns: options.turns, article_bytes: options.article_bytes };
        Ok(Arc::new(Self {
            game: Mutex::new(Game::new(rules, id)),
            numbered: options.numbered.then(Numbered::default),
            posters: Mutex::default(),
            actions: TaskTracker::new(),
            shared_outlet: Outlet::default(),
            options,
            door,
            token,
        }))
    }

    /// The game. Held for moments, never across a wait.
    pub fn game(&self) -> MutexGuard<'_, Game> {
        self.game.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The posters drawn last.
    pub fn posters(&self) -> MutexGuard<'_, BTreeMap<&'static str, Bytes>> {
        self.posters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until the shutdown begins.
///
/// # Errors
/// If an address can't be bound or the door's URL can't be used.
pub async fn run(options: GmOptions, context: Context) -> Result<()> {
    let token = context.shutdown.token();
    let mut served = Vec::with_capacity(options.listen.len());
    for address in &options.listen {
        let listener = context.listen("game master", *address).await?;
        let gm = GameMaster::new(options.clone(), token.clone())?;
        let (id, seed, speed) = (gm.game().id.clone(), gm.options.seed, gm.options.speed);
        tracing::info!(%id, seed, ?speed, "stand-in for a game master: invented texts, no model");
        if let Some(door) = &gm.door {
            let (gm, door) = (gm.clone(), door.clone());
            context.supervise("door", async move { door.run(&gm.token).await });
        }
        served.push(serve::until(token.clone(), listener, server::router(gm)));
    }
    try_join_all(served).await.map(drop)
}
