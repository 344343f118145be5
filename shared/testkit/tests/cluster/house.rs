//! Three nats-servers, two bridges, two edges, one scripted Game Master; events that are counted, and clients that count them.

#![allow(dead_code, reason = "each test program needs a part of it")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{HeaderMap, Request};
use futures_util::future::join_all;
use herald_testkit::{Bridge, Edge, NatsCluster, Service, eventually, game_master::Scripted, sse, ws};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Time enough for anything that is not measured.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// How often the source speaks.
const BEAT: Duration = Duration::from_millis(40);

/// Everything.
pub(crate) struct House {
    pub(crate) gm: Scripted,
    pub(crate) bridges: Vec<Service>,
    pub(crate) edges: Vec<Service>,
    pub(crate) cluster: NatsCluster,
}

impl House {
    pub(crate) async fn start() -> Self {
        Self::start_with(|edge| edge).await
    }

    pub(crate) async fn start_with(setting: fn(Edge) -> Edge) -> Self {
        let (cluster, gm) = tokio::join!(NatsCluster::start(), Scripted::start());
        let mut house = Self { gm, bridges: Vec::new(), edges: Vec::new(), cluster };
        let url = house.cluster.url();
        house.bridges = (0..2).map(|_| Bridge::at(&url).gm(&house.gm.url()).spawn()).collect();
        house.edges = (0..2).map(|_| setting(Edge::at(&url)).spawn()).collect();
        house.wait_ready().await;
        house.cluster.wait_healthy(SOON).await;
        house
    }

    pub(crate) async fn wait_ready(&mut self) {
        join_all(self.bridges.iter_mut().chain(&mut self.edges).map(|service| service.wait_ready(SOON))).await;
    }

    /// Every service is as it was: none had to be started again.
    pub(crate) fn check_running(&mut self) {
        for service in self.bridges.iter_mut().chain(&mut self.edges) {
            assert!(service.process().running(), "{}", service.log());
        }
    }

    /// What a browser is answered, and after how long.
    pub(crate) async fn ask(&self, edge: usize, method: &str, path: &str, body: &Value) -> (u16, Value, Duration) {
        let began = Instant::now();
        let url = self.edges[edge].http(path);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [("content-type", "application/json")];
        let reply = herald_testkit::http::send(method.parse().expect("a method"), &url, &headers, body).await;
        let json = serde_json::from_slice(&reply.body).unwrap_or_default();
        (reply.status, json, began.elapsed())
    }
}

/// Publishes `arena.<session>.tick {"n":0}`, `{"n":1}` ... each stored once before the next.
pub(crate) struct Source {
    stored: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Source {
    pub(crate) async fn start(cluster: &NatsCluster, session: &str) -> Self {
        let options = async_nats::ConnectOptions::new().connection_timeout(Duration::from_millis(500));
        let options = options.ping_interval(Duration::from_millis(300));
        let client = herald_testkit::users::connect_with(options, &cluster.url()).await.expect("a nats-server answers");
        let stored = Arc::new(AtomicU64::new(0));
        let (count, session) = (Arc::clone(&stored), session.to_owned());
        let task = tokio::spawn(async move {
            for n in 0_u64.. {
                while !store(&client, &session, n).await {
                    tokio::time::sleep(BEAT / 4).await;
                }
                count.store(n + 1, Ordering::Relaxed);
                tokio::time::sleep(BEAT).await;
            }
        });
        Self { stored, task }
    }

    /// How many are stored.
    pub(crate) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Waits until so many more are stored.
    pub(crate) async fn go_on(&self, more: u64) {
        let wanted = self.stored() + more;
        eventually("the source goes on", SOON, async || {
            let stored = self.stored();
            if stored >= wanted { Ok(()) } else { Err(stored) }
        })
        .await;
    }

    /// Stops, between two events; how many are stored.
    pub(crate) async fn stop(self) -> u64 {
        self.task.abort();
        let _aborted = self.task.await;
        self.stored.load(Ordering::Relaxed)
    }
}

/// One copy, recognised by its id: whether it is stored.
async fn store(client: &async_nats::Client, session: &str, n: u64) -> bool {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("{session}-{n}"));
    let payload = json!({ "n": n }).to_string();
    let request = Request::new().headers(headers).payload(payload.into()).timeout(Some(Duration::from_millis(500)));
    let Ok(answer) = client.send_request(format!("arena.{session}.tick"), request).await else { return false };
    let answer: Value = serde_json::from_slice(&answer.payload).expect("an acknowledgement is JSON");
    answer["seq"].as_u64().is_some_and(|seq| seq > 0) && answer["error"].is_null()
}

