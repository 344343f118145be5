//! ingest: the engine of those who have none. A function or a script that can't hold a connection to NATS publishes its events
//! by HTTP, `POST /sessions/{sid}/events`, and they take the same way to the players as every engine's.
//!
//! The way of the data, in order: a request arrives over NATS (`http.ingest`) at `routes`; `auth` looks who sends it, and
//! whether they may publish in that session; `event` reads its body, one event or a line for each, all of it or nothing; `log`
//! stores them in the stream `APP` on `app.<session>.<topic>`, waits until JetStream has acknowledged them, and the answer is
//! their sequence.
//!
//! What holds: a request stores all of its events side by side, or none; one with an `Idempotency-Key` (`key`) stores them
//! once, however often it is sent, and to whichever instance, and is answered alike as long as the log keeps them; nothing of
//! a request can reach another root or session, nor name a control topic, since only [`herald_protocol`] builds subjects, out
//! of checked tokens. No instance knows anything that another one does not: all there is to know is in the stream.

mod auth;
pub mod config;
mod event;
mod key;
mod log;
mod metrics;
mod refusal;
mod routes;
mod streams;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use herald_protocol::Name;
use herald_runtime::{
    Context,
    http_over_nats::{self, Limits},
    nats::{self, ConnectError},
};

use crate::{auth::Gate, config::Config, log::Log, routes::Api};

/// The name under which requests reach this service: `http.ingest`.
const SERVICE: &str = "ingest";
/// How long requests in work may take to end at the shutdown, of its 25 s.
const DRAIN: Duration = Duration::from_secs(20);
/// How long the connection for requests may take to close.
const CLOSE: Duration = Duration::from_secs(2);

/// Runs the service until the context's shutdown, and ends it in order.
///
/// # Errors
/// Where it can't be started: NATS without JetStream, a key whose file can't be read.
pub async fn start(config: Config, context: Context) -> anyhow::Result<()> {
    metrics::describe();
    let gate = Gate::new(&config)?;
    if !gate.is_closed() {
        tracing::warn!(
            "whoever a door lets in without a token may publish in every session: `keys` or `auth` closes this"
        );
    }
    let connect = async |name| nats::connect(&context.common.nats, name, &context).await;
    // Requests and answers over a connection of their own: they never delay an event.
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

    let limits = Limits { concurrent: config.http.max_requests, ..Limits::default() };
    let api = Arc::new(Api { gate, nats: nats.clone(), log: Log::new(&nats, &config), config });
    let service = Name::new(SERVICE)?;
    let server = http_over_nats::serve(&http, &service, &context.instance, routes::router(api), limits).await;
    let server = server.context("can't serve http.ingest")?;
    if stop.run_until_cancelled(http.subscribed()).await.is_none() {
        return Ok(());
    }
    context.health.started();
    tracing::info!("ready");

    context.shutdown.begun().await;
    let cut = server.drain(DRAIN.min(context.shutdown.remaining())).await;
    tracing::info!(cut, "requests drained");
    // Answers given in the last moment leave with it.
    http.close(CLOSE).await;
    Ok(())
}
