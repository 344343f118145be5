//! Herald begins on a cluster: while nodes are missing, and with everything on three replicas.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use async_nats::jetstream;
use herald_testkit::{
    Bridge, Edge, NatsCluster, Service, eventually,
    game_master::{Answer, PROPOSE, Scripted, sse},
    within, ws,
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);
const MADE: [&str; 4] = ["EVENTS", "KV_SESSIONS", "KV_ACTIONS", "KV_ALIASES"];

/// How many replicas the server says a stream has.
async fn replicas(cluster: &NatsCluster, stream: &str) -> Result<usize, String> {
    let jetstream = jetstream::new(cluster.client().await);
    let mut stream = jetstream.get_stream(stream).await.map_err(|error| error.to_string())?;
    let info = stream.info().await.map_err(|error| error.to_string())?;
    let held = info.cluster.as_ref().map_or(0, |cluster| cluster.replicas.len() + 1);
    if held == info.config.num_replicas { Ok(held) } else { Err(format!("{held} of {}", info.config.num_replicas)) }
}

async fn propose(edge: &Service, session: &str) {
    let socket = ws::Client::connect(&edge.ws(&format!("/ws/{session}?after=0")), ws::V1).await;
    edge.get(&format!("/api/start?session_id={session}")).await.expect_status(200);
    edge.get(&format!("/api/propose?session_id={session}")).await.expect_status(202);
    socket.wait_for("the result", SOON, |frame| frame.event() == "gm.result").await;
    socket.check_order();
}

#[tokio::test(flavor = "multi_thread")]
async fn services_wait_for_the_nodes_that_are_missing_and_say_so() {
    within(Duration::from_secs(200), async {
        let (mut cluster, gm) = (NatsCluster::reserve(&[]), Scripted::start().await);
        gm.on(PROPOSE, [Answer::sse().send(sse([json!({"type": "result"})]))]);
        let mut bridge = Bridge::at(&cluster.url()).gm(&gm.url()).spawn();
        let mut edge = Edge::at(&cluster.url()).spawn();
        // One alone has no quorum: nothing is there, everybody says so, and nobody gives up.
        cluster.servers[0].resume().await;
        for service in [&mut bridge, &mut edge] {
            let told = |status, body: &serde_json::Value| {
                let reason = body["conditions"]["jetstream"].as_str().unwrap_or_default();
                status == 503 && body["conditions"]["nats"] == "ok" && reason.starts_with("does not answer")
            };
            service.wait_readyz("says what it waits for", SOON, told).await;
        }
        for node in 1..3 {
            cluster.servers[node].resume().await;
        }
        bridge.wait_ready(SOON).await;
        edge.wait_ready(SOON).await;
        for stream in MADE {
            let held = eventually(stream, SOON, async || replicas(&cluster, stream).await).await;
            assert_eq!(held, 3, "{stream}");
        }
        cluster.wait_healthy(SOON).await;
        propose(&edge, "S").await;

        // A stream that is deleted is another life, on a cluster too.
        let socket = ws::Client::connect(&edge.ws("/ws/S"), ws::V1).await;
        let hello = socket.wait_for("the hello", SOON, |frame| frame.event() == "herald.hello").await;
        jetstream::new(cluster.client().await).delete_stream("EVENTS").await.expect("deleted");
        let another =
            |frame: &ws::Frame| frame.event() == "herald.hello" && frame.data()["epoch"] != hello.data()["epoch"];
        socket.wait_for("another life", SOON, another).await;
        let held = eventually("EVENTS", SOON, async || replicas(&cluster, "EVENTS").await).await;
        assert_eq!(held, 3);
        propose(&edge, "S").await;
        assert!(socket.ended().is_none(), "{:?}", socket.ended());

        // What is there serves with a node missing, also those who come then.
        let leader = cluster.wait_leader("EVENTS").await;
        cluster.servers[leader].kill().await;
        for service in [&mut bridge, &mut edge] {
            service.kill().await;
            service.restart().await;
        }
        eventually("a start", SOON, async || {
            let reply = edge.get("/api/start?session_id=T").await;
            if reply.status == 200 { Ok(()) } else { Err(reply.text()) }
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_one_replica_of_our_own_making_grows_to_three() {
    within(Duration::from_secs(150), async {
        let (cluster, gm) = (NatsCluster::start().await, Scripted::start().await);
        // As a bridge made them that met a server without a cluster.
        let jetstream = jetstream::new(cluster.client().await);
        for stream in ["EVENTS", "KV_SESSIONS"] {
            let (subjects, applied) = match stream {
                "EVENTS" => (vec!["gm.>".to_owned(), "arena.>".to_owned()], json!({"num_replicas": 1})),
                _ => (vec!["$KV.SESSIONS.>".to_owned()], json!({"num_replicas": 1})),
            };
            let config = jetstream::stream::Config {
                name: stream.to_owned(),
                subjects,
                num_replicas: 1,
                allow_direct: true,
                max_messages_per_subject: if stream == "EVENTS" { -1 } else { 1 },
                metadata: [("herald.schema", "1".to_owned()), ("herald.applied", applied.to_string())]
                    .map(|(key, value)| (key.to_owned(), value))
                    .into(),
                ..Default::default()
            };
            jetstream.create_stream(config).await.expect("created");
        }
        jetstream.publish("arena.S.tick", "{\"n\":0}".into()).await.expect("sent").await.expect("stored");
        let _bridge = Bridge::at(&cluster.url()).gm(&gm.url()).start().await;
        let edge = Edge::at(&cluster.url()).start().await;
        for stream in ["EVENTS", "KV_SESSIONS"] {
            let grown = eventually(stream, SOON, async || match replicas(&cluster, stream).await {
                Ok(3) => Ok(()),
                other => Err(other),
            });
            grown.await;
        }
        let socket = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
        socket.wait_for("what was there before", SOON, |frame| frame.data()["n"] == 0).await;
    })
    .await;
}
