//! The only public door: sockets, and HTTP forwarded over NATS. Knows no game; what one needs is configuration.
//!
//! The way of an event, in order:
//!
//! 1. [`intake`] takes in a stream, one ordered consumer per process, and parses each message into an [`event`].
//! 2. [`sessions`] finds who watches the event's session here, one hash lookup where nobody does.
//! 3. A [`view`] makes the frame, by its [`dialect`], once for all connections that share it; the [`log`] keeps it.
//! 4. A [`connection`] (or an event stream, [`sse`]) that is up to date gets it at once, from the same loop; one that is
//!    behind is fed from its cursor on by its own [`feed`], out of the log or out of [`history`].
//! 5. What nobody watches now may be asked for later: every event is put on the shelf ([`history::Shelf`]), from which history
//!    reads a session without looking through the whole stream.
//!
//! The way of a request, in order:
//!
//! 1. A [`listener`] takes the connection, hyper reads the request, a [`door`] finds its place by its [`path`]. Who is at the
//!    other end is known by then, through any [`proxy`] that is trusted; a page must be of one of the [`origins`].
//!    Whether anything in between buffers is told by the [`selftest`], what is to be had at all by its documents
//!    ([`openapi`], [`asyncapi`]).
//! 2. A [`forward`] sends it on over NATS and its answer back; the [`health`] is told here where nobody else can. Where nothing
//!    else is to be had there may be the files of a folder ([`files`]), or the [`page`] for people.
//! 3. A [`route`] checks what is asked for ([`handshake`]) and by whom ([`identity`]), asks an engine whether they may come in
//!    where that is an engine's to say ([`admission`]), takes the socket from hyper and hands it to a connection. An [`alias`]
//!    moves a connection from session to session; a [`beat`] tells its client that it lives. Who is connected is in the registry of
//!    [`guests`]. A session's past is also to be had by request (`replay`).
//!
//! Beside both, `inspect` shows the operator all of it.
//!
//! What it says and hears on NATS:
//!
//! | subject | |
//! |---|---|
//! | `<root>.<session>.<topic>` | events: heard, from their stream |
//! | `http.<service>` | requests that go on to a service ([`forward`]) |
//! | `admit.<service>` | the question to an engine whether somebody may come in ([`admission`]) |
//! | `in.<root>.<session>.<kind>` | what clients send up, and that they come and go ([`uplink`]) |
//! | `conn.<edge>.<conn>` | messages to one connection: heard, answered ([`words`]) |
//! | `edge.newest.<root>.<session>` | that a connection has come of which a session has one at a time ([`newest`]) |
//! | `edge.watching.<session>` | the question how many watch a session here: answered ([`watching`]) |
//! | `edge.present.<root>.<session>` | an engine's question who is there in a session of its own: answered by one edge |
//! | `edge.presence.<edge>` | who is there by which edge: said, and heard of the others ([`presence`]) |
//! | `epoch.<stream>` | the question to a stream's owner to look at its epoch |
//!
//! Invariants: all limits of [`config`] hold whatever clients do; nothing but the streams is remembered (rings and shelf
//! are copies of them, made anew by each process) and who is there, which all edges know alike, so that any edge can take over any client; whoever is told to go is told where to come back ([`drain`]).

#![forbid(unsafe_code)]

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use anyhow::Context as _;
use herald_protocol::SessionId;
use herald_runtime::{
    Context,
    http_over_nats::{Client, Limits},
    jetstream::epoch::EpochWatcher,
    nats::{self, Nats},
    questions::Questions,
};
use tokio::{runtime::Handle, time::Instant};
use tokio_util::sync::CancellationToken;

pub mod admission;
pub mod alias;
pub mod answer;
pub mod asyncapi;
pub mod beat;
pub mod config;
pub mod connection;
pub mod dialect;
pub mod door;
pub mod drain;
pub mod edge;
pub mod engines;
pub mod event;
pub mod feed;
pub mod files;
pub mod forward;
pub mod guests;
pub mod handshake;
pub mod health;
pub mod history;
pub mod hosts;
pub mod identity;
pub mod intake;
pub mod limits;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod newest;
pub mod openapi;
pub mod origins;
pub mod page;
pub mod path;
pub mod pictures;
pub mod planted;
pub mod presence;
pub mod proxy;
pub mod route;
pub mod selftest;
pub mod sessions;
pub mod sse;
pub mod template;
pub mod uplink;
pub mod view;
pub mod watching;
pub mod websocket;
pub mod words;

mod descriptors;
mod inspect;
mod replay;

pub use config::Config;

