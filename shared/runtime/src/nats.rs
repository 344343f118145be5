//! The connection to NATS: retried for ever, its state visible, its credentials never.

use std::{
    sync::{Arc, PoisonError, RwLock, Weak, atomic::Ordering},
    time::Duration,
};

use async_nats::{Client, Event, RequestErrorKind, jetstream};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use self::{
    endpoint::{Endpoint, Purpose},
    refusals::Refusals,
    servers::delay,
};

use crate::{
    Context,
    config::{Fault, NatsConfig},
    health::Condition,
};

mod endpoint;
mod refusals;
mod servers;
mod subscription;

pub(crate) use endpoint::faults;
pub use subscription::Subscription;

/// How often the state is read beside the library's events, which it drops when 128 wait.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long to wait before subscriptions are asked to be confirmed again.
const CONFIRM_AGAIN: Duration = Duration::from_millis(200);
/// How long a server may refuse JetStream requests before it counts as having none: a starting one does for a moment.
const JETSTREAM_PATIENCE: Duration = Duration::from_secs(3);
/// The oldest nats-server whose JetStream has what Herald needs (atomic batches, per-message TTL, multi-last gets).
const OLDEST_SERVER: (i64, i64, i64) = (2, 12, 0);

/// A connection to NATS that repairs itself. Clones share it.
#[derive(Clone, Debug)]
pub struct Nats {
    inner: Arc<Inner>,
}

/// The library repairs a connection that was lost. It can't repair itself: a message that it does not expect (a header with a
/// bare CR, which nats-server takes from anybody) ends its task by a panic, and with it the client for good. Then another one
/// takes its place.
#[derive(Debug)]
struct Inner {
    link: RwLock<Link>,
    /// Which client this is, counted from 1. `None`: closed, there will be no other.
    life: watch::Sender<Option<u64>>,
    state: watch::Sender<NatsState>,
    /// Told by whoever finds the client not working.
    suspicion: Arc<Notify>,
    request_timeout: Duration,
    /// Who sends a batch of messages: a server takes only so many batches that are not complete.
    batch: Semaphore,
}

/// The library's client, and JetStream over it.
#[derive(Clone, Debug)]
struct Link {
    client: Client,
    jetstream: jetstream::Context,
}

impl Link {
    fn new(client: Client, request_timeout: Duration) -> Self {
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(request_timeout);
        Self { client, jetstream }
    }
}

/// Whether there is a connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsState {
    /// There is, the `generation`-th since the start: a change of it alone is a reconnect, too short to be seen otherwise.
    Connected {
        /// Counts connections from 1.
        generation: u64,
    },
    /// There is none; the library is trying.
    Disconnected,
}

/// Why there is no connection and will be none.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration can't be used.
    #[error("{0}")]
    Configuration(Fault),
    /// The shutdown began before a server answered.
    #[error("shutting down before NATS was reached")]
    ShuttingDown,
}

/// Why this server can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JetStreamError {
    /// The server runs without JetStream.
    #[error(
        "the NATS server has no JetStream: start it with `nats-server -js`, or with `jetstream {{}}` in its configuration"
    )]
    Disabled,
    /// The account of our user may not use it.
    #[error("JetStream is not enabled for the account of our NATS user")]
    NotForAccount,
    /// The server is older than what Herald builds on.
    #[error("nats-server {found} is too old: {}.{} or newer is needed", OLDEST_SERVER.0, OLDEST_SERVER.1)]
    TooOld {
        /// The server's version.
        found: String,
    },
    /// The shutdown began before it was known.
    #[error("shutting down before JetStream was reached")]
    ShuttingDown,
}

impl Nats {
    /// The connection's client as it is now; ask for it each time it is needed, as another one may take its place.
    /// Publishing while disconnected waits in its queue (`nats.send_capacity`).
    #[must_use]
    pub fn client(&self) -> Client {
        self.inner.link().client
    }

    /// JetStream over this connection, as it is now.
    #[must_use]
    pub fn jetstream(&self) -> jetstream::Context {
        self.inner.link().jetstream
    }

