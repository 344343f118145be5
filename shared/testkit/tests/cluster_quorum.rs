//! Two of three nodes dead: nothing can be stored. Commands are refused, sockets stay open, and everything resumes by itself.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed step is a failed test, and its output is for people"
)]

#[path = "cluster/house.rs"]
mod house;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use herald_testkit::{
    eventually,
    game_master::{Answer, PROPOSE, sse},
    within, ws,
};
use serde_json::{Value, json};

use crate::house::{Audience, House, SOON, Source};

/// What a browser may ask that has to be stored.
const STORED: [(&str, &str); 6] = [
    ("GET", "/api/start?session_id=S"),
    ("GET", "/api/start?session_id=NEW"),
    ("GET", "/api/propose?session_id=S"),
    ("GET", "/api/choose?session_id=S&kind=fake"),
    ("POST", "/init_session"),
    ("POST", "/submit_news"),
];
/// What has to be read, and can be as long as somebody leads.
const READ: [(&str, &str); 3] =
    [("POST", "/api/cancel?session_id=S"), ("GET", "/api/state?session_id=S"), ("GET", "/api/images/S/real.png")];
/// The longest time until the answer: a read and a write, each of which may wait for a leader as long as
/// `nats.request_timeout`, 5 s.
const ANSWERED: Duration = Duration::from_secs(11);

/// Asks everything at once; each must be refused, clearly and in time.
async fn all_refused(house: &House, led: bool) {
    let asked = STORED.iter().chain(READ.iter().filter(|_| !led));
    let asks = asked.enumerate().map(async |(index, (method, path))| {
        let body = json!({"session_id": "S", "content": "x"});
        let body = if path.starts_with("/api") { &Value::Null } else { &body };
        let (status, answer, took) = house.ask(index % 2, method, path, body).await;
        let text = answer["error"].as_str().unwrap_or_default();
        let clear = ["NATS is not connected", "gm-bridge is not available"].contains(&text);
        assert!(status == 503 && clear && took < ANSWERED, "{method} {path}: {status} {answer} after {took:?}");
        took
    });
    println!("refused within {:.2?}", join_all(asks).await.into_iter().max().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_commands_are_refused_sockets_stay_and_all_resumes() {
    within(Duration::from_secs(230), async {
        let mut house = House::start_with(|edge| edge.set("socket.heartbeat", "2s")).await;
        house.gm.on(PROPOSE, [Answer::sse().send(sse([json!({"type": "phase"}), json!({"type": "result"})]))]);
        house.edges[0].get("/api/start?session_id=S").await.expect_status(200);
        let source = Source::start(&house.cluster, "S").await;
        let audience = Audience::open(&house, "S").await;
        source.go_on(25).await;

        // The one that is left may have led the stream: it goes on leading for some seconds, and stores nothing.
        for led in [false, true] {
            house.cluster.wait_healthy(SOON).await;
            let leader = house.cluster.wait_leader("EVENTS").await;
            let left = if led { leader } else { (leader + 1) % 3 };
            let began = Instant::now();
            for node in (0..3).filter(|node| *node != left) {
                house.cluster.servers[node].kill().await;
            }
            let stored = source.stored();
            all_refused(&house, led).await;
            // Readiness says what is wrong, at every service.
            for service in house.bridges.iter_mut().chain(&mut house.edges) {
                let reasons = service.wait_readyz("without a quorum", SOON, |status, body| {
                    let conditions = &body["conditions"];
                    let told = ["streams", "stream EVENTS"].map(|name| conditions[name].as_str().unwrap_or("ok"));
                    status == 503 && told.iter().any(|told| *told != "ok") && conditions["nats"] == "ok"
                });
                let reasons = reasons.await;
                println!("led {led}, after {:.1?}: {}", began.elapsed(), reasons["conditions"]);
            }
            all_refused(&house, led).await;
            eventually("/health tells", SOON, async || {
                let health = house.edges[0].get("/health").await.expect_status(200).json();
                if health["status"] == "degraded" { Ok(()) } else { Err(health) }
            })
            .await;
            all_refused(&house, false).await;
            // New sockets are accepted and wait, and what a replica has can be read.
            let new = ws::Client::connect(&house.edges[1].ws("/ws/S"), ws::V1).await;
            new.wait_for("the hello", SOON, |frame| frame.event() == "herald.hello").await;
            assert!(source.stored() <= stored + 1, "nothing is stored");
            audience.check_beating(began).await;

            for node in (0..3).filter(|node| *node != left) {
                house.cluster.servers[node].resume().await;
            }
            let back = Instant::now();
            eventually("a command is taken again", SOON, async || {
                match house.ask(0, "GET", "/api/propose?session_id=S", &Value::Null).await {
                    (202, ..) => Ok(()),
                    refused => Err(refused),
                }
            })
            .await;
            println!("led {led}: commands again {:.1?} after the nodes are back", back.elapsed());
            source.go_on(25).await;
            let last = source.stored() - 1;
            new.wait_for("what is stored now", SOON, |frame| frame.data()["n"].as_u64() >= Some(last)).await;
            new.check_order();
            house.wait_ready().await;
        }

        let stored = source.stop().await;
        audience.check_complete(stored).await;
        house.check_running();
    })
    .await;
}
