//! lobby: game sessions that players join and declare themselves ready in, the labyrinths they are played on, and reference data.
//!
//! The way of the data, in order: a request arrives over NATS (`http.lobby`) at `routes`; `input` reads what it brings; `lobby`
//! does what is asked. A change of a session goes to `sessions`, which makes all that wait for the same session by one
//! compare-and-set of its record (`record`), and `tell` stores its new status on `lobby.<session>.status`, which every door shows
//! to whoever watches. `members` sees to it that a client is in one session at most; `admission` says to doors which sessions
//! there are; `sweeper` puts in order what a crash has left.
//!
//! What holds: all that is true is in three buckets, read through their leader and written by compare-and-set, so any instance
//! answers anything and a restart loses nothing (what a process remembers is a guess that the server checks); an answer that
//! something was done is given after it was; one that it was not, where it surely was not (503), and else that nobody knows (504);
//! no older status follows a newer one; what carries another **era** than the one in `LOBBY_META` does not exist, so that all
//! sessions are destroyed by one write.

mod admission;
mod clock;
pub mod config;
mod era;
mod fresh;
mod input;
mod key;
mod lobby;
pub mod maze;
mod members;
mod metrics;
mod mirror;
pub mod planted;
mod record;
pub mod reference;
mod refusal;
mod routes;
mod sessions;
mod streams;
mod sweeper;
mod tell;
pub mod tiles;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use herald_protocol::Name;
use herald_runtime::{
    Context,
    http_over_nats::{self, Limits},
    nats::{self, ConnectError},
};
use tokio::sync::Notify;

use crate::{config::Config, lobby::Lobby, reference::Reference, routes::Api};

/// The name under which requests reach this service: `http.lobby`, `admit.lobby`.
const SERVICE: &str = "lobby";
/// How long requests in work may take to end at the shutdown, of its 25 s.
const DRAIN: Duration = Duration::from_secs(20);
/// How long the connection for requests may take to close.
const CLOSE: Duration = Duration::from_secs(2);

/// Runs the service until the context's shutdown, and ends it in order.
///
/// # Errors
/// Where it can't be started: NATS without JetStream.
pub async fn start(config: Config, context: Context) -> anyhow::Result<()> {
    metrics::describe();
    #[cfg(feature = "planted-bugs")]
    config.planted_bug.into_iter().for_each(planted::plant);
    let reference = Reference::load(config.reference_dir.as_deref());
    let connect = async |name| nats::connect(&context.common.nats, name, &context).await;
    // Requests and answers over a connection of their own: they never delay what is stored.
    let (nats, http) = match futures_util::try_join!(connect("nats"), connect("http")) {
        Ok(connections) => connections,
        Err(ConnectError::ShuttingDown) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let stop = context.shutdown.token();
    if let Some(usable) = stop.run_until_cancelled(nats.require_jetstream(&context)).await {
        usable?;
    }
    let owner = streams::own(&nats, &config, &context);
    if stop.run_until_cancelled(owner.ready()).await.is_none() {
        return Ok(());
    }

    let (lobby, sweep) = (Lobby::new(&nats, &config), Arc::new(Notify::new()));
    sweeper::start(lobby.clone(), &config, Arc::clone(&sweep), &context);
    let limits = Limits { concurrent: config.http.max_requests, ..Limits::default() };
    let service = Name::new(SERVICE)?;
    admission::answer(&http, &service, lobby.clone(), &context).await.context("can't answer admit.lobby")?;
    let api = Arc::new(Api { lobby: lobby.clone(), reference, sweep, config });
    let server = http_over_nats::serve(&http, &service, &context.instance, routes::router(api), limits).await;
    let server = server.context("can't serve http.lobby")?;
    if stop.run_until_cancelled(http.subscribed()).await.is_none() {
        return Ok(());
    }
    context.health.started();
    tracing::info!("ready");

    context.shutdown.begun().await;
    let cut = server.drain(DRAIN.min(context.shutdown.remaining())).await;
    tracing::info!(cut, "requests drained");
    lobby.sessions.finish().await;
    // Answers given in the last moment leave with it.
    http.close(CLOSE).await;
    Ok(())
}
