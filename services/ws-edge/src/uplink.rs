//! What clients send up their sockets, on its way to their engine, and that they come and go.
//!
//! On routes with `uplink` a client's text goes to `in.<root>.<session>.text`, its bytes to `...binary`; that it shows the session
//! from now on to `...join`, that it does no longer to `...leave`. Who says it is in headers that the edge alone sets, and the
//! message's reply subject is the connection's own (`conn.<edge>.<conn>`): an engine answers a client by answering the message.
//!
//! These are plain NATS messages: what nobody hears is not kept. Messages of all clients wait in one bounded queue; where that
//! is full, or NATS away, a message is refused and its client told so, at once: nobody waits for another one's message. A
//! join or leave waits while NATS is away, as long as there is room for it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use herald_protocol::{InstanceId, Name, SessionId, UplinkKind, UserToken, frame::Control, headers, subject};
use herald_runtime::nats::Nats;
use metrics::{Gauge, counter, gauge};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Duration, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{RouteConfig, UplinkConfig},
    connection::InflowLimits,
    guests::{Guest, Watcher, Word},
};

/// What a message takes beside its payload, at the most: subject and headers, a user of 256 bytes among them.
const AROUND: usize = 1024;
/// How long what waits may take to leave at the end of the process.
const LAST: Duration = Duration::from_secs(1);

/// What the clients of a route may send.
#[derive(Debug)]
pub struct UplinkRule {
    /// The root in the subjects.
    pub root: Arc<str>,
    /// The door's name, told to the engine.
    pub door: Name,
    /// Whether they may send bytes.
    pub binary: bool,
    /// Largest message, in bytes.
    pub max_message: u64,
    /// How many messages.
    pub pace: InflowLimits,
}

/// Why a message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// NATS is not connected.
    #[error("NATS is away")]
    Away,
    /// Too much waits for NATS.
    #[error("too much waits")]
    Busy,
    /// The NATS server takes no message as large as this.
    #[error("larger than NATS takes")]
    TooLarge,
    /// The connection shows no session: its alias names none now.
    #[error("there is no session")]
    NoSession,
    /// No engine hears it.
    #[error("nobody hears it")]
    Nobody,
}

impl Refused {
    /// Its name, to clients and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Busy => "busy",
            Self::TooLarge => "too_large",
            Self::NoSession => "no_session",
            Self::Nobody => "nobody",
        }
    }

    /// After how long it is worth trying again.
    #[must_use]
    pub const fn retry(self) -> Duration {
        match self {
            Self::Busy => Duration::from_millis(500),
            Self::Away | Self::NoSession | Self::Nobody => Duration::from_secs(2),
            Self::TooLarge => Duration::ZERO,
        }
    }

    pub(crate) fn count(self, kind: UplinkKind) {
        counter!("herald_uplink_refused_total", "kind" => kind.as_str(), "reason" => self.name()).increment(1);
    }
}

/// The way up. Clones of its `Arc` share the queue.
pub struct Uplink {
    edge: InstanceId,
    nats: Nats,
    queue: mpsc::Sender<Item>,
    /// Bytes in the queue.
    waiting: AtomicUsize,
    most: usize,
    depth: Gauge,
}

/// What waits for NATS, to be carried there by [`Uplink::carry`].
pub struct Waiting(mpsc::Receiver<Item>);

struct Item {
    kind: UplinkKind,
    subject: String,
    /// Where the engine answers; nowhere for a connection that is gone.
    reply: Option<String>,
    headers: HeaderMap,
    payload: Bytes,
}

impl Item {
    fn bytes(&self) -> usize {
        self.payload.len() + AROUND
    }
}

impl UplinkRule {
    /// That of a route; `None` where its clients may send nothing.
    #[must_use]
    pub fn of(route: &RouteConfig) -> Option<Arc<Self>> {
        let uplink = route.uplink.as_ref()?;
        let root = uplink.root.as_ref().or_else(|| route.roots.first())?;
        let burst = Duration::from_secs_f64(f64::from(uplink.burst) / f64::from(uplink.messages.max(1)));
        Some(Arc::new(Self {
            root: root.as_str().into(),
            door: route.door.clone(),
            binary: uplink.binary,
            max_message: uplink.max_message.as_u64(),
            pace: InflowLimits { frames: uplink.messages, bytes: 0, burst, patience: uplink.patience.get() },
        }))
    }
}

impl Uplink {
    /// The way up by that connection to NATS, and what waits for it.
    #[must_use]
    pub fn new(nats: &Nats, edge: &InstanceId, config: &UplinkConfig) -> (Arc<Self>, Waiting) {
        let (queue, waiting) = mpsc::channel(config.queue.min(tokio::sync::Semaphore::MAX_PERMITS));
        let uplink = Self {
            edge: edge.clone(),
            nats: nats.clone(),
            queue,
            waiting: AtomicUsize::new(0),
            most: config.queue_bytes.as_usize(),
            depth: gauge!("herald_uplink_waiting_bytes"),
        };
        (Arc::new(uplink), Waiting(waiting))
    }

