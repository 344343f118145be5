//! Three nats-servers that are one, on the configuration that we ship: for what holds with replicas only.

use std::{net::SocketAddr, path::Path, time::Duration};

use async_nats::jetstream::{self, stream::ClusterInfo};
use futures_util::{StreamExt as _, future::join_all};
use serde_json::{Value, json};

use crate::{Nats, NatsOptions, eventually, http, port::Reserved, users, wait::until};

/// How long the servers may take to find each other and to elect a leader.
const START: Duration = Duration::from_secs(40);
/// How long a question may take, while leaders change.
const ANSWER: Duration = Duration::from_secs(2);

/// A cluster of nats-servers with JetStream on `nats/cluster-users.conf`. Each of them can be killed, stopped, frozen and started
/// again by itself, and keeps its ports and its store: `cluster.servers[0].kill().await`, `.resume().await`, `.freeze().await`,
/// `.thaw()`.
#[derive(Debug)]
pub struct NatsCluster {
    /// The servers; the first one's name is `herald-1`.
    pub servers: Vec<Nats>,
    monitors: Vec<Reserved>,
    routes: Vec<Reserved>,
}

impl NatsCluster {
    /// Three servers; with a leader, so that streams can be made.
    ///
    /// # Panics
    /// If they don't come together.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`NatsCluster::start`], with further arguments for each server. `["--no_advertise=true"]` keeps clients that came
    /// through a proxy from learning the servers' own addresses.
    ///
    /// # Panics
    /// If they don't come together.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::started(Self::reserve(arguments)).await
    }

    /// As [`NatsCluster::start_with`], each server with a folder of its own in that one, which outlives them: `nats-1` ...
    ///
    /// # Panics
    /// If they don't come together.
    pub async fn start_in(folder: &Path, arguments: &[&str]) -> Self {
        Self::started(Self::reserved(Some(folder), arguments)).await
    }

    async fn started(mut cluster: Self) -> Self {
        join_all(cluster.servers.iter_mut().map(Nats::resume)).await;
        let jetstream = jetstream::new(cluster.client().await);
        eventually("a stream with three replicas can be made", START, async || {
            let config = jetstream::stream::Config {
                name: "TESTKIT_READY".to_owned(),
                num_replicas: 3,
                storage: jetstream::stream::StorageType::Memory,
                ..Default::default()
            };
            jetstream.create_stream(config).await.map_err(|error| error.to_string())?;
            jetstream.delete_stream("TESTKIT_READY").await.map_err(|error| error.to_string())
        })
        .await;
        cluster
    }

    /// Three servers that are not started yet, with their addresses already known.
    #[must_use]
    pub fn reserve(arguments: &[&str]) -> Self {
        Self::reserved(None, arguments)
    }

    fn reserved(folder: Option<&Path>, arguments: &[&str]) -> Self {
        let ports = || (0..3).map(|_| Reserved::take()).collect::<Vec<_>>();
        let (routes, monitors) = (ports(), ports());
        let urls: Vec<_> = routes.iter().map(|route| format!("nats://{}", route.address())).collect();
        let peers = users::url_as(users::ROUTE, &urls.join(","));
        let server = |(index, (route, monitor)): (usize, (&String, &Reserved))| {
            let (name, route) = (format!("herald-{}", index + 1), users::url_as(users::ROUTE, route));
            let own = ["--name", &name, "--cluster", &route, "--routes", &peers].map(str::to_owned);
            let monitor = ["--http_port".to_owned(), monitor.port().to_string()];
            let arguments = own.into_iter().chain(monitor).chain(arguments.iter().map(|&argument| argument.to_owned()));
            let folder = folder.map(|folder| folder.join(format!("nats-{}", index + 1)));
            let options = NatsOptions {
                config: "cluster-users.conf".into(),
                arguments: arguments.collect(),
                folder,
                ..Default::default()
            };
            Nats::reserve(options)
        };
        let servers = urls.iter().zip(&monitors).enumerate().map(server).collect();
        Self { servers, monitors, routes }
    }

    /// All addresses, as `NATS_URL` takes them.
    #[must_use]
    pub fn url(&self) -> String {
        self.servers.iter().map(Nats::url).collect::<Vec<_>>().join(",")
    }

    /// Where a server listens for the others.
    #[must_use]
    pub fn route(&self, index: usize) -> SocketAddr {
        self.routes[index].address()
    }

    /// A plain client that knows all servers.
    ///
    /// # Panics
    /// If none answers.
    pub async fn client(&self) -> async_nats::Client {
        users::connect(&self.url()).await.expect("a nats-server answers")
    }

    /// The number of the server that leads a stream; `None` while nobody does. The stream under a bucket is `KV_<name>`.
    pub async fn leader(&self, stream: &str) -> Option<usize> {
        let info = self.info(stream).await.ok()?;
        self.number(&info.leader?)
    }

    /// Waits until a stream has a leader, one that runs, and says which.
    ///
    /// # Panics
    /// If it has none within 40 s.
    pub async fn wait_leader(&self, stream: &str) -> usize {
        eventually(&format!("{stream} has a leader"), START, async || self.leader(stream).await.ok_or("none")).await
    }

    /// The number of the server that leads the cluster itself: who creates and moves streams.
    pub async fn meta_leader(&self) -> Option<usize> {
        let asked = join_all((0..self.monitors.len()).map(|index| self.monitor(index, "/jsz"))).await;
        let mut leaders = asked.into_iter().flatten().map(|jsz| jsz["meta_cluster"]["leader"].clone());
        self.number(leaders.find(Value::is_string)?.as_str()?)
    }

    /// Has a stream's leader hand over to another server, as an operator does before maintenance. False where it refused or
    /// there was none.
    pub async fn step_down(&self, stream: &str) -> bool {
        let asked = self.ask(&format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}")).await;
        asked.is_ok_and(|answer| answer["success"] == true)
    }

    /// Waits until every server runs and is up to date, and every stream has a leader and all of its replicas.
    ///
    /// # Panics
    /// If that is not so within `bound`.
    pub async fn wait_healthy(&self, bound: Duration) {
        eventually("a healthy cluster", bound, async || self.health().await).await;
    }

    /// The same, without a panic.
    ///
    /// # Errors
    /// In words, if that is not so within `bound`.
    pub async fn healthy_within(&self, bound: Duration) -> Result<(), String> {
        // A server writes a line for each look that finds it ill.
        until(bound, Duration::from_millis(200), async || self.health().await).await
    }

    async fn health(&self) -> Result<(), String> {
        for index in 0..self.servers.len() {
            let health = self.monitor(index, "/healthz").await?;
            if health["status"] != "ok" {
                return Err(format!("herald-{}: {health}", index + 1));
            }
        }
        for stream in self.streams().await? {
            let info = self.info(&stream).await?;
            let current = info.replicas.iter().filter(|peer| peer.current && !peer.offline).count();
            if info.leader.is_none() || current != info.replicas.len() {
                return Err(format!("{stream}: {info:?}"));
            }
        }
        Ok(())
    }

    /// All streams, those under buckets too.
    async fn streams(&self) -> Result<Vec<String>, String> {
        let listing = async {
            let mut names = jetstream::new(self.connected().await?).stream_names();
            let mut streams = Vec::new();
            while let Some(name) = names.next().await {
                streams.push(name.map_err(|error| error.to_string())?);
            }
            Ok(streams)
        };
        bounded(listing).await
    }

    async fn info(&self, stream: &str) -> Result<ClusterInfo, String> {
        let answer = self.ask(&format!("$JS.API.STREAM.INFO.{stream}")).await?;
        serde_json::from_value(answer["cluster"].clone()).map_err(|error| format!("{error}: {answer}"))
    }

    async fn ask(&self, subject: &str) -> Result<Value, String> {
        bounded(async {
            let client = self.connected().await?;
            let payload = json!({}).to_string();
            let answer = client.request(subject.to_owned(), payload.into()).await.map_err(|error| error.to_string())?;
            serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())
        })
        .await
    }

    /// A client for one question: a server that hangs must not be met twice.
    async fn connected(&self) -> Result<async_nats::Client, String> {
        let options = async_nats::ConnectOptions::new().connection_timeout(Duration::from_millis(500));
        users::connect_with(options, &self.url()).await.map_err(|error| error.to_string())
    }

    /// What a server says of itself, whoever leads.
    async fn monitor(&self, index: usize, path: &str) -> Result<Value, String> {
        let url = format!("http://{}{path}", self.monitors[index].address());
        let asked = bounded(http::try_send(hyper::Method::GET, &url, &[], "")).await?;
        serde_json::from_slice(&asked.body).map_err(|error| error.to_string())
    }

    fn number(&self, name: &str) -> Option<usize> {
        let number: usize = name.strip_prefix("herald-")?.parse().ok()?;
        (1..=self.servers.len()).contains(&number).then(|| number - 1)
    }
}

