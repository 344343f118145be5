//! Three nats-servers that are one, for what holds with replicas only.

use std::time::Duration;

use async_nats::jetstream;

use crate::{Nats, NatsOptions, eventually, port::Reserved};

/// How long the servers may take to find each other and to elect a leader.
const START: Duration = Duration::from_secs(40);

/// A cluster of nats-servers with JetStream. Each of them can be stopped, frozen and started again by itself.
#[derive(Debug)]
pub struct NatsCluster {
    /// The servers.
    pub servers: Vec<Nats>,
    _routes: Vec<Reserved>,
}

impl NatsCluster {
    /// Three servers; with a leader, so that streams can be made.
    ///
    /// # Panics
    /// If they don't come together.
    pub async fn start() -> Self {
        let routes: Vec<_> = (0..3).map(|_| Reserved::take()).collect();
        let urls: Vec<_> = routes.iter().map(|route| format!("\"nats-route://{}\"", route.address())).collect();
        let reserve = |(index, route): (usize, &Reserved)| {
            let more = format!(
                "server_name: node{index}\ncluster {{ name: testkit, listen: \"{}\", routes: [{}] }}",
                route.address(),
                urls.join(", ")
            );
            Nats::reserve(NatsOptions { more, ..NatsOptions::default() })
        };
        let mut servers: Vec<_> = routes.iter().enumerate().map(reserve).collect();
        futures_util::future::join_all(servers.iter_mut().map(Nats::resume)).await;
        let cluster = Self { servers, _routes: routes };
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

    /// All addresses, as `NATS_URL` takes them.
    #[must_use]
    pub fn url(&self) -> String {
        self.servers.iter().map(Nats::url).collect::<Vec<_>>().join(",")
    }

    /// A plain client that knows all servers.
    ///
    /// # Panics
    /// If none answers.
    pub async fn client(&self) -> async_nats::Client {
        let urls: Vec<_> = self.servers.iter().map(Nats::url).collect();
        async_nats::connect(urls).await.expect("a nats-server answers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::within;

    #[tokio::test]
    async fn replicas_outlive_any_one_server() {
        within(Duration::from_secs(120), async {
            let mut cluster = NatsCluster::start().await;
            let jetstream = jetstream::new(cluster.client().await);
            let config = jetstream::stream::Config {
                name: "KEPT".to_owned(),
                subjects: vec!["kept.>".to_owned()],
                num_replicas: 3,
                ..Default::default()
            };
            jetstream.create_stream(config).await.expect("created");
            jetstream.publish("kept.a", "x".into()).await.expect("sent").await.expect("stored");
            cluster.servers[0].kill().await;
            eventually("the two others go on", Duration::from_secs(60), async || {
                let sent = jetstream.publish("kept.a", "y".into()).await.map_err(|error| error.to_string())?;
                sent.await.map(|stored| assert!(stored.sequence >= 2)).map_err(|error| error.to_string())
            })
            .await;
            cluster.servers[0].resume().await;
        })
        .await;
    }
}