    /// Follows the state. When it turns to `Connected`, subscriptions are about to be made again: the answer to any request
    /// proves that the server has them (`client().flush()` only that they were sent).
    #[must_use]
    pub fn state(&self) -> watch::Receiver<NatsState> {
        self.inner.state.subscribe()
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn connected(&self) -> bool {
        matches!(*self.inner.state.borrow(), NatsState::Connected { .. })
    }

    /// The largest payload, headers included, that the server accepts now, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.client().max_payload()
    }

    /// Whether the server belongs to a cluster: streams are made with three replicas there.
    #[must_use]
    pub fn clustered(&self) -> bool {
        self.client().server_info().cluster.is_some_and(|name| !name.is_empty())
    }

    /// Has it looked at once whether the client has ended, where something ended with it.
    fn suspect(&self) {
        self.inner.suspicion.notify_one();
    }

    /// Waits until there is another connection than `former`, which was lost or ended, for `limit` at most. Whether there is.
    pub(crate) async fn another(&self, former: NatsState, limit: Duration) -> bool {
        self.suspect();
        let (mut state, is_another) =
            (self.state(), |now: &NatsState| *now != former && *now != NatsState::Disconnected);
        matches!(timeout(limit, state.wait_for(is_another)).await, Ok(Ok(_)))
    }

    /// The right to send a batch: the parts of one are not mixed with those of another.
    pub(crate) fn batch(&self) -> &Semaphore {
        &self.inner.batch
    }

    /// How long a request may wait for its answer where nothing else is said (`nats.request_timeout`).
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.inner.request_timeout
    }

    /// Waits until the server has taken the subscriptions made so far: it works off what a connection sends in turn, so an
    /// answer, here that nobody listens, comes behind them. Safe to cancel.
    pub async fn subscribed(&self) {
        while let Err(error) = self.client().request(self.client().new_inbox(), "".into()).await {
            if error.kind() == RequestErrorKind::NoResponders {
                return;
            }
            tracing::warn!(%error, "subscriptions not confirmed yet");
            tokio::time::sleep(CONFIRM_AGAIN).await;
        }
    }

    /// Waits until the server has answered for JetStream; goes on waiting while it is away or has no leader.
    ///
    /// # Errors
    /// If this server can't be used: without JetStream, or too old.
    pub async fn require_jetstream(&self, context: &Context) -> Result<(), JetStreamError> {
        let token = context.shutdown.token();
        let condition = context.health.condition("jetstream");
        condition.fail("not asked yet");
        let probe = self.probe_jetstream(&condition);
        token.run_until_cancelled(probe).await.unwrap_or(Err(JetStreamError::ShuttingDown))
    }

    async fn probe_jetstream(&self, condition: &Condition) -> Result<(), JetStreamError> {
        use jetstream::{ErrorCode, context::AccountErrorKind};

        let (mut refused_since, mut attempt) = (None, 0);
        loop {
            attempt += 1;
            let (major, minor, patch) = OLDEST_SERVER;
            if self.connected() && !self.client().is_server_compatible(major, minor, patch) {
                return Err(JetStreamError::TooOld { found: self.client().server_info().version });
            }
            let refusal = match self.jetstream().query_account().await {
                Ok(_) => {
                    condition.ok();
                    return Ok(());
                }
                Err(error) => match error.kind() {
                    AccountErrorKind::JetStreamUnavailable => Some(JetStreamError::Disabled),
                    AccountErrorKind::JetStream(error) if error.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED => {
                        Some(JetStreamError::Disabled)
                    }
                    AccountErrorKind::JetStream(error)
                        if error.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT =>
                    {
                        Some(JetStreamError::NotForAccount)
                    }
                    kind => {
                        condition.fail(format!("does not answer: {kind}"));
                        None
                    }
                },
            };
            match refusal {
                // Only a refusal that lasts, over an unbroken connection, is the server's last word.
                Some(refusal) if self.connected() => {
                    let since = *refused_since.get_or_insert_with(tokio::time::Instant::now);
                    if since.elapsed() >= JETSTREAM_PATIENCE {
                        return Err(refusal);
                    }
                }
                _ => refused_since = None,
            }
            tokio::time::sleep(delay(attempt, Duration::from_millis(100), Duration::from_secs(1))).await;
        }
    }

    /// Lets what was published leave, ends the subscriptions, closes. Waits for nothing longer than `limit`.
    pub async fn close(&self, limit: Duration) {
        self.inner.life.send_replace(None);
        let client = self.client();
        let closing = async {
            if self.connected() {
                client.flush().await.map_err(|error| error.to_string())?;
            }
            client.drain().await.map_err(|error| error.to_string())
        };
        match timeout(limit, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error, "NATS connection not closed in order"),
            Err(_) => tracing::warn!(?limit, "NATS connection not closed in time"),
        }
    }
}

