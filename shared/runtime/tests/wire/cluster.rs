//! A cluster of three: what is created there, and the fence while leaders change.

use std::time::Duration;

use crate::connection::connect;
use async_nats::HeaderMap;
use futures_util::future::join_all;
use herald_runtime::{
    jetstream::{
        BucketSpec, Expect, PublishError, StreamSpec, ensure_bucket, ensure_stream,
        epoch::{EpochOwner, EpochWatcher},
        last_by_subject_leader, multi_last, publish, stream_info,
    },
    nats::Nats,
};
use herald_testkit::{Nats as Server, NatsOptions, eventually, port::Reserved, within};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(60);

async fn cluster() -> (Vec<Server>, Vec<Reserved>) {
    let ports: Vec<Reserved> = (0..3).map(|_| Reserved::take()).collect();
    let routes: Vec<String> = ports.iter().map(|port| format!("nats://{}", port.address())).collect();
    let mut servers = Vec::new();
    for (number, port) in ports.iter().enumerate() {
        let more = format!(
            "server_name: n{number}\ncluster {{ name: herald, listen: \"{}\", routes: [{}] }}",
            port.address(),
            routes.join(", ")
        );
        servers.push(Server::start_with(NatsOptions { more, ..NatsOptions::default() }).await);
    }
    (servers, ports)
}

async fn settled(nats: &Nats) {
    eventually("the cluster has a leader and three members", SOON, async || {
        ensure_stream(nats, &StreamSpec::new("EVENTS", ["gm.>", "arena.>"])).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_holds_three_replicas_and_fences_whoever_leads() {
    within(LIMIT, async {
        let (mut servers, _ports) = cluster().await;
        let nats = join_all(servers.iter().map(connect)).await;
        settled(&nats[0]).await;
        let info = stream_info(&nats[1], "EVENTS").await.unwrap();
        assert_eq!(info.config["num_replicas"], json!(3));
        eventually("a bucket", SOON, async || ensure_bucket(&nats[2], &BucketSpec::new("SESSIONS")).await).await;
        let bucket = stream_info(&nats[0], "KV_SESSIONS").await.unwrap();
        assert_eq!(bucket.config["num_replicas"], json!(3));

        let owner = EpochOwner::spawn(&nats[0], StreamSpec::new("EVENTS", ["gm.>", "arena.>"]), Vec::new());
        let epoch = owner.ready().await;
        let watcher = EpochWatcher::spawn(&nats[1], "EVENTS");
        assert_eq!(watcher.check().await.epoch(), Some(epoch));

        let mut last = 0;
        for round in 0..12 {
            if round == 6 {
                // The stream's leader may be the one that goes.
                servers[2].stop().await;
            }
            let expect = Expect { last_subject_sequence: Some(last), ..Expect::default() };
            let claims =
                (0..6).map(|number| publish(&nats[number % 2], "gm.s._action", HeaderMap::new(), "{}".into(), expect));
            let results = join_all(claims).await;
            let won: Vec<u64> = results.iter().filter_map(|result| result.as_ref().ok()).map(|ack| ack.seq).collect();
            assert!(won.len() <= 1, "{results:?}");
            for result in &results {
                // While a leader is elected, nobody answers.
                let expected = matches!(
                    result,
                    Ok(_)
                        | Err(PublishError::WrongLast { .. }
                            | PublishError::Retry
                            | PublishError::NoResponders
                            | PublishError::Timeout)
                );
                assert!(expected, "{result:?}");
            }
            // Whoever lost reads through the leader, and sees the winner.
            let seen = eventually("the leader answers", SOON, async || {
                last_by_subject_leader(&nats[1], "EVENTS", "gm.s._action").await
            })
            .await;
            let seen = seen.map_or(0, |message| message.sequence);
            assert!(won.iter().all(|won| *won == seen), "{won:?} {seen}");
            last = seen;
        }
        assert!(last > 0);
        assert_eq!(watcher.check().await.epoch(), Some(epoch), "another leader is no other life");
        let cut = eventually("a replica answers", SOON, async || {
            multi_last(&nats[0], "EVENTS", &["gm.s.>".to_owned()], None, usize::MAX).await
        })
        .await;
        assert!(cut.cut.unwrap() <= last && cut.messages.len() <= 1);
    })
    .await;
}