    /// Sends what a guest says. Never waits.
    ///
    /// # Errors
    /// [`Refused`], counted.
    pub fn send(&self, guest: &Guest, kind: UplinkKind, payload: Bytes) -> Result<(), Refused> {
        let Some(rule) = &guest.entrance.uplink else { return Ok(()) };
        let session = guest.session().ok_or(Refused::NoSession);
        let sent = session.and_then(|session| self.put(guest, rule, &session, kind, payload));
        sent.inspect_err(|refused| refused.count(kind))
    }

    fn put(
        &self,
        guest: &Guest,
        rule: &UplinkRule,
        session: &SessionId,
        kind: UplinkKind,
        payload: Bytes,
    ) -> Result<(), Refused> {
        let said = matches!(kind, UplinkKind::Text | UplinkKind::Binary);
        if said && !self.nats.connected() {
            return Err(Refused::Away);
        }
        if payload.len() + AROUND > self.nats.max_payload() {
            return Err(Refused::TooLarge);
        }
        let reply = subject::connection(&self.edge, guest.conn.as_str());
        let item = Item {
            kind,
            subject: subject::uplink(&rule.root, session, kind),
            headers: self.headers(guest, rule),
            reply: (kind != UplinkKind::Leave).then_some(reply),
            payload,
        };
        let bytes = item.bytes();
        let fits = |waiting: usize| waiting.checked_add(bytes).filter(|sum| *sum <= self.most);
        if self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return Err(Refused::Busy);
        }
        self.queue.try_send(item).map_err(|error| {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => Refused::Busy,
                // The process ends.
                TrySendError::Closed(_) => Refused::Away,
            }
        })
    }

    /// Who says it: of the edge's own knowledge alone. Names hold no character that would end a header.
    fn headers(&self, guest: &Guest, rule: &UplinkRule) -> HeaderMap {
        let mut all = HeaderMap::new();
        all.insert(headers::CONN, guest.conn.as_str());
        all.insert(headers::EDGE, self.edge.as_str());
        all.insert(headers::DOOR, rule.door.as_str());
        if let Some(user) = &guest.user {
            all.insert(headers::USER, &**user);
            all.insert(headers::USER_TOKEN, UserToken::of(user).as_str());
        }
        if let Some(role) = &guest.role {
            all.insert(headers::ROLE, &**role);
        }
        all
    }

    /// Carries what waits to NATS until `stop`, and then what still waits.
    pub async fn carry(self: Arc<Self>, Waiting(mut items): Waiting, stop: CancellationToken) {
        let client = self.nats.client().clone();
        let carrying = async {
            while let Some(item) = items.recv().await {
                self.carry_one(&client, item).await;
            }
        };
        stop.run_until_cancelled(carrying).await;
        items.close();
        let rest = async {
            while let Some(item) = items.recv().await {
                self.carry_one(&client, item).await;
            }
        };
        if timeout(LAST, rest).await.is_err() {
            tracing::warn!(
                bytes = self.waiting.load(Ordering::Relaxed),
                "not all that clients said was carried to NATS"
            );
        }
    }

    async fn carry_one(&self, client: &Client, item: Item) {
        let bytes = item.bytes();
        let Item { kind, subject, reply, headers, payload } = item;
        // Where the library's own queue is full, ours fills.
        let sent = match reply {
            Some(reply) => client.publish_with_reply_and_headers(subject, reply, headers, payload).await,
            None => client.publish_with_headers(subject, headers, payload).await,
        };
        let waiting = self.waiting.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        self.depth.set(waiting as f64);
        match sent {
            Ok(()) => counter!("herald_uplink_messages_total", "kind" => kind.as_str()).increment(1),
            Err(error) => {
                tracing::debug!(%error, "a client's message was not sent");
                Refused::Away.count(kind);
            }
        }
    }
}

impl Watcher for Arc<Uplink> {
    fn entered(&self, guest: &Arc<Guest>, session: &SessionId) {
        self.say(guest, session, UplinkKind::Join);
    }

    fn left(&self, guest: &Arc<Guest>, session: &SessionId) {
        self.say(guest, session, UplinkKind::Leave);
    }
}

impl Uplink {
    /// Says that a guest has come or gone.
    fn say(&self, guest: &Guest, session: &SessionId, kind: UplinkKind) {
        if let Some(rule) = &guest.entrance.uplink
            && let Err(refused) = self.put(guest, rule, session, kind, Bytes::new())
        {
            refused.count(kind);
            tracing::debug!(%session, kind = kind.as_str(), %refused, "an engine was not told of a connection");
        }
    }
}

impl Guest {
    /// Tells the client that a message of its own was not taken, if it knows such frames.
    pub(crate) fn refuse(&self, refused: Refused) {
        self.tell("refused", refused.name(), refused.retry());
    }

    /// Tells the client that it says more than it may, and is heard again after that time.
    pub(crate) fn slow(&self, wait: Duration) {
        self.tell("slowed", "rate", wait);
    }

    fn tell(&self, state: &'static str, reason: &'static str, retry: Duration) {
        let retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
        if let Some(frame) = self.view.control(&Control::Uplink { state, reason, retry_ms }, None) {
            // Who does not read is not told; that is counted.
            let _untold = self.say(Word::Ready(frame));
        }
    }
}