/// Connects, waiting for as long as no server answers, and keeps the connection for the life of the result.
///
/// `name` is the connection's purpose: the condition in `/readyz`, and part of the connection's name at the server; `nats`
/// for a service's first.
///
/// # Errors
/// If the configuration can't be used, or the shutdown begins first. Safe to cancel.
pub async fn connect(config: &NatsConfig, name: &'static str, context: &Context) -> Result<Nats, ConnectError> {
    let endpoint = Endpoint::from_config(config, context.service).map_err(ConnectError::Configuration)?;
    let condition = context.health.condition(name);
    condition.fail("connecting");
    let token = context.shutdown.token();
    metrics::counter!("herald_nats_clients_replaced_total", "connection" => name).increment(0);
    let keeper = Keeper {
        name,
        endpoint,
        purpose: Purpose {
            config: config.clone(),
            name: format!("{} {} {name}", context.service, context.instance),
            condition,
            refusals: Arc::new(Refusals::new(name)),
            wake: Arc::new(Notify::new()),
        },
        before: Totals::default(),
    };
    let first = keeper.endpoint.connect_first(&keeper.purpose);
    let client = token.run_until_cancelled(first).await.ok_or(ConnectError::ShuttingDown)?;
    let inner = Arc::new(Inner {
        link: RwLock::new(Link::new(client, config.request_timeout.get())),
        life: watch::Sender::new(Some(1)),
        state: watch::Sender::new(NatsState::Connected { generation: 1 }),
        suspicion: Arc::new(Notify::new()),
        request_timeout: config.request_timeout.get(),
        batch: Semaphore::new(1),
    });
    keeper.look(&inner);
    context.supervise("nats state", keeper.keep(Arc::downgrade(&inner), token));
    Ok(Nats { inner })
}

