//! The connection to NATS: retried for ever, its state visible, its credentials never.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, ReconnectToServer, Server, ServerAddr, ServerInfo, jetstream};
use tokio::sync::{Notify, Semaphore, watch};

use crate::{
    Context,
    config::{Fault, NatsConfig},
    health::Condition,
};

/// How often the state is read beside the library's events, which it drops when 128 wait.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long a server may refuse JetStream requests before it counts as having none: a starting one does for a moment.
const JETSTREAM_PATIENCE: Duration = Duration::from_secs(3);
/// The oldest nats-server whose JetStream has what Herald needs (atomic batches, per-message TTL, multi-last gets).
const OLDEST_SERVER: (i64, i64, i64) = (2, 12, 0);

/// A connection to NATS that repairs itself. Clones share it.
#[derive(Clone, Debug)]
pub struct Nats {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    jetstream: jetstream::Context,
    state: watch::Sender<NatsState>,
    request_timeout: Duration,
    /// Who sends a batch of messages: a server takes only so many batches that are not complete.
    batch: Semaphore,
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
    /// The connection's client. Publishing while disconnected waits in its queue (`nats.send_capacity`).
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// JetStream over this connection.
    #[must_use]
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.inner.jetstream
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
        self.inner.client.max_payload()
    }

    /// Whether the server belongs to a cluster: streams are made with three replicas there.
    #[must_use]
    pub fn clustered(&self) -> bool {
        self.inner.client.server_info().cluster.is_some_and(|name| !name.is_empty())
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
            if self.connected() && !self.inner.client.is_server_compatible(major, minor, patch) {
                return Err(JetStreamError::TooOld { found: self.inner.client.server_info().version });
            }
            let refusal = match self.inner.jetstream.query_account().await {
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
        let closing = async {
            if self.connected() {
                self.inner.client.flush().await.map_err(|error| error.to_string())?;
            }
            self.inner.client.drain().await.map_err(|error| error.to_string())
        };
        match tokio::time::timeout(limit, closing).await {
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
    let endpoint = Endpoint::from_config(config).map_err(ConnectError::Configuration)?;
    let condition = context.health.condition(name);
    condition.fail("connecting");
    let wake = Arc::new(Notify::new());
    let full_name = format!("{} {} {name}", context.service, context.instance);
    let token = context.shutdown.token();
    let first = endpoint.connect_first(config, &full_name, &condition, &wake);
    let client = token.run_until_cancelled(first).await.ok_or(ConnectError::ShuttingDown)?;

    let mut jetstream = jetstream::new(client.clone());
    jetstream.set_timeout(config.request_timeout.get());
    let inner = Arc::new(Inner {
        jetstream,
        state: watch::Sender::new(NatsState::Connected { generation: 1 }),
        request_timeout: config.request_timeout.get(),
        batch: Semaphore::new(1),
        client,
    });
    inner.look(name, &condition);
    condition.ok();
    context.supervise("nats state", follow(Arc::downgrade(&inner), name, condition, wake, token));
    Ok(Nats { inner })
}

/// Keeps state, condition and metrics true until the connection is dropped or the process ends.
async fn follow(
    inner: Weak<Inner>,
    name: &'static str,
    condition: Condition,
    wake: Arc<Notify>,
    token: tokio_util::sync::CancellationToken,
) {
    loop {
        // An event is a hint to look at once; a lost one costs at most a tick.
        tokio::select! {
            () = token.cancelled() => return,
            () = wake.notified() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        match inner.upgrade() {
            Some(inner) => inner.look(name, &condition),
            None => return,
        }
    }
}

impl Inner {
    fn look(&self, name: &'static str, condition: &Condition) {
        let statistics = self.client.statistics();
        let generation = statistics.connects.load(Ordering::Relaxed);
        let now = match self.client.connection_state() {
            async_nats::connection::State::Connected => NatsState::Connected { generation },
            _ => NatsState::Disconnected,
        };
        let before = self.state.send_replace_if_changed(now);
        if before != now {
            match now {
                NatsState::Connected { .. } => condition.ok(),
                NatsState::Disconnected => condition.fail("disconnected"),
            }
        }
        let connected = if matches!(now, NatsState::Connected { .. }) { 1.0 } else { 0.0 };
        metrics::gauge!("herald_nats_connected_count", "connection" => name).set(connected);
        metrics::counter!("herald_nats_connects_total", "connection" => name).absolute(generation);
        let in_bytes = statistics.in_bytes.load(Ordering::Relaxed);
        metrics::counter!("herald_nats_received_bytes_total", "connection" => name).absolute(in_bytes);
        let out_bytes = statistics.out_bytes.load(Ordering::Relaxed);
        metrics::counter!("herald_nats_sent_bytes_total", "connection" => name).absolute(out_bytes);
    }
}

/// `send_replace`, waking nobody if nothing changed.
trait SendChanged<T> {
    fn send_replace_if_changed(&self, value: T) -> T;
}

impl<T: Copy + PartialEq> SendChanged<T> for watch::Sender<T> {
    fn send_replace_if_changed(&self, value: T) -> T {
        let mut before = value;
        self.send_if_modified(|old| {
            before = std::mem::replace(old, value);
            before != value
        });
        before
    }
}

/// Where to connect and as whom: credentials are taken out of the URLs, because the library logs and returns those.
struct Endpoint {
    servers: Vec<ServerAddr>,
    credentials: Credentials,
}

#[derive(Clone, PartialEq, Eq)]
enum Credentials {
    None,
    User { user: String, password: String },
    Token(String),
}

impl Endpoint {
    fn from_config(config: &NatsConfig) -> Result<Self, Fault> {
        let fault = |message: &str| Fault::new("nats.url", message);
        let mut credentials = match (&config.user, config.token.is_empty()) {
            (Some(_), false) => return Err(Fault::new("nats.token", "give a token or a user, not both")),
            (Some(user), true) => {
                Credentials::User { user: user.clone(), password: config.password.expose().to_owned() }
            }
            (None, false) => Credentials::Token(config.token.expose().to_owned()),
            (None, true) if config.password.is_empty() => Credentials::None,
            (None, true) => return Err(Fault::new("nats.password", "a password needs nats.user beside it")),
        };
        let mut servers = Vec::new();
        for text in config.url.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            // The parser's own words may quote the address, and with it a password.
            let address: ServerAddr =
                text.parse().map_err(|_| fault("not a list of server addresses like nats://host:4222"))?;
            if !matches!(address.scheme(), "nats" | "tls") || address.host().is_empty() {
                return Err(fault("a server address begins with nats:// or tls:// and has a host"));
            }
            if let Some(user) = address.username() {
                let user = decoded(user);
                let own = match address.password() {
                    Some(password) => Credentials::User { user, password: decoded(password) },
                    None => Credentials::Token(user),
                };
                if credentials != Credentials::None && credentials != own {
                    return Err(fault("all servers are reached with the same credentials"));
                }
                credentials = own;
            }
            let mut url = address.into_inner();
            let stripped = url.set_password(None).and_then(|()| url.set_username(""));
            stripped.map_err(|()| fault("a server address has a host"))?;
            servers
                .push(ServerAddr::from_url(url).map_err(|_| fault("a server address begins with nats:// or tls://"))?);
        }
        if servers.is_empty() {
            return Err(fault("no server address given"));
        }
        Ok(Self { servers, credentials })
    }

    /// Tries until a server answers. Each failure is logged and shown in the condition.
    async fn connect_first(
        &self,
        config: &NatsConfig,
        name: &str,
        condition: &Condition,
        wake: &Arc<Notify>,
    ) -> Client {
        let mut attempt = 1;
        loop {
            let error = match self.options(config, name, wake).connect(self.servers.as_slice()).await {
                Ok(client) => return client,
                Err(error) => error,
            };
            let servers: Vec<_> = self.servers.iter().map(ServerAddr::as_url_str).collect();
            let error = anyhow::Error::new(error);
            tracing::warn!(?servers, attempt, error = format!("{error:#}"), "NATS not reached, trying again");
            condition.fail(format!("not connected: {}", error.root_cause()));
            tokio::time::sleep(delay(attempt, config.reconnect_min.get(), config.reconnect_max.get())).await;
            attempt += 1;
        }
    }

    fn options(&self, config: &NatsConfig, name: &str, wake: &Arc<Notify>) -> ConnectOptions {
        let (min, max) = (config.reconnect_min.get(), config.reconnect_max.get());
        let wake = Arc::clone(wake);
        let mut options = ConnectOptions::new()
            .name(name)
            .connection_timeout(config.connect_timeout.get())
            .request_timeout(Some(config.request_timeout.get()))
            .ping_interval(config.ping_interval.get())
            .subscription_capacity(config.subscription_capacity)
            .client_capacity(config.send_capacity)
            .max_reconnects(None)
            .reconnect_delay_callback(move |attempt| delay(attempt, min, max))
            .reconnect_to_server_callback(elsewhere())
            .event_callback(move |event| {
                note(&event);
                wake.notify_one();
                std::future::ready(())
            });
        if let Some(path) = &config.root_certificates {
            options = options.add_root_certificates(path.clone());
        }
        match &self.credentials {
            Credentials::None => options,
            Credentials::User { user, password } => options.user_and_password(user.clone(), password.clone()),
            Credentials::Token(token) => options.token(token.clone()),
        }
    }
}

/// Which server to reconnect to: of those that failed least, one other than the last. The library takes any, and the one that
/// has just gone silent would cost a whole `connect_timeout` again.
fn elsewhere() -> impl Fn(Vec<Server>, ServerInfo) -> std::future::Ready<Option<ReconnectToServer>> + Send + Sync {
    let last: Mutex<Option<ServerAddr>> = Mutex::new(None);
    move |servers, _| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let next = choose(&servers, last.as_ref());
        last.clone_from(&next);
        std::future::ready(next.map(|addr| ReconnectToServer { addr, delay: None }))
    }
}

/// `None` leaves it to the library: it tries all of them, at the first connection and where there is only one.
fn choose(servers: &[Server], last: Option<&ServerAddr>) -> Option<ServerAddr> {
    let connected = servers.iter().find(|server| server.did_connect).map(|server| &server.addr)?;
    let last = last.unwrap_or(connected);
    let others = || servers.iter().filter(|server| server.addr != *last);
    let fewest = others().map(|server| server.failed_attempts).min()?;
    let best: Vec<_> = others().filter(|server| server.failed_attempts == fewest).collect();
    best.get(rand::random_range(0..best.len())).map(|server| server.addr.clone())
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
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

/// The wait before an attempt, counted from 1: doubled each time, at most `max`, half of it random, so that the many
/// clients of a restarted server don't return at once.
fn delay(attempt: usize, min: Duration, max: Duration) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
    let whole = min.saturating_mul(1 << doublings).min(max);
    whole.mul_f64(rand::random_range(0.5..=1.0))
}

/// What is wrong with the connection's configuration, without opening it.
pub(crate) fn faults(config: &NatsConfig) -> Vec<Fault> {
    let mut faults: Vec<_> = Endpoint::from_config(config).err().into_iter().collect();
    let positive = [
        ("nats.connect_timeout", config.connect_timeout),
        ("nats.reconnect_min", config.reconnect_min),
        ("nats.reconnect_max", config.reconnect_max),
        ("nats.request_timeout", config.request_timeout),
        ("nats.ping_interval", config.ping_interval),
    ];
    let zero = positive.into_iter().filter(|(_, duration)| duration.get().is_zero());
    faults.extend(zero.map(|(key, _)| Fault::new(key, "must be longer than zero")));
    if config.reconnect_min > config.reconnect_max {
        faults.push(Fault::new("nats.reconnect_min", "must not be longer than nats.reconnect_max"));
    }
    for (key, capacity) in
        [("nats.subscription_capacity", config.subscription_capacity), ("nats.send_capacity", config.send_capacity)]
    {
        if capacity == 0 {
            faults.push(Fault::new(key, "must be at least 1"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn config(url: &str) -> NatsConfig {
        NatsConfig { url: url.to_owned(), ..NatsConfig::default() }
    }

    #[test]
    fn waits_grow_to_their_limit_and_are_spread() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(2));
        for (attempt, whole) in [(1, 50), (2, 100), (3, 200), (6, 1_600), (7, 2_000), (1_000_000, 2_000)] {
            let whole = Duration::from_millis(whole);
            for _ in 0..100 {
                let delay = delay(attempt, min, max);
                assert!(delay >= whole / 2 && delay <= whole, "attempt {attempt}: {delay:?}");
            }
        }
    }

    #[test]
    fn a_lost_server_is_not_the_next_to_be_tried() {
        let server = |name: &str, failed_attempts, did_connect| Server {
            addr: name.parse().expect("an address"),
            failed_attempts,
            did_connect,
            is_discovered: false,
            last_error: None,
        };
        let chosen = |servers: &[Server], last: Option<&str>| {
            let last = last.map(|last| last.parse().expect("an address"));
            choose(servers, last.as_ref()).map(|addr| addr.host().to_owned())
        };
        let fresh = [server("a", 0, false), server("b", 0, false)];
        assert_eq!(chosen(&fresh, None), None, "the first connection");
        assert_eq!(chosen(&[server("a", 0, true)], None), None, "no other");
        let lost = [server("a", 0, true), server("b", 0, false)];
        assert_eq!(chosen(&lost, None).as_deref(), Some("b"));
        let three = [server("a", 0, true), server("b", 1, false), server("c", 0, true)];
        for _ in 0..20 {
            assert_eq!(chosen(&three, Some("c")).as_deref(), Some("a"), "failed least");
        }
    }

    #[test]
    fn credentials_leave_the_url() {
        let endpoint = Endpoint::from_config(&config("nats://bob:p%40ss@a:1, nats://bob:p%40ss@b:2")).expect("valid");
        let servers: Vec<_> = endpoint.servers.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(servers, ["nats://a:1", "nats://b:2"]);
        assert!(endpoint.credentials == Credentials::User { user: "bob".to_owned(), password: "p@ss".to_owned() });

        let endpoint = Endpoint::from_config(&config("tls://t0ken@a")).expect("valid");
        assert!(endpoint.credentials == Credentials::Token("t0ken".to_owned()));
    }

    #[test]
    fn each_bad_setting_is_named_and_no_password_quoted() {
        let both = NatsConfig { user: Some("bob".to_owned()), token: Secret::from("t".to_owned()), ..config("a:1") };
        let alone = NatsConfig { password: Secret::from("hunter2".to_owned()), ..config("a:1") };
        for (config, key) in [
            (config(""), "nats.url"),
            (config("http://a:1"), "nats.url"),
            (config("nats://bob:hunter2@a:99999"), "nats.url"),
            (config("nats://bob:hunter2@a:1,nats://eve:hunter2@b:1"), "nats.url"),
            (both, "nats.token"),
            (alone, "nats.password"),
            (NatsConfig { ping_interval: Duration::ZERO.into(), ..config("a:1") }, "nats.ping_interval"),
            (NatsConfig { reconnect_min: Duration::from_secs(9).into(), ..config("a:1") }, "nats.reconnect_min"),
            (NatsConfig { send_capacity: 0, ..config("a:1") }, "nats.send_capacity"),
        ] {
            let faults = faults(&config);
            assert_eq!(faults.iter().map(|fault| fault.key.as_str()).collect::<Vec<_>>(), [key]);
            assert!(!faults[0].to_string().contains("hunter2"), "{}", faults[0]);
        }
        assert!(faults(&NatsConfig::default()).is_empty());
    }
}