async fn bounded<T>(asking: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(ANSWER, asking).await.unwrap_or_else(|_| Err(format!("no answer within {ANSWER:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::within;

    const SOON: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn replicas_outlive_any_one_server() {
        within(Duration::from_secs(180), async {
            let mut cluster = NatsCluster::start().await;
            let jetstream = jetstream::new(cluster.client().await);
            let config = jetstream::stream::Config {
                name: "KEPT".to_owned(),
                subjects: vec!["kept.>".to_owned()],
                num_replicas: 3,
                ..Default::default()
            };
            jetstream.create_stream(config).await.expect("created");
            cluster.wait_healthy(SOON).await;
            jetstream.publish("kept.a", "x".into()).await.expect("sent").await.expect("stored");

            let leader = cluster.wait_leader("KEPT").await;
            assert!(cluster.step_down("KEPT").await);
            assert_ne!(cluster.wait_leader("KEPT").await, leader);

            let leader = cluster.wait_leader("KEPT").await;
            cluster.servers[leader].kill().await;
            eventually("the two others go on", SOON, async || {
                let sent = jetstream.publish("kept.a", "y".into()).await.map_err(|error| error.to_string())?;
                sent.await.map(|stored| assert!(stored.sequence >= 2)).map_err(|error| error.to_string())
            })
            .await;
            assert_ne!(cluster.wait_leader("KEPT").await, leader);
            cluster.servers[leader].resume().await;
            cluster.wait_healthy(SOON).await;

            let meta =
                eventually("the cluster's own leader", SOON, async || cluster.meta_leader().await.ok_or(())).await;
            cluster.servers[meta].freeze().await;
            eventually("another one leads", SOON, async || match cluster.meta_leader().await {
                Some(other) if other != meta => Ok(()),
                other => Err(other),
            })
            .await;
            cluster.servers[meta].thaw();
            cluster.wait_healthy(SOON).await;
        })
        .await;
    }
}