impl Inner {
    fn link(&self) -> Link {
        self.link.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Waits for the end of a client's task. It is asked whether it lives by a flush, which writes nothing by itself: a
/// subscription that ends with it would need a right on every user's subjects.
async fn ended(client: Client, suspicion: Arc<Notify>) {
    loop {
        // A suspicion that comes again and again costs no more than connecting does.
        let _ = timeout(LOOK_AGAIN, suspicion.notified()).await;
        if client.flush().await.is_err() {
            return;
        }
    }
}

/// Keeps a connection in existence, and what is known of it true.
struct Keeper {
    name: &'static str,
    endpoint: Endpoint,
    purpose: Purpose,
    before: Totals,
}

/// What the clients before the present one have done.
#[derive(Clone, Copy, Default)]
struct Totals {
    connects: u64,
    in_bytes: u64,
    out_bytes: u64,
}

impl Keeper {
    /// Keeps client, state, condition and metrics true until the connection is dropped or the process ends.
    async fn keep(mut self, inner: Weak<Inner>, token: CancellationToken) {
        let first = inner.upgrade().map(|inner| (inner.link().client, Arc::clone(&inner.suspicion)));
        let Some((client, suspicion)) = first else { return };
        let mut end = Box::pin(ended(client, Arc::clone(&suspicion)));
        loop {
            let wake = Arc::clone(&self.purpose.wake);
            // An event is a hint to look at once; a lost one costs at most a tick.
            let over = tokio::select! {
                () = token.cancelled() => return,
                () = &mut end => true,
                () = wake.notified() => false,
                () = tokio::time::sleep(LOOK_AGAIN) => false,
            };
            let Some(inner) = inner.upgrade() else { return };
            if over {
                if inner.life.borrow().is_none() {
                    return;
                }
                match token.run_until_cancelled(self.replace(&inner)).await {
                    Some(another) => end.set(ended(another, Arc::clone(&suspicion))),
                    None => return,
                }
            }
            self.look(&inner);
        }
    }

    /// Puts another client in the place of one that has ended.
    async fn replace(&mut self, inner: &Inner) -> Client {
        tracing::error!(connection = self.name, "the NATS client ended by a fault of its own, connecting anew");
        metrics::counter!("herald_nats_clients_replaced_total", "connection" => self.name).increment(1);
        inner.state.send_replace_if_changed(NatsState::Disconnected);
        self.purpose.condition.fail("connecting anew");
        self.before = self.totals(inner);
        let client = self.endpoint.connect_first(&self.purpose).await;
        *inner.link.write().unwrap_or_else(PoisonError::into_inner) = Link::new(client.clone(), inner.request_timeout);
        inner.life.send_modify(|life| *life = life.map(|life| life + 1));
        client
    }

    fn totals(&self, inner: &Inner) -> Totals {
        let statistics = inner.link().client.statistics();
        Totals {
            connects: self.before.connects + statistics.connects.load(Ordering::Relaxed),
            in_bytes: self.before.in_bytes + statistics.in_bytes.load(Ordering::Relaxed),
            out_bytes: self.before.out_bytes + statistics.out_bytes.load(Ordering::Relaxed),
        }
    }

    fn look(&self, inner: &Inner) {
        let Self { name, purpose: Purpose { condition, refusals, .. }, .. } = self;
        let name = *name;
        let Totals { connects: generation, in_bytes, out_bytes } = self.totals(inner);
        let now = match inner.link().client.connection_state() {
            async_nats::connection::State::Connected => NatsState::Connected { generation },
            _ => NatsState::Disconnected,
        };
        inner.state.send_replace_if_changed(now);
        condition.set(match now {
            NatsState::Connected { .. } => refusals.fault().map_or(Ok(()), Err),
            NatsState::Disconnected => Err("disconnected".to_owned()),
        });
        let connected = if matches!(now, NatsState::Connected { .. }) { 1.0 } else { 0.0 };
        metrics::gauge!("herald_nats_connected_count", "connection" => name).set(connected);
        metrics::counter!("herald_nats_connects_total", "connection" => name).absolute(generation);
        metrics::counter!("herald_nats_received_bytes_total", "connection" => name).absolute(in_bytes);
        metrics::counter!("herald_nats_sent_bytes_total", "connection" => name).absolute(out_bytes);
    }
}

/// `send_replace`, waking nobody if nothing changed.
trait SendChanged<T> {
    fn send_replace_if_changed(&self, value: T);
}

impl<T: Copy + PartialEq> SendChanged<T> for watch::Sender<T> {
    fn send_replace_if_changed(&self, value: T) {
        self.send_if_modified(|old| std::mem::replace(old, value) != value);
    }
}

/// Logs and counts what the library reports beside the state.
fn note(event: &Event) {
    match event {
        Event::SlowConsumer(_) => {
            metrics::counter!("herald_nats_dropped_messages_total", "reason" => "slow_subscription").increment(1);
        }
        Event::LameDuckMode => tracing::info!("NATS server is about to stop"),
        Event::ServerError(error) => tracing::warn!(%error, "NATS server reports"),
        Event::ClientError(error) => tracing::warn!(%error, "NATS connection"),
        Event::Connected | Event::Disconnected | Event::Draining | Event::Closed => {}
    }
}