use admission::Admission;
use alias::Aliases;
use config::{Auth, ListenerConfig};
use door::Door;
use edge::{Edge, Upstream};
use engines::Engines;
use feed::{Past, StreamHub};
use history::{History, Shelf, Shelved};
use identity::Verifier;
use inspect::Inspector;
use intake::Intake;
use listener::Listener;
use log::{Budget, RingLimits};
use proxy::Proxies;
use sessions::{SessionLimits, Sessions};

/// What is kept back of the shutdown's time for closing the connections to NATS.
const LAST_SECONDS: std::time::Duration = std::time::Duration::from_secs(2);

/// The whole life of an edge: opens the listeners, reaches NATS, serves until the shutdown begins, drains.
///
/// # Errors
/// Where a listener can't be opened, or the NATS server can't be used.
pub async fn start(config: Config, context: Context) -> anyhow::Result<()> {
    metrics::describe();
    #[cfg(feature = "planted-bugs")]
    config.planted_bug.into_iter().for_each(planted::plant);
    let streams: BTreeSet<_> =
        config.listeners().into_iter().flat_map(|it| it.routes).map(|route| route.stream).collect();
    descriptors::raise(config.http.max_connections, streams.len() as u64 * Shelf::files(&config.history));
    let asks = config.listeners().iter().any(|listener| listener.auth == Auth::Jwt);
    let verifier = asks.then(|| Verifier::start(&config.jwt, &context, context.shutdown.token())).transpose()?;
    let edge = Edge::new(&config, verifier, context.shutdown.token());
    let inspector = Inspector::new(&config, &edge, context.instance.clone());
    context.inspect(inspect::router(inspector.clone()));
    listen(&config, &edge, &inspector, &context).await?;
    let (tended, until) = (edge.limits.clone(), context.shutdown.token());
    context.supervise("limits", async move {
        until.run_until_cancelled(tended.tend()).await;
    });
    // What serves connections lives until the last of them is gone, however this function is left.
    let (end, last) = (CancellationToken::new(), CancellationToken::new());
    let _guards = [end.clone().drop_guard(), last.clone().drop_guard()];
    let upstream = async {
        let nats = nats::connect(&context.common.nats, "nats", &context).await?;
        nats.require_jetstream(&context).await?;
        let forwards = nats::connect(&context.common.nats, "forwards", &context).await?;
        let apart = intake_thread(&context, &last).await?;
        let engines = Engines::open(&config, &context, &end).await?;
        let (upstream, intakes) = open(&config, &nats, &forwards, &apart, &engines, &context, &end).await?;
        edge.open(upstream);
        anyhow::Ok((nats, forwards, apart.nats, intakes, engines))
    };
    let connections = match upstream.await {
        Ok(connections) => connections,
        // Told to end before there was anything to end.
        Err(_) if context.shutdown.has_begun() && context.failure().is_none() => return Ok(()),
        Err(error) => return Err(error),
    };
    context.health.started();
    context.shutdown.begun().await;

    // Listeners stop, clients are sent away and answers finished, all by the same word. What is left is to wait.
    let until = Instant::now() + context.shutdown.remaining().saturating_sub(LAST_SECONDS);
    if !listener::finish(&edge, until).await {
        tracing::warn!(left = edge.tasks.len(), "connections left that did not end in time");
    }
    let (nats, forwards, intake, intakes, engines) = connections;
    drop(intakes);
    if let Some(presence) = &engines.presence {
        presence.farewell(&nats).await;
    }
    end.cancel();
    let limit = LAST_SECONDS / 2;
    tokio::join!(nats.close(limit), forwards.close(limit), intake.close(limit), engines.close(limit));
    Ok(())
}

/// Where streams are taken in: a thread that does nothing else, with a connection of its own.
struct Apart {
    thread: Handle,
    nats: Nats,
}

/// An event goes from the socket of NATS to those of the clients on one thread: it waits neither for history and forwards
/// nor for another thread to wake up.
async fn intake_thread(context: &Context, end: &CancellationToken) -> anyhow::Result<Apart> {
    let thread = context.thread("intake", end.clone()).context("no thread for the intake")?;
    let of_thread = context.clone();
    // The connection's own tasks run where it is made.
    let connecting = async move { nats::connect(&of_thread.common.nats, "intake", &of_thread).await };
    let nats = thread.spawn(connecting).await.context("the intake's thread has ended")??;
    Ok(Apart { thread, nats })
}

/// Binds all listeners, then lets the connections in: a port in use is found before anybody is served.
async fn listen(
    config: &Config,
    edge: &Arc<Edge>,
    inspector: &Arc<Inspector>,
    context: &Context,
) -> anyhow::Result<()> {
    let mut listeners = Vec::new();
    for listener in config.listeners() {
        let name = listener.name.to_string();
        let tcp = context.listen(&name, listener.address).await.with_context(|| format!("listener {name}"))?;
        warn_of(&listener);
        let door = Arc::new(Door::new(&listener, edge, inspector)?);
        let proxies = Arc::new(Proxies::of(&listener, config.http.header_timeout.get()));
        let errors = listener.error_body;
        listeners.push(Listener { name, tcp, door, proxies, http: config.http.clone(), errors });
    }
    for listener in listeners {
        context.supervise("listener", listener.run(edge.clone(), context.shutdown.token()));
    }
    Ok(())
}

