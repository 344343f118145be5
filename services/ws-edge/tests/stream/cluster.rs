//! Three servers: direct gets are answered by replicas that lag behind the leader.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use herald_runtime::jetstream::stream_info;
use herald_testkit::{Nats as Server, NatsOptions, eventually, port::Reserved, within};
use ws_edge::config::Config;

use super::{
    history::{history, read_all, session},
    world::{LIMIT, SOON, STREAM, Taking, connect, own, put},
};

/// A cluster of three, with the ports of its routes.
struct Cluster {
    servers: Vec<Server>,
    _routes: Vec<Reserved>,
}

impl Cluster {
    async fn start() -> Self {
        let routes: Vec<_> = (0..3).map(|_| Reserved::take()).collect();
        let peers: Vec<_> = routes.iter().map(|route| format!("\"nats://{}\"", route.address())).collect();
        let servers = join_all(routes.iter().enumerate().map(|(number, route)| {
            let more = format!(
                "server_name: n{number}\ncluster {{ name: herald, listen: \"{}\", routes: [{}] }}",
                route.address(),
                peers.join(", ")
            );
            Server::start_with(NatsOptions { more, ..NatsOptions::default() })
        }))
        .await;
        Self { servers, _routes: routes }
    }

    fn url(&self) -> String {
        self.servers.iter().map(Server::url).collect::<Vec<_>>().join(",")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_read_and_taken_in_whichever_replica_answers() {
    within(LIMIT, async {
        let mut cluster = Cluster::start().await;
        let nats = connect(&cluster.url()).await;
        let owner = own(&nats);
        owner.ready().await;
        let replicas = stream_info(&nats, STREAM).await.unwrap().config["num_replicas"].clone();
        assert_eq!(replicas, 3);
        // Each edge at another server.
        let mut taking = vec![];
        for server in &cluster.servers {
            taking.push(Taking::start(&server.url(), Config::default().intake, |_| {}).await);
        }
        for taking in &taking {
            taking.ready().await;
        }
        let begun: Vec<_> = taking.iter().map(|taking| taking.record.position()).collect();
        let history = history(&nats, STREAM, &Config::default().history);
        let session = session("s");
        let mut stored = BTreeSet::new();
        for _ in 0..40 {
            let (gm, arena) = tokio::join!(put(&nats, "gm.s.x", 15), put(&nats, "arena.s.x", 5));
            stored.extend(gm.into_iter().chain(arena));
            let upto = *stored.last().unwrap();
            let seen: Vec<u64> = read_all(&history, &session, 0, upto).await.iter().map(|event| event.seq).collect();
            assert_eq!(seen, stored.iter().copied().collect::<Vec<_>>(), "right after the acknowledgement");
            assert_eq!(history.before(&session, &super::history::roots(), upto + 1, |_| true).await.unwrap(), upto);
        }

        // A server dies, be it leader, holder of a consumer, or both.
        cluster.servers[0].kill().await;
        let survivors = format!("{},{}", cluster.servers[1].url(), cluster.servers[2].url());
        let other = connect(&survivors).await;
        stored.extend(put(&other, "gm.s.x", 100).await);
        cluster.servers[0].resume().await;
        stored.extend(put(&other, "gm.s.x", 100).await);
        let last = *stored.last().unwrap();
        for (taking, begun) in taking.iter().zip(begun) {
            taking.reaches(last).await;
            let told = taking.record.only_life();
            assert_eq!(told.events, stored.range(begun + 1..).copied().collect::<Vec<_>>());
        }
        let events = eventually("history is whole again", SOON, async || {
            let seen = read_all(&history, &session, 0, last).await.len();
            if seen == stored.len() { Ok(seen) } else { Err(seen) }
        });
        assert_eq!(events.await, stored.len());
    })
    .await;
}
