//! gm-bridge: the only service that knows the Game Master.
//!
//! The way of the data, in order: a request arrives over NATS (`http.gm`) at `routes`, which looks up the session
//! (`sessions`) and the Game Master it plays on (`pool`), claims the session's running action ([`action`]), opens
//! the Game Master's stream ([`game_master`], [`sse`]), cuts out what must not be shown ([`redact`]) and publishes every
//! event, acknowledged and fenced, on `gm.<session>.<type>` ([`publisher`]; what arrives while one is being stored goes as
//! one batch where that is faster). A start (`starts`) claims a Game Master first. Commands for the arena engine leave
//! through `arena`. All that is kept of a session is removed by `purge`.
//!
//! What holds: no bridge knows anything that another one does not; what decides is read through JetStream's leader
//! ([`herald_runtime::bucket`]); no request to a Game Master is ever repeated by itself; nothing of a superseded action follows the first
//! event of the one that superseded it.

pub mod action;
mod arena;
pub mod config;
pub mod game_master;
mod health;
mod images;
mod init;
mod inspect;
mod metrics;
mod news;
pub mod planted;
mod pool;
pub mod publisher;
mod purge;
mod query;
pub mod redact;
mod refusal;
mod routes;
mod sessions;
mod splice;
pub mod sse;
mod starts;
mod streams;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use herald_protocol::Name;
use herald_runtime::{
    Context,
    http_over_nats::{self, Limits},
    nats::{self, ConnectError, Nats},
};

use tokio_util::sync::CancellationToken;

use crate::{
    action::Actions,
    arena::Arena,
    config::Config,
    health::Prober,
    news::News,
    pool::Pool,
    purge::Purger,
    redact::{Redaction, Redactor},
    routes::Api,
    sessions::Sessions,
    starts::Starts,
};

/// The name under which requests reach this service: `http.gm`.
const SERVICE: &str = "gm";
/// How long requests in work may take to end at the shutdown, of its 25 s; running actions have `action.drain`.
const DRAIN: Duration = Duration::from_secs(20);
/// How long the connection for requests may take to close.
const CLOSE: Duration = Duration::from_secs(2);

/// Runs the service until the context's shutdown, and ends it in order.
///
/// # Errors
/// Where it can't be started: NATS without JetStream, a Game Master's URL that can't be used.
pub async fn start(config: Config, context: Context) -> anyhow::Result<()> {
    metrics::describe();
    #[cfg(feature = "planted-bugs")]
    config.planted_bug.into_iter().for_each(planted::plant);
    let connect = async |name| nats::connect(&context.common.nats, name, &context).await;
    // Large pictures go over a connection of their own: they never delay an event.
    let (nats, http) = match futures_util::try_join!(connect("nats"), connect("http")) {
        Ok(connections) => connections,
        Err(ConnectError::ShuttingDown) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let stop = context.shutdown.token();
    if let Some(usable) = stop.run_until_cancelled(nats.require_jetstream(&context)).await {
        usable?;
    }
    let owner = streams::own(&nats, &config.stream, &context);
    if stop.run_until_cancelled(owner.ready()).await.is_none() {
        return Ok(());
    }

    let pool = Pool::new(&nats, &config.gm, config.action.lapse.get())?;
    // Whatever ends this service ends the taking of commands, too.
    let drained = CancellationToken::new();
    let _drained = drained.clone().drop_guard();
    let api = Arc::new(api(&nats, config, pool.clone(), &context, drained.clone())?);
    context.inspect(inspect::router(context.instance.clone(), api.actions.clone(), pool.clone()));
    let limits = Limits { concurrent: api.config.http.max_requests, ..Limits::default() };
    let service = Name::new(SERVICE)?;
    let server = http_over_nats::serve(&http, &service, &context.instance, routes::router(api), limits).await;
    let server = server.context("can't serve http.gm")?;
    if stop.run_until_cancelled(http.subscribed()).await.is_none() {
        return Ok(());
    }
    context.supervise("roll call of the edges", async move { pool.run(stop).await });
    context.health.started();
    tracing::info!("ready");

    context.shutdown.begun().await;
    let cut = server.drain(DRAIN.min(context.shutdown.remaining())).await;
    tracing::info!(cut, "requests drained");
    drained.cancel();
    // Answers given in the last moment leave with it.
    http.close(CLOSE).await;
    Ok(())
}

fn api(nats: &Nats, config: Config, pool: Pool, context: &Context, drained: CancellationToken) -> anyhow::Result<Api> {
    let rules = config.redact.iter().map(|rule| rule.parse::<Redaction>()).collect::<Result<Vec<_>, _>>()?;
    let sessions = Sessions::new(nats);
    let arena = Arena::new(nats, &config.arena);
    let redactor = Redactor::new(&rules);
    let actions = Actions::start(nats, &config.action, redactor, Arc::new(pool.clone()), context, drained);
    let starts = Starts::new(nats, &config, (&sessions, &pool, &arena, &actions), context);
    let news = News::new((&sessions, &pool, &arena, &actions), &config);
    let prober = Prober::new(nats, &pool, &arena);
    let purger = Purger::new(nats, &sessions, &pool, &actions, &starts);
    Ok(Api { config, nats: nats.clone(), sessions, pool, arena, actions, starts, news, prober, purger })
}