/// Clients of one session that stay: each kind at each edge.
pub(crate) struct Audience {
    sockets: Vec<ws::Client>,
    streams: Vec<sse::Client>,
}

impl Audience {
    pub(crate) async fn open(house: &House, session: &str) -> Self {
        let (mut sockets, mut streams) = (Vec::new(), Vec::new());
        for edge in &house.edges {
            sockets.push(ws::Client::connect(&edge.ws(&format!("/ws/{session}?after=0")), ws::V1).await);
            sockets.push(ws::Client::connect(&edge.ws(&format!("/ws/{session}?after=0")), ws::PLAIN).await);
            streams.push(sse::Client::connect(&edge.http(&format!("/sse/{session}?after=0")), None).await);
        }
        Self { sockets, streams }
    }

    /// The longest silence that any of them lived through since `since`, each counted from its last event before.
    pub(crate) fn longest_pause(&self, since: Instant) -> Duration {
        self.pauses(since).into_iter().max().unwrap_or_default()
    }

    /// Each one's longest silence since then.
    pub(crate) fn pauses(&self, since: Instant) -> Vec<Duration> {
        let sockets = self.sockets.iter().map(|socket| socket.events().iter().map(|frame| frame.at).collect());
        let streams = self.streams.iter().map(|stream| stream.events().iter().map(|event| event.at).collect());
        let times: Vec<Vec<Instant>> = sockets.chain(streams).collect();
        let now = Instant::now();
        let longest = |times: &Vec<Instant>| {
            let from = times.iter().rposition(|at| *at < since).unwrap_or(0);
            let ends = times[from..].iter().skip(1).chain([&now]);
            times[from..].iter().zip(ends).map(|(one, next)| next.duration_since(*one)).max().unwrap_or_default()
        };
        times.iter().map(longest).collect()
    }

    /// All are still connected, and heartbeats have come since then.
    pub(crate) async fn check_beating(&self, since: Instant) {
        for socket in &self.sockets {
            let beat = async || socket.pings().iter().any(|at| *at > since).then_some(()).ok_or("none");
            eventually("a heartbeat", SOON, beat).await;
            assert!(socket.ended().is_none(), "a socket was closed: {:?}", socket.ended());
        }
    }

    /// Nobody was cut off or told of a gap, and everybody got the numbers below `stored` once and in order.
    pub(crate) async fn check_complete(&self, stored: u64) {
        for socket in &self.sockets {
            socket.wait_for("the last event", SOON, |frame| frame.data()["n"] == stored - 1).await;
            assert!(socket.ended().is_none(), "a socket was closed: {:?}", socket.ended());
            socket.check_order();
            let told: Vec<_> = socket.frames().into_iter().filter(|frame| frame.event() == "herald.gap").collect();
            assert!(told.is_empty(), "a gap where nothing is missing: {told:?}");
            let numbers: Vec<_> = socket.events().iter().filter_map(|frame| frame.data()["n"].as_u64()).collect();
            assert_eq!(numbers, (0..stored).collect::<Vec<_>>());
        }
        for stream in &self.streams {
            let last = |event: &sse::Event| event.json()["data"]["n"] == stored - 1;
            stream.wait_for("the last event", SOON, last).await;
            let numbers: Vec<_> =
                stream.events().iter().filter_map(|event| event.json()["data"]["n"].as_u64()).collect();
            assert_eq!(numbers, (0..stored).collect::<Vec<_>>());
        }
    }
}