/// Says at the start what an operator may have overlooked.
fn warn_of(listener: &ListenerConfig) {
    let (name, address) = (listener.name.as_str(), listener.address);
    if listener.auth == Auth::Off && !address.ip().to_canonical().is_loopback() {
        tracing::warn!(
            listener = name, %address,
            "everybody who can reach this address can see and play every session: auth is off (set `auth = \"jwt\"`)"
        );
    }
}

/// Opens what is behind the door: streams, aliases, forwards.
async fn open(
    config: &Config,
    nats: &Nats,
    forwards: &Nats,
    apart: &Apart,
    engines: &Engines,
    context: &Context,
    end: &CancellationToken,
) -> anyhow::Result<(Upstream, Vec<Intake>)> {
    let client = Client::new(forwards, Limits::default()).await.context("forwards")?;
    let listeners = config.listeners();
    let routes = || listeners.iter().flat_map(|listener| &listener.routes);
    let streams: BTreeSet<_> = routes().map(|route| route.stream.clone()).collect();
    let buckets: BTreeSet<_> = routes().filter_map(|route| route.alias.clone()).collect();

    let budget = Budget::new(config.ring.total.as_usize());
    let (mut hubs, mut intakes) = (HashMap::new(), Vec::new());
    for stream in streams {
        let ring = RingLimits { frames: config.ring.frames, bytes: config.ring.bytes.as_usize() };
        let limits = SessionLimits { ring, budget: budget.clone(), linger: config.ring.linger.get() };
        let sessions = Sessions::new(&stream, limits);
        let watcher = Arc::new(EpochWatcher::spawn(nats, &stream));
        let shelf = Shelf::new(&stream, &config.history);
        let history = History::new(nats, &stream, &config.history, &watcher).with_shelf(shelf.clone());
        let rings = Shelved::new(shelf, history.purges(), sessions.clone());
        {
            let _on = apart.thread.enter();
            intakes.push(Intake::spawn(&apart.nats, &stream, &watcher, &config.intake, rings, context));
        }
        let (tended, until) = (sessions.clone(), end.clone());
        context.supervise("rings", async move {
            until.run_until_cancelled(tended.tend()).await;
        });
        let (kept, until) = (history.clone(), end.clone());
        context.supervise("shelf", async move {
            until.run_until_cancelled(kept.keep()).await;
        });
        let past = Past::new(history, sessions.clone());
        let hub = Arc::new(StreamHub { past, sessions, nats: nats.clone() });
        let (asked, until) = (hub.clone(), end.clone());
        context.supervise("ends of sessions", async move {
            let ask = |session: SessionId| {
                let asked = asked.clone();
                async move { asked.past.last_words(&session).await }
            };
            until.run_until_cancelled(asked.sessions.look_for_ends(ask)).await;
        });
        hubs.insert(stream, hub);
    }
    let mut aliases = HashMap::new();
    for bucket in buckets {
        let copy = Aliases::default();
        let condition = context.health.condition(&format!("bucket {bucket}"));
        context.supervise("aliases", copy.clone().follow(nats.clone(), bucket.clone(), condition, end.clone()));
        aliases.insert(bucket, copy);
    }
    let watched: Vec<_> = hubs.values().map(|hub| hub.sessions.clone()).collect();
    let count = move |session: &SessionId| watched.iter().map(|sessions| sessions.count(session.as_str())).sum();
    context.supervise("watching", watching::answer(nats.clone(), context.instance.clone(), count, end.clone()));
    let services: BTreeSet<_> = routes().filter_map(|route| route.admit.clone()).collect();
    let mut admissions = HashMap::new();
    if !services.is_empty() {
        let questions = Questions::new(nats).await.context("admission")?;
        let asking = |service| Admission::new(service, &questions, &config.admission);
        admissions.extend(services.iter().map(|service| (service.clone(), asking(service))));
    }
    let Engines { guests, uplink, presence, .. } = engines;
    let (guests, uplink, presence) = (guests.clone(), uplink.clone(), presence.clone());
    if let Some(presence) = &presence {
        context.supervise("presence", presence.clone().run(nats.clone(), guests.clone(), end.clone()));
    }
    Ok((Upstream { nats: nats.clone(), client, hubs, aliases, admissions, guests, uplink, presence }, intakes))
}
