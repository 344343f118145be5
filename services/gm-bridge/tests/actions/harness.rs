//! Bridges that run nothing but actions, each in a runtime of its own so that it can be killed, on a real nats-server, and
//! a scripted Game Master.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::HeaderMap;
use futures_util::future::BoxFuture;
use gm_bridge::{
    action::{Accepted, ActionError, Actions, Cancelled, Claim, Command, Lease, LeaseError},
    config::{ActionConfig, ActionPolicy, GmConfig},
    game_master::{GameMaster, GameMasters},
    redact::Redactor,
};
use herald_protocol::{
    InstanceId, SessionId, headers,
    record::{ActionKind, ActionRecord, Lang, NewsKind},
};
use herald_runtime::{
    Context,
    config::{ByteSize, Common, HumanDuration},
    jetstream::{self, ApiError, BatchGet, BucketSpec, Stored, StreamSpec},
    nats::{self, Nats},
};
use herald_testkit::{NatsCluster, eventually, game_master::Scripted, proxy::Proxy};
use serde_json::Value;
use tokio::runtime::{Handle, Runtime};

/// Whatever a test waits for comes within this time, however busy the machine is.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
/// No whole test takes longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

pub(crate) const PROPOSE: Command = Command::Propose { lang: Lang::Fr };
pub(crate) const CHOOSE: Command = Command::Choose { news: NewsKind::Fake, lang: Lang::En };

/// A nats-server with the stream and the bucket, and a Game Master.
pub(crate) struct World {
    pub(crate) server: herald_testkit::Nats,
    /// The rest of its cluster, if it has one.
    pub(crate) others: Vec<herald_testkit::Nats>,
    /// Keeps its ports.
    _cluster: Option<NatsCluster>,
    pub(crate) gm: Scripted,
    nats: Option<Nats>,
    _context: Option<Context>,
}

