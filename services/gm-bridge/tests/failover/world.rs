//! A nats-server, bridges as processes on wires of their own, Game Masters, and somebody who sends commands as an edge does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::RequestErrorKind;
use axum::body::Body;
use gm_bridge::config::Config;
use herald_protocol::{Name, SessionId};
use herald_runtime::{
    Context,
    config::{Common, NatsConfig},
    http_over_nats::{Client, Limits, RequestMeta},
    jetstream::{self, ApiError, BatchGet},
    nats::{self, Nats},
};
use herald_testkit::{Bridge as Start, Service, eventually};
use http::{Method, Request};
use serde_json::Value;

use crate::{log::Logged, wire::Wire};

/// Whatever a test waits for comes within this time, however busy the machine is.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// A nats-server and what speaks to it.
pub(crate) struct World {
    server: Option<herald_testkit::Nats>,
    pub(crate) nats: Nats,
    requests: Client,
    _context: Context,
}

/// A bridge: a process of its own.
pub(crate) struct Bridge {
    pub(crate) service: Service,
    pub(crate) wire: Wire,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl World {
    pub(crate) async fn new() -> Self {
        let server = herald_testkit::Nats::start().await;
        let mut world = Self::at(&server.url()).await;
        world.server = Some(server);
        world
    }

    /// With servers of the test's own.
    pub(crate) async fn at(urls: &str) -> Self {
        let nats = NatsConfig { url: urls.to_owned(), ..NatsConfig::default() };
        let context = Context::new("test", Common { nats, ..Common::with_operations_port(0) });
        let nats = nats::connect(&context.common.nats, "nats", &context).await.unwrap();
        let requests = Client::new(&nats, Limits::default()).await.unwrap();
        Self { server: None, nats, requests, _context: context }
    }

    /// Its own server.
    pub(crate) fn server(&mut self) -> &mut herald_testkit::Nats {
        self.server.as_mut().unwrap()
    }

    /// A bridge on a wire of its own. It takes no requests yet.
    pub(crate) async fn bridge(&self, masters: &str, set: &[(&str, &str)]) -> Bridge {
        let server = self.server.as_ref().unwrap();
        let wire = Wire::to(server.address()).await;
        let start = Start::new(server).env("NATS_URL", wire.url()).gm(masters);
        let service = set.iter().fold(start, |start, (key, value)| start.set(key, value)).start().await;
        Bridge { service, wire }
    }

    /// Lets a bridge take requests, or no more, and waits until the server knows. No other one may take any then.
    pub(crate) async fn hear(&self, bridge: &Bridge, hears: bool) {
        bridge.wire.hear(hears).await;
        eventually("the server knows who hears", BOUND, async || {
            // Whoever hears this answers that it is no request.
            let asked = self.nats.client().request("http.gm", "".into()).await;
            let heard = match asked {
                Ok(_) => true,
                Err(error) if error.kind() == RequestErrorKind::NoResponders => false,
                Err(error) => return Err(error.to_string()),
            };
            if heard == hears { Ok(()) } else { Err(format!("heard: {heard}")) }
        })
        .await;
    }

    /// A bridge as it is started by hand, with nothing between it and the server.
    pub(crate) fn plain(&self, masters: &str) -> Start {
        Start::new(self.server.as_ref().unwrap()).gm(masters)
    }

    /// The answer to a command, or why there was none.
    pub(crate) async fn try_ask(&self, door: &str, method: Method, path: &str) -> Result<Reply, String> {
        self.ask_within(BOUND, door, method, path).await
    }

    /// As [`World::try_ask`], by somebody who waits no longer than that.
    pub(crate) async fn ask_within(
        &self,
        timeout: Duration,
        door: &str,
        method: Method,
        path: &str,
    ) -> Result<Reply, String> {
        let meta = RequestMeta { door: Name::new(door).unwrap(), timeout, max_body: 1 << 20, confirm: true };
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let sent = self.requests.request(&Name::new("gm").unwrap(), request, &meta).await;
        let (head, body) = sent.map_err(|error| error.to_string())?.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.map_err(|error| error.to_string())?;
        Ok(Reply { status: head.status.as_u16(), body: serde_json::from_slice(&body).unwrap_or_default() })
    }

    pub(crate) async fn ask(&self, path: &str) -> Reply {
        self.try_ask("event", Method::GET, path).await.unwrap()
    }

    pub(crate) async fn start(&self, session: &SessionId) {
        assert_eq!(self.ask(&format!("/api/start?session_id={session}")).await.status, 200);
    }

    /// What the log holds of a session's `gm.*`, in order, from a sequence on.
    pub(crate) async fn log_from(&self, session: &SessionId, from: u64) -> Vec<Logged> {
        eventually("the log can be read", BOUND, async || self.try_log(session, from).await).await
    }

    async fn try_log(&self, session: &SessionId, from: u64) -> Result<Vec<Logged>, ApiError> {
        let filter = format!("gm.{session}.>");
        let end = jetstream::last_by_subject_leader(&self.nats, "EVENTS", &filter).await?;
        let (mut events, mut from, end) = (Vec::new(), from.max(1), end.map_or(0, |end| end.sequence));
        while from <= end {
            let request = BatchGet { filter: &filter, from, batch: 500, max_bytes: 4 << 20 };
            let batch = jetstream::batch_get(&self.nats, "EVENTS", &request).await?;
            from = batch.messages.last().map_or(from, |last| last.sequence + 1);
            events.extend(batch.messages.iter().map(Logged::read));
        }
        Ok(events)
    }

    /// Waits until the log holds what `is` looks for.
    pub(crate) async fn wait_log(
        &self,
        what: &str,
        session: &SessionId,
        from: u64,
        is: impl Fn(&[Logged]) -> bool,
    ) -> Vec<Logged> {
        eventually(what, BOUND, async || {
            let log = self.log_from(session, from).await;
            if is(&log) { Ok(log) } else { Err(log) }
        })
        .await
    }

    /// The sequence of the last event of all.
    pub(crate) async fn head(&self) -> u64 {
        let last = async || jetstream::last_by_subject_leader(&self.nats, "EVENTS", ">").await;
        eventually("the head", BOUND, last).await.map_or(0, |last| last.sequence)
    }

    /// A record of a bucket, `None` where there is none.
    pub(crate) async fn record(&self, bucket: &str, key: &str) -> Option<Value> {
        let subject = format!("$KV.{bucket}.{key}");
        let read = async || jetstream::last_by_subject_leader(&self.nats, &format!("KV_{bucket}"), &subject).await;
        let stored = eventually("the record can be read", BOUND, read).await?;
        serde_json::from_slice(&stored.payload).ok()
    }

    /// Makes the log remember message ids for so long, as an operator could.
    pub(crate) async fn remember_ids_for(&self, window: Duration) {
        let mut config = self.nats.jetstream().get_stream("EVENTS").await.unwrap().cached_info().config.clone();
        config.duplicate_window = window;
        self.nats.jetstream().update_stream(&config).await.unwrap();
    }

    /// Waits until no action of the session is open: no record, and the last one in the log has ended.
    pub(crate) async fn wait_idle(&self, session: &SessionId, from: u64) -> Vec<Logged> {
        eventually("no action is open", BOUND, async || {
            let record = self.record("ACTIONS", session.as_str()).await;
            let log = self.log_from(session, from).await;
            if record.is_none() && crate::log::has_ended(&log) { Ok(log) } else { Err((record, log)) }
        })
        .await
    }
}

/// Now, as the servers of this machine stamp events.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A session id of its own.
pub(crate) fn session() -> SessionId {
    SessionId::new(&uuid::Uuid::new_v4().to_string()).unwrap()
}

/// The time after which an action has lapsed.
pub(crate) fn lapse() -> Duration {
    Config::default().action.lapse.get()
}
