//! What all listeners of a process share.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use herald_protocol::Name;
use herald_runtime::{http_over_nats::Client, nats::Nats};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admission::Admission,
    alias::Aliases,
    config::Config,
    connection::{ConnectionLimits, InflowLimits},
    drain::Drain,
    feed::StreamHub,
    forward::Forwards,
    guests::{Guests, MailLimits},
    identity::Verifier,
    limits::Limits,
    presence::Presence,
    replay::Replays,
    uplink::Uplink,
    view::Views,
};

/// How many connections may be told at a time that there is no place for them.
const TURNED_AWAY: usize = 128;

/// For each request that may be at a service, so many files of a listener may be on their way to clients that take their time.
const FILES: usize = 4;

/// What all listeners of a process share.
pub struct Edge {
    upstream: OnceLock<Upstream>,
    /// How much clients may have.
    pub limits: Arc<Limits>,
    /// Limits of each connection that watches.
    pub per_connection: Arc<ConnectionLimits>,
    /// How often an event stream gets a comment.
    pub comment: Duration,
    /// How much may wait to be said to one connection alone.
    pub mail: MailLimits,
    /// Who may be told at this moment that there is no place; others are closed without a word.
    pub turned_away: Arc<Semaphore>,
    /// The planned end.
    pub drain: Drain,
    /// All connections.
    pub tasks: TaskTracker,
    /// Every view anybody has asked for.
    pub views: Views,
    /// Files that one listener may be sending at a time.
    pub max_files: usize,
    /// What those share who ask for the past.
    pub(crate) replays: Arc<Replays>,
    /// What all forwards share.
    pub forwards: Arc<Forwards>,
    /// Verifies tokens, where a listener asks for them.
    pub verifier: Option<Arc<Verifier>>,
}

/// What is behind the door, once NATS was reached for the first time.
pub struct Upstream {
    /// The connection that says whether NATS is there.
    pub nats: Nats,
    /// Sends requests to services, on a connection of its own.
    pub client: Client,
    /// The streams of the routes, by name.
    pub hubs: HashMap<String, Arc<StreamHub>>,
    /// The buckets of the routes' aliases, by name.
    pub aliases: HashMap<String, Aliases>,
    /// The engines that routes ask, by service.
    pub admissions: HashMap<Name, Arc<Admission>>,
    /// Who is connected.
    pub guests: Arc<Guests>,
    /// Where what clients say goes, where any route lets them say something.
    pub uplink: Option<Arc<Uplink>>,
    /// Who is there, where a route tells it.
    pub presence: Option<Arc<Presence>>,
}

impl Edge {
    /// An edge with nothing behind it yet. Its connections are sent away once `end` is cancelled.
    #[must_use]
    pub fn new(config: &Config, verifier: Option<Arc<Verifier>>, end: CancellationToken) -> Arc<Self> {
        let (socket, limits) = (&config.socket, Limits::new(config));
        let forwards = Forwards::new(&config.http, limits.clone());
        let words = &config.words;
        let mail = MailLimits::new(words.queue, words.queue_bytes.as_usize(), words.total.as_usize());
        mail.show();
        let tasks = TaskTracker::new();
        let replays = Replays::new(&config.replay, socket.write_timeout.get(), &tasks);
        Arc::new(Self {
            upstream: OnceLock::new(),
            limits,
            per_connection: Arc::new(ConnectionLimits {
                unwritable: socket.write_timeout.get(),
                lag_frames: socket.max_lag_frames,
                lag_bytes: socket.max_lag.as_u64(),
                history_patience: socket.history_patience.get(),
                heartbeat: socket.heartbeat.get(),
                heartbeat_timeout: socket.heartbeat_timeout.get(),
                close_timeout: socket.close_timeout.get(),
                inbound_message: socket.max_message.as_u64(),
                inflow: InflowLimits {
                    frames: config.limits.inbound_frames,
                    bytes: config.limits.inbound_bytes.as_u64(),
                    burst: InflowLimits::BURST,
                    patience: config.limits.inbound_patience.get(),
                },
                send_buffer: socket.send_buffer.as_usize(),
            }),
            comment: config.sse.heartbeat.get(),
            mail,
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
            drain: Drain::new(end, config.drain.period.get(), config.drain.retry.get()),
            tasks,
            views: Views::default(),
            max_files: config.http.max_forwards.saturating_mul(FILES),
            replays,
            forwards,
            verifier,
        })
    }

    /// What is behind the door; `None` as long as NATS was never reached.
    #[must_use]
    pub fn upstream(&self) -> Option<&Upstream> {
        self.upstream.get()
    }

    /// Opens what is behind the door. Once.
    pub fn open(&self, upstream: Upstream) {
        if self.upstream.set(upstream).is_err() {
            tracing::error!("the door was opened twice");
        }
    }
}
