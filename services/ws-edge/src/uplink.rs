//! What clients send up their sockets, on its way to their engine, and that they come and go.
//!
//! On routes with `uplink` a client's text goes to `in.<root>.<session>.text`, its bytes to `...binary`; that it shows the session
//! from now on to `...join`, that it does no longer to `...leave`. Who says it is in headers that the edge alone sets, and the
//! message's reply subject is the connection's own (`conn.<edge>.<conn>`): an engine answers a client by answering the message.
//!
//! These are plain NATS messages: what nobody hears is not kept. Messages of all clients wait in one bounded queue; where that
//! is full, or NATS away, a message is refused and its client told so, at once: nobody waits for another one's message. A
//! join or leave waits while NATS is away, as long as there is room for it.
//!
//! A message goes up at most once. What the library had taken when the connection to NATS was lost is counted as gone up, and
//! may be lost all the same; nothing is ever sent twice.

mod carry;

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering},
};

use async_nats::HeaderMap;
use bytes::Bytes;
use herald_protocol::{InstanceId, Name, SessionId, UplinkKind, UserToken, frame::Control, headers, subject};
use herald_runtime::{metrics::measured, nats::Nats};
use metrics::{counter, gauge};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Duration,
};

use crate::{
    config::{RouteConfig, UplinkConfig},
    connection::InflowLimits,
    guests::{Guest, Watcher, Word},
};

/// What a message takes beside its payload, at the most: subject and headers, a user of 256 bytes among them.
const AROUND: usize = 1024;

/// What the clients of a route may send.
#[derive(Debug)]
pub struct UplinkRule {
    /// The root in the subjects.
    pub root: Arc<str>,
    /// The door's name, told to the engine.
    pub door: Name,
    /// Whether they may send bytes.
    pub binary: bool,
    /// Largest text, in bytes.
    pub max_message: u64,
    /// Largest message of bytes.
    pub max_binary: u64,
    /// How many messages, and bytes.
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
    /// It had to wait, and its connection was closed meanwhile.
    #[error("the connection is closed")]
    Closed,
    /// It did not arrive wholly, and too many others have not either.
    #[error("too many messages have arrived in part")]
    Unfinished,
}

impl Refused {
    /// All of them.
    pub(crate) const ALL: [Self; 7] =
        [Self::Away, Self::Busy, Self::TooLarge, Self::NoSession, Self::Nobody, Self::Closed, Self::Unfinished];

    /// Its name, to clients and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Busy => "busy",
            Self::TooLarge => "too_large",
            Self::NoSession => "no_session",
            Self::Nobody => "nobody",
            Self::Closed => "closed",
            Self::Unfinished => "unfinished",
        }
    }

    /// After how long it is worth trying again.
    #[must_use]
    pub const fn retry(self) -> Duration {
        match self {
            Self::Busy => Duration::from_millis(500),
            Self::Away | Self::NoSession | Self::Nobody => Duration::from_secs(2),
            Self::TooLarge | Self::Closed | Self::Unfinished => Duration::ZERO,
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
    /// Bytes of messages that have yet to arrive wholly.
    unfinished: AtomicUsize,
    most_unfinished: usize,
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
    /// Who said it, to be told where it can't be sent after all.
    from: Weak<Guest>,
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
            max_binary: uplink.max_binary.unwrap_or(uplink.max_message).as_u64(),
            pace: InflowLimits {
                frames: uplink.messages,
                bytes: uplink.bytes.as_u64(),
                burst,
                patience: uplink.patience.get(),
            },
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
            unfinished: AtomicUsize::new(0),
            most_unfinished: config.unfinished.as_usize(),
        };
        let uplink = Arc::new(uplink);
        let bytes = |uplink: &Self| uplink.waiting.load(Ordering::Relaxed);
        let messages = |uplink: &Self| uplink.queue.max_capacity() - uplink.queue.capacity();
        let unfinished = |uplink: &Self| uplink.unfinished.load(Ordering::Relaxed);
        measured(gauge!("herald_uplink_unfinished_bytes"), &uplink, unfinished);
        measured(gauge!("herald_uplink_waiting_bytes"), &uplink, bytes);
        measured(gauge!("herald_uplink_waiting_count"), &uplink, messages);
        (uplink, Waiting(waiting))
    }

    /// A message that has yet to arrive wholly took so many bytes, and takes so many now. Whether there is room for it.
    pub(crate) fn arriving(&self, took: usize, takes: usize) -> bool {
        let Some(more) = takes.checked_sub(took) else {
            self.unfinished.fetch_sub(took - takes, Ordering::Relaxed);
            return true;
        };
        let fits = |all: usize| all.checked_add(more).filter(|sum| *sum <= self.most_unfinished);
        self.unfinished.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Sends what a guest says. Never waits.
    ///
    /// # Errors
    /// [`Refused`], counted.
    pub fn send(&self, guest: &Arc<Guest>, kind: UplinkKind, payload: Bytes) -> Result<(), Refused> {
        let Some(rule) = &guest.entrance.uplink else { return Ok(()) };
        let session = guest.session().ok_or(Refused::NoSession);
        let sent = session.and_then(|session| self.put(guest, rule, &session, kind, payload));
        sent.inspect_err(|refused| refused.count(kind))
    }

    fn put(
        &self,
        guest: &Arc<Guest>,
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
            from: if said { Arc::downgrade(guest) } else { Weak::new() },
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
    fn say(&self, guest: &Arc<Guest>, session: &SessionId, kind: UplinkKind) {
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