/// One event as the log holds it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Logged {
    pub(crate) topic: String,
    pub(crate) data: String,
    pub(crate) sequence: u64,
    /// `Herald-Ends`, if it has one.
    pub(crate) ends: Option<String>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(herald_testkit::Nats::start().await, Vec::new()).await
    }

    /// With a cluster of three servers, so that the stream and the bucket have three replicas.
    pub(crate) async fn clustered() -> Self {
        let mut cluster = NatsCluster::start().await;
        let mut servers = std::mem::take(&mut cluster.servers);
        let others = servers.split_off(1);
        Self { _cluster: Some(cluster), ..Self::on(servers.remove(0), others).await }
    }

    async fn on(server: herald_testkit::Nats, others: Vec<herald_testkit::Nats>) -> Self {
        let mut world =
            Self { gm: Scripted::start().await, nats: None, _context: None, server, others, _cluster: None };
        let context = world.context("test");
        let nats = nats::connect(&context.common.nats, "nats", &context).await.unwrap();
        // A cluster elects its leaders first.
        eventually("the stream and the bucket are created", BOUND, async || {
            jetstream::ensure_stream(&nats, &StreamSpec::new("EVENTS", ["gm.>", "arena.>"])).await?;
            jetstream::ensure_bucket(&nats, &BucketSpec::new("ACTIONS")).await.map(drop)
        })
        .await;
        (world.nats, world._context) = (Some(nats), Some(context));
        world
    }

    /// The context of a process of that name.
    fn context(&self, name: &str) -> Context {
        let mut common = Common::with_operations_port(0);
        let urls: Vec<_> = [&self.server].into_iter().chain(&self.others).map(herald_testkit::Nats::url).collect();
        common.nats.url = urls.join(",");
        common.nats.request_timeout = HumanDuration::from_secs(2);
        // A bridge must be back before its record lapses.
        common.nats.reconnect_max = HumanDuration::from_millis(200);
        common.instance = InstanceId::new(name).unwrap();
        Context::new("gm-bridge", common)
    }

    /// The server of that number in the cluster.
    pub(crate) fn server(&mut self, index: usize) -> &mut herald_testkit::Nats {
        if index == 0 { &mut self.server } else { &mut self.others[index - 1] }
    }

    /// What the test itself reads with.
    pub(crate) fn nats(&self) -> &Nats {
        self.nats.as_ref().unwrap()
    }

    /// What the log holds of a session's `gm.*`, in order.
    pub(crate) async fn log(&self, session: &SessionId) -> Vec<Logged> {
        eventually("the log can be read", BOUND, async || self.try_log(session).await).await
    }

    async fn try_log(&self, session: &SessionId) -> Result<Vec<Logged>, ApiError> {
        // A replica that lags shows no less than the leader says there is.
        let filter = format!("gm.{session}.>");
        let end = jetstream::last_by_subject_leader(self.nats(), "EVENTS", &filter).await?;
        let (mut events, mut from, end) = (Vec::new(), 1, end.map_or(0, |end| end.sequence));
        while from <= end {
            let request = BatchGet { filter: &filter, from, batch: 500, max_bytes: 4 << 20 };
            let batch = jetstream::batch_get(self.nats(), "EVENTS", &request).await?;
            from = batch.messages.last().map_or(from, |last| last.sequence + 1);
            events.extend(batch.messages.iter().map(logged));
        }
        Ok(events)
    }

    /// The topics of a session's `gm.*`, in order, without control topics.
    pub(crate) async fn topics(&self, session: &SessionId) -> Vec<String> {
        let events = self.log(session).await.into_iter();
        events.map(|event| event.topic).filter(|topic| !topic.starts_with('_')).collect()
    }

    /// Waits until the log holds what `is` looks for, and returns all of it.
    pub(crate) async fn wait_log(
        &self,
        what: &str,
        session: &SessionId,
        is: impl Fn(&[Logged]) -> bool,
    ) -> Vec<Logged> {
        eventually(what, BOUND, async || {
            let log = self.log(session).await;
            if is(&log) { Ok(log) } else { Err(log) }
        })
        .await
    }

    /// Waits until an event of that topic is there.
    pub(crate) async fn wait_topic(&self, session: &SessionId, topic: &str) -> Vec<Logged> {
        self.wait_log(topic, session, |log| log.iter().any(|event| event.topic == topic)).await
    }

    /// Waits until NATS has this test's connection again.
    pub(crate) async fn wait_back(&self) {
        eventually("NATS is back", BOUND, async || if self.nats().connected() { Ok(()) } else { Err(()) }).await;
    }

    /// Waits until a session's last `gm.*` is of that topic, while NATS may be away.
    pub(crate) async fn wait_last(&self, session: &SessionId, topic: &str) {
        let filter = format!("gm.{session}.>");
        eventually(topic, BOUND, async || {
            let last = jetstream::last_by_subject_leader(self.nats(), "EVENTS", &filter).await;
            match last.map(|last| last.map(|last| last.subject)) {
                Ok(Some(subject)) if subject.ends_with(&format!(".{topic}")) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }

    /// The record of the session's open action.
    pub(crate) async fn record(&self, session: &SessionId) -> Option<ActionRecord> {
        let subject = format!("$KV.ACTIONS.{session}");
        let read = async || jetstream::last_by_subject_leader(self.nats(), "KV_ACTIONS", &subject).await;
        let stored = eventually("the record can be read", BOUND, read).await;
        stored
            .filter(|stored| !stored.payload.is_empty())
            .map(|stored| serde_json::from_slice(&stored.payload).unwrap())
    }

    /// Publishes an event as a bridge that is not here. Returns its sequence.
    pub(crate) async fn publish(&self, session: &SessionId, topic: &str, payload: &str) -> u64 {
        self.store(&format!("gm.{session}.{topic}"), HeaderMap::new(), payload).await
    }

    /// Puts the end of an action into the log, as a bridge that is not here tells it.
    pub(crate) async fn publish_end(&self, session: &SessionId, ends: u64) -> u64 {
        let mut headers = HeaderMap::new();
        headers.insert(headers::ENDS, ends.to_string());
        self.store(&format!("gm.{session}.error"), headers, r#"{"error":"Cancelled"}"#).await
    }

    /// Leaves the record of an action as a bridge that is not here.
    pub(crate) async fn leave_record(&self, session: &SessionId, record: &Value) {
        self.store(&format!("$KV.ACTIONS.{session}"), HeaderMap::new(), &record.to_string()).await;
    }

    async fn store(&self, subject: &str, headers: HeaderMap, payload: &str) -> u64 {
        let payload = payload.to_owned().into();
        let stored = jetstream::publish(self.nats(), subject, headers, payload, jetstream::Expect::default());
        stored.await.unwrap().seq
    }

    /// Makes the bucket of the records take those subjects only: with others than its own nothing can be written.
    pub(crate) async fn capture_records(&self, subjects: &str) {
        let jetstream = async_nats::jetstream::new(self.nats().client().clone());
        let mut config = jetstream.get_stream("KV_ACTIONS").await.unwrap().cached_info().config.clone();
        config.subjects = vec![subjects.into()];
        jetstream.update_stream(&config).await.unwrap();
    }

    /// Waits until no action is open in a session.
    pub(crate) async fn wait_idle(&self, session: &SessionId) -> Vec<Logged> {
        eventually("no action is open", BOUND, async || match self.record(session).await {
            None => Ok(()),
            Some(record) => Err((record, self.log(session).await)),
        })
        .await;
        self.log(session).await
    }
}

fn logged(stored: &Stored) -> Logged {
    Logged {
        topic: stored.subject.splitn(3, '.').nth(2).unwrap_or_default().to_owned(),
        data: String::from_utf8(stored.payload.to_vec()).unwrap(),
        sequence: stored.sequence,
        ends: stored.headers.get("Herald-Ends").map(|ends| ends.as_str().to_owned()),
    }
}

impl Logged {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }

    /// Number and kind of an `_action`.
    pub(crate) fn action(&self) -> (u64, String) {
        assert_eq!(self.topic, "_action");
        (self.json()["n"].as_u64().unwrap(), self.json()["kind"].as_str().unwrap().to_owned())
    }

    /// As those read it who read stories.
    pub(crate) fn plain(&self) -> crate::log::Logged {
        let ends = self.ends.as_deref().map(|ends| ends.parse().unwrap());
        crate::log::Logged { topic: self.topic.clone(), json: self.json(), sequence: self.sequence, at_ms: 0, ends }
    }
}

/// Short times, so that what takes minutes in a game is seen in a test.
pub(crate) fn quick() -> ActionConfig {
    ActionConfig {
        renew: HumanDuration::from_millis(100),
        lapse: HumanDuration::from_millis(1_000),
        resend: HumanDuration::from_secs(2),
        drain: HumanDuration::from_millis(300),
        ..ActionConfig::default()
    }
}

/// Limits of the Game Master that a test reaches.
pub(crate) fn quick_gm() -> GmConfig {
    GmConfig {
        silence: HumanDuration::from_secs(4),
        heartbeat_silence: HumanDuration::from_millis(1_500),
        max_event: ByteSize::from_kib(64),
        ..GmConfig::default()
    }
}

/// One bridge.
pub(crate) struct Bridge {
    runtime: Option<Runtime>,
    handle: Handle,
    pub(crate) actions: Actions,
    pub(crate) table: Arc<Table>,
    pub(crate) context: Context,
}

impl Bridge {
    pub(crate) async fn start(world: &World, name: &str) -> Self {
        Self::start_with(world, name, quick()).await
    }

    pub(crate) async fn start_with(world: &World, name: &str, config: ActionConfig) -> Self {
        Self::start_in(world, world.context(name), config).await
    }

    /// One that reaches NATS through a proxy.
    pub(crate) async fn start_behind(world: &World, proxy: &Proxy, name: &str) -> Self {
        Self::start_behind_with(world, proxy, name, quick()).await
    }

    pub(crate) async fn start_behind_with(world: &World, proxy: &Proxy, name: &str, config: ActionConfig) -> Self {
        let mut common = Common::clone(&world.context(name).common);
        common.nats.url = proxy.nats_url();
        Self::start_in(world, Context::new("gm-bridge", common), config).await
    }

    async fn start_in(world: &World, context: Context, config: ActionConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let table = Arc::new(Table::new(&world.gm));
        let (lease, its): (Arc<dyn Lease>, _) = (table.clone(), context.clone());
        let started = handle.spawn(async move {
            let nats = nats::connect(&its.common.nats, "nats", &its).await.unwrap();
            let redactor = Redactor::new(&["proposal:/data/gm_secret".parse().unwrap()]);
            Actions::start(&nats, &config, redactor, lease, &its, its.shutdown.token())
        });
        let actions = started.await.unwrap();
        Self { runtime: Some(runtime), handle, actions, table, context }
    }

    /// In the bridge's own runtime, as its tasks are.
    async fn call<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> T {
        self.handle.spawn(call).await.unwrap()
    }

    pub(crate) async fn run(&self, session: &SessionId, command: Command) -> Result<Accepted, ActionError> {
        self.run_by(session, command, ActionPolicy::Cancel).await
    }

    pub(crate) async fn queue(&self, session: &SessionId, command: Command) -> Result<Accepted, ActionError> {
        self.run_by(session, command, ActionPolicy::Queue).await
    }

    async fn run_by(
        &self,
        session: &SessionId,
        command: Command,
        policy: ActionPolicy,
    ) -> Result<Accepted, ActionError> {
        let (actions, session) = (self.actions.clone(), session.clone());
        self.call(async move { actions.run(&session, command, policy).await }).await
    }

    pub(crate) async fn cancel(&self, session: &SessionId) -> Result<Cancelled, ActionError> {
        let (actions, session) = (self.actions.clone(), session.clone());
        self.call(async move { actions.cancel(&session).await }).await
    }

    pub(crate) async fn claim_start(&self, session: &SessionId) -> Result<Claim, ActionError> {
        let (actions, session) = (self.actions.clone(), session.clone());
        self.call(async move { actions.claim_start(&session, "").await }).await
    }

    pub(crate) async fn finish(&self, claim: Claim) -> Result<(), ActionError> {
        self.call(claim.finish()).await
    }

    pub(crate) async fn take_over(&self, session: &SessionId, silent: bool) -> Result<(), ActionError> {
        let (actions, session) = (self.actions.clone(), session.clone());
        self.call(async move { actions.take_over(&session, silent).await }).await
    }

    /// Ends it as a killed process ends: at once, in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Stands in for the pool: every session plays on the one Game Master, unless a test says otherwise.
pub(crate) struct Table {
    gm: GameMaster,
    strangers: Mutex<BTreeSet<SessionId>>,
    finished: Mutex<Vec<(SessionId, u64, bool)>>,
}

impl Table {
    fn new(gm: &Scripted) -> Self {
        let gm = GameMasters::new(&quick_gm()).unwrap().at(&gm.url()).unwrap();
        Self { gm, strangers: Mutex::default(), finished: Mutex::default() }
    }

    /// From now on that session has no Game Master.
    pub(crate) fn take_away(&self, session: &SessionId) {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner).insert(session.clone());
    }

    /// Which streams were reported as over: the action's sequence, and whether by itself.
    pub(crate) fn finished(&self, session: &SessionId) -> Vec<(u64, bool)> {
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.iter().filter(|(of, ..)| of == session).map(|(_, action, itself)| (*action, *itself)).collect()
    }
}

impl Lease for Table {
    fn begin<'a>(
        &'a self,
        session: &'a SessionId,
        _kind: ActionKind,
        _action: u64,
    ) -> BoxFuture<'a, Result<Option<GameMaster>, LeaseError>> {
        let stranger = self.strangers.lock().unwrap_or_else(PoisonError::into_inner).contains(session);
        Box::pin(async move { Ok((!stranger).then(|| self.gm.clone())) })
    }

    fn finish<'a>(&'a self, session: &'a SessionId, action: u64, by_itself: bool) -> BoxFuture<'a, ()> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).push((session.clone(), action, by_itself));
        Box::pin(std::future::ready(()))
    }
}

/// A session id.
pub(crate) fn session(id: &str) -> SessionId {
    SessionId::new(id).unwrap()
}
